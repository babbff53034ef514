//! What labels bring into a policy, what they cannot, and what is said of those without effect.

use crate::cli::{Bkp, Ran, eventually, read_database, write_database};
use crate::support::docker::engine::docker;
use crate::support::docker::{Container, Kind, image};
use crate::support::supervisor::Supervisor;
use crate::{Leftover, PART, mountpoint, unique};
use std::ffi::OsStr;

#[test]
fn labels_choose_a_policy_and_a_name_and_nothing_else() {
    let policy = unique("policy");
    let (shop, cart, files) = (unique("shop"), unique("cart"), unique("files"));
    let closed = unique("closed");
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "pw-in-a-file").unwrap();
    let mounted = format!("{}:/run/shop-password:ro", secret.path().display());
    let started = crate::support::docker::start_all(
        PART,
        [
            Container::mariadb()
                .label("bkp.policy", &policy)
                .label("bkp.source", &shop)
                .password("pw-in-a-file")
                .env("MYSQL_DATABASE", "shop")
                .env("MYSQL_ROOT_PASSWORD_FILE", "/run/shop-password")
                .volume(&mounted),
            Container::redis()
                .label("bkp.policy", &policy)
                .label("bkp.source", &cart)
                .label("bkp.keep", "1")
                .label("bkp.command", "rm -rf /"),
            Container::valkey().label("bkp.policy", &closed),
            Container::postgres().label("bkp.policy", &policy).label("bkp.ignore", "true"),
        ],
    );
    let Some([database, cache, outside, left_out]) = started else { return };
    database.query("shop", "create table goods (name text); insert into goods values ('pears')");
    cache.query("0", "SET basket three");
    let _volume = Leftover(files.clone());
    docker(&["volume", "create", "--label", &format!("bkp.policy={policy}"), &files]);
    std::fs::write(mountpoint(&files).join("letter.txt"), "dear").unwrap();
    write_database(&mountpoint(&files).join("app.db"), &["one"]);

    let host = Bkp::with_repository();
    let password = host.write("secrets/cart", cache.password());
    let taking = format!(
        "policy: {policy}\nlabels:\n  own_accounts: true\n  redis: {{ password_file: {} }}\n",
        password.display()
    );
    host.configure("", &taking);
    let app = host.path("app.db");
    write_database(&app, &["two"]);
    let other = format!("policy: {closed}\nsources: {{ app: {{ sqlite: {{ path: {} }} }} }}\n", app.display());
    host.add_policy("closed.yaml", &other);

    let backup = host.run(&["backup", "--json"]).expect_code(3);
    backup.says(&[
        &format!("container {}: the label bkp.keep means nothing", cache.name()),
        &format!("container {}: the label bkp.command means nothing", cache.name()),
        &format!("container {}: its label names the policy {closed}, which takes nothing in by label", outside.name()),
        &format!("container {}: it says both bkp.policy and bkp.ignore", left_out.name()),
    ]);
    let document = backup.document();
    let mut sources: Vec<_> =
        document["points"].as_array().unwrap().iter().map(|p| p["source"].as_str().unwrap().to_owned()).collect();
    sources.sort();
    let mut expected = vec!["app".to_owned(), shop.clone(), cart.clone(), files.clone(), format!("{files}-app")];
    expected.sort();
    assert_eq!(sources, expected, "{document}");
    assert!(document["label_remarks"].as_array().unwrap().len() >= 4, "{document}");
    assert!(!backup.stderr.contains("pw-in-a-file"), "a password is told");

    let show = host.json(&["show", &shop]);
    assert_eq!(show["image"]["digest"], database.inspect("{{.Image}}"), "{show}");
    assert!(show["image"]["name"].as_str().unwrap().starts_with("bkp-test/mariadb"), "{show}");

    host.ok_with_key(&["restore", &format!("{files}-app"), "--to", "restored.db"]);
    assert_eq!(read_database(&host.path("restored.db")), ["one"]);
    let restored = host.run_with_key(&["restore", &shop, "--database", "shop", "--as", "again"]);
    assert!([0, 3].contains(&restored.code), "{}", restored.stderr);
    assert_eq!(database.query("again", "select name from goods"), "pears");

    let found = host.run(&["discover"]);
    assert!(found.stdout.contains(&format!("{shop} (policy {policy})")), "{}", found.stdout);
    found.says(&["bkp.keep means nothing", "takes nothing in by label"]);
}

