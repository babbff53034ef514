//! What a reference means, and what is said when there is nothing at it.

use super::support::vault::{Proxy, Vault};
use super::{Client, password, read, reference, told};
use bkp::error::Kind;
use bkp::secret::vault::Login;
use bkp::secret::{SecretRef, Secrets};
use serde_json::json;

/// Somebody who may do everything.
fn administrator(vault: &Vault) -> Client {
    let mut client = Client::new(&vault.address(), Login::Token(SecretRef::Env("NONE".into())));
    client.settings.login = Login::Token(client.keep("root", vault.root_token()));
    client
}

fn at(secrets: &Secrets, text: &str) -> Result<String, String> {
    let read = secrets.read(&reference(text));
    read.map(|secret| secret.expose().to_owned()).map_err(|failure| told(&failure))
}

#[test]
fn both_versions_of_the_engine_and_both_forms_of_a_path() {
    let Some(vault) = Vault::shared("KV 1 and 2") else { return };
    vault.write("forms/db", json!({ "password": "hunter2 one", "port": 3306, "deep": { "a/b": "hunter2 deep" } }));
    vault.put("old/forms/db", json!({ "password": "hunter2 old" }));
    vault.put("old/data/forms", json!({ "password": "hunter2 old data" }));
    let client = administrator(vault);
    let secrets = client.begin();
    for (text, expected) in [
        ("kv/forms/db#/password", "hunter2 one"),
        ("kv/data/forms/db#/password", "hunter2 one"),
        ("kv/forms/db#/port", "3306"),
        ("kv/forms/db#/deep/a~1b", "hunter2 deep"),
        ("old/forms/db#/password", "hunter2 old"),
        ("old/data/forms#/password", "hunter2 old data"),
    ] {
        assert_eq!(at(&secrets, text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn the_age_is_that_of_the_version_and_of_an_engine_without_versions_nothing() {
    let Some(vault) = Vault::shared("ages") else { return };
    let before = bkp::clock::now() - jiff::SignedDuration::from_secs(60);
    vault.write("ages", json!({ "password": "hunter2 one" }));
    vault.write("ages", json!({ "password": "hunter2 two" }));
    vault.put("old/ages", json!({ "password": "hunter2" }));
    let client = administrator(vault);
    let secrets = client.begin();
    let written = |text: &str| secrets.written(&reference(text)).unwrap();
    let (first, newest) = (written("kv/ages?version=1#/password").unwrap(), written("kv/ages#/password").unwrap());
    assert!(before < first && first <= newest && newest < bkp::clock::now() + jiff::SignedDuration::from_secs(60));
    assert_eq!(written("old/ages#/password"), None);
    assert!(secrets.written(&reference("kv/no/such#/password")).is_err());
}

#[test]
fn a_version_can_be_pinned_until_it_is_deleted() {
    let Some(vault) = Vault::shared("versions") else { return };
    vault.write("versions", json!({ "password": "hunter2 one" }));
    vault.write("versions", json!({ "password": "hunter2 two" }));
    let client = administrator(vault);
    let secrets = client.begin();
    assert_eq!(at(&secrets, "kv/versions#/password").as_deref(), Ok("hunter2 two"));
    assert_eq!(at(&secrets, "kv/versions?version=1#/password").as_deref(), Ok("hunter2 one"));
    assert_eq!(at(&secrets, "kv/data/versions?version=1#/password").as_deref(), Ok("hunter2 one"));
    let message = at(&secrets, "kv/versions?version=7#/password").unwrap_err();
    assert!(message.contains("no version 7"), "{message}");
    vault.put("kv/delete/versions", json!({ "versions": [1] }));
    let message = at(&secrets, "kv/versions?version=1#/password").unwrap_err();
    assert!(message.contains("version 1 of kv/data/versions") && message.contains("deleted at 20"), "{message}");
    vault.put("kv/destroy/versions", json!({ "versions": [2] }));
    let message = at(&secrets, "kv/versions#/password").unwrap_err();
    assert!(message.contains("the newest version of kv/data/versions") && message.contains("destroyed"), "{message}");
    vault.put("old/versions", json!({ "password": "hunter2" }));
    let message = at(&secrets, "old/versions?version=1#/password").unwrap_err();
    assert!(message.contains("keeps no versions"), "{message}");
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let Some(vault) = Vault::shared("missing secrets") else { return };
    vault.write("fields", json!({ "password": "hunter2", "user": "hunter2 user" }));
    let client = administrator(vault);
    let secrets = client.begin();
    for (text, expected) in [
        ("kv/fields#/pasword", "has no field `pasword` → Correct what stands after #/; it has: password, user"),
        ("kv/nothing#/password", "Vault has no secret at kv/data/nothing (for ref+vault://kv/nothing#/password)"),
        ("nowhere/x#/password", "no secrets engine for nowhere/x"),
    ] {
        let message = at(&secrets, text).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_missing_permission_is_told_as_the_line_that_gives_it() {
    let Some(vault) = Vault::shared("permissions") else { return };
    let client = Client::of_role(vault, &vault.address(), "denied");
    vault.write("other", json!({ "password": password("other") }));
    let secrets = client.begin();
    assert!(read(&secrets, "denied").is_ok());
    let failure = secrets.read(&reference("kv/other#/password")).unwrap_err();
    assert_eq!(failure.kind(), Kind::Key);
    let message = told(&failure);
    assert!(message.contains("denies reading kv/data/other (for ref+vault://kv/other#/password)"), "{message}");
    assert!(message.contains("the token has the policies default, denied"), "{message}");
    let (_, line) = message.split_once("Add to one of its policies: ").unwrap();
    vault.policy("denied", line);
    assert_eq!(read(&secrets, "other"), Ok(password("other")));
}

#[test]
fn rights_that_a_role_got_meanwhile_count() {
    let Some(vault) = Vault::shared("new rights") else { return };
    let client = Client::of_role(vault, &vault.address(), "growing");
    vault.write("grown", json!({ "password": password("grown") }));
    let secrets = client.begin();
    assert!(read(&secrets, "growing").is_ok() && read(&secrets, "grown").is_err());
    vault.policy("grown", "path \"kv/data/grown\" { capabilities = [\"read\"] }");
    vault.put("auth/approle/role/growing", json!({ "token_policies": "growing,grown" }));
    assert_eq!(read(&secrets, "grown"), Ok(password("grown")));
    assert_eq!(vault.tokens_of("growing").len(), 1, "those before were revoked");
}

#[test]
fn the_namespace_goes_along_with_every_request() {
    let Some(vault) = Vault::shared("namespaces") else { return };
    let proxy = Proxy::new(vault.port());
    let mut client = Client::of_role(vault, &proxy.address(), "named");
    client.settings.namespace = Some("team/backup".into());
    let secrets = client.begin();
    assert!(read(&secrets, "named").is_ok());
    let message = read(&secrets, "unnamed").unwrap_err();
    assert!(message.contains("kv/data/unnamed in the namespace team/backup"), "{message}");
    drop(secrets);
    let heads = proxy.heads();
    assert!(heads.iter().any(|head| head.contains("/v1/auth/approle/login")), "{heads:?}");
    assert!(heads.iter().any(|head| head.contains("/v1/auth/token/revoke-self")), "{heads:?}");
    for head in heads {
        assert!(head.to_lowercase().contains("x-vault-namespace: team/backup\r\n"), "{head}");
    }
}

#[test]
fn an_authority_and_a_certificate_of_ones_own() {
    let Some(vault) = Vault::with_tls("TLS") else { return };
    let mut client = Client::of_role(&vault, &vault.address(), "secure");
    client.settings.ca_file = Some(vault.file("ca.pem"));
    client.settings.client_certificate = Some((vault.file("client.pem"), vault.file("client.key")));
    assert_eq!(read(&client.begin(), "secure"), Ok(password("secure")));
    let refused = |client: &Client, kind: Kind, words: &str| {
        let failure = client.begin().read(&reference("kv/secure#/password")).unwrap_err();
        let message = told(&failure);
        assert!(failure.kind() == kind && message.contains(words), "{:?} {message}", failure.kind());
    };
    let good = client.settings.clone();
    // The system's authorities do not know it.
    client.settings.ca_file = None;
    refused(&client, Kind::Key, "ca_file");
    client.settings.ca_file = Some(vault.file("server.key"));
    refused(&client, Kind::Usage, "holds no certificate");
    client.settings.ca_file = Some(vault.file("absent"));
    refused(&client, Kind::Usage, "cannot read the certificate authorities");
    client.settings = good.clone();
    client.settings.client_certificate = Some((vault.file("ca.pem"), vault.file("ca.pem")));
    refused(&client, Kind::Usage, "are no certificate with its key");
    // Without the certificate that Vault wants, the line breaks.
    client.settings = good;
    client.settings.client_certificate = None;
    refused(&client, Kind::TryLater, "cannot be reached");
}

#[test]
fn the_doctor_is_told_what_the_token_may_do() {
    let Some(vault) = Vault::shared("capabilities") else { return };
    let client = Client::of_role(vault, &vault.address(), "examined");
    vault.write("unexamined", json!({ "password": "hunter2" }));
    let secrets = client.begin();
    let examined = secrets.vault().unwrap();
    let health = examined.health().unwrap();
    assert!(health.version.starts_with("1.") && health.initialized && !health.sealed && !health.standby, "{health:?}");
    let token = examined.token().unwrap();
    assert_eq!(token.policies, ["default", "examined"]);
    assert!(token.renewable && !token.is_given && token.lasts.unwrap().as_secs() > 3600, "{token:?}");
    let may = |text: &str| {
        let SecretRef::Vault(path) = reference(text) else { unreachable!() };
        examined.may_read(&path).map_err(|failure| told(&failure))
    };
    assert_eq!(may("kv/examined#/password"), Ok(()));
    assert!(may("kv/examined#/user").unwrap_err().contains("it has: password"));
    let denied = may("kv/unexamined#/password").unwrap_err();
    assert!(denied.contains("path \"kv/data/unexamined\" { capabilities = [\"read\"] }"), "{denied}");
}
