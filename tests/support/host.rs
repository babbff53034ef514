//! A host of one's own: directories for configuration, state, cache, a repository and data, and the real program run in it.
//!
//! Every answer of the program is looked at for secrets and panics, whatever else a test wants of it.
#![allow(dead_code, clippy::unwrap_used)] // each test binary uses its own part of this, and all of it is test

use super::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The user without rights that root becomes where a test wants to be refused something.
const NOBODY: u32 = 65534;

pub struct Host {
    directory: tempfile::TempDir,
    program: PathBuf,
    nobody: bool,
    /// Where the repository is, for `--repo` and the configuration.
    pub url: String,
}

impl Host {
    /// A host without a repository and without sources.
    pub fn bare() -> Host {
        let directory = tempfile::Builder::new().prefix("bkp-host-").tempdir().unwrap();
        for name in ["etc/policies.d", "state", "cache", "home", "data"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let url = format!("file://{}", directory.path().join("store").display());
        let program = env!("CARGO_BIN_EXE_bkp").into();
        let host = Host { directory, program, nobody: false, url };
        host.configure(&format!("repository: {{ url: \"{}\" }}\n", host.url));
        host
    }

    /// A host with a repository, whose recovery key is [`identity`](Self::identity).
    pub fn new() -> Host {
        let host = Host::bare();
        host.init();
        host
    }

    /// The same, where the program and its directories belong to a user without rights.
    pub fn of_nobody() -> Host {
        let mut host = Host::bare();
        if rustix::process::geteuid().is_root() {
            host.nobody = true;
            host.program = host.path("bkp");
            fs::copy(env!("CARGO_BIN_EXE_bkp"), &host.program).unwrap();
            let owner = format!("{NOBODY}:{NOBODY}");
            super::run("chown", &["-R", &owner, "."], host.root());
        }
        host.init();
        host
    }

    fn init(&self) {
        self.run(&["init", "--recovery-key", self.text("recovery-key.txt").as_str()]).ends(0);
    }

    pub fn is_of_nobody(&self) -> bool {
        self.nobody
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub fn identity(&self) -> PathBuf {
        self.path("recovery-key.txt")
    }

    pub fn configure(&self, text: &str) {
        fs::write(self.path("etc/bkp.yaml"), text).unwrap();
    }

    /// Sources of the policy `all`, as lines of YAML: `app: { sqlite: { path: … } }`.
    pub fn sources(&self, lines: &[String]) {
        let text = lines.iter().map(|line| format!("  {line}\n")).collect::<String>();
        fs::write(self.path("etc/policies.d/all.yaml"), format!("policy: all\nsources:\n{text}")).unwrap();
    }

    /// The program, not yet started. It sees this host and nothing of the one the tests run on; no identity is given.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = if self.nobody {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"]);
            command.arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        command
            .args(arguments)
            .current_dir(self.path("home"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("BKP_CONFIG", self.path("etc/bkp.yaml"))
            .env("BKP_STATE_DIR", self.path("state"))
            .env("BKP_CACHE_DIR", self.path("cache"))
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        if self.path("ahead").exists() {
            command.env("BKP_CLOCK", self.path("ahead"));
        }
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        self.finish(self.start(self.command(arguments)))
    }

    /// The same with the recovery key.
    pub fn read(&self, arguments: &[&str]) -> Answer {
        let mut command = self.command(arguments);
        command.env("BKP_IDENTITY", self.identity());
        self.finish(self.start(command))
    }

    pub fn start(&self, mut command: Command) -> Running {
        let shown = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let [out, err] = [(); 2].map(|()| tempfile::NamedTempFile::new_in(self.root()).unwrap());
        let child = command.stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap()).spawn().unwrap();
        Running { child, shown, out, err }
    }

    /// Waits for the end, and looks at what was said.
    pub fn finish(&self, mut running: Running) -> Answer {
        let status = running.child.wait().unwrap();
        let [out, err] = [&running.out, &running.err].map(|f| fs::read(f.path()).unwrap());
        let [out, err] = [out, err].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let answer = Answer { command: running.shown.clone(), status, out, err };
        let mut said = File::options().create(true).append(true).open(self.path("said")).unwrap();
        std::io::Write::write_all(&mut said, [&*answer.out, &*answer.err].concat().as_bytes()).unwrap();
        for secret in self.secrets() {
            let told = answer.out.contains(&secret) || answer.err.contains(&secret);
            assert!(!told, "a secret was told: {answer:?}");
        }
        assert!(!answer.err.contains("panicked"), "{answer:?}");
        assert!(!answer.err.contains("RUST_BACKTRACE"), "{answer:?}");
        answer
    }

    /// All that the program has said on this host, for secrets that are known later only: the file `said`.
    pub fn said(&self) -> PathBuf {
        self.path("said")
    }

    /// Everything that must never be printed: private keys, the writer's secrets, and what tests put into `secret`.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = vec!["AGE-SECRET-KEY-".to_owned()];
        secrets.extend(fs::read_to_string(self.path("secret")).map(|text| text.trim().to_owned()));
        for repository in fs::read_dir(self.path("state/repositories")).into_iter().flatten().flatten() {
            let state = fs::read_to_string(repository.path().join("writer.json")).unwrap_or_default();
            let state: Value = serde_json::from_str(&state).unwrap_or_default();
            let members = ["identity", "signing_key", "secret"].into_iter();
            secrets.extend(members.filter_map(|name| state[name].as_str().map(str::to_owned)));
        }
        secrets
    }

    /// What `bkp points --all --json` says there is, of one source.
    pub fn points(&self, source: &str) -> Vec<Value> {
        let answer = self.run(&["points", "--all", "--json", "--source", source]);
        answer.ends(0).json()["points"].as_array().unwrap().clone()
    }

    /// Names of points have whole seconds: waits until one that is made now is named after those that are there.
    pub fn next_second(&self) {
        let now = jiff::Timestamp::now().as_second();
        wait_for("the next second", 5, || (jiff::Timestamp::now().as_second() > now).then_some(()));
    }

    /// The clock of the program is so much further ahead from now on: what only has to be some time ago is not waited for.
    pub fn goes_ahead(&self, seconds: u64) {
        let before: u64 = fs::read_to_string(self.path("ahead")).map_or(0, |text| text.parse().unwrap());
        fs::write(self.path("ahead.new"), (before + seconds).to_string()).unwrap();
        fs::rename(self.path("ahead.new"), self.path("ahead")).unwrap();
    }

    /// Files of the store below `kind`, which is `p`, `s`, `b`, `x`, `points` …; `.` for all of a writer's.
    pub fn objects(&self, kind: &str) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for writer in fs::read_dir(self.store().join("w")).into_iter().flatten().flatten() {
            files(&writer.path().join(kind), &mut all);
        }
        all.sort();
        all
    }

