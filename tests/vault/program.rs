//! The program: backups of a real database whose password is in Vault, the doctor, and what is said of mistakes.

use super::repository::Fixture;
use super::support::host::Host;
use super::support::host_server::HostServer;
use super::support::vault::{Act, Proxy, Vault};
use super::{Client, reference};
use bkp::engine::mysql::Settings;
use bkp::engine::{self, Server};
use bkp::job::Places;
use bkp::job::backup::Backup;
use bkp::repo::write::Options;
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

#[test]
fn backups_of_one_process_go_on_through_an_outage() {
    let part = "backups through an outage";
    let (Some(server), Some(vault)) = (database(part), Vault::alone(part)) else { return };
    let client = Client::of_role(&vault, &vault.address(), "daemon");
    vault.write("daemon", json!({ "password": server.password() }));
    let server = Server {
        host: Some("127.0.0.1".into()),
        port: Some(server.port()),
        user: Some("root".into()),
        password: Some(reference("kv/daemon#/password")),
        secrets: client.begin(),
        ..Server::default()
    };
    let settings = Settings { server, databases: vec!["shop".into()], exclude: vec![], lock_tables: false };
    let engine = engine::build(&engine::Settings::Mysql(settings));
    let fixture = Fixture::new();
    let places = Places::new(client.state(), &client.state().join("cache"), &fixture.repository);
    let back_up = |at: &str| {
        let backup = Backup {
            repository: &fixture.repository,
            writer: &fixture.writer,
            places: &places,
            source: "shop",
            engine: &*engine,
            options: Options::default(),
            reread: false,
            purpose: None,
            together: None,
        };
        backup.run(fixture.context(), at.parse().unwrap()).unwrap()
    };
    assert_eq!(back_up("2026-01-02T00:00:00Z").warnings, Vec::<String>::new());
    vault.stop();
    let done = back_up("2026-01-03T00:00:00Z");
    assert!(done.warnings.len() == 1 && done.warnings[0].starts_with("degraded: Vault at"), "{:?}", done.warnings);
    assert!(done.point.bytes > 0);
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
