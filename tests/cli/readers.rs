//! Who reads, changed on several hosts, and with keys that are not age's own.

use crate::support::{Bkp, Ran, write_database};
use std::path::Path;

/// A host that writes into a repository of another one.
struct Second<'a> {
    host: Bkp,
    first: &'a Bkp,
}

impl Second<'_> {
    fn run(&self, arguments: &[&str]) -> Ran {
        let repository = self.first.repository();
        self.host.run(&[arguments, &["--repo", repository.to_str().unwrap()]].concat())
    }
}

fn joined(first: &Bkp) -> Second<'_> {
    let second = Second { host: Bkp::new(), first };
    second.run(&["init", "--join", "--name", "host-b"]).expect_code(0);
    second
}

fn new_key(path: &Path) -> String {
    use age::secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;
    let key = age::x25519::Identity::generate();
    std::fs::write(path, key.to_string().expose_secret()).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    key.to_public().to_string()
}

/// The line that `keys list` has for a host, as identity files note it.
fn line_of(host: &Bkp, name: &str) -> String {
    let document = host.json(&["keys", "list"]);
    let writers = document["writers"].as_array().unwrap();
    let found = writers.iter().find(|w| w["name"] == name).unwrap();
    format!("# bkp-writer: {} {}\n", found["writer"].as_str().unwrap(), found["verify_key"].as_str().unwrap())
}

fn append(path: &Path, line: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, format!("{line}{text}")).unwrap();
}

#[test]
fn what_one_host_changed_the_next_one_keeps() {
    let first = Bkp::with_repository();
    let second = joined(&first);
    append(&first.path("key.txt"), &line_of(&first, "host-b"));
    let (ana, luis) = (first.path("ana.txt"), first.path("luis.txt"));
    let key = first.path("key.txt");
    let key = key.to_str().unwrap();
    first.ok_with_key(&["keys", "add", "ana", &new_key(&ana)]);
    second.run(&["keys", "add", "luis", &new_key(&luis), "--identity", key]).expect_code(0);

    // Both are there, and each opens every data epoch, of both hosts.
    write_database(&first.path("app.db"), &["one"]);
    first.ok(&["backup", "--source", "sqlite:app.db"]);
    for identity in [&ana, &luis] {
        append(identity, &line_of(&first, "host-a"));
        let doctor = first.run(&["doctor", "--json", "--identity", identity.to_str().unwrap()]).document();
        let findings = doctor["findings"].as_array().unwrap();
        let key = findings.iter().find(|f| f["check"] == "recovery key").unwrap();
        assert_eq!(key["text"], "opens 2 data epochs");
        let restored = format!("{}.db", identity.file_stem().unwrap().to_str().unwrap());
        first.ok(&["restore", "app", "--to", &restored, "--identity", identity.to_str().unwrap()]);
    }
    // What the second host removed, the first does not bring back with its own next change.
    second.run(&["keys", "remove", "ana", "--identity", key]).expect_code(0);
    let maria = first.path("maria.txt");
    let before = first.json(&["keys", "list"])["epoch"].clone();
    first.ok_with_key(&["keys", "add", "maria", &new_key(&maria)]);
    let listed = first.json(&["keys", "list"]);
    assert_ne!(listed["epoch"], before, "ana opens the data epoch that this host had, whoever took her off");
    let names: Vec<_> = listed["recipients"].as_array().unwrap().iter().map(|r| r["name"].clone()).collect();
    assert_eq!(names, ["recovery-key", "luis", "maria"]);
    let closed = first.run(&["doctor", "--identity", ana.to_str().unwrap()]).expect_code(1);
    assert!(closed.stdout.contains("the key of ana in this identity was taken off on"), "{}", closed.stdout);
    // A host that was told nothing says so, and takes the list over with the same command.
    second.run(&["keys", "list"]).expect_code(0).says(&["other recipients than this host seals to", "here"]);
    let maria = listed["recipients"][2]["recipient"].as_str().unwrap();
    second.run(&["keys", "add", "maria", maria, "--identity", key]).expect_code(0);
    assert!(!second.run(&["keys", "list"]).expect_code(0).stderr.contains("other recipients"));
}

#[test]
fn a_list_that_only_the_store_vouches_for_is_not_built_upon() {
    let first = Bkp::with_repository();
    let stranger = joined(&first);
    let key = first.path("key.txt");
    let mallory = new_key(&first.path("mallory.txt"));
    stranger.run(&["keys", "add", "mallory", &mallory, "--identity", key.to_str().unwrap()]).expect_code(0);
    let before = std::fs::read(first.repository().join("keys/epoch-0001.age")).unwrap();
    let ana = new_key(&first.path("ana.txt"));
    let line = line_of(&first, "host-b");
    first.run_with_key(&["keys", "add", "ana", &ana]).expect_code(12).says(&["nobody vouches", line.trim()]);
    assert_eq!(std::fs::read(first.repository().join("keys/epoch-0001.age")).unwrap(), before);
    // As it was told: once that host is known, its change is taken over.
    append(&key, &line);
    first.ok_with_key(&["keys", "add", "ana", &ana]);
    assert_eq!(first.json(&["keys", "list"])["recipients"].as_array().unwrap().len(), 3);
}

