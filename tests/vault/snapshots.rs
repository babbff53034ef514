//! Vault itself as a source: its snapshots into the repository, into a file, into nodes; and what rehearsals make of them.

use super::support::host::{Answer, Host};
use super::support::vault::{Act, Proxy, Vault};
use super::support::wait_for;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// A Vault with a secret in it, and a host whose source `secrets` it is, by a role that may take snapshots and nothing else.
fn protected(part: &str) -> Option<(Vault, Host)> {
    let vault = furnished(Vault::with_raft(part)?);
    let host = host_of(&vault, &vault.address());
    Some((vault, host))
}

fn furnished(vault: Vault) -> Vault {
    vault.put("sys/mounts/kv", json!({ "type": "kv", "options": { "version": "2" } }));
    vault.put("sys/auth/approle", json!({ "type": "approle" }));
    wait_for("the key-value engine", 30, || {
        vault.try_put("kv/data/shop", json!({ "data": { "word": "first" } })).then_some(())
    });
    vault.policy("snapshots", "path \"sys/storage/raft/snapshot\" { capabilities = [\"read\"] }");
    vault.put("auth/approle/role/snapshots", json!({ "token_policies": "snapshots", "token_ttl": "10m" }));
    vault
}

fn host_of(vault: &Vault, address: &str) -> Host {
    let host = Host::new();
    let role = vault.get("auth/approle/role/snapshots/role-id")["role_id"].as_str().unwrap().to_owned();
    fs::write(host.path("secret-id"), vault.secret_id("snapshots")).unwrap();
    fs::write(host.path("root"), vault.root_token()).unwrap();
    fs::write(host.path("secret"), vault.root_token()).unwrap();
    let login = format!("approle: {{ role_id: {role}, secret_id_file: {} }}", host.text("secret-id"));
    host.sources(&[format!("secrets: {{ vault: {{ address: \"{address}\", {login} }} }}")]);
    host
}

fn word(vault: &Vault) -> String {
    vault.get("kv/data/shop")["data"]["word"].as_str().unwrap().to_owned()
}

/// What the newest point tells of its engine.
fn newest(host: &Host) -> Value {
    let points = host.points("secrets");
    points.iter().max_by_key(|point| point["point"].as_str().unwrap().to_owned()).unwrap().clone()
}

fn generation(answer: &Answer) -> String {
    let told = answer.err.split("seal generation ").find(|text| text.get(16..17) == Some(":"));
    told.unwrap_or_else(|| panic!("{answer:?}"))[..16].to_owned()
}

#[test]
fn a_snapshot_goes_into_a_file_a_new_node_and_back_into_its_cluster() {
    let part = "snapshots of Vault";
    let Some((vault, host)) = protected(part) else { return };
    host.run(&["backup"]).ends(0).says("1 of the 1 unseal keys of that generation open it");
    let shown = host.read(&["show", newest(&host)["point"].as_str().unwrap()]).ends(0);
    shown.says("Vault 1.").says("seal generation");
    vault.put("kv/data/shop", json!({ "data": { "word": "second" } }));

    host.read(&["restore", "secrets", "--to", &host.text("data/one.snap")]).ends(0);
    let listed = Command::new("tar").args(["tzf", &host.text("data/one.snap")]).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), "meta.json\nstate.bin\nSHA256SUMS\nSHA256SUMS.sealed\n");

    // What is there already is nobody's to replace without being asked, and the role cannot.
    let live = format!("vault:address={},token_file={}", vault.address(), host.text("root"));
    host.read(&["restore", "secrets", "--to", &live]).ends(13).says("no new node; nothing was changed");
    let in_place = ["restore", "secrets", "--in-place", "--confirm", "secrets"];
    host.read(&in_place).ends(12).says("denies its snapshot").says("capabilities = [\"update\"]");
    assert_eq!(word(&vault), "second");

    let root =
        format!("secrets: {{ vault: {{ address: \"{}\", token_file: {} }} }}", vault.address(), host.text("root"));
    host.sources(&[root]);
    host.read(&[&in_place[..], &["--at", "latest"]].concat()).ends(3).says("has the tokens, logins and leases");
    wait_for("the value that was restored", 30, || {
        let (_, answer) = vault.ask("GET", "kv/data/shop", None, &[]);
        (answer["data"]["data"]["word"] == "first").then_some(())
    });
    let points = host.points("secrets");
    assert!(points.iter().any(|point| point["purpose"] == "safety"), "what was replaced was backed up: {points:?}");

    let Some(mut new) = Vault::with_raft(part) else { return };
    fs::write(host.path("new"), new.root_token()).unwrap();
    let to = format!("vault:address={},token_file={}", new.address(), host.text("new"));
    host.read(&["restore", "secrets", "--to", &to])
        .ends(3)
        .says("is sealed now: 1 of the 1 unseal keys of seal generation");
    assert!(new.is_sealed());
    new.unseal_with(vault.unseal_key());
    assert_eq!(word(new.asked_with(vault.root_token())), "first");
    // Snapshots of another cluster are taken by nobody in place.
    vault.put("kv/data/shop", json!({ "data": { "word": "third" } }));
}

