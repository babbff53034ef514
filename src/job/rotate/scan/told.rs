//! Where else those who are told have the password: in other variables of the file they are told by, and in what a container was
//! given besides. Their own variable is exchanged, and these would not be.

use super::containers::{argument, is_of_consumer};
use super::files::{User, lines_have, read, variable_has};
use super::projects::is_given;
use super::{Found, Scan, Search, Thing, real, user_of};
use crate::engine::Credential;
use crate::error::Result;
use crate::exec::docker::{Description, Docker, State};
use crate::job::rotate::delivery::env_file::copy_aside;
use crate::job::rotate::delivery::file;
use crate::job::rotate::delivery::variables::{Assignment, assignments, meant};
use crate::policy::{ComposeService, Consumer, How, Reload, Rotation, Told};
use crate::secret::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What stands between the path of a file and a variable in it.
pub(super) const OF: char = '#';

/// Each file of variables, as the configuration names it, with what consumers are told by in it.
type Files<'r> = BTreeMap<PathBuf, (&'r Path, BTreeSet<&'r str>)>;

impl Search<'_> {
    /// Other variables of the files that consumers are told by.
    pub(super) fn beside(&self, scan: &mut Scan) {
        for (real, (path, told)) in files_of(self.rotation) {
            let text = match read(&real) {
                Ok(Some(text)) => text,
                // Who is told by it says what is wrong.
                Ok(None) => continue,
                Err(error) => {
                    scan.warnings.push(format!("{} was not looked into: {error}", path.display()));
                    continue;
                }
            };
            let beside = format!("beside {}", told.iter().copied().collect::<Vec<_>>().join(" and "));
            let found =
                |thing, name: String, place| Found { thing, name: format!("{}{OF}{name}", path.display()), place };
            let secrets = variables_with(&text, &told, self.secret).into_iter();
            scan.unknown.extend(secrets.map(|name| found(Thing::Variable, name, beside.clone())));
            let users = self.user.map(|user| users_in(&text, &told, user)).unwrap_or_default().into_iter();
            let place = format!("the user that changes, {beside}");
            scan.unknown.extend(users.map(|name| found(Thing::User, name, place.clone())));
        }
    }

    /// What would stay in the container of a consumer when it is moved as its consumers say.
    pub(super) fn stays(&self, container: &Description, consumers: &[&Consumer], scan: &mut Scan) {
        let is_made_anew =
            |consumer: &&&Consumer| matches!(consumer.reload, Reload::Compose(_, How::Recreate | How::OneByOne { .. }));
        let secrets = match consumers.iter().any(|consumer| is_made_anew(&consumer)) {
            true => self.told_elsewhere(container, consumers),
            false => self.given(container),
        };
        let told: BTreeSet<&str> = self.rotation.consumers.iter().flat_map(|other| other.told.variables()).collect();
        let users = users_of(self.not_known(container), self.user, &BTreeSet::new(), !secrets.is_empty());
        let untold = users.into_iter().filter(|name| !told.contains(name));
        let mut all: BTreeSet<Found> = untold.map(|name| user_in(container, name)).collect();
        all.extend(secrets);
        let names: Vec<&str> = consumers.iter().map(|consumer| consumer.name.as_str()).collect();
        all.extend(self.mounted(container, &names.join(" and "), scan));
        for consumer in consumers {
            all.extend(by_itself(container, consumer));
        }
        scan.unknown.extend(all);
    }

    /// Variables and arguments: they are fixed as long as there is the container.
    fn given(&self, container: &Description) -> Vec<Found> {
        let having = |(name, value): &(&String, &Secret)| variable_has(name, value.expose(), self.secret);
        let variables = self.not_known(container).filter(having);
        let mut places: Vec<String> = variables.map(|(name, _)| variable(name)).collect();
        places.extend(argument(&container.command, self.secret));
        places.into_iter().map(|place| in_container(container, place)).collect()
    }

    /// Of what is made anew: the variables by which others are told in another file, and which this container would keep.
    fn told_elsewhere(&self, container: &Description, consumers: &[&Consumer]) -> Vec<Found> {
        let all = &self.rotation.consumers;
        let own: BTreeSet<&str> = consumers.iter().flat_map(|consumer| file::variables(consumer, all)).collect();
        let services: Vec<&ComposeService> =
            consumers.iter().filter_map(|consumer| consumer.reload.service()).collect();
        let mut all = Vec::new();
        for (name, value) in self.not_known(container).filter(|(name, _)| !own.contains(name.as_str())) {
            let is_told = |other: &&Consumer| {
                let file = other.told.env_file().filter(|_| other.told.variables().any(|variable| variable == name));
                file.is_some_and(|file| services.iter().any(|service| is_given(service, file, name)))
            };
            let other = self.rotation.consumers.iter().find(is_told);
            if let Some(other) = other.filter(|_| variable_has(name, value.expose(), self.secret)) {
                let file = other.told.env_file().unwrap_or(Path::new("")).display();
                let place = format!(
                    "{}, by which {} is told in {file}: name this one as a consumer of that file, too",
                    variable(name),
                    other.name
                );
                all.push(in_container(container, place));
            }
        }
        all
    }

    fn not_known<'c>(&self, container: &'c Description) -> impl Iterator<Item = (&'c String, &'c Secret)> {
        let told = self.rotation.consumers.iter().filter(|consumer| is_of_consumer(container, consumer));
        let files: Vec<&Path> = told.filter_map(|consumer| consumer.told.env_file()).collect();
        let taken = self.taken.iter().map(|taken| &taken.name);
        let known: Vec<&String> = self.rotation.known.iter().chain(taken).collect();
        let is_known = move |name: &str| known.iter().any(|known| is_it(known, name, &container.name, &files));
        container.environment.iter().filter(move |(name, _)| !is_known(name))
    }

    /// Files that are mounted, but for those by which consumers are told.
    fn mounted(&self, container: &Description, into: &str, scan: &mut Scan) -> Vec<Found> {
        let mut unreadable = BTreeSet::new();
        let is_ours = |path: &Path| {
            self.is_told_file(path) || self.told_files().any(|told| real(&copy_aside(&real(told))) == real(path))
        };
        let files = self.files(container, &mut unreadable);
        let found = |path: PathBuf| Found {
            thing: Thing::File,
            name: path.display().to_string(),
            place: format!("mounted into {into}"),
        };
        scan.not_read(unreadable);
        files.into_iter().filter(|path| !is_ours(path)).map(found).collect()
    }
}

