//! The stack: what is backed up, how it changes, and what of it a restored point must hold.
//!
//! What a source holds follows from a number, which only grows. One of them is written to all the time: there, what is
//! restored must be a state between two transactions, and not older or newer than it can be.

use crate::bucket::Content;
use crate::support::host::mode;
use crate::support::host_server::HostServer;
use rusqlite::{Connection, OpenFlags, params};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Rows that a table holds at most.
const ROWS: u64 = 60;
/// The file of the source `hook` has so many lines.
const LINES: u64 = 40;

/// What all sources hold now; shared with the witness in the store.
#[derive(Default)]
pub struct Contents {
    /// The last transaction of the live writer, and that of the moment when the last run began.
    app: AtomicU64,
    app_before: AtomicU64,
    docs: AtomicU64,
    orders: AtomicU64,
    hook: AtomicU64,
    /// The file of `hook` lost most of its lines.
    hook_shrunk: AtomicBool,
}

/// That the file was short is part of its number.
const SHRUNK: u64 = 1 << 32;

impl Contents {
    pub fn of(&self, source: &str) -> Content {
        let exactly = |number: u64| Content { from: number, to: number };
        match source {
            // One may have been committed and not counted yet.
            "app" => Content { from: self.app_before.load(SeqCst), to: self.app.load(SeqCst) + 1 },
            "docs" => exactly(self.docs.load(SeqCst)),
            "orders" => exactly(self.orders.load(SeqCst)),
            "hook" => exactly(self.hook.load(SeqCst) + if self.hook_shrunk.load(SeqCst) { SHRUNK } else { 0 }),
            _ => Content::default(),
        }
    }

    /// A run may begin from now on.
    pub fn a_run_may_begin(&self) {
        self.app_before.store(self.app.load(SeqCst), SeqCst);
    }
}

pub struct Sources {
    directory: PathBuf,
    pub contents: Arc<Contents>,
    pub database: HostServer,
    stop: Option<Sender<()>>,
    writer: Option<JoinHandle<()>>,
}

