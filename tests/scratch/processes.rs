//! Scratch servers as processes of this host.

use super::directories::{alone, later};
use super::support::host_server::{HostServer, WantedServer};
use super::support::wait_for;
use super::{asked, lease, run};
use bkp::event::Cancel;
use bkp::exec::scratch::process::{Site, Wanted};
use bkp::exec::scratch::{Running, reap};
use bkp::exec::{Command, Place};
use bkp::secret::Secret;
use jiff::Timestamp;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const PASSWORD: &str = "pw-of-one-rehearsal";

fn here(server: WantedServer) -> Option<()> {
    server.require("scratch servers as processes")
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(Into::into).collect()
}

fn of(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().unwrap().to_owned()
}

fn redis(site: &Site) -> Wanted {
    let (socket, data) = (of(site.path(), "s"), site.path().to_str().unwrap());
    let options = ["--port", "0", "--unixsocket", &socket, "--save", "", "--dir", data];
    Wanted { programs: vec!["redis-server"], arguments: words(&options), by_socket: true, ..Wanted::default() }
}

fn postgres(site: &Site) -> Wanted {
    let (data, password, socket) = (of(site.path(), "data"), of(site.path(), "pw"), site.path().to_str().unwrap());
    let file = format!("--pwfile={password}");
    let initdb = ["-U", "postgres", "-A", "scram-sha-256", "--locale=C.UTF-8", "--no-sync", "-D", &data, &file];
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    Wanted {
        programs: vec!["postgres"],
        directories: versions.map(|version| version.path().join("bin")).collect(),
        arguments: words(&["-D", &data, "-k", socket, "-c", "listen_addresses=", "-c", "fsync=off"]),
        before: vec![Command { program: "initdb".into(), arguments: words(&initdb), ..Command::default() }],
        files: vec![(password.into(), Secret::new(PASSWORD.into()))],
        by_socket: true,
        ..Wanted::default()
    }
}

fn mariadb(site: &Site) -> Wanted {
    let data = format!("--datadir={}", of(site.path(), "data"));
    let (init, socket) = (of(site.path(), "init.sql"), format!("--socket={}", of(site.path(), "s")));
    let text = format!("SET PASSWORD FOR root@localhost = PASSWORD('{PASSWORD}');\n");
    let install = ["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal", &data];
    let (file, temporary) = (format!("--init-file={init}"), format!("--tmpdir={}", site.path().display()));
    Wanted {
        programs: vec!["mariadbd"],
        arguments: words(&["--no-defaults", &data, &socket, "--skip-networking", &file, &temporary]),
        before: vec![Command {
            program: "mariadb-install-db".into(),
            arguments: words(&install),
            environment: vec![("TMPDIR".into(), site.path().into())],
            ..Command::default()
        }],
        files: vec![(init.into(), Secret::new(text))],
        by_socket: true,
        ..Wanted::default()
    }
}

fn start(state: &Path, run: &str, parent: &Path, wanted: impl FnOnce(&Site) -> Wanted) -> (Running, PathBuf) {
    let site = Site::make(&lease(state, run), parent).unwrap();
    let path = site.path().to_owned();
    let wanted = wanted(&site);
    (site.start(&wanted, &Cancel::default()).unwrap_or_else(|failure| panic!("{}", failure.full())), path)
}

/// Processes that work in that directory, or beneath it.
fn inside(path: &Path) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let at = |number: &i32| fs::read_link(format!("/proc/{number}/cwd"));
    numbers.filter(|number| at(number).is_ok_and(|at| at.starts_with(path))).collect()
}

/// A server that is there, apart, and gone afterwards.
fn starts(wanted: impl FnOnce(&Site) -> Wanted, client: impl FnOnce(&Path) -> Vec<String>, input: &str) {
    let (state, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut server, path) = start(state.path(), &run(), parent.path(), wanted);
    let client = client(&path);
    let client: Vec<&str> = client.iter().map(String::as_str).collect();
    wait_for(&format!("an answer to {}", client[0]), 60, || {
        server.check().unwrap_or_else(|failure| panic!("{}: {}", failure.full(), server.logs()));
        (asked(&Place::Host, &client, input)? == "42").then_some(())
    });
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    let processes = inside(&path);
    assert!(!processes.is_empty());
    for process in processes {
        let read = |file: &str| fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
        let user = fs::metadata(format!("/proc/{process}")).map(|metadata| metadata.uid());
        assert!(!rustix::process::geteuid().is_root() || user.is_err() || user.is_ok_and(|user| user == 65534));
        assert!(!String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).contains(PASSWORD));
        let interfaces = String::from_utf8_lossy(&read("net/dev")).lines().count();
        assert!(!server.isolation().contains("no network") || interfaces <= 3, "more than the loopback of its own");
    }
    server.teardown().unwrap();
    assert_eq!((inside(&path), fs::read_dir(parent.path()).unwrap().count()), (vec![], 0));
}

