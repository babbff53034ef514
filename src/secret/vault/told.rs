//! What Vault said, in words for people: which reference, what happened, what to do.
//!
//! A permission that is missing is told as the very lines that a policy of Vault needs.

use super::connection::Trouble;
use super::{Login, Settings, VaultPath};
use crate::error::{Failure, Kind};

/// The lines of a policy that let a secret be read.
pub(super) fn policy_line(api_path: &str) -> String {
    format!("path \"{api_path}\" {{ capabilities = [\"read\"] }}")
}

fn in_namespace(settings: &Settings) -> String {
    settings.namespace.as_ref().map_or_else(String::new, |namespace| format!(" in the namespace {namespace}"))
}

/// Vault as a whole cannot be asked.
pub(super) fn outage(settings: &Settings, trouble: &Trouble) -> Failure {
    let vault = format!("Vault at {}", settings.address);
    let later = |what: &str| Failure::new(Kind::TryLater, format!("{vault} {what}"));
    let words = trouble.words();
    match trouble {
        Trouble::Certificate(reason) => {
            Failure::new(Kind::Key, format!("the certificate of {vault} is refused ({reason})"))
                .hint("Set `vault: ca_file:` when it is signed by an authority of your own")
        }
        Trouble::NotUnderstood(_) => Failure::failed(format!("{vault} does not answer as Vault does: {words}"))
            .hint("Check `vault: address:`; a proxy may answer instead"),
        Trouble::NoAnswer(_) => later(&format!("cannot be reached: {words}"))
            .hint("Check `vault: address:`, the network, and whether Vault runs"),
        Trouble::Refused { status: 503, .. } if trouble.says("sealed") => {
            later("is sealed").hint("Unseal it: vault operator unseal; then run this again")
        }
        Trouble::Refused { status: 412, .. } => later(&format!("has not caught up with its leader yet: {words}"))
            .hint("Look at the replication: vault read sys/replication/status"),
        Trouble::Refused { status: 429, .. } => later(&format!("limits requests, or is a standby node: {words}"))
            .hint("Look at the quotas: vault list sys/quotas/rate-limit; and give the address of the active node"),
        Trouble::Refused { .. } => later(&format!("cannot answer now: {words}"))
            .hint("Look at it: vault status; a standby node without a leader answers like this, too"),
    }
}

/// Vault does not let bkp in.
pub(super) fn login(settings: &Settings, trouble: &Trouble) -> Failure {
    if trouble.is_outage() {
        return outage(settings, trouble);
    }
    let (way, mount, hint) = match &settings.login {
        Login::Token(reference) => {
            return Failure::new(
                Kind::Key,
                format!("Vault at {} does not take the token of {reference}: {}", settings.address, trouble.words()),
            )
            .hint("It has ended or was revoked: make a new one, best a periodic one: vault token create -period=24h -policy=bkp");
        }
        Login::AppRole { mount, .. } => (
            "AppRole",
            mount,
            "Check the role id; make a new secret id: vault write -f auth/approle/role/NAME/secret-id",
        ),
        Login::Userpass { mount, .. } => ("user and password", mount, "Check `user` and the password"),
        Login::Kubernetes { mount, .. } => (
            "Kubernetes",
            mount,
            "Check `role`, and that the role is bound to this service account and namespace: vault read auth/kubernetes/role/NAME",
        ),
        Login::Jwt { mount, .. } => {
            ("JWT", mount, "Check `role`, and issuer, audience and age of the token: vault read auth/jwt/role/NAME")
        }
    };
    let place = in_namespace(settings);
    let what =
        format!("Vault at {} refuses the login by {way} at auth/{mount}{place}: {}", settings.address, trouble.words());
    let nothing_there = trouble.says("no handler for route") || trouble.status() == Some(404);
    Failure::new(Kind::Key, what).hint(match nothing_there {
        true => format!("Nothing is mounted there: correct `mount`{}", or_namespace(settings)),
        false if trouble.status() == Some(403) => format!("{hint}; or `mount`{}", or_namespace(settings)),
        false => hint.to_owned(),
    })
}

fn or_namespace(settings: &Settings) -> &'static str {
    if settings.namespace.is_some() { " or `namespace`" } else { ", or set `namespace` where Vault has them" }
}