/// Of the containers of one consumer that run: what of them has this secret or its user, and is neither known nor taken for granted.
/// Those who are `to_come` are moved later: what the same container is told as one of them, it has until then.
pub fn left(
    rotation: &Rotation,
    consumer: &Consumer,
    other: &Credential,
    taken: &[Found],
    to_come: &[Consumer],
) -> Result<BTreeSet<Found>> {
    if !matches!(consumer.reload, Reload::Compose(..) | Reload::Container { .. } | Reload::Swarm(_)) {
        return Ok(BTreeSet::new());
    }
    let search = Search { secret: other, user: user_of(rotation, other), rotation, taken, server: None };
    let mut left = BTreeSet::new();
    for container in Docker::if_there()?.map_or(Ok(Vec::new()), |docker| docker.containers())? {
        if container.state == State::Running && is_of_consumer(&container, consumer) {
            let same = to_come.iter().filter(|consumer| is_of_consumer(&container, consumer));
            let coming: BTreeSet<&str> = same.flat_map(|consumer| consumer.told.variables()).collect();
            let is_coming = |found: &Found| coming.iter().any(|name| found.place == variable(name));
            let given: Vec<Found> = search.given(&container).into_iter().filter(|found| !is_coming(found)).collect();
            if consumer.told.env_file().is_some() {
                let told = file::variables(consumer, &rotation.consumers);
                let users = users_of(search.not_known(&container), search.user, &told, !given.is_empty());
                let staying = users.into_iter().filter(|name| !coming.contains(name));
                left.extend(staying.map(|name| user_in(&container, name)));
            }
            left.extend(given);
            left.extend(search.mounted(&container, &consumer.name, &mut Scan::default()));
        }
    }
    left.retain(|found| !found.is_known(rotation) && !taken.iter().any(|taken| taken.is_where(found)));
    Ok(left)
}

fn variable(name: &str) -> String {
    format!("variable {name}")
}

fn in_container(container: &Description, place: String) -> Found {
    Found { thing: Thing::Container, name: container.name.clone(), place }
}

fn user_in(container: &Description, name: &str) -> Found {
    let place = "the user that changes, in a container".to_owned();
    Found { thing: Thing::User, name: format!("{}{OF}{name}", container.name), place }
}

/// Variables of a container that are the user. A name opens nothing, and may be that of another account or of the program itself
/// (`USER`, `SMTP_USER`): one counts by which somebody is told, or that has the secret beside it.
fn users_of<'c>(
    environment: impl Iterator<Item = (&'c String, &'c Secret)>,
    user: Option<User<'_>>,
    told: &BTreeSet<&str>,
    has_secret: bool,
) -> Vec<&'c str> {
    let Some(user) = user else { return Vec::new() };
    let is_it = |(name, value): &(&'c String, &'c Secret)| match told.contains(name.as_str()) {
        true => value.expose() == user.name,
        false => has_secret && user.is(name, value.expose()),
    };
    environment.filter(is_it).map(|(name, _)| name.as_str()).collect()
}

/// Whether `known` names this variable of a container: as one of the container, or of a file of variables that it was given.
fn is_it(known: &str, name: &str, container: &str, files: &[&Path]) -> bool {
    known.rsplit_once(OF).is_some_and(|(place, variable)| {
        variable == name && (place == container || files.iter().any(|file| real(file) == real(place.as_ref())))
    })
}