#[test]
fn redis_starts_as_a_process() {
    let Some(()) = here(HostServer::redis()) else { return };
    starts(redis, |path| ["redis-cli", "-s", &of(path, "s"), "echo", "42"].map(str::to_owned).to_vec(), "");
}

#[test]
fn postgres_starts_as_a_process() {
    let Some(()) = here(HostServer::postgres()) else { return };
    let client = |path: &Path| {
        let settings = format!("host={} user=postgres password={PASSWORD}", path.display());
        ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-d", &settings].map(str::to_owned).to_vec()
    };
    starts(postgres, client, "select 40 + 2;");
}

#[test]
fn mariadb_starts_as_a_process() {
    let Some(()) = here(HostServer::mariadb()) else { return };
    let client = |path: &Path| {
        let socket = format!("--socket={}", of(path, "s"));
        let options = ["--defaults-extra-file=/dev/stdin", &socket, "--skip-column-names", "--execute=select 40 + 2"];
        [&["mariadb"][..], &options].concat().into_iter().map(str::to_owned).collect()
    };
    starts(mariadb, client, &format!("[client]\nuser=root\npassword={PASSWORD}\n"));
}

#[test]
fn a_server_that_ends_says_why() {
    let Some(()) = here(HostServer::redis()) else { return };
    let (state, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = |site: &Site| Wanted { arguments: words(&["--no-such-option", "yes"]), ..redis(site) };
    let (mut server, _) = start(state.path(), &run(), parent.path(), wanted);
    let failure = wait_for("its end", 60, || server.check().err()).full();
    assert!(failure.starts_with("redis-server ended with status 1") && failure.contains("no-such-option"), "{failure}");
    drop(server);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn a_server_that_is_not_here_is_named() {
    let (state, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let site = Site::make(&lease(state.path(), &run()), parent.path()).unwrap();
    let wanted = Wanted { programs: vec!["no-such-server", "nor-such-a-one"], ..Wanted::default() };
    let failure = site.start(&wanted, &Cancel::default()).unwrap_err();
    assert!(failure.full().contains("looked for no-such-server, nor-such-a-one"), "{}", failure.full());
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn a_server_that_is_kept_lives_until_it_is_reaped() {
    let Some(()) = here(HostServer::redis()) else { return };
    let _alone = alone();
    let (state, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (server, path) = start(state.path(), &run(), parent.path(), redis);
    let (told, socket) = (server.keep().unwrap(), of(&path, "s"));
    assert!(told.contains(&format!("socket {socket}")), "{told}");
    wait_for("an answer", 60, || asked(&Place::Host, &["redis-cli", "-s", &socket, "echo", "42"], ""));
    assert_eq!(reap(state.path(), Timestamp::now()).unwrap(), vec![]);
    assert_eq!(inside(&path).len(), 1);
    reap(state.path(), later()).unwrap();
    assert_eq!((inside(&path), path.exists()), (vec![], false));
}

#[test]
fn a_server_ends_with_the_program_that_was_killed() {
    let Some(()) = here(HostServer::redis()) else { return };
    let _alone = alone();
    let (state, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::starts_one_and_waits", "--ignored"])
        .env("BKP_TEST_STATE", state.path())
        .env("BKP_TEST_PARENT", parent.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let socket = wait_for("the socket", 60, || {
        let site = fs::read_dir(parent.path()).unwrap().flatten().next()?;
        Some(site.path().join("s")).filter(|socket| socket.exists())
    });
    let path = socket.parent().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the end of the server", 60, || inside(path).is_empty().then_some(()));
    assert_eq!(reap(state.path(), Timestamp::now()).unwrap().len(), 1);
    assert!(!path.exists());
}

#[test]
#[ignore = "a part of a_server_ends_with_the_program_that_was_killed"]
fn starts_one_and_waits() {
    let variable = |name| PathBuf::from(std::env::var_os(name).unwrap());
    let _server = start(&variable("BKP_TEST_STATE"), "run-1", &variable("BKP_TEST_PARENT"), redis);
    std::thread::park();
}