impl Sources {
    pub fn new(directory: &Path, database: HostServer) -> Sources {
        let contents = Arc::<Contents>::default();
        let app = directory.join("app.db");
        let connection = Connection::open(&app).unwrap();
        connection
            .execute_batch(
                "pragma journal_mode = wal; pragma synchronous = off; create table total (number integer not null);
                 insert into total values (0); create table ledger (number integer primary key, text text not null)",
            )
            .unwrap();
        database
            .query("", "create database books; create table books.orders (number int primary key, text varchar(80))");
        let (stop, stopped) = channel();
        let of_writer = contents.clone();
        let writer = std::thread::spawn(move || write(connection, &of_writer, &stopped));
        let sources =
            Sources { directory: directory.to_owned(), contents, database, stop: Some(stop), writer: Some(writer) };
        sources.change_docs();
        (0..5).for_each(|_| sources.change_orders());
        sources.change_hook();
        sources
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn change_docs(&self) {
        let number = self.contents.docs.fetch_add(1, SeqCst) + 1;
        let (before, after) = (docs(number - 1), docs(number));
        let root = self.path("docs");
        for gone in before.keys().filter(|name| !after.contains_key(*name)) {
            let _ = fs::remove_file(root.join(gone));
        }
        for (name, text) in after.iter().filter(|(name, text)| before.get(*name) != Some(text) || number == 1) {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    pub fn change_orders(&self) {
        let number = self.contents.orders.load(SeqCst) + 1;
        let text = format!(
            "insert into books.orders values ({number}, 'order {number} of somebody'); delete from books.orders where number + {ROWS} <= {number}"
        );
        self.database.query("", &text);
        self.contents.orders.store(number, SeqCst);
    }

    pub fn change_hook(&self) {
        self.contents.hook.fetch_add(1, SeqCst);
        self.write_hook();
    }

    /// Most of it is gone, or there again.
    pub fn shrink_hook(&self, shrunk: bool) {
        self.contents.hook_shrunk.store(shrunk, SeqCst);
        self.write_hook();
    }

    fn write_hook(&self) {
        fs::write(self.path("hook.txt"), hook(self.contents.of("hook").to)).unwrap();
    }

    /// The command of `hook` fails from now on, or works again.
    pub fn break_hook(&self, broken: bool) {
        let (file, away) = (self.path("hook.txt"), self.path("hook.away"));
        if broken { fs::rename(file, away).unwrap() } else { fs::rename(away, file).unwrap() }
    }

    /// The command of `hook` never ends from now on, or does again.
    pub fn hang_hook(&self, hangs: bool) {
        let file = self.path("hangs");
        if hangs { fs::write(file, "").unwrap() } else { fs::remove_file(file).unwrap() }
    }

    /// What is restored is what the source held.
    pub fn compare(&self, source: &str, restored: &Path, content: Content, point: &str) {
        match source {
            "app" => compare_app(restored, content, point),
            "docs" => assert_eq!(tree(restored), docs(content.to), "docs of {point}"),
            "hook" => assert_eq!(fs::read_to_string(restored).unwrap(), hook(content.to), "hook of {point}"),
            _ => panic!("{source} is not in a file"),
        }
    }

    /// A restored database of the server, which is dropped afterwards.
    pub fn compare_orders(&self, database: &str, content: Content, point: &str) {
        let first = content.to.saturating_sub(ROWS - 1).max(1);
        let expected: Vec<String> = (first..=content.to).map(|n| format!("{n}\torder {n} of somebody")).collect();
        let found = self.database.query("", &format!("select number, text from `{database}`.orders order by number"));
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "orders of {point}");
        self.database.query("", &format!("drop database `{database}`"));
    }

    /// Lines of YAML for the policies.
    pub fn yaml(&self, source: &str) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        match source {
            "app" => format!("app: {{ sqlite: {{ path: \"{}\" }} }}", path("app.db")),
            "docs" => format!("docs: {{ volume: {{ path: \"{}\" }} }}", path("docs")),
            "orders" => format!(
                "orders: {{ mysql: {{ host: 127.0.0.1, port: {}, user: root, password: \"ref+vault://kv/month#/password\", databases: [books] }} }}",
                self.database.port()
            ),
            _ => {
                let script = self.path("hook.sh");
                let text = "#!/bin/sh\ntest ! -e \"$1/hangs\" || exec tail -f /dev/null\nexec cat \"$1/hook.txt\"\n";
                fs::write(&script, text).unwrap();
                mode(&script, 0o755);
                format!("hook: {{ command: {{ run: [\"{}\", \"{}\"] }} }}", script.display(), self.directory.display())
            }
        }
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.writer.take().map(JoinHandle::join);
    }
}

/// Small transactions, one after the other, until it is stopped.
fn write(mut connection: Connection, contents: &Contents, stopped: &Receiver<()>) {
    let pace = Duration::from_millis(20);
    while stopped.recv_timeout(pace) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        let number = contents.app.load(SeqCst) + 1;
        let transaction = connection.transaction().unwrap();
        let text = format!("transaction {number}");
        transaction.execute("insert into ledger values (?1, ?2)", params![number as i64, text]).unwrap();
        transaction.execute("delete from ledger where number <= ?1", [number as i64 - ROWS as i64]).unwrap();
        transaction.execute("update total set number = ?1", [number as i64]).unwrap();
        transaction.commit().unwrap();
        contents.app.store(number, SeqCst);
    }
}

fn compare_app(restored: &Path, content: Content, point: &str) {
    let connection = Connection::open_with_flags(restored, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let total: i64 = connection.query_row("select number from total", [], |row| row.get(0)).unwrap();
    let question = "select count(*), coalesce(max(number), 0), coalesce(min(number), 1) from ledger";
    let ledger: (i64, i64, i64) =
        connection.query_row(question, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let rows = total.min(ROWS as i64);
    assert_eq!(ledger, (rows, total, total - rows + 1), "half a transaction is in app of {point}");
    let possible = content.from..=content.to;
    assert!(possible.contains(&(total as u64)), "app of {point} holds transaction {total}, not one of {possible:?}");
}

fn docs(number: u64) -> BTreeMap<String, String> {
    if number == 0 {
        return BTreeMap::new();
    }
    let mut files: BTreeMap<String, String> =
        (1..=8).map(|n| (format!("steady/{n}.txt"), format!("file {n}\n").repeat(400))).collect();
    files.insert("changes.txt".into(), format!("this is {number}\n").repeat(200));
    files.insert(format!("new/{number}.txt"), format!("made at {number}\n"));
    files.extend((number > 1).then(|| (format!("new/{}.txt", number - 1), format!("made at {}\n", number - 1))));
    files
}

fn hook(number: u64) -> String {
    let lines = if number & SHRUNK != 0 { LINES / 8 } else { LINES };
    let number = number & !SHRUNK;
    (1..=lines).map(|line| format!("line {line} of what the command says, at {number:06}\n")).collect()
}

fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    files
}