#[test]
fn a_label_that_nobody_allowed_brings_nothing_and_is_told() {
    let policy = unique("policy");
    let wanted = Container::redis().label("bkp.policy", &policy);
    let Some(container) = wanted.start(PART) else { return };
    let host = Bkp::with_repository();
    let app = host.path("app.db");
    write_database(&app, &["one"]);
    host.configure("", &format!("policy: {policy}\nsources: {{ app: {{ sqlite: {{ path: {} }} }} }}\n", app.display()));
    host.run(&["backup"]).expect_code(3).says(&[container.name(), "takes nothing in by label"]);
    assert_eq!(host.points(container.name()).len(), 0);
    host.ok(&["backup", "app"]);
}

#[test]
fn a_server_without_an_account_in_the_policy_is_told_and_not_tried() {
    let policy = unique("policy");
    let wanted = Container::redis().label("bkp.policy", &policy);
    let Some(container) = wanted.start(PART) else { return };
    let client = unique("client");
    let _client = Supervisor::new("docker rm -fv \"$1\"", &[OsStr::new(&client)]);
    let label = format!("bkp.policy={policy}");
    let labels = ["--label", "bkp-test=1", "--label", &label, "--name", &client];
    docker(&[&["run", "--detach", "--entrypoint", "sleep"][..], &labels, &[&image(Kind::Redis), "1000"]].concat());
    let host = Bkp::with_repository();
    host.configure("", &format!("policy: {policy}\nlabels: {{ own_accounts: false }}\n"));
    let ran = host.run(&["backup"]);
    ran.says(&[
        &format!("container {}: the policy {policy} has no account for it: add `redis:`", container.name()),
        &format!("container {client}: it is no database server that bkp knows"),
        "runs sleep, not redis-server",
    ]);
    assert_eq!(ran.code, 2, "nothing is left to back up");
}

#[test]
fn without_an_engine_what_is_configured_is_backed_up_and_the_run_fails() {
    let host = Bkp::with_repository();
    let app = host.path("app.db");
    write_database(&app, &["one"]);
    let sources = format!("sources: {{ app: {{ sqlite: {{ path: {} }} }} }}", app.display());
    host.configure("", &format!("policy: taking\nlabels: {{ own_accounts: true }}\n{sources}\n"));
    let run = |words: &[&str]| {
        let mut command = host.command(words);
        command.env("DOCKER_HOST", "unix:///no/such/socket");
        Ran::of(command.output().unwrap())
    };
    run(&["backup"]).expect_code(1).says(&["labels: there is no container engine", "1 of 2 sources"]);
    assert_eq!(host.points("app").len(), 1);
    run(&["status"]).expect_code(0).says(&["what labels bring is left out"]);
    run(&["backup", "app"]).expect_code(0);
}

/// A daemon that ends with the test.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_daemon_backs_up_what_is_labelled_when_its_slot_comes() {
    if crate::support::docker::require(PART, Kind::Redis).is_none() {
        return;
    }
    let (policy, files, app) = (unique("policy"), unique("files"), unique("app"));
    let host = Bkp::with_repository();
    let clock = host.path("clock");
    let set_clock = |to: &str| {
        let to: jiff::Timestamp = to.parse().unwrap();
        std::fs::write(host.path("next"), to.duration_since(jiff::Timestamp::now()).as_secs_f64().to_string()).unwrap();
        std::fs::rename(host.path("next"), &clock).unwrap();
    };
    write_database(&host.path("app.db"), &["one"]);
    let sources = format!("sources: {{ {app}: {{ sqlite: {{ path: {} }} }} }}", host.path("app.db").display());
    host.configure(
        "timezone: UTC\n",
        &format!("policy: {policy}\nschedule: \"0 10 * * *\"\nlabels: {{}}\n{sources}\n"),
    );
    set_clock("2026-11-30T09:59:00Z");
    let log = std::fs::File::create(host.path("log")).unwrap();
    let mut command = host.command(&["daemon"]);
    let _daemon = Daemon(command.env("BKP_CLOCK", &clock).stderr(log).spawn().unwrap());
    let said = |text: &str| std::fs::read_to_string(host.path("log")).unwrap().contains(text);
    eventually("the daemon is ready", || said("ready: 1 scheduled"));

    // It comes after the daemon began, and goes again.
    let volume = Leftover(files.clone());
    docker(&["volume", "create", "--label", &format!("bkp.policy={policy}"), &files]);
    std::fs::write(mountpoint(&files).join("letter.txt"), "dear").unwrap();
    set_clock("2026-11-30T10:00:00Z");
    eventually("both are backed up", || host.points(&files).len() == 1 && host.points(&app).len() == 1);
    drop(volume);
    eventually("the slot has ended", || {
        let journal = host.json(&["journal", "--policy", &policy]);
        journal["records"].as_array().unwrap().iter().any(|record| record["as"] == "done")
    });
    set_clock("2026-12-01T10:00:00Z");
    eventually("what is left is backed up", || host.points(&app).len() == 2);
    assert_eq!(host.points(&files).len(), 1);
}
