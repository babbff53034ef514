//! A host with its daemon, its stack, its stores and those who are told; and the time that passes over them.
//!
//! Time passes from one instant of the calendar to the next. At each, everything that is due must end as the world expects:
//! `done`, if no fault says otherwise.

use crate::bucket::Bucket;
use crate::calendar::{DAILY, Lane, Slot, slots};
use crate::chance::Chance;
use crate::clock::Clock;
use crate::diary::Diary;
use crate::sinks::{MailServer, WebSink};
use crate::sources::Sources;
use crate::support::host::{Answer, Host, Running};
use crate::support::host_server::HostServer;
use crate::support::minio::{Minio, PASSWORD, USER};
use crate::support::vault::{Proxy, Vault};
use crate::support::wait_for;
use crate::trees::Mounted;
use jiff::civil::Weekday;
use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::sync::Arc;

pub const LANES: &[Lane] = &[
    Lane { job: "backup", policy: "shop", zone: "America/New_York", times: &[(2, 0), (14, 0)], days: DAILY },
    Lane { job: "backup", policy: "books", zone: "Europe/Madrid", times: &[(2, 30)], days: DAILY },
    Lane { job: "backup", policy: "hooks", zone: "UTC", times: &[(12, 15)], days: DAILY },
    Lane { job: "prune", policy: "*", zone: "UTC", times: &[(5, 0)], days: DAILY },
    Lane { job: "check", policy: "*", zone: "UTC", times: &[(9, 0)], days: &[Weekday::Monday, Weekday::Thursday] },
];

/// What the policy of the hooks says, before its sources.
pub const HOOKS: &str = "schedule: \"15 12 * * *\"\ntimezone: UTC\nkeep: { last: 4, weekly: 2 }\n";

/// Which sources a policy has.
pub fn sources_of(policy: &str) -> &'static [&'static str] {
    match policy {
        "shop" => &["app", "docs"],
        "books" => &["orders"],
        "hooks" => &["hook"],
        _ => &[],
    }
}

/// How a slot may end.
pub type Ends = &'static [&'static str];
pub const DONE: Ends = &["done"];

pub struct World {
    pub chance: Chance,
    pub clock: Arc<Clock>,
    pub daemon: Option<Running>,
    /// The disk of the journal, where one may be mounted: it can be full.
    pub disk: Option<Mounted>,
    pub host: Host,
    pub bucket: Bucket,
    pub minio: Minio,
    pub minio_bucket: String,
    pub vault: Vault,
    pub vault_proxy: Proxy,
    pub sources: Sources,
    pub mail: MailServer,
    pub web: WebSink,
    pub diary: Diary,
    /// What is still to come.
    pub calendar: VecDeque<Slot>,
    /// What came, and how it may have ended.
    pub came: BTreeMap<Slot, Ends>,
    /// News that somebody must have been told, and how often.
    pub news: BTreeMap<String, usize>,
    /// What fails, until it is done the next time: somebody is told then.
    pub failing: BTreeSet<String>,
    /// From which number of points on, and up to which, nothing of a source may go.
    pub holds: Vec<(String, usize, usize)>,
    /// How many pieces of news may have come twice.
    pub unsure: usize,
    /// News whose arrival the journal had no room for.
    pub unwritten: BTreeSet<String>,
}

impl World {
    pub fn new(mut chance: Chance, days: i64) -> Option<World> {
        let part = "a month";
        let (minio, vault) = (Minio::alone(part)?, Vault::alone(part)?);
        let database = HostServer::mariadb().start(part)?;
        let mail = MailServer::start()?;
        // In one of these months clocks go back, in the other one forward, in two zones.
        let from: Timestamp = chance.one_of(&["2026-10-12T01:00:00Z", "2027-03-08T01:00:00Z"]).parse().unwrap();
        let mut host = Host::bare();
        let clock = Arc::new(Clock::new(host.path("clock"), from));
        fs::write(host.path("secret"), database.password()).unwrap();
        let sources = Sources::new(&host.path("data"), database);
        let contents = sources.contents.clone();
        let bucket = Bucket::before(minio.port(), clock.clone(), Box::new(move |source| contents.of(source)));
        let minio_bucket = minio.bucket(false);
        host.url = format!("s3://{minio_bucket}/prod");
        let until = from + SignedDuration::from_hours(24 * days);
        let journal = host.path("state/journal");
        fs::create_dir_all(&journal).unwrap();
        let world = World {
            chance,
            clock,
            daemon: None,
            disk: Mounted::tmpfs(&journal),
            vault_proxy: Proxy::new(vault.port()),
            diary: Diary::of(&host.path("state/journal")),
            host,
            bucket,
            minio,
            minio_bucket,
            vault,
            sources,
            mail,
            web: WebSink::start(),
            calendar: slots(LANES, from, until).into_iter().collect(),
            came: BTreeMap::new(),
            news: BTreeMap::new(),
            failing: BTreeSet::new(),
            holds: Vec::new(),
            unsure: 0,
            unwritten: BTreeSet::new(),
        };
        world.furnish();
        Some(world)
    }