#[test]
fn a_list_that_was_rolled_back_is_noticed() {
    let host = Bkp::with_repository();
    host.ok_with_key(&["keys", "add", "ana", &new_key(&host.path("ana.txt"))]);
    host.ok_with_key(&["keys", "remove", "ana"]);
    std::fs::remove_file(host.repository().join("keys/recipients-0003.json")).unwrap();
    let luis = new_key(&host.path("luis.txt"));
    host.run_with_key(&["keys", "add", "luis", &luis]).expect_code(4).says(&["this host has seen 3", "from a copy"]);
}

/// Backs up, reads and restores with a key that is not bkp's own: `identity` belongs to `recipient`.
fn whole_way(host: &Bkp, recipient: &str, identity: &str, run: &dyn Fn(&[&str]) -> Ran) {
    run(&["init", "--recipient", &format!("ana={recipient}")]).expect_code(0);
    write_database(&host.path("app.db"), &["one", "two"]);
    host.write("documents/a.txt", "a");
    run(&["backup", "--source", "sqlite:app.db", "--source", "volume:./documents"]).expect_code(0);
    run(&["check", "--level", "readable", "--identity", identity]).expect_code(0);
    run(&["restore", "app", "--to", "app-restored.db", "--identity", identity]).expect_code(0);
    assert_eq!(crate::support::read_database(&host.path("app-restored.db")), ["one", "two"]);
    run(&["restore", "documents", "--to", "restored", "--identity", identity]).expect_code(0);
    assert_eq!(std::fs::read(host.path("restored/a.txt")).unwrap(), b"a");
    let doctor = run(&["doctor", "--identity", identity]).expect_code(0);
    assert!(doctor.stdout.contains("opens 1 data epoch"), "{}", doctor.stdout);
    // It can let others in, too.
    let luis = new_key(&host.path("luis.txt"));
    run(&["keys", "add", "luis", &luis, "--identity", identity]).expect_code(0);
    run(&["restore", "app", "--to", "by-luis.db", "--identity", "luis.txt"]).expect_code(0);
}

#[test]
fn ssh_keys_read_backups() {
    if std::process::Command::new("ssh-keygen").arg("-?").output().is_err() {
        return crate::servers::not_run(
            "ssh keys",
            "ssh-keygen is missing; install it with: apt-get install openssh-client",
        );
    }
    for kind in ["ed25519", "rsa"] {
        let host = Bkp::new();
        let make = |name: &str| {
            let file = host.path(name);
            let mut command = std::process::Command::new("ssh-keygen");
            command.args(["-q", "-t", kind, "-N", "", "-C", "ana@desk", "-f"]).arg(&file);
            assert!(command.status().unwrap().success());
            std::fs::read_to_string(file.with_extension("pub")).unwrap()
        };
        let public = make("id_key");
        whole_way(&host, &public, "id_key", &|words| host.run(words));
        make("id_other");
        host.run(&["restore", "app", "--to", "no.db", "--identity", "id_other"]).expect_code(12);
        assert!(!host.path("no.db").exists());
        // What is noted beside a key makes no other one of it.
        let same = public.trim().replace("ana@desk", "ana@laptop");
        let words = ["keys", "add", "laptop", &same, "--identity", "id_key"];
        host.run(&words).expect_code(2).says(&["is a recipient already"]);
    }
}

#[test]
fn a_plug_in_of_age_reads_backups() {
    use std::os::unix::fs::PermissionsExt;
    let host = Bkp::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/age_plugin.py");
    let plugin = host.write("bin/age-plugin-bkptest", format!("#!/bin/sh\nexec python3 '{script}' \"$@\"\n"));
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let keys = std::process::Command::new(&plugin).arg("--keys").output().unwrap();
    let keys = String::from_utf8(keys.stdout).unwrap();
    let (recipient, identity) = keys.trim().split_once('\n').unwrap();
    let file = host.write("identity.txt", format!("{identity}\n"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = format!("{}:{}", plugin.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let run = |words: &[&str]| {
        let mut command = host.command(words);
        command.env("PATH", &path);
        Ran::of(command.output().unwrap())
    };
    whole_way(&host, recipient, "identity.txt", &run);
    // No device is asked whether it is refused, and that is said.
    let listed = run(&["keys", "list", "--json"]).expect_code(0).document();
    let name = listed["recipients"][0]["name"].as_str().unwrap();
    let another = format!("{name}={}", new_key(&host.path("another.txt")));
    let words = ["rotate", "recipients", &another, "--identity", "identity.txt", "--new-identity", "another.txt"];
    run(&words).expect_code(0).says(&["was not tried: it is one of a plug-in"]);
    let back = format!("{name}={recipient}");
    let words = ["rotate", "recipients", &back, "--identity", "another.txt", "--dry-run"];
    run(&words).expect_code(13).says(&["that key was taken off"]);
    // Without its program the key is of no use, and that is said.
    let missing = host.run(&["restore", "app", "--to", "no.db", "--identity", "identity.txt"]);
    assert_ne!(missing.code, 0);
    assert!(missing.stderr.contains("age-plugin-bkptest"), "{}", missing.stderr);
}
