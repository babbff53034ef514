//! The program: backups of a real database whose password is in Vault, the doctor, and what is said of mistakes.

use super::support::host::Host;
use super::support::host_server::HostServer;
use super::support::vault::{Act, Proxy, Vault};
use super::support::wait_for;
use serde_json::json;
use std::fs;
use std::sync::OnceLock;

/// The database whose password the sources of these tests have in Vault.
fn database(part: &str) -> Option<&'static HostServer> {
    static SHARED: OnceLock<Option<HostServer>> = OnceLock::new();
    let server = SHARED.get_or_init(|| {
        let server = HostServer::mariadb().start("a database with its password in Vault")?;
        server.query("", "create database shop; create table shop.orders (id int primary key, text varchar(40)); insert into shop.orders values (1, 'first'), (2, 'second')");
        Some(server)
    });
    if server.is_none() {
        super::support::not_run(part, "MariaDB is missing");
    }
    server.as_ref()
}

/// A host whose source `shop` has its password at `kv/NAME` of the Vault behind this address. bkp logs in as that role.
fn host(vault: &Vault, address: &str, name: &str, server: &HostServer) -> Host {
    let role_id = vault.role(name, json!({}));
    vault.write(name, json!({ "password": server.password() }));
    let host = Host::bare();
    fs::write(host.path("secret"), server.password()).unwrap();
    fs::write(host.path("role-id"), role_id).unwrap();
    let wrapped = vault.wrapped("POST", &format!("auth/approle/role/{name}/secret-id"));
    fs::write(host.path("wrapped"), wrapped).unwrap();
    host.configure(&format!(
        "repository: {{ url: \"{}\" }}\nvault:\n  address: {address}\n  approle:\n    role_id_file: {}\n    secret_id: ref+file://{}\n    wrapped: true\n",
        host.url,
        host.text("role-id"),
        host.text("wrapped")
    ));
    host.run(&["init", "--recovery-key", &host.text("recovery-key.txt")]).ends(0);
    let source = format!(
        "{{ host: 127.0.0.1, port: {}, user: root, password: \"ref+vault://kv/{name}#/password\", databases: [shop] }}",
        server.port()
    );
    host.sources(&[format!("shop: {{ mysql: {source} }}")]);
    host
}

/// Nothing that opens Vault, whatever was said.
fn shut(host: &Host, text: &str) {
    for secret in ["hvs.", &fs::read_to_string(host.path("wrapped")).unwrap(), "hunter2"] {
        assert!(!text.contains(secret), "a secret was told: {text}");
    }
    let kept = fs::read_to_string(host.path("state/vault/secret-id.json")).unwrap_or_default();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap_or_default();
    assert!(kept["secret_id"].as_str().is_none_or(|secret| !text.contains(secret)), "a secret was told: {text}");
}

#[test]
fn a_database_is_backed_up_and_restored_with_its_password_in_vault() {
    let part = "a database with its password in Vault";
    let (Some(vault), Some(server)) = (Vault::shared(part), database(part)) else { return };
    let host = host(vault, &vault.address(), "shop", server);
    let mut command = host.command(&["backup", "--json"]);
    // What others set for Vault's own client is not for bkp.
    command.envs([("VAULT_ADDR", "http://127.0.0.1:1"), ("VAULT_TOKEN", "no token"), ("VAULT_NAMESPACE", "elsewhere")]);
    command.envs([("VAULT_SKIP_VERIFY", ""), ("VAULT_CACERT", "/nonexistent")]);
    let answer = host.finish(host.start(command)).ends(0);
    shut(&host, &format!("{answer:?}"));
    assert!(vault.tokens_of("shop").is_empty(), "a token was left");
    let answer = host.read(&["restore", "shop"]).ends(0);
    shut(&host, &format!("{answer:?}"));
    let restored = server.query("", "show databases like 'shop\\_restore%'");
    assert_eq!(
        server.query("", &format!("select group_concat(text order by id) from `{restored}`.orders")),
        "first,second"
    );
    server.query("", &format!("drop database `{restored}`"));
}

#[test]
fn a_vault_that_goes_away_during_a_run_leaves_a_warning_behind() {
    let part = "Vault goes away during a run";
    let (Some(vault), Some(server)) = (Vault::shared(part), database(part)) else { return };
    let proxy = Proxy::new(vault.port());
    let host = host(vault, &proxy.address(), "going", server);
    proxy.after("/v1/kv/data/going", Act::Answer(503, "{\"errors\":[\"Vault is sealed\"]}"));
    let answer = host.run(&["backup", "--patience", "1s"]).ends(3).says("degraded: Vault at http://127.0.0.1:");
    shut(&host, &format!("{answer:?}"));
    answer.says("is sealed; ref+vault://kv/going#/password is used as it was read");
    // A new process has nothing in memory.
    let answer = host.run(&["backup", "--patience", "1s"]).ends(75).says("is sealed").says("Unseal it");
    shut(&host, &format!("{answer:?}"));
    assert_eq!(host.points("shop").len(), 1);
}

