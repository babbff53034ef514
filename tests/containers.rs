//! Containers, volumes and whole stacks as a user meets them: through the program, on a real engine.
#![allow(clippy::unwrap_used)] // test code outside of test functions

#[path = "support/cli.rs"]
mod cli;
#[path = "containers/discovery.rs"]
mod discovery;
#[path = "containers/in_place.rs"]
mod in_place;
#[path = "containers/labels.rs"]
mod labels;
#[path = "containers/live_data.rs"]
mod live_data;
#[path = "containers/standing_still.rs"]
mod standing_still;
mod support;
#[path = "containers/swarm.rs"]
mod swarm;
#[path = "support/trees.rs"]
mod trees;

use cli::{Bkp, eventually, read_database, write_database};
use std::path::{Path, PathBuf};
use support::docker::engine::{Volume, docker};
use support::docker::{Container, Stack};

const PART: &str = "containers and volumes through the program";

fn unique(what: &str) -> String {
    format!("bkp-test-{what}-{}", bkp::durable::random_hex(4))
}

fn mountpoint(volume: &str) -> PathBuf {
    docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", volume]).into()
}

/// Removed at the end, whatever happens.
struct Leftover(String);

impl Drop for Leftover {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["volume", "rm", "-f", &self.0]).output();
    }
}

/// A host with a policy for `sources`, in YAML as it stands below `sources:`.
fn host_with(sources: &str) -> Bkp {
    let host = Bkp::with_repository();
    host.configure("", &format!("policy: test\nsources:\n{sources}"));
    host
}

#[test]
fn what_is_not_protected_is_found_and_a_first_policy_protects_it() {
    let name = unique("files");
    let wanted = [
        ("db", Container::mariadb().env("MYSQL_DATABASE", "shop")),
        ("cache", Container::redis().volume(&format!("{name}:/srv"))),
    ];
    let volume = Volume::new(&name);
    let Some(stack) = Stack::start(PART, wanted) else { return };
    std::fs::write(mountpoint(&volume.name).join("letter.txt"), "dear").unwrap();
    write_database(&mountpoint(&volume.name).join("app.db"), &["one"]);
    let host = Bkp::with_repository();
    let found = host.run(&["discover", "--project", stack.prefix()]).expect_code(5);
    for expected in ["mysql", "redis", "NOT PROTECTED", "SQLite database app.db"] {
        assert!(found.stdout.contains(expected), "`{expected}` is missing:\n{}", found.stdout);
    }
    let password = stack["db"].password();
    assert!(!found.stdout.contains(password) && !found.stderr.contains(password), "a password is shown");

    let written = host.ok(&["discover", "--project", stack.prefix(), "--write"]);
    let policy = std::fs::read_to_string(written.stdout.trim()).unwrap();
    assert!(!policy.contains(password), "a password is in the policy:\n{policy}");
    assert!(policy.contains("service: db") && policy.contains("password_file:"), "{policy}");
    host.ok(&["config", "check"]);
    host.run(&["discover", "--project", stack.prefix(), "--write"])
        .expect_code(0)
        .says(&["everything that was found is protected"]);
    let again = host.ok(&["discover", "--project", stack.prefix()]);
    assert!(!again.stdout.contains("NOT PROTECTED"), "{}", again.stdout);
    let backup = host.run(&["backup", "--stack", stack.prefix()]);
    assert!([0, 3].contains(&backup.code), "{}", backup.stderr);
    assert!(backup.stderr.contains("apart"), "the skew is told:\n{}", backup.stderr);
}

