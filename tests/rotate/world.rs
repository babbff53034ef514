//! A host with a rotation: a server with an account, a Vault that publishes its password, and clients that use it.

use super::support::host::{Answer, Host, Running};
use super::support::vault::Vault;
use super::support::wait_for;
use bkp::durable::random_hex;
use serde_json::{Value, json};
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a test knows of the server of a rotation. One for each engine.
pub trait Target: Send + Sync + 'static {
    /// The source in the policy, as YAML: who may change the account logs in there.
    fn source(&self, password_file: &str) -> String;

    fn admin_password(&self) -> String;

    /// What the rotation is of.
    fn of(&self, _admin_file: &str) -> String {
        "    source: db\n".into()
    }

    /// Who may log in: `app`, or two that take turns, of whom the first is in force.
    fn users(&self) -> Vec<&'static str> {
        vec!["app"]
    }

    /// The lines of the rotation that say which account it is; `published` without the field.
    fn account(&self, _published: &str) -> String {
        "    account: app\n".into()
    }

    /// Makes the account, or another password for it.
    fn set_up(&self, password: &str);

    /// In which bkp works for it.
    fn container(&self) -> Option<String> {
        None
    }

    /// A login of `app` and a question: `Err` is what the server says.
    fn log_in(&self, password: &str) -> Result<(), String>;

    /// The same of one of those who take turns.
    fn log_in_as(&self, _user: &str, password: &str) -> Result<(), String> {
        self.log_in(password)
    }
}

pub struct World {
    pub host: Host,
    pub vault: &'static Vault,
    pub target: Arc<dyn Target>,
    /// Below `kv/`, and of nobody else.
    pub name: String,
    pub old: String,
    clients: Vec<Client>,
}

/// A client leaves at least half of the processor to the rest, and is never gone for long.
const PACE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(50);

pub const CONSUMERS: [&str; 2] = ["web", "worker"];

impl World {
    pub fn new(vault: &'static Vault, target: impl Target) -> World {
        World::with(vault, Arc::new(target), "")
    }

    /// `extra`: further lines of the rotation.
    pub fn with(vault: &'static Vault, target: Arc<dyn Target>, extra: &str) -> World {
        let host = Host::new();
        let (name, old) = (format!("shop-{}", random_hex(4)), format!("old-{}", random_hex(8)));
        target.set_up(&old);
        let world = World { host, vault, target, name, old, clients: Vec::new() };
        let user = world.target.users()[0];
        vault.write(&world.name, json!({ "user": user, "password": world.old }));
        fs::write(world.host.path("admin"), world.target.admin_password()).unwrap();
        fs::write(world.host.path("token"), vault.root_token()).unwrap();
        for name in CONSUMERS {
            fs::write(world.env_file(name), world.env_text(user, &world.old)).unwrap();
        }
        world.configure(&vault.address(), extra);
        world
    }

    pub fn configure(&self, vault: &str, extra: &str) {
        self.host.configure(&format!(
            "repository: {{ url: \"{}\" }}\ntimezone: UTC\nvault: {{ address: \"{vault}\", token_file: {} }}\nrotate: {{ vault_path: kv/bkp/{} }}\n",
            self.host.url,
            self.host.text("token"),
            self.name
        ));
        let consumers: String = CONSUMERS.iter().map(|name| self.consumer(name)).collect();
        let policy = format!(
            "policy: shop\nsources:\n  db: {}\nrotate:\n  shop-db:\n{}{}    published: ref+vault://kv/{}#/password\n    distance: 1s\n    every: 90d\n{extra}    consumers:\n{consumers}",
            self.target.source(&self.host.text("admin")),
            self.target.of(&self.host.text("admin")),
            self.target.account(&format!("ref+vault://kv/{}", self.name)),
            self.name
        );
        fs::write(self.host.path("etc/policies.d/shop.yaml"), policy).unwrap();
    }

    /// With the same configuration, in a repository of its own.
    pub fn other_host(&self) -> Host {
        let other = Host::new();
        for name in ["etc/policies.d/shop.yaml", "token", "admin"] {
            fs::copy(self.host.path(name), other.path(name)).unwrap();
        }
        let main = fs::read_to_string(self.host.path("etc/bkp.yaml")).unwrap();
        other.configure(&main.replace(&self.host.url, &other.url));
        other
    }