    /// All is readable, and nothing is left that only a run that goes on could need.
    pub fn is_well(&self) {
        self.read(&["check", "--level", "readable"]).ends(0).says("no problem found");
        self.is_tidy();
    }

    /// No temporary file, no half-restored tree, no scratch.
    pub fn is_tidy(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        entries(self.root(), &mut all);
        let temporary = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            [".bkp-tmp-", ".bkp-restore-", ".bkp-old-"].iter().any(|prefix| name.starts_with(prefix))
        };
        let mut left: Vec<PathBuf> = all.iter().filter(|path| temporary(path)).cloned().collect();
        // What this installation calls its scratch targets stays.
        let is_scratch = |path: &PathBuf| path.parent().is_some_and(|parent| parent.ends_with("scratch"));
        left.extend(all.into_iter().filter(|path| is_scratch(path) && !path.ends_with("scratch/name")));
        left
    }
}

fn files(path: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() { files(&entry.path(), all) } else { all.push(entry.path()) }
    }
}

fn entries(path: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        all.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            entries(&entry.path(), all);
        }
    }
}

/// A program that was started.
pub struct Running {
    pub child: Child,
    shown: String,
    out: tempfile::NamedTempFile,
    err: tempfile::NamedTempFile,
}

impl Running {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What it has said on standard error so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.err.path()).unwrap()
    }

    /// Waits until a condition holds while the program runs; it must not end before.
    pub fn until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let (child, err) = (&mut self.child, &self.err);
        wait_for(what, 120, || {
            if condition() {
                return Some(());
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "ended before {what}: {}", fs::read_to_string(err.path()).unwrap());
            None
        });
    }

    /// The most memory it has had in use so far, in MiB; 0 when it is gone.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.map_or(0, |text| text.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the program said, and how it ended.
#[derive(Debug)]
pub struct Answer {
    pub command: String,
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Answer {
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}\n{}\n{}", self.command, self.out, self.err);
        self
    }

    /// It died of SIGKILL.
    #[track_caller]
    pub fn was_killed(self) -> Self {
        assert_eq!(self.status.signal(), Some(9), "{}\n{}\n{}", self.command, self.out, self.err);
        self
    }

    /// Standard output or standard error has this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let said = self.out.contains(text) || self.err.contains(text);
        assert!(said, "{} does not say `{text}`:\n{}\n{}", self.command, self.out, self.err);
        self
    }

    #[track_caller]
    pub fn says_not(self, text: &str) -> Self {
        let said = self.out.contains(text) || self.err.contains(text);
        assert!(!said, "{} says `{text}`:\n{}\n{}", self.command, self.out, self.err);
        self
    }

    /// An error message in full: what happened, and what to do.
    #[track_caller]
    pub fn fails(self, code: i32, what: &str, hint: &str) -> Self {
        let answer = self.ends(code);
        let error = answer.err.split_once("error: ").unwrap_or_else(|| panic!("no error is told: {answer:?}")).1;
        let (told, hinted) = error.split_once("hint: ").unwrap_or_else(|| panic!("no hint is given: {answer:?}"));
        assert!(told.contains(what), "`{what}` is not told: {answer:?}");
        assert!(hinted.contains(hint), "`{hint}` is not hinted at: {answer:?}");
        answer
    }

    /// It ends with an error, whichever.
    #[track_caller]
    pub fn fails_somehow(self) -> Self {
        assert!(self.status.code().is_some_and(|code| code > 0), "{self:?}");
        assert!(self.err.contains("error: "), "{self:?}");
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Bytes that do not compress, different for each seed, the same in each run.
pub fn noise(path: &Path, bytes: u64, seed: u64) {
    let mut stream = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut file = File::create(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(1 << 20) as usize;
        stream.fill(&mut buffer[..part]);
        std::io::Write::write_all(&mut file, &buffer[..part]).unwrap();
        left -= part as u64;
    }
}

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A database with one table of so many rows, each of which says `text`.
pub fn database(path: &Path, rows: u32, text: &str) {
    let _ = fs::remove_file(path);
    let connection = rusqlite::Connection::open(path).unwrap();
    let made = "create table notes (id integer primary key, text text not null)";
    connection.execute(made, []).unwrap();
    let filled = "with recursive n(i) as (select 1 union all select i + 1 from n where i < ?1) insert into notes select i, ?2 from n";
    connection.execute(filled, rusqlite::params![rows, text]).unwrap();
}

/// All texts of that table.
pub fn texts(path: &Path) -> Vec<String> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(path, flags).unwrap();
    let mut query = connection.prepare("select text from notes order by id").unwrap();
    query.query_map([], |row| row.get(0)).unwrap().map(|text| text.unwrap()).collect()
}
