//! A secret id that is replaced at half of its life, by the program, which is killed wherever it can be.

use super::support::host::{Answer, Host};
use super::support::vault::{Act, Proxy, Vault};
use bkp::durable::CRASH_POINTS;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// The life of a secret id here, and a clock that is beyond half of it.
const LIFE: &str = "1h";
const LATER: &str = "2400";

struct Renewing {
    host: Host,
    vault: &'static Vault,
    name: String,
    role_id: String,
}

impl Renewing {
    /// `rights`: what the role may do besides reading a secret.
    fn new(vault: &'static Vault, address: &str, name: &str, rights: &[&str]) -> Renewing {
        let role_id = vault.role(name, json!({ "secret_id_ttl": LIFE }));
        vault.write(name, json!({ "password": "hunter2" }));
        let rights: String = rights
            .iter()
            .map(|path| format!("path \"auth/approle/role/{name}/{path}\" {{ capabilities = [\"update\"] }}\n"))
            .collect();
        vault.policy(name, &format!("path \"kv/data/{name}\" {{ capabilities = [\"read\"] }}\n{rights}"));
        let host = Host::bare();
        fs::write(host.path("secret-id"), vault.secret_id(name)).unwrap();
        fs::set_permissions(host.path("secret-id"), fs::Permissions::from_mode(0o640)).unwrap();
        host.configure(&format!(
            "repository: {{ url: \"{}\" }}\nvault:\n  address: {address}\n  approle: {{ role_id: {role_id}, secret_id_file: {}, renew: true }}\nnotify:\n  - {{ mail: {{ to: [a@example.org], from: b@example.org, smtp: \"smtp://127.0.0.1:1\", user: c, password: \"ref+vault://kv/{name}#/password\" }} }}\n",
            host.url,
            host.text("secret-id")
        ));
        host.run(&["init", "--recovery-key", &host.text("recovery-key.txt")]).ends(0);
        Renewing { host, vault, name: name.to_owned(), role_id }
    }

    fn secret_id(&self) -> String {
        fs::read_to_string(self.host.path("secret-id")).unwrap().trim().to_owned()
    }

    fn lets_in(&self, secret_id: &str) -> bool {
        let login = json!({ "role_id": self.role_id, "secret_id": secret_id });
        self.vault.ask("POST", "auth/approle/login", Some(login), &[]).0 == 200
    }

    /// How many secret ids the role has.
    fn count(&self) -> usize {
        let (_, list) = self.vault.ask("LIST", &format!("auth/approle/role/{}/secret-id", self.name), None, &[]);
        list["data"]["keys"].as_array().map_or(0, Vec::len)
    }

    /// The program logs in, so many seconds from now; and is killed at a crash point.
    fn looks(&self, ahead: &str, dies_at: Option<&str>) -> Answer {
        let mut command = self.host.command(&["doctor", "--json"]);
        fs::write(self.host.path("clock"), ahead).unwrap();
        command.env("BKP_CLOCK", self.host.path("clock"));
        if let Some(point) = dies_at {
            command.env("BKP_CRASH_AT", point);
        }
        let answer = self.host.finish(self.host.start(command));
        assert!(!format!("{answer:?}").contains(&self.secret_id()), "the secret id was told: {answer:?}");
        answer
    }
}

const ALL: [&str; 3] = ["secret-id", "secret-id/lookup", "secret-id-accessor/destroy"];

#[test]
fn a_secret_id_is_replaced_at_half_of_its_life_and_the_old_one_destroyed() {
    let Some(vault) = Vault::shared("secret ids that are replaced") else { return };
    let role = Renewing::new(vault, &vault.address(), "renewed", &ALL);
    let first = role.secret_id();
    role.looks("0", None);
    assert_eq!(role.secret_id(), first, "it is young");
    role.looks(LATER, None);
    let second = role.secret_id();
    assert_ne!(second, first);
    assert!(role.lets_in(&second) && !role.lets_in(&first));
    assert_eq!(role.count(), 1);
    let mode = fs::metadata(role.host.path("secret-id")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "as it was");
    assert!(!role.host.path("secret-id.next").exists());
}

#[test]
fn whatever_kills_it_what_is_in_the_file_lets_in_and_the_next_one_goes_on() {
    let Some(vault) = Vault::shared("secret ids that are replaced by who is killed") else { return };
    let role = Renewing::new(vault, &vault.address(), "killed", &ALL);
    let mut lost = 0;
    for point in CRASH_POINTS.iter().copied().filter(|point| point.starts_with("vault-secret-id:")) {
        let before = role.secret_id();
        role.looks(LATER, Some(point)).was_killed();
        assert!(role.lets_in(&role.secret_id()), "{point}");
        // Nobody knows of one that was made and not noted; it ends by itself.
        lost += usize::from(point == "vault-secret-id:made");
        role.looks(LATER, None);
        assert_ne!(role.secret_id(), before, "{point}");
        assert!(role.lets_in(&role.secret_id()) && !role.lets_in(&before), "{point}");
        assert_eq!(role.count(), 1 + lost, "{point}");
        assert!(!role.host.path("secret-id.next").exists(), "{point}");
    }
}

#[test]
fn what_the_role_may_not_do_is_told_before_anything_is_made() {
    let Some(vault) = Vault::shared("secret ids that may not be replaced") else { return };
    let role = Renewing::new(vault, &vault.address(), "forbidden", &ALL[..2]);
    let first = role.secret_id();
    let answer = role.looks(LATER, None);
    assert!(answer.out.contains("the secret id for Vault could not be replaced"), "{answer:?}");
    assert!(answer.out.contains("role/forbidden/secret-id-accessor/destroy"), "{answer:?}");
    assert_eq!((role.secret_id(), role.count()), (first, 1));
}

#[test]
fn while_vault_does_not_answer_the_old_one_stays() {
    let Some(vault) = Vault::shared("secret ids and a Vault that goes away") else { return };
    let proxy = Proxy::new(vault.port());
    let role = Renewing::new(vault, &proxy.address(), "away", &ALL);
    let first = role.secret_id();
    for path in ["/secret-id", "/secret-id-accessor"] {
        proxy.on(&format!("/v1/auth/approle/role/away{path}"), Act::Answer(503, r#"{"errors":["Vault is sealed"]}"#));
        let mut command = role.host.command(&["doctor", "--patience", "1s"]);
        fs::write(role.host.path("clock"), LATER).unwrap();
        command.env("BKP_CLOCK", role.host.path("clock"));
        role.host.finish(role.host.start(command));
        assert!(role.lets_in(&role.secret_id()) && role.lets_in(&first), "two are good at a time");
    }
    proxy.on("/nowhere", Act::Pass);
    role.looks(LATER, None);
    assert!(role.lets_in(&role.secret_id()) && !role.lets_in(&first));
}
