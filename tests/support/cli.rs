//! bkp as a user runs it: the real program, in a home of its own, and what it said.
#![allow(dead_code)] // each test binary uses its part

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A host with nothing on it but bkp.
pub struct Bkp {
    root: tempfile::TempDir,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Bkp {
    pub fn new() -> Self {
        let host = Bkp { root: tempfile::tempdir().unwrap() };
        for directory in ["etc/policies.d", "home", "work"] {
            std::fs::create_dir_all(host.root.path().join(directory)).unwrap();
        }
        std::fs::write(host.root.path().join("etc/bkp.yaml"), "").unwrap();
        host
    }

    /// A host with a repository and its recovery key in `key.txt`.
    pub fn with_repository() -> Self {
        let host = Bkp::new();
        host.ok(&["init", "--recovery-key", "key.txt", "--name", "host-a"]);
        host
    }

    /// A place in the working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("work").join(name)
    }

    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    pub fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    pub fn cache(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn configure(&self, main: &str, policy: &str) {
        std::fs::write(self.root.path().join("etc/bkp.yaml"), main).unwrap();
        std::fs::write(self.root.path().join("etc/policies.d/policy.yaml"), policy).unwrap();
    }

    /// One more policy, in a file of this name.
    pub fn add_policy(&self, name: &str, policy: &str) {
        std::fs::write(self.root.path().join("etc/policies.d").join(name), policy).unwrap();
    }

    /// The command, with an environment in which only this host exists.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bkp"));
        let root = self.root.path();
        command
            .args(arguments)
            .current_dir(root.join("work"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", root.join("home"))
            .env("TZ", "UTC")
            .env("BKP_CONFIG", root.join("etc/bkp.yaml"))
            .env("BKP_STATE_DIR", root.join("state"))
            .env("BKP_CACHE_DIR", root.join("cache"))
            .env("XDG_RUNTIME_DIR", root.join("run"))
            .env("BKP_REPO", self.repository())
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end. In no case may a private key or a panic be in what it says.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(assert_cmd::Command::from_std(self.command(arguments)).output().unwrap())
    }

    /// The same with the recovery key of [`Bkp::with_repository`].
    pub fn run_with_key(&self, arguments: &[&str]) -> Ran {
        self.run(&[arguments, &["--identity", "key.txt"]].concat())
    }

    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Ran {
        self.run(arguments).expect_code(0)
    }

    #[track_caller]
    pub fn ok_with_key(&self, arguments: &[&str]) -> Ran {
        self.run_with_key(arguments).expect_code(0)
    }

    /// The document of `--json`.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.ok(&[arguments, &["--json"]].concat()).document()
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Nothing that this host keeps (state, cache, repository) holds that text.
    pub fn assert_no_trace(&self, secret: &str) {
        for place in [self.state(), self.cache(), self.root.path().join("run"), self.repository()] {
            for file in files(&place) {
                let bytes = std::fs::read(place.join(&file)).unwrap_or_default();
                let told = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!told, "a secret stands in {}", place.join(file).display());
            }
        }
    }

    /// Ids of all points of a source, oldest first.
    pub fn points(&self, source: &str) -> Vec<String> {
        let document = self.json(&["points", "--all", "--source", source]);
        let points = document["points"].as_array().unwrap();
        points.iter().rev().map(|p| p["id"].as_str().unwrap().to_owned()).collect()
    }
}

impl Ran {
    pub fn of(output: std::process::Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let ran = Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        for said in [&ran.stdout, &ran.stderr] {
            assert!(!said.contains("AGE-SECRET-KEY-"), "a private key was shown:\n{said}");
            assert!(!said.contains("panicked"), "it panicked:\n{said}");
        }
        ran
    }

    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard error has each of these.
    #[track_caller]
    pub fn says(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(self.stderr.contains(text), "standard error lacks `{text}`:\n{}", self.stderr);
        }
        self
    }

    #[track_caller]
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON document ({e}):\n{}", self.stdout))
    }
}

/// A SQLite database with one table of texts.
pub fn write_database(path: &Path, rows: &[&str]) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch("pragma journal_mode = wal; create table if not exists note(text); delete from note")
        .unwrap();
    for row in rows {
        connection.execute("insert into note values (?)", [row]).unwrap();
    }
}

pub fn read_database(path: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut statement = connection.prepare("select text from note order by rowid").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Waits until `condition` holds, at most a minute.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} does not come true");
        std::thread::yield_now();
    }
}

/// All files below a directory, as relative paths.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found.iter().map(|path| path.strip_prefix(directory).unwrap().to_owned()).collect()
}
