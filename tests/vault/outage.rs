//! Vault on its bad days. What was read once is used while Vault cannot be asked, and that is said.

use super::support::vault::{Act, Proxy, Vault};
use super::support::wait_for;
use super::{Client, password, read, reference, told};
use bkp::backoff::Budget;
use bkp::error::Kind;
use bkp::secret::Secrets;
use serde_json::json;
use std::time::Duration;

const SEALED: Act = Act::Answer(503, "{\"errors\":[\"Vault is sealed\"]}");

/// What is said of a secret that is not in memory.
fn refusal(secrets: &Secrets, name: &str) -> (Kind, String) {
    let failure = secrets.read(&reference(&format!("kv/{name}#/password"))).unwrap_err();
    (failure.kind(), told(&failure))
}

#[test]
fn what_passes_is_waited_for() {
    let Some(vault) = Vault::shared("503, 429, 412") else { return };
    let proxy = Proxy::new(vault.port());
    let client = Client::of_role(vault, &proxy.address(), "patient");
    for act in [
        Act::Answer(412, "{\"errors\":[\"required index state not present\"]}"),
        Act::Answer(429, "{\"errors\":[\"request path \\\"kv/data/patient\\\": rate limit quota exceeded\"]}"),
        Act::Answer(500, "{\"errors\":[\"local node not active but active cluster node not found\"]}"),
        SEALED,
    ] {
        let secrets = client.begin();
        proxy.next(&[act.clone(), act.clone()]);
        assert_eq!(read(&secrets, "patient"), Ok(password("patient")), "{act:?} at the login");
        proxy.next(&[act.clone(), act.clone()]);
        assert_eq!(read(&secrets, "patient"), Ok(password("patient")), "{act:?} afterwards");
        assert!(secrets.degraded().is_empty());
    }
}

#[test]
fn what_lasts_is_told_and_can_be_tried_later() {
    let Some(vault) = Vault::shared("an outage that lasts") else { return };
    let proxy = Proxy::new(vault.port());
    let mut client = Client::of_role(vault, &proxy.address(), "impatient");
    client.settings.timeout = Duration::from_secs(1);
    client.settings.budget = client.settings.budget.lasting(Duration::from_millis(300));
    for (act, words) in [
        (SEALED, "is sealed → Unseal it"),
        (Act::Answer(429, "{\"errors\":[\"rate limit quota exceeded\"]}"), "limits requests"),
        (Act::Answer(412, "{\"errors\":[\"required index state not present\"]}"), "has not caught up"),
        (Act::Answer(502, "<html>"), "cannot answer now"),
        (Act::Silence, "cannot be reached"),
    ] {
        proxy.always(act);
        let (kind, message) = refusal(&client.begin(), "impatient");
        assert!(
            kind == Kind::TryLater && message.contains(words) && message.contains(&proxy.address()),
            "{kind:?} {message}"
        );
    }
    proxy.always(Act::Answer(200, "<html>Welcome</html>"));
    let (kind, message) = refusal(&client.begin(), "impatient");
    assert!(kind == Kind::Failed && message.contains("does not answer as Vault does"), "{kind:?} {message}");
}

#[test]
fn nobody_waits_after_a_signal() {
    let Some(vault) = Vault::shared("a signal") else { return };
    let proxy = Proxy::new(vault.port());
    let mut client = Client::of_role(vault, &proxy.address(), "signalled");
    let hour = Duration::from_secs(3600);
    client.settings.budget = Budget { total: 2 * hour, first_contact: 2 * hour, base: hour, cap: hour };
    proxy.always(SEALED);
    let secrets = Secrets::with_vault(client.settings.clone(), client.state(), || true);
    assert_eq!(refusal(&secrets, "signalled").0, Kind::TryLater);
}