/// A file that is mounted by itself is the one that it was when the container was started, whatever takes its name later.
fn by_itself(container: &Description, consumer: &Consumer) -> Option<Found> {
    let signal = match &consumer.reload {
        Reload::Compose(_, How::Signal(signal)) | Reload::Container { signal: Some(signal), .. } => signal,
        _ => return None,
    };
    let Told::SecretFile(path) = &consumer.told else { return None };
    let mount = container.mounts.iter().find(|mount| real(&mount.source) == real(path))?;
    let place = format!(
        "has {} itself mounted and would not see another one by {signal}: leave out `signal`, or mount the directory",
        mount.source.display()
    );
    Some(Found { thing: Thing::Container, name: container.name.clone(), place })
}

fn files_of(rotation: &Rotation) -> Files<'_> {
    let mut files = Files::new();
    for consumer in &rotation.consumers {
        if let Told::EnvFile { path, .. } = &consumer.told {
            let (_, told) = files.entry(real(path)).or_insert_with(|| (path, BTreeSet::new()));
            told.extend(consumer.told.variables());
        }
    }
    files
}

/// Names of variables, or numbers of lines, that have the secret.
fn variables_with(text: &str, told: &BTreeSet<&str>, secret: &Secret) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match assignments(line).first() {
            Some(one) if told.contains(one.name) => {}
            Some(one) => {
                let value = one.value.clone().map_or(line, |value| &line[value]);
                if variable_has(one.name, &meant(value), secret) {
                    found.push(one.name.to_owned());
                }
            }
            None if lines_have(line, secret) => found.push((number + 1).to_string()),
            None => {}
        }
    }
    found
}

/// Names of variables that are the user, and by which nobody is told.
fn users_in(text: &str, told: &BTreeSet<&str>, user: User<'_>) -> Vec<String> {
    let others = assignments(text).into_iter().filter(|one| !told.contains(one.name));
    let is_it = |one: &Assignment<'_>| one.value.clone().is_some_and(|value| user.is(one.name, &meant(&text[value])));
    others.filter(is_it).map(|one| one.name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_known_where_it_was_said_and_nowhere_else() {
        let known = |known: &str| is_it(known, "DB_PASSWORD", "shop-web-1", &[Path::new("/srv/shop/.env")]);
        assert!(known("/srv/shop/.env#DB_PASSWORD") && known("shop-web-1#DB_PASSWORD"));
        for other in ["/srv/old/.env#DB_PASSWORD", "shop-db#DB_PASSWORD", "/srv/shop/.env#OTHER", "DB_PASSWORD"] {
            assert!(!known(other), "{other}");
        }
    }

    #[test]
    fn a_user_in_a_container_counts_beside_the_secret_or_where_somebody_is_told_by_it() {
        let given = ["APP_USER", "DB_ROLE", "DB_USER", "SMTP_USER", "USER"].map(|name| (name.to_owned(), "app"));
        let environment: BTreeMap<String, Secret> =
            given.into_iter().map(|(name, value)| (name, Secret::new(value.into()))).collect();
        let user = Some(User { name: "app", is_chosen: true, is_owner: true });
        let users = |user, told: &[&str], has_secret| {
            users_of(environment.iter(), user, &told.iter().copied().collect(), has_secret)
        };
        assert_eq!(users(user, &["PASSWORD"], false), Vec::<&str>::new());
        assert_eq!(users(user, &["PASSWORD", "DB_USER"], false), ["DB_USER"]);
        assert_eq!(users(user, &["PASSWORD"], true), ["APP_USER", "DB_USER", "SMTP_USER", "USER"]);
        assert_eq!(users(None, &["DB_USER"], true), Vec::<&str>::new());
    }

    #[test]
    fn other_variables_with_the_password_are_found() {
        let secret = Secret::new("pa$s-word!".into());
        let text = "DB_PASSWORD='pa$s-word!'\n# OLD=pa$s-word!\nexport URL=\"mysql://app:pa%24s-word%21@db\"\nSAME=pa$$s-word!\nMADE=mysql://app:${DB_PASSWORD}@db\nX: pa$s-word!\nOTHER=pa$s-words\n";
        assert_eq!(variables_with(text, &BTreeSet::from(["DB_PASSWORD"]), &secret), ["URL", "SAME", "6"]);
        let short = Secret::new("app".into());
        let text = "DB_USER=app\nWORKER_DB_USER='app' # too\nDB_NAME=app\n# X_USER=app\n";
        let user = User { name: "app", is_chosen: true, is_owner: true };
        assert_eq!(users_in(text, &BTreeSet::from(["DB_USER"]), user), ["WORKER_DB_USER"]);
        assert_eq!(variables_with("U=app\nPW=x\nP_PASS=app\n", &BTreeSet::new(), &short), ["P_PASS"]);
    }
}
