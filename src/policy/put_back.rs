//! A server that is put back: as whom bkp logs in there, whom it rotates there, and in which order these are given their passwords.

use super::rotation_times::{Sameness, settings_of};
use super::{Configuration, Policy, Rotation};
use crate::engine::{Server, Settings};
use crate::secret::SecretRef;

type One<'c> = (&'c Policy, &'c Rotation);

impl Configuration {
    /// The rotations of accounts at a server. One whose account changes those of others is before them.
    pub fn rotations_at(&self, settings: &Settings, is_same: Sameness<'_>) -> Vec<One<'_>> {
        let is_there =
            |(policy, rotation): &One<'_>| settings_of(policy, rotation).is_some_and(|other| is_same(settings, other));
        let at: Vec<One<'_>> = self.rotations().filter(is_there).collect();
        let mut ordered = at.clone();
        ordered.sort_by_key(|one| before(&at, *one, 0));
        ordered
    }

    /// How bkp logs in at a server, by the configuration: to change accounts, and for backups. Where it rotates that account, only
    /// what is published is its password.
    pub fn logins_at(&self, settings: &Settings, is_same: Sameness<'_>) -> Vec<Settings> {
        let at = self.rotations_at(settings, is_same);
        let sources = self.policies.iter().flat_map(|policy| &policy.sources).map(|source| &source.settings);
        let sources = sources.filter(|other| is_same(settings, other)).cloned();
        let changing = at.iter().filter_map(|(policy, rotation)| rotation.changing(policy));
        let mut all: Vec<Settings> = changing.chain(sources).collect();
        for login in &mut all {
            let rotated = at.iter().find(|(_, rotation)| login.user().is_some_and(|user| rotation.has_user(user)));
            let is_published = |(_, rotation): &One<'_>| {
                !rotation.changes_name()
                    && login.secrets().first() == Some(&&SecretRef::Vault(rotation.published.clone()))
            };
            if rotated.is_some_and(|rotation| !is_published(rotation))
                && let Some(server) = login.server_mut()
            {
                *server = Server { password: None, own_password: &[], ..server.clone() };
            }
        }
        all
    }
}

impl Rotation {
    /// The settings of its server, with the login of who changes the account.
    pub fn changing(&self, policy: &Policy) -> Option<Settings> {
        let mut settings = settings_of(policy, self)?.clone();
        if let (Some((user, password)), Some(server)) = (&self.admin, settings.server_mut()) {
            (server.user, server.password) = (Some(user.clone()), Some(password.clone()));
        }
        Some(settings)
    }

    /// Whose passwords it changes.
    pub fn users(&self) -> Vec<&str> {
        match &self.changing_name {
            Some(name) => name.turns.iter().flatten().map(String::as_str).collect(),
            None => vec![&self.account],
        }
    }

    fn has_user(&self, user: &str) -> bool {
        self.users().contains(&user)
    }
}

/// How many are before it: the one of who changes its account, and so on.
fn before(at: &[One<'_>], (policy, rotation): One<'_>, so_far: usize) -> usize {
    let changing = rotation.changing(policy);
    let is_of_who_changes =
        |(_, other): &&One<'_>| changing.as_ref().and_then(Settings::user).is_some_and(|user| other.has_user(user));
    match at.iter().find(is_of_who_changes).filter(|_| so_far < at.len()) {
        Some(other) => before(at, *other, so_far + 1),
        None => so_far,
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::{Configuration, Paths, is_named_the_same, load_with};

    fn configured(rotations: &str) -> Configuration {
        let directory = tempfile::tempdir().unwrap();
        let [config, state, cache, run] = ["bkp.yaml", "state", "cache", "run"].map(|name| directory.path().join(name));
        let main =
            "repository: { url: /srv/backups }\ntimezone: UTC\nvault: { address: 'https://vault', token_file: /t }\n";
        std::fs::write(&config, main).unwrap();
        std::fs::create_dir(directory.path().join("policies.d")).unwrap();
        let policy = format!(
            "policy: shop\nsources:\n  db: {{ mysql: {{ host: db, user: backup, password_file: /backup }} }}\nrotate:\n{rotations}"
        );
        std::fs::write(directory.path().join("policies.d/shop.yaml"), policy).unwrap();
        let paths = Paths { config, config_given: true, state, cache, run };
        load_with(&paths, &|_| None).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn rotation(account: &str, admin: &str, password: &str) -> String {
        format!(
            "  of-{account}:\n    source: db\n    account: {account}\n    admin: {{ user: {admin}, {password} }}\n    published: ref+vault://kv/{account}#/password\n    consumers: {{ web: {{ command: [reload] }} }}\n"
        )
    }

    #[test]
    fn who_changes_others_is_given_its_password_before_them_and_only_the_published_one() {
        let published = |account: &str| format!("password: 'ref+vault://kv/{account}#/password'");
        let all = [
            rotation("app", "middle", "password_file: /elsewhere"),
            rotation("middle", "top", &published("top")),
            rotation("top", "root", "password_file: /root"),
        ];
        let configuration = configured(&all.concat());
        let settings = &configuration.policies[0].sources[0].settings;
        let at = configuration.rotations_at(settings, &is_named_the_same);
        let names: Vec<&str> = at.iter().map(|(_, rotation)| rotation.name.as_str()).collect();
        assert_eq!(names, ["of-top", "of-middle", "of-app"]);
        let logins = configuration.logins_at(settings, &is_named_the_same);
        let logins: Vec<(Option<&str>, bool)> =
            logins.iter().map(|login| (login.user(), !login.secrets().is_empty())).collect();
        let expected =
            [("root", true), ("top", true), ("middle", false), ("backup", true)].map(|(user, has)| (Some(user), has));
        assert_eq!(logins, expected, "another password than the published one of `middle` is an old one");
        // Two of whom each changes the other: neither is before the other, and both are there.
        let all = [rotation("one", "two", "password_file: /two"), rotation("two", "one", "password_file: /one")];
        let configuration = configured(&all.concat());
        let settings = &configuration.policies[0].sources[0].settings;
        assert_eq!(configuration.rotations_at(settings, &is_named_the_same).len(), 2);
    }
}