    /// Another host may take over so soon from one that says nothing.
    pub fn lease(&self, lease: &str) {
        let path = self.host.path("etc/bkp.yaml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("rotate: { ", &format!("rotate: {{ lease: {lease}, "))).unwrap();
    }

    /// Others than its own, as lines of YAML.
    pub fn consumers_are(&self, consumers: &str) {
        let path = self.host.path("etc/policies.d/shop.yaml");
        let text = fs::read_to_string(&path).unwrap();
        let (before, _) = text.split_once("    consumers:\n").unwrap();
        fs::write(path, format!("{before}    consumers:\n{consumers}")).unwrap();
    }

    /// Consumers are moved as soon as they are told.
    pub fn has_no_clients(&self) {
        let told = |name: &&str| {
            let file = self.env_file(name).display().to_string();
            format!(
                "      {name}:\n        env_file: {file}\n        variable: DATABASE_URL\n        command: ['true']\n"
            )
        };
        self.consumers_are(&CONSUMERS.iter().map(told).collect::<String>());
    }

    /// Moved by a command that waits until its client has begun anew; it works unless somebody broke it.
    fn consumer(&self, name: &str) -> String {
        let [wish, done, broken] = ["wish", "done", "broken"].map(|what| self.host.text(&format!("{what}-{name}")));
        let check = format!("test ! -e {broken} || grep -qF -f {broken} {}", self.env_file(name).display());
        let script = format!(
            "cat > /dev/null; n=$(date +%s%N); echo $n > {wish}.new; mv {wish}.new {wish}; until [ \"$(cat {done})\" = $n ]; do sleep 0.02; done"
        );
        format!(
            "      {name}:\n        env_file: {}\n        variable: DATABASE_URL\n        command: [sh, -c, {}]\n        check: [sh, -c, {}]\n        patience: 1m\n",
            self.env_file(name).display(),
            yaml(&script),
            yaml(&check)
        )
    }

    pub fn env_file(&self, consumer: &str) -> PathBuf {
        self.host.path(&format!("{consumer}.env"))
    }

    pub fn env_text(&self, user: &str, password: &str) -> String {
        format!(
            "# the shop\nTZ=UTC\nDATABASE_URL=sql://{user}:{password}@db:3306/app # as the shop wants it\nDEBUG=0\n"
        )
    }

    /// From now on, a client for each consumer logs in all the time.
    pub fn open_shop(&mut self) {
        let begin = |name: &&str| Client::begin(self, name);
        self.clients = CONSUMERS.iter().map(begin).collect();
    }

    pub fn close_shop(&mut self) {
        self.clients.clear();
    }

    pub fn is_mended(&self, consumer: &str) {
        fs::remove_file(self.host.path(&format!("broken-{consumer}"))).unwrap();
    }

    /// That consumer works with this password only, and is soon given up on.
    pub fn works_only_with(&self, consumer: &str, password: &str) {
        fs::write(self.host.path(&format!("broken-{consumer}")), password).unwrap();
        let path = self.host.path("etc/policies.d/shop.yaml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("patience: 1m", "patience: 2s")).unwrap();
    }

    pub fn rotate(&self, arguments: &[&str]) -> Answer {
        self.host.run(&[&["rotate"], arguments].concat())
    }

    /// Dies at the crash point.
    pub fn dies_at(&self, point: &str, arguments: &[&str]) {
        let mut command = self.host.command(&[&["rotate"], arguments].concat());
        command.env("BKP_CRASH_AT", point);
        let running: Running = self.host.start(command);
        let answer = self.host.finish(running);
        println!("killed at {point}: {:?} {}", answer.status, answer.err);
        answer.was_killed();
    }

    /// Stands still at the crash point, until it is told to go on.
    pub fn stops_at(&self, point: &str, arguments: &[&str]) -> Running {
        let mut command = self.host.command(&[&["rotate"], arguments].concat());
        command.env("BKP_STOP_AT", point);
        let running = self.host.start(command);
        let stat = format!("/proc/{}/stat", running.child.id());
        let stands = || fs::read_to_string(&stat).unwrap().contains(") T ").then_some(());
        wait_for("a process that stands still", 60, stands);
        running
    }

    /// What was recorded as pending last, and was taken back since.
    pub fn last_pending(&self) -> String {
        let path = format!("bkp/{}/shop-db", self.name);
        let last = self.vault.get(&format!("kv/data/{path}"))["metadata"]["version"].as_u64().unwrap();
        let versions = (1..=last).rev();
        let mut documents = versions.map(|version| self.vault.get(&format!("kv/data/{path}?version={version}")));
        documents.find_map(|document| document["data"]["pending"].as_str().map(str::to_owned)).unwrap()
    }

    pub fn published(&self) -> String {
        self.vault.get(&format!("kv/data/{}", self.name))["data"]["password"].as_str().unwrap().to_owned()
    }

    pub fn published_user(&self) -> String {
        self.vault.get(&format!("kv/data/{}", self.name))["data"]["user"].as_str().unwrap().to_owned()
    }

    /// What bkp has at its own path.
    pub fn record(&self) -> Value {
        self.vault.get(&format!("kv/data/bkp/{}/shop-db", self.name))["data"].clone()
    }

    pub fn states(&self) -> Vec<String> {
        let journal = self.host.run(&["journal", "--json", "--last", "1000"]).ends(0);
        let document = journal.json();
        let records = document["records"].as_array().unwrap_or_else(|| panic!("{document}"));
        let facts = records.iter().filter(|record| record["kind"] == "rotation");
        facts.map(|fact| fact["state"].as_str().unwrap().to_owned()).collect()
    }

    /// The law.
    #[track_caller]
    pub fn nobody_was_refused(&self) {
        for client in &self.clients {
            let before = client.logins.load(SeqCst);
            wait_for("a login of each client", 60, || (client.logins.load(SeqCst) > before + 1).then_some(()));
            let failures = client.failures.lock().unwrap();
            assert!(failures.is_empty(), "{} of {} logins failed: {failures:?}", failures.len(), before);
        }
    }

    /// In the end exactly one password works: the one that is published and that everybody uses.
    #[track_caller]
    pub fn one_password_works(&self, refused: &str) -> String {
        let (user, published) = (self.published_user(), self.published());
        assert_ne!(published, refused);
        self.target.log_in_as(&user, &published).unwrap();
        for user in self.target.users() {
            let said = self.target.log_in_as(user, refused).unwrap_err();
            assert!(!said.contains(refused), "{said}");
        }
        for name in CONSUMERS {
            let text = fs::read_to_string(self.env_file(name)).unwrap();
            assert_eq!(text, self.env_text(&user, &published), "{name}");
            assert!(!self.host.path(&format!("{name}.env.bkp-prev")).exists());
        }
        for client in &self.clients {
            let own = client.login.lock().unwrap().clone();
            assert_eq!(own, (user.clone(), published.clone()), "{} was not moved", client.name);
        }
        assert!(!self.host.path("state/rotations/shop-db.pending.age").exists());
        let record = self.record();
        assert!(record["pending"].is_null() && record["previous"].is_null() && record["holder"].is_null(), "{record}");
        self.nobody_was_refused();
        for secret in [refused, &published] {
            self.is_told_nowhere(secret);
        }
        published
    }

    /// In nothing that bkp wrote or said on this host, but in the files that are for it.
    #[track_caller]
    pub fn is_told_nowhere(&self, secret: &str) {
        let output = std::process::Command::new("grep")
            .args(["-rlF", "--", secret])
            .args(["state", "cache", "store", "etc", "home"].map(|name| self.host.path(name)))
            .arg(self.host.said())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "the secret is in these files");
    }
}

/// A thread of a scope is told to end, also when the test fails: the scope waits for it.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// A program that reads its password when it begins, and logs in anew for everything it does.
struct Client {
    name: String,
    logins: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    /// User and password.
    login: Arc<Mutex<(String, String)>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    fn begin(world: &World, name: &str) -> Client {
        let (logins, failures, ends) = (Arc::default(), Arc::default(), Arc::default());
        let login = Arc::new(Mutex::new((world.target.users()[0].to_owned(), world.old.clone())));
        let mut client = Client {
            name: name.to_owned(),
            logins: Arc::clone(&logins),
            failures: Arc::clone(&failures),
            login: Arc::clone(&login),
            ends: Arc::clone(&ends),
            thread: None,
        };
        let env_file = world.env_file(name);
        let [wish, done] = ["wish", "done"].map(|what| world.host.path(&format!("{what}-{name}")));
        let target = Arc::clone(&world.target);
        let work = move || {
            let mut last = String::new();
            while !ends.load(SeqCst) {
                if let Some(wished) = fs::read_to_string(&wish).ok().filter(|wished| *wished != last) {
                    *login.lock().unwrap() = in_address(&fs::read_to_string(&env_file).unwrap());
                    fs::write(&done, &wished).unwrap();
                    last = wished;
                }
                let (user, secret) = login.lock().unwrap().clone();
                let begun = Instant::now();
                match target.log_in_as(&user, &secret) {
                    Ok(()) => drop(logins.fetch_add(1, SeqCst)),
                    Err(said) => failures.lock().unwrap().push(said),
                }
                std::thread::sleep((begun.elapsed() * 2).clamp(*PACE.start(), *PACE.end()));
            }
        };
        client.thread = Some(std::thread::spawn(work));
        client
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.ends.store(true, SeqCst);
        let thread = self.thread.take();
        thread.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// A text between quotes, in which no variable is meant.
fn yaml(text: &str) -> String {
    serde_json::to_string(&text.replace('$', "$$")).unwrap()
}

/// `sql://USER:PASSWORD@…`.
pub fn in_address(text: &str) -> (String, String) {
    let line = text.lines().find(|line| line.starts_with("DATABASE_URL=")).unwrap();
    let both = line.split_once("://").unwrap().1.split_once('@').unwrap().0;
    let (user, password) = both.split_once(':').unwrap();
    (user.to_owned(), password.to_owned())
}