/// Vault was asked for the secret, and said no.
pub(super) fn refused(
    settings: &Settings,
    path: &VaultPath,
    api_path: &str,
    policies: &[String],
    trouble: &Trouble,
) -> Failure {
    let place = in_namespace(settings);
    let secret = format!("{api_path}{place} (for ref+vault://{path})");
    match trouble {
        Trouble::Refused { status: 403, .. } => {
            let have = if policies.is_empty() { "none".into() } else { policies.join(", ") };
            Failure::new(
                Kind::Key,
                format!("Vault denies reading {secret}: {}; the token has the policies {have}", trouble.words()),
            )
            .hint(format!("Add to one of its policies: {}", policy_line(api_path)))
        }
        Trouble::Refused { status: 404, .. } if trouble.says("no handler for route") => {
            Failure::new(Kind::Key, format!("Vault has no secrets engine for {secret}"))
                .hint(format!("Correct the mount in the reference{}; see: vault secrets list", or_namespace(settings)))
        }
        Trouble::Refused { status: 404, deleted: Some(since), .. } => {
            let which = path.version.map_or_else(|| "the newest version".to_owned(), |v| format!("version {v}"));
            let when = if since.is_empty() { "destroyed".to_owned() } else { format!("deleted at {since}") };
            Failure::new(Kind::Key, format!("{which} of {secret} was {when}"))
                .hint("Bring it back with: vault kv undelete; or write a new version; or pin another with ?version=N")
        }
        Trouble::Refused { status: 404, .. } => {
            let version = path.version.map_or_else(String::new, |v| format!(", or it has no version {v}"));
            Failure::new(Kind::Key, format!("Vault has no secret at {secret}{version}"))
                .hint("Correct the path; of a key-value engine of version 2 whose mount bkp may not see, write it with data/ after the mount")
        }
        Trouble::Refused { status: 405, .. } => {
            Failure::new(Kind::Key, format!("{secret} cannot be read: {}", trouble.words()))
                .hint("bkp reads secrets of key-value engines and static roles")
        }
        _ => Failure::new(Kind::Key, format!("Vault does not give {secret}: {}", trouble.words()))
            .hint("Try it with Vault's own client: vault read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretRef;

    fn settings(namespace: Option<&str>) -> Settings {
        Settings {
            address: "https://vault.example:8200".into(),
            socket: None,
            namespace: namespace.map(str::to_owned),
            ca_file: None,
            client_certificate: None,
            login: Login::Token(SecretRef::Env("X".into())),
            timeout: Settings::TIMEOUT,
            budget: Settings::BUDGET,
        }
    }

    fn refused_with(status: u16, words: &str) -> Trouble {
        Trouble::Refused { status, errors: vec![words.into()], deleted: None }
    }

    fn told(trouble: &Trouble, namespace: Option<&str>) -> (String, String) {
        let path = "kv/shop/db#/password".parse().unwrap();
        let failure =
            refused(&settings(namespace), &path, "kv/data/shop/db", &["default".into(), "bkp".into()], trouble);
        assert_eq!(failure.kind(), Kind::Key);
        (failure.full(), failure.next_step().unwrap().to_owned())
    }

    #[test]
    fn a_permission_that_is_missing_is_told_as_the_line_to_add() {
        let (what, hint) = told(&refused_with(403, "permission denied"), Some("team"));
        assert_eq!(
            what,
            "Vault denies reading kv/data/shop/db in the namespace team (for ref+vault://kv/shop/db#/password): \
             permission denied (status 403); the token has the policies default, bkp"
        );
        assert_eq!(hint, "Add to one of its policies: path \"kv/data/shop/db\" { capabilities = [\"read\"] }");
    }

    #[test]
    fn a_wrong_place_is_told_from_an_empty_one() {
        let nowhere =
            told(&refused_with(404, "no handler for route \"kv/data/shop/db\". route entry not found."), None);
        assert!(nowhere.0.contains("no secrets engine") && nowhere.1.contains("namespace"), "{nowhere:?}");
        let empty = told(&Trouble::Refused { status: 404, errors: vec![], deleted: None }, None);
        assert!(empty.0.contains("no secret at kv/data/shop/db"), "{empty:?}");
        let deleted = Some("2026-11-01T00:00:00Z".to_owned());
        let gone = told(&Trouble::Refused { status: 404, errors: vec![], deleted }, None);
        assert!(gone.0.contains("the newest version") && gone.0.contains("deleted at 2026-11-01"), "{gone:?}");
    }

    #[test]
    fn an_outage_is_to_be_tried_later() {
        for (trouble, what) in [
            (refused_with(503, "Vault is sealed"), "is sealed"),
            (refused_with(500, "local node not active but active cluster node not found"), "local node not active"),
            (refused_with(429, "request path: rate limit quota exceeded"), "limits requests"),
            (refused_with(412, "required index state not present"), "caught up"),
            (Trouble::NoAnswer("Connection refused (os error 111)".into()), "Connection refused"),
        ] {
            let failure = outage(&settings(None), &trouble);
            assert_eq!(failure.kind(), Kind::TryLater);
            assert!(failure.full().contains(what) && failure.full().contains("https://vault.example:8200"));
            assert!(failure.next_step().is_some());
        }
    }
}