#[test]
fn sealed_or_down_what_was_read_goes_on_and_says_so() {
    let Some(vault) = Vault::alone("sealed and stopped") else { return };
    let client = Client::of_role(&vault, &vault.address(), "kept");
    let secrets = client.begin();
    assert_eq!(read(&secrets, "kept"), Ok(password("kept")));
    vault.write("kept", json!({ "password": "hunter2 newer" }));
    vault.write("unread", json!({ "password": "hunter2" }));

    vault.seal();
    assert_eq!(read(&secrets, "kept"), Ok(password("kept")));
    assert_eq!(read(&secrets, "kept"), Ok(password("kept")));
    let degraded = secrets.degraded();
    assert_eq!(degraded.len(), 1);
    assert_eq!(degraded[0].reference, reference("kv/kept#/password"));
    let text = degraded[0].to_string();
    assert!(text.contains("is sealed; ref+vault://kv/kept#/password is used as it was read"), "{text}");
    assert_eq!(secrets.degraded_of(&[reference("kv/unread#/password")]), Vec::<String>::new());
    let (kind, message) = refusal(&secrets, "unread");
    assert!(kind == Kind::TryLater && message.contains("is sealed"), "{message}");
    // Another process has nothing.
    assert_eq!(refusal(&client.begin(), "kept").0, Kind::TryLater);

    vault.unseal();
    wait_for("the newer password", 60, || (read(&secrets, "kept").unwrap() == "hunter2 newer").then_some(()));
    assert!(secrets.degraded().is_empty());

    vault.stop();
    assert_eq!(read(&secrets, "kept").as_deref(), Ok("hunter2 newer"));
    assert!(secrets.degraded()[0].why.contains("cannot be reached"), "{:?}", secrets.degraded());
    vault.start_again();
    wait_for("its coming back", 60, || {
        read(&secrets, "kept").unwrap();
        secrets.degraded().is_empty().then_some(())
    });
    drop(secrets);
    assert!(vault.tokens_of("kept").is_empty());
}

#[test]
fn a_token_that_was_revoked_is_replaced() {
    let Some(vault) = Vault::shared("a revoked token") else { return };
    let client = Client::of_role(vault, &vault.address(), "revoked");
    let secrets = client.begin();
    assert!(read(&secrets, "revoked").is_ok());
    let first = vault.tokens_of("revoked").remove(0);
    vault.revoke(&first);
    assert_eq!(read(&secrets, "revoked"), Ok(password("revoked")));
    assert_ne!(vault.tokens_of("revoked")[0]["accessor"], first["accessor"]);
}

#[test]
fn what_vault_takes_away_is_not_used_from_memory() {
    let Some(vault) = Vault::shared("a right taken away") else { return };
    let client = Client::of_role(vault, &vault.address(), "taken");
    let secrets = client.begin();
    assert!(read(&secrets, "taken").is_ok());
    vault.policy("taken", "path \"kv/data/other\" { capabilities = [\"read\"] }");
    assert_eq!(refusal(&secrets, "taken").0, Kind::Key);
    assert_eq!(secrets.degraded(), vec![]);
}

#[test]
fn who_cannot_log_in_any_more_goes_on_with_what_is_in_memory() {
    let Some(vault) = Vault::shared("a secret id that ended") else { return };
    let client = Client::of_role(vault, &vault.address(), "locked-out");
    let secrets = client.begin();
    assert!(read(&secrets, "locked-out").is_ok());
    vault.revoke(&vault.tokens_of("locked-out")[0]);
    client.keep("secret-id", "00000000-0000-0000-0000-000000000000");
    assert_eq!(read(&secrets, "locked-out"), Ok(password("locked-out")));
    assert!(secrets.degraded()[0].why.contains("refuses the login by AppRole"), "{:?}", secrets.degraded());
    assert_eq!(refusal(&client.begin(), "locked-out").0, Kind::Key);
}

#[test]
fn many_at_once_share_one_login() {
    let Some(vault) = Vault::shared("many at once") else { return };
    let client = Client::of_role(vault, &vault.address(), "shared");
    let secrets = client.begin();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(read(&secrets, "shared"), Ok(password("shared"))));
        }
    });
    assert_eq!(vault.tokens_of("shared").len(), 1);
}