#[test]
fn new_unseal_keys_are_another_generation_and_a_new_encryption_key_is_not() {
    let Some((mut vault, host)) = protected("seal generations of Vault") else { return };
    let before = generation(&host.run(&["backup"]).ends(0));
    vault.put("sys/rotate", json!({}));
    host.next_second();
    assert_eq!(generation(&host.run(&["backup"]).ends(0)), before);
    vault.rekey();
    host.next_second();
    let answer = host.run(&["backup"]).ends(3);
    let answer = answer.says("the unseal keys were replaced since the point before").says(&before);
    assert_ne!(generation(&answer), before);
    host.next_second();
    host.run(&["backup"]).ends(0);
}

#[test]
fn a_snapshot_that_is_not_whole_makes_no_point() {
    let Some((vault, _)) = protected("snapshots of Vault that break off") else { return };
    let proxy = Proxy::new(vault.port());
    let host = host_of(&vault, &proxy.address());
    for bytes in [0, 100, 3000, 9000] {
        proxy.on("/v1/sys/storage", Act::Cut(bytes));
        host.run(&["backup"]).ends(75).says("Vault at http://127.0.0.1:");
    }
    proxy.on("/v1/sys/storage", Act::Answer(500, r#"{"errors":["no leader"]}"#));
    host.run(&["backup"]).ends(75).says("no leader");
    proxy.on("/v1/sys/storage", Act::Pass);
    assert!(host.points("secrets").is_empty());
    host.run(&["backup"]).ends(0);
    vault.seal();
    host.run(&["backup"]).ends(75).says("is sealed").says("vault operator unseal");
    assert_eq!(host.points("secrets").len(), 1);
}

#[test]
fn what_has_no_snapshots_is_told_before_it_is_tried() {
    let Some(vault) = Vault::alone("a Vault without snapshots") else { return };
    let host = Host::new();
    fs::write(host.path("root"), vault.root_token()).unwrap();
    host.sources(&[format!(
        "secrets: {{ vault: {{ address: \"{}\", token_file: {} }} }}",
        vault.address(),
        host.text("root")
    )]);
    host.run(&["backup"]).ends(2).says("keeps its data in `file`, which has no snapshots").says("integrated storage");
}

/// Rehearses on a host that has the program of Vault, and these unseal keys.
fn rehearsed(vault: &Vault, host: &Host, keys: &[&str]) -> Answer {
    let mut references = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        let path = host.text(&format!("unseal-{number}"));
        fs::write(&path, key).unwrap();
        references.push(format!("\"ref+file://{path}\""));
    }
    host.configure(&format!(
        "repository: {{ url: \"{}\" }}\nrehearse: {{ unseal_keys: [{}] }}\n",
        host.url,
        references.join(", ")
    ));
    let mut command = host.command(&["rehearse", "secrets", "--json"]);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", vault.program_for_everybody().display()));
    command.env("BKP_IDENTITY", host.identity());
    let answer = host.finish(host.start(command));
    for key in keys {
        assert!(!format!("{answer:?}").contains(key), "an unseal key was told: {answer:?}");
    }
    answer
}

#[test]
fn a_snapshot_is_rehearsed_as_far_as_there_are_keys_to_open_it() {
    let Some((mut vault, host)) = protected("rehearsals of Vault") else { return };
    host.run(&["backup"]).ends(0);
    let old = vault.unseal_key().to_owned();
    vault.rekey();
    let new = vault.unseal_key().to_owned();

    let loaded = rehearsed(&vault, &host, &[]).ends(3).json();
    let found = &loaded["rehearsals"][0];
    assert_eq!((&found["reached"], &found["target"]["kind"]), (&"loaded".into(), &"process".into()), "{loaded}");
    assert!(found["unbound"].as_str().unwrap().contains("it was not unsealed"), "{found}");

    let wrong = rehearsed(&vault, &host, &[&new]);
    if !found["target"]["isolation"].as_str().unwrap().contains("no network") {
        // Nothing that was restored is opened where it could reach the databases.
        wrong.ends(3).says("with a network");
        return;
    }
    wrong.ends(4).says("the unseal keys of this host do not open the snapshot");

    let equal = rehearsed(&vault, &host, &[&old]).ends(0).json();
    let found = &equal["rehearsals"][0];
    assert_eq!(found["reached"], "equal", "{equal}");
    assert!(found["compared"].as_u64().unwrap() >= 5, "{found}");
    assert_eq!(fs::read_dir(host.path("cache/rehearsals")).unwrap().count(), 0);
}