/// Ends of runs in the journal of a host, from this one on: exit code and message.
fn ends_from(host: &Host, first: usize) -> Vec<(u64, String)> {
    let mut ends = Vec::new();
    for file in fs::read_dir(host.path("state/journal")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        let records = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let runs = records.filter(|record| record["kind"] == "run_ended");
        ends.extend(
            runs.map(|run| (run["code"].as_u64().unwrap(), run["message"].as_str().unwrap_or_default().into())),
        );
    }
    ends.split_off(first.min(ends.len()))
}

/// Waits for a run that begins from now on and ends so.
#[track_caller]
fn comes(host: &Host, what: &str, is: impl Fn(u64, &str) -> bool) {
    let before = ends_from(host, 0).len();
    wait_for(what, 90, || ends_from(host, before).iter().any(|(code, message)| is(*code, message)).then_some(()));
}

#[test]
fn a_daemon_goes_on_with_what_its_runs_have_read_and_no_longer_than_it_lives() {
    let part = "a daemon through an outage";
    let (Some(vault), Some(server)) = (Vault::shared(part), database(part)) else { return };
    let proxy = Proxy::new(vault.port());
    let host = host(vault, &proxy.address(), "nights", server);
    let main = fs::read_to_string(host.path("etc/bkp.yaml")).unwrap();
    host.configure(&format!("{main}daemon: {{ retry: 1s }}\nhttp: {{ listen: off }}\n"));
    let policy = fs::read_to_string(host.path("etc/policies.d/all.yaml")).unwrap();
    let often = policy.replace("policy: all\n", "policy: all\nschedule: \"* * * * * *\"\n");
    fs::write(host.path("etc/policies.d/all.yaml"), often).unwrap();
    let daemon = || {
        let mut command = host.command(&["daemon"]);
        command.env("BKP_PATIENCE", "1s");
        host.start(command)
    };
    let sealed = Act::Answer(503, "{\"errors\":[\"Vault is sealed\"]}");
    let degraded = |code: u64, message: &str| code == 3 && message.starts_with("degraded: Vault at");

    let running = daemon();
    comes(&host, "a backup", |code, _| code == 0);
    proxy.always(sealed.clone());
    comes(&host, "a backup with what is in memory", degraded);
    let listed = fs::read_to_string(format!("/proc/{}/environ", running.child.id())).unwrap_or_default();
    proxy.always(Act::Pass);
    comes(&host, "a backup that asked Vault", |code, _| code == 0);
    // What Vault denies is denied, also when it cannot be asked afterwards.
    vault.policy("nights", "path \"kv/data/other\" { capabilities = [\"read\"] }");
    comes(&host, "a refusal", |code, _| code == 12);
    proxy.always(sealed.clone());
    comes(&host, "a try in vain", |code, _| code == 75);
    proxy.always(Act::Pass);
    vault.policy("nights", "path \"kv/data/nights\" { capabilities = [\"read\"] }");
    comes(&host, "a backup", |code, _| code == 0);
    running.signal(rustix::process::Signal::TERM);
    let said = host.finish(running).ends(0);

    // The next daemon has nothing in memory.
    proxy.always(sealed);
    let running = daemon();
    comes(&host, "a try in vain", |code, message| code == 75 && message.contains("is sealed"));
    proxy.always(Act::Pass);
    comes(&host, "a backup", |code, _| code == 0);
    running.signal(rustix::process::Signal::TERM);
    shut(&host, &format!("{listed} {said:?} {:?}", host.finish(running).ends(0)));
    let found = std::process::Command::new("grep").args(["-rlF", server.password()]).arg(host.path("state")).output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "", "the password is on disk");
}

#[test]
fn the_doctor_looks_at_vault_and_at_every_reference() {
    let part = "bkp doctor and Vault";
    let (Some(vault), Some(server)) = (Vault::shared(part), database(part)) else { return };
    let proxy = Proxy::new(vault.port());
    let host = host(vault, &proxy.address(), "patient-7", server);
    let answer = host.run(&["doctor", "--patience", "1s"]);
    shut(&host, &format!("{answer:?}"));
    answer
        .says("version 1.")
        .says("unsealed")
        .says("the token has the policies default, patient-7")
        .says("1 reference can be read");
    let line = |field: &str| format!("x: {{ redis: {{ host: localhost, password: \"ref+vault://kv/{field}\" }} }}");
    host.sources(&[line("patient-7#/pasword"), line("other-7#/password").replacen('x', "y", 1)]);
    let answer = host.run(&["doctor", "--patience", "1s"]).ends(1);
    shut(&host, &format!("{answer:?}"));
    answer
        .says("x: the secret of ref+vault://kv/patient-7#/pasword has no field `pasword`")
        .says("it has: password")
        .says("path \"kv/data/other-7\" { capabilities = [\"read\"] }");
    proxy.always(Act::Answer(200, "{\"initialized\":true,\"sealed\":true,\"standby\":true,\"version\":\"1.21.0\"}"));
    host.run(&["doctor", "--patience", "1s"]).ends(1).says("it is sealed").says("vault operator unseal");
    proxy.always(Act::Answer(503, "{\"errors\":[\"no\"]}"));
    host.run(&["doctor", "--patience", "1s"]).ends(1).says("cannot answer now: no (status 503)");
}