    fn furnish(&self) {
        let role_id = self.vault.role("month", json!({}));
        self.vault.write("month", json!({ "password": self.sources.database.password() }));
        let put = |name: &str, text: &str| fs::write(self.host.path(name), text).unwrap();
        put("role-id", &role_id);
        put("secret-id", &self.vault.secret_id("month"));
        put("access-key", USER);
        put("secret-key", PASSWORD);
        put("hmac", "a secret of the webhook");
        let path = |name: &str| self.host.text(name);
        self.host.configure(&format!(
            "timezone: UTC
repository: {{ url: \"{}\", endpoint: \"{}\", region: us-east-1, access_key_file: {}, secret_key_file: {} }}
copies:
  - {{ name: second, url: \"file://{}\", keep: {{ last: 2, weekly: 3 }} }}
vault: {{ address: \"{}\", approle: {{ role_id_file: {}, secret_id: \"ref+file://{}\" }} }}
prune: {{ schedule: \"0 5 * * *\" }}
check: {{ schedule: \"0 9 * * mon,thu\", level: readable }}
daemon: {{ runs: 3, retry: 1s, drain: 1s }}
http: {{ listen: off }}
notify:
  - {{ webhook: {{ url: \"{}/hook\", secret_file: {} }} }}
  - {{ mail: {{ to: [ops@example.org], from: bkp@shop.example, smtp: \"smtp://localhost:{}\", ca_file: {} }} }}
",
            self.host.url,
            self.bucket.endpoint(),
            path("access-key"),
            path("secret-key"),
            path("second"),
            self.vault_proxy.address(),
            path("role-id"),
            path("secret-id"),
            self.web.url,
            path("hmac"),
            self.mail.port,
            self.mail.certificate.display(),
        ));
        let shop = "schedule: \"0 2,14 * * *\"\ntimezone: America/New_York\nkeep: { last: 3, daily: 5, weekly: 3 }\n";
        self.policy("shop", &format!("stack: shop\n{shop}"));
        self.policy("books", "schedule: \"30 2 * * *\"\ntimezone: Europe/Madrid\nkeep: { daily: 6, weekly: 3 }\n");
        self.policy("hooks", HOOKS);
        self.run(&["init", "--recovery-key", &path("recovery-key.txt")]).ends(0);
        self.run(&["copy", "--create", "second"]).ends(0);
    }

    pub fn policy(&self, name: &str, text: &str) {
        let sources: String =
            sources_of(name).iter().map(|source| format!("  {}\n", self.sources.yaml(source))).collect();
        let text = format!("policy: {name}\n{text}sources:\n{sources}");
        fs::write(self.host.path(&format!("etc/policies.d/{name}.yaml")), text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.host.command(arguments);
        command.env("BKP_CLOCK", self.host.path("clock")).env("BKP_PATIENCE", "1s");
        command.env("BKP_IDENTITY", self.host.identity());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Answer {
        self.host.finish(self.host.start(self.command(arguments)))
    }

    pub fn start_daemon(&mut self) {
        let mut running = self.host.start(self.command(&["daemon"]));
        wait_for("the daemon is ready", 60, || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "it has ended: {}", running.said());
            running.said().contains("ready: ").then_some(())
        });
        self.daemon = Some(running);
    }

    pub fn stop_daemon(&mut self) {
        let daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::TERM);
        self.host.finish(daemon).ends(0);
    }

    /// As the kernel kills what has too much memory.
    pub fn kill_daemon(&mut self) {
        // A letter with a few of them may be on its way.
        self.unsure += 8;
        let daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::KILL);
        self.host.finish(daemon).was_killed();
    }

    pub fn said(&self) -> String {
        self.daemon.as_ref().map(Running::said).unwrap_or_default()
    }

    /// Time passes until the next instant of the calendar; gives what is due then.
    pub fn advance(&mut self) -> Vec<Slot> {
        let at = self.calendar.front().expect("the month is not over").at;
        let mut due = Vec::new();
        while self.calendar.front().is_some_and(|slot| slot.at == at) {
            due.extend(self.calendar.pop_front());
        }
        self.sources.contents.a_run_may_begin();
        self.clock.go_to(at);
        due
    }

    /// What is due next.
    pub fn next(&self) -> &Slot {
        self.calendar.front().expect("the month is not over")
    }

    /// Nothing is at work, and everything changes a little.
    fn change(&self) {
        let next = self.next();
        match next.policy {
            "shop" => self.sources.change_docs(),
            "books" => self.sources.change_orders(),
            "hooks" => self.sources.change_hook(),
            _ => {}
        }
    }

    /// An ordinary instant of the month.
    pub fn step(&mut self) -> Vec<Slot> {
        self.change();
        let due = self.advance();
        self.end(&due, DONE);
        due
    }

    /// Goes on until something of this policy or job is next.
    pub fn step_until(&mut self, what: &str) {
        while self.calendar.front().is_some_and(|next| next.policy != what && next.job != what) {
            self.step();
        }
    }

    /// Waits until these have ended, and remembers how they may have.
    pub fn end(&mut self, due: &[Slot], ends: Ends) {
        for slot in due {
            let how = self.wait_for_end(slot);
            assert!(ends.contains(&how.as_str()), "{slot:?} {how}: {}\n{}", self.diary.why(slot), self.said());
            self.came.insert(slot.clone(), ends);
            if how == "done" {
                self.recovers(slot);
            }
        }
    }

    fn recovers(&mut self, slot: &Slot) {
        let jobs = sources_of(slot.policy).iter().map(|source| format!("backup {source}"));
        let copies = jobs.clone().next().map(|_| "copy second".to_owned());
        for thing in jobs.chain(copies).chain([format!("{} {}", slot.job, slot.policy)]) {
            if self.failing.remove(&thing) {
                self.expect(&format!("recovery {thing}"));
            }
        }
    }

    /// A failure is told, and its end will be.
    pub fn fails(&mut self, thing: &str) {
        assert!(self.failing.insert(thing.to_owned()), "{thing} fails already");
        self.expect(&format!("failure {thing}"));
    }

    /// How a slot has ended.
    pub fn wait_for_end(&mut self, slot: &Slot) -> String {
        self.until(&format!("the end of {slot:?}"), |world| world.diary.ends(slot).first().cloned())
    }

    /// Waits for a condition while the daemon goes on.
    pub fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&mut World) -> Option<T>) -> T {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(90);
        loop {
            self.diary.read();
            if let Some(found) = condition(self) {
                return found;
            }
            let has_ended = self.daemon.as_mut().is_some_and(|daemon| daemon.child.try_wait().unwrap().is_some());
            assert!(!has_ended, "the daemon ended before {what}: {}", self.said());
            let last =
                || self.diary.records.iter().rev().take(12).map(|record| format!("{record}\n")).collect::<String>();
            let is_late = std::time::Instant::now() > end;
            assert!(!is_late, "{what} did not happen.\n{}\nThe last records:\n{}", self.said(), last());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Somebody must have been told of this once more.
    pub fn expect(&mut self, news: &str) {
        *self.news.entry(news.to_owned()).or_default() += 1;
    }

    /// What came by webhook. Who is killed before it is written down that something arrived sends it again, with the same id.
    pub fn events(&self) -> Vec<Value> {
        let mut ids = BTreeSet::new();
        let mut events = self.web.events();
        let all = events.len();
        events.retain(|event| ids.insert(event["id"].to_string()));
        assert!(all - events.len() <= self.unsure, "told more than once: {:?}", self.web.events());
        events
    }

    /// Waits until everybody was told of everything, so that nothing grows old on the way.
    pub fn all_are_told(&mut self) {
        self.clock.pass(SignedDuration::from_secs(10));
        let expected: usize = self.news.values().sum();
        self.until("everybody is told", |world| (world.events().len() >= expected).then_some(()));
    }

    /// What has not come by mail of what came by webhook; that the mail itself is down or back, it does not tell.
    pub fn not_mailed(&self) -> Vec<Value> {
        let mailed = self.diary.of_kind("notified").filter(|record| record["channel"] == "mail");
        let mailed: BTreeSet<&str> = mailed.filter_map(|record| record["event"].as_str()).collect();
        let is_missing = |event: &Value| {
            let id = event["id"].as_str().unwrap();
            event["name"] != "mail" && !mailed.contains(id) && !self.unwritten.contains(id)
        };
        self.events().into_iter().filter(is_missing).collect()
    }

    /// As [`World::all_are_told`], for the slower channel: a mail that failed is tried again a minute later.
    pub fn all_mails_arrive(&mut self) {
        self.clock.pass(SignedDuration::from_mins(2));
        let what = format!("the arrival of {:?} by mail", self.not_mailed());
        self.until(&what, |world| world.not_mailed().is_empty().then_some(()));
    }
}
