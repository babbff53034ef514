//! What integration tests share: real servers, and faults.
//!
//! A server that is missing fails the suite in CI. On a contributor's machine the part is told as not run, with the command
//! that installs what is missing; it is never passed over in silence.
#![allow(dead_code, clippy::unwrap_used)] // each test binary uses its own part of this, and all of it is test

pub mod docker;
pub mod fake_s3;
pub mod fault;
pub mod host;
pub mod host_server;
pub mod minio;
pub mod minio_accounts;
pub mod minio_cluster;
pub mod supervisor;
pub mod vault;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that tests start.
pub struct Server {
    pub program: &'static str,
    /// The variable that may hold its path.
    pub variable: &'static str,
    /// The command that installs it.
    pub install: &'static str,
}

/// Finds the program of a server, or tells that `part` is not run. In CI it must be there.
pub fn require(part: &str, server: &Server) -> Option<PathBuf> {
    if let Some(path) = find(server) {
        return Some(path);
    }
    not_run(part, &format!("{} is missing; install it with: {}", server.program, server.install));
    None
}

fn find(server: &Server) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(server.variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{} names {}, which is no file", server.variable, path.display());
        return Some(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(answer) = Command::new("go").args(["env", "GOPATH"]).output() {
        directories.push(Path::new(String::from_utf8_lossy(&answer.stdout).trim()).join("bin"));
    }
    // Servers are not on everybody's PATH.
    directories.push("/usr/sbin".into());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    directories.extend(versions.map(|version| version.path().join("bin")));
    directories.extend(std::env::home_dir().map(|home| home.join("go/bin")));
    directories.into_iter().map(|directory| directory.join(server.program)).find(|path| path.is_file())
}

/// Records what was not run and why, with what to do; `make test` prints the list at its end. In CI nothing may be left out.
pub fn not_run(part: &str, why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "not run: {part}: {why}");
    let line = format!("NOT RUN: {part}: {why}\n");
    // Past the capture of the test harness, or it would be a secret.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("BKP_TEST_NOT_RUN") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        list.write_all(line.as_bytes()).unwrap();
    }
}

/// A port of the loopback interface that is free now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for a condition, at most `seconds`.
pub fn wait_for<T>(what: &str, seconds: u64, condition: impl FnMut() -> Option<T>) -> T {
    wait_for_every(20, what, seconds, condition)
}

/// The same for a condition that is expensive to look at.
pub fn wait_for_every<T>(pause_ms: u64, what: &str, seconds: u64, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(std::time::Instant::now() < end, "{what} did not happen within {seconds} s");
        std::thread::sleep(std::time::Duration::from_millis(pause_ms));
    }
}

/// Runs a command that must succeed.
pub fn run(program: &str, arguments: &[&str], directory: &Path) {
    let output = Command::new(program).args(arguments).current_dir(directory).output();
    let output = output.unwrap_or_else(|e| panic!("cannot start {program}: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