#[test]
fn a_stack_comes_back_to_one_instant_and_goes_on_after_a_failure() {
    let name = unique("letters");
    let _volume = Volume::new(&name);
    let wanted = [
        ("db", Container::mariadb().env("MYSQL_DATABASE", "shop")),
        ("orders", Container::postgres().env("POSTGRES_DB", "orders")),
        ("cache", Container::redis().volume(&format!("{name}:/srv"))),
    ];
    let Some(stack) = Stack::start(PART, wanted) else { return };
    stack["db"].query(
        "shop",
        "create table goods (id int primary key, name text); insert into goods values (1, 'pears'), (2, 'figs')",
    );
    stack["orders"]
        .query("orders", "create table items (id int primary key, what text); insert into items values (1, 'one')");
    stack["cache"].query("0", "SET basket three");
    std::fs::write(mountpoint(&name).join("letter.txt"), "dear").unwrap();
    let project = stack.prefix();
    let host = Bkp::with_repository();
    let secrets = host.path("secrets");
    host.write("secrets/db", stack["db"].password());
    host.write("secrets/cache", stack["cache"].password());
    let policy = format!(
        "policy: test\nstack: {project}\nsources:\n  \
         db: {{ mysql: {{ service: db, user: root, password_file: {0}/db }} }}\n  \
         orders: {{ postgres: {{ service: orders, user: postgres }} }}\n  \
         cache: {{ redis: {{ service: cache, password_file: {0}/cache }} }}\n  \
         letters: {{ volume: {{ name: {name} }} }}\n",
        secrets.display()
    );
    host.configure("", &policy);
    let backup = host.run(&["backup", "--stack", project, "--json"]);
    assert!([0, 3].contains(&backup.code), "{}", backup.stderr);
    let document = backup.document();
    assert_eq!(document["points"].as_array().unwrap().len(), 4, "{document}");
    assert!(document["stack"]["skew_seconds"].as_f64().is_some());

    stack["db"].query("shop", "drop table goods");
    stack["orders"].query("orders", "delete from items");
    std::fs::remove_file(mountpoint(&name).join("letter.txt")).unwrap();

    let plan = host
        .run(&["restore", "--stack", project, "--identity", "key.txt", "--dry-run", "--json"])
        .expect_code(0)
        .document();
    let members = plan["members"].as_array().unwrap();
    assert_eq!(members.len(), 4);
    let target =
        members.iter().find(|m| m["source"] == "letters").unwrap()["target"]["place"].as_str().unwrap().to_owned();
    let _made = Leftover(target.clone());
    let in_the_way = Volume::new(&target);
    host.run(&["restore", "--stack", project, "--identity", "key.txt"])
        .says(&["there is a volume", "goes on where this one stopped"]);
    drop(in_the_way);
    let again = host.run(&["restore", "--stack", project, "--identity", "key.txt"]);
    assert!([0, 3].contains(&again.code), "{}", again.stderr);
    again.says(&["db: was restored before"]);

    let shop = stack["db"]
        .query("", "select schema_name from information_schema.schemata where schema_name like 'shop\\_restore\\_%'");
    assert_eq!(stack["db"].query(&shop, "select name from goods order by id"), "pears\nfigs");
    let orders =
        stack["orders"].query("postgres", "select datname from pg_database where datname like 'orders\\_restore\\_%'");
    assert_eq!(stack["orders"].query(&orders, "select what from items"), "one");
    assert_eq!(std::fs::read_to_string(mountpoint(&target).join("letter.txt")).unwrap(), "dear");
}

/// A container that writes into a volume without end, and a host that is to back it up.
fn writing_container(quiesce: &str) -> Option<(Volume, Container, Bkp)> {
    let name = unique("busy");
    let volume = Volume::new(&name);
    let container = Container::redis().volume(&format!("{name}:/srv")).start(PART)?;
    for n in 0..2000 {
        std::fs::write(mountpoint(&name).join(format!("{n}.txt")), n.to_string()).unwrap();
    }
    docker(&[
        "exec",
        "-d",
        container.name(),
        "sh",
        "-c",
        "n=0; while :; do n=$((n+1)); echo $n >>/srv/a; echo $n >>/srv/b; done",
    ]);
    eventually("the first writing", || mountpoint(&name).join("b").exists());
    let host = host_with(&format!("  busy: {{ volume: {{ name: {name}{quiesce} }} }}\n"));
    Some((volume, container, host))
}

fn state(container: &Container) -> String {
    container.inspect("{{.State.Status}}")
}

#[test]
fn containers_that_write_stand_still_while_a_volume_is_read() {
    let Some((_volume, container, host)) = writing_container(", quiesce: pause") else { return };
    host.ok(&["backup"]).says(&["note: paused for", container.name()]);
    assert_eq!(state(&container), "running");
    host.ok_with_key(&["restore", "busy", "--to", "restored"]);
    let lines = |name: &str| std::fs::read_to_string(host.path("restored").join(name)).unwrap().lines().count();
    let (a, b) = (lines("a"), lines("b"));
    assert!(a == b || a == b + 1, "the files are of one instant, and `a` is written first: a {a}, b {b}");
}

#[test]
fn a_killed_backup_lets_the_containers_go_on() {
    let Some((_volume, container, host)) = writing_container(", quiesce: pause") else { return };
    for point in ["quiesce:recorded", "quiesce:still"] {
        let status = host.command(&["backup"]).env("BKP_CRASH_AT", point).status().unwrap();
        assert!(!status.success(), "{point} was not reached");
        eventually("the container goes on", || state(&container) == "running");
        host.ok(&["backup"]);
    }
    let left: Vec<_> = cli::files(&host.state())
        .into_iter()
        .filter(|p| p.starts_with("still") && p.extension().is_some_and(|e| e == "json"))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new(), "nothing is remembered of what is over");
}

#[test]
fn a_new_volume_has_the_labels_of_the_old_one() {
    let Some(()) = support::docker::require(PART, support::docker::Kind::Redis) else { return };
    let name = unique("labelled");
    let _old = Leftover(name.clone());
    docker(&["volume", "create", "--label", "com.docker.compose.volume=documents", &name]);
    std::fs::create_dir(mountpoint(&name).join("deep")).unwrap();
    std::fs::write(mountpoint(&name).join("deep/letter.txt"), "dear").unwrap();
    let host = host_with(&format!("  documents: {{ volume: {{ name: {name} }} }}\n"));
    host.ok(&["backup"]);
    let new = format!("{name}-new");
    let _new = Leftover(new.clone());
    host.ok_with_key(&["restore", "documents", "--to", &format!("volume:{new}")]);
    assert_eq!(
        docker(&["volume", "inspect", "-f", "{{index .Labels \"com.docker.compose.volume\"}}", &new]),
        "documents"
    );
    assert_eq!(std::fs::read_to_string(mountpoint(&new).join("deep/letter.txt")).unwrap(), "dear");
    host.run_with_key(&["restore", "documents", "--to", &format!("volume:{new}")])
        .expect_code(2)
        .says(&["there is a volume"]);
}

#[test]
fn a_restore_into_a_new_volume_that_was_killed_is_done_by_the_same_command() {
    let Some(()) = support::docker::require(PART, support::docker::Kind::Redis) else { return };
    let name = unique("letters");
    let _old = Volume::new(&name);
    std::fs::write(mountpoint(&name).join("letter.txt"), "dear").unwrap();
    let host = host_with(&format!("  letters: {{ volume: {{ name: {name} }} }}\n"));
    host.ok(&["backup"]);
    let new = format!("{name}-new");
    let _new = Leftover(new.clone());
    let target = format!("volume:{new}");
    let command = ["restore", "letters", "--to", &target, "--identity", "key.txt"];
    for point in ["restore:target-begun", "restore:data-written", "restore:before-live"] {
        let status = host.command(&command).env("BKP_CRASH_AT", point).status().unwrap();
        assert!(!status.success(), "{point} was not reached");
    }
    host.ok(&command);
    assert_eq!(std::fs::read_to_string(mountpoint(&new).join("letter.txt")).unwrap(), "dear");
    host.run(&command).expect_code(2).says(&["there is a volume"]);
}

#[test]
fn the_files_of_a_server_at_work_are_refused() {
    let name = unique("data");
    let volume = Volume::new(&name);
    let Some(_server) = Container::mariadb().volume(&format!("{name}:/var/lib/mysql")).start(PART) else { return };
    let host = host_with(&format!("  data: {{ volume: {{ name: {} }} }}\n", volume.name));
    host.run(&["backup"]).expect_code(13).says(&["is the data of MySQL or MariaDB, which works on it", "quiesce"]);
    assert!(host.points("data").is_empty());
}

#[test]
fn a_sqlite_database_on_a_volume_is_copied_where_it_is_and_comes_back() {
    let name = unique("flask");
    let volume = Volume::new(&name);
    let Some(container) = Container::redis().volume(&format!("{name}:/srv")).start(PART) else { return };
    let path = mountpoint(&volume.name).join("app.db");
    write_database(&path, &["one", "two"]);
    let host = host_with(&format!("  tasks: {{ sqlite: {{ volume: {name}, path: app.db }} }}\n"));
    host.ok(&["backup"]);
    write_database(&path, &["damaged"]);
    host.ok_with_key(&["restore", "tasks", "--in-place", "--confirm", "tasks"]);
    assert_eq!(read_database(&path), ["one", "two"]);
    assert_eq!(state(&container), "running", "it was stopped meanwhile and started again");
    let owned = |path: &Path| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap());
    assert_eq!(owned(&path), 0);
}

#[test]
fn a_container_that_is_not_there_is_told_with_what_is_near() {
    let Some(container) = Container::redis().start(PART) else { return };
    let host = host_with(&format!("  cache: {{ redis: {{ container: {}x }} }}\n", container.name()));
    host.run(&["backup"]).says(&[container.name()]);
    assert!(host.points("cache").is_empty());
}

#[test]
fn a_volume_that_is_a_directory_elsewhere_is_found_whether_a_container_uses_it_or_not() {
    let Some(()) = support::docker::require(PART, support::docker::Kind::Redis) else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    write_database(&elsewhere.path().join("app.db"), &["one"]);
    let name = unique("bound");
    let _volume = Leftover(name.clone());
    let device = format!("device={}", elsewhere.path().display());
    docker(&["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, &name]);
    let host = host_with(&format!(
        "  tasks: {{ sqlite: {{ volume: {name}, path: app.db }} }}\n  files: {{ volume: {{ name: {name}, include: [letter.txt] }} }}\n"
    ));
    std::fs::write(elsewhere.path().join("letter.txt"), "dear").unwrap();
    host.ok(&["backup"]);

    let container = Container::redis().volume(&format!("{name}:/srv")).start(PART).unwrap();
    write_database(&elsewhere.path().join("app.db"), &["one", "two"]);
    host.ok(&["backup"]);
    assert_eq!(host.points("tasks").len(), 2);
    host.ok_with_key(&["restore", "files", "--to", "files"]);
    assert_eq!(std::fs::read_to_string(host.path("files/letter.txt")).unwrap(), "dear");
    write_database(&elsewhere.path().join("app.db"), &["damaged"]);
    host.ok_with_key(&["restore", "tasks", "--in-place", "--confirm", "tasks"]);
    assert_eq!(read_database(&elsewhere.path().join("app.db")), ["one", "two"]);
    assert_eq!(state(&container), "running");
}
