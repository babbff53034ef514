//! A host with a daemon whose clock can be moved.

use crate::support::host::{Answer, Host, Running, database};
use crate::support::wait_for;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

pub struct World {
    pub host: Host,
}

impl World {
    /// It is shortly before ten on a Monday, in UTC.
    pub fn new() -> Self {
        let world = World { host: Host::new() };
        let repository = format!("repository: {{ url: \"{}\" }}\n", world.host.url);
        world.host.configure(&format!("{repository}http: {{ listen: off }}\n"));
        database(&world.host.path("data/app.db"), 10, "row");
        world.set_clock("2026-11-30T09:59:00Z");
        world
    }

    pub fn policy(&self, name: &str, text: &str) {
        fs::write(self.host.path(&format!("etc/policies.d/{name}.yaml")), text).unwrap();
    }

    /// A policy with one database.
    pub fn daily(&self, more: &str) {
        self.policy("app", &format!("policy: app\nschedule: \"0 10 * * *\"\n{more}sources:\n  {}\n", self.app("app")));
    }

    pub fn app(&self, name: &str) -> String {
        format!("{name}: {{ sqlite: {{ path: \"{}\" }} }}", self.host.text("data/app.db"))
    }

    pub fn set_clock(&self, to: &str) {
        let to: jiff::Timestamp = to.parse().unwrap();
        let ahead = to.duration_since(jiff::Timestamp::now()).as_secs_f64();
        let new = self.host.path("clock.new");
        fs::write(&new, ahead.to_string()).unwrap();
        fs::rename(&new, self.host.path("clock")).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.host.command(arguments);
        command.env("BKP_CLOCK", self.host.path("clock"));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Answer {
        self.host.finish(self.host.start(self.command(arguments)))
    }

    /// A daemon that has looked at every schedule.
    pub fn daemon(&self) -> Running {
        self.daemon_with(&[])
    }

    pub fn daemon_with(&self, environment: &[(&str, &str)]) -> Running {
        let mut command = self.command(&["daemon"]);
        command.envs(environment.iter().copied());
        let mut running = self.host.start(command);
        wait_for("the daemon is ready", 60, || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "it has ended: {}", running.said());
            running.said().contains("ready: ").then_some(())
        });
        running
    }

    /// What is whole in the journal, without the help of bkp.
    pub fn records(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut files: Vec<_> = fs::read_dir(self.host.path("state/journal")).into_iter().flatten().flatten().collect();
        files.sort_by_key(|file| file.file_name());
        for file in files.iter().filter(|file| file.file_name().to_string_lossy().ends_with(".jsonl")) {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            all.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
        }
        all
    }

    /// Without the runs that keep bkp's own configuration beside those of the sources.
    pub fn of_kind(&self, kind: &str) -> Vec<Value> {
        let records = self.records();
        let own: Vec<Value> =
            records.iter().filter(|run| run["source"] == "bkp-configuration").map(|run| run["run"].clone()).collect();
        let beside = |record: &Value| !record["run"].is_null() && own.contains(&record["run"]);
        records.into_iter().filter(|record| record["kind"] == kind && !beside(record)).collect()
    }

    pub fn count(&self, kind: &str) -> usize {
        self.of_kind(kind).len()
    }

    /// How each slot of a policy ended, by its time; open ones with nothing.
    pub fn slots(&self, policy: &str) -> BTreeMap<String, Vec<String>> {
        let mut slots: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in self.records().iter().filter(|record| record["policy"] == policy && record["job"].is_null()) {
            let slot = record["slot"].as_str().unwrap_or_default().to_owned();
            match record["kind"].as_str().unwrap() {
                "slot_expected" => drop(slots.entry(slot).or_default()),
                "slot_ended" => slots.entry(slot).or_default().push(record["as"].as_str().unwrap().to_owned()),
                _ => {}
            }
        }
        slots
    }

    /// Waits until a slot has ended, and says how.
    #[track_caller]
    pub fn ended(&self, policy: &str, slot: &str) -> String {
        wait_for(&format!("the end of slot {slot} of {policy}"), 60, || {
            self.slots(policy).get(slot).and_then(|ends| ends.first().cloned())
        })
    }

    /// Why a slot ended as it did.
    pub fn why(&self, slot: &str) -> String {
        let ended = self.of_kind("slot_ended").into_iter().find(|record| record["slot"] == slot).unwrap();
        ended["why"].as_str().unwrap_or_default().to_owned()
    }

    /// Runs that ended well, by source and slot.
    pub fn good_runs(&self) -> BTreeMap<(String, String), usize> {
        let mut runs = BTreeMap::new();
        let records = self.records();
        let good = |run: &Value| {
            let end = records.iter().find(|r| r["kind"] == "run_ended" && r["run"] == run["run"]);
            end.is_some_and(|end| ["done", "warnings"].contains(&end["outcome"].as_str().unwrap()))
        };
        for run in records.iter().filter(|r| r["kind"] == "run_started" && r["slot"].is_string()).filter(|r| good(r)) {
            let text = |key: &str| run[key].as_str().unwrap_or_default().to_owned();
            *runs.entry((text("source"), text("slot"))).or_default() += 1;
        }
        runs
    }

    /// Stops the daemon in order.
    #[track_caller]
    pub fn stop(&self, daemon: Running) -> Answer {
        daemon.signal(rustix::process::Signal::TERM);
        self.host.finish(daemon).ends(0)
    }

    #[track_caller]
    pub fn journal_is_whole(&self) {
        self.run(&["journal", "verify"]).ends(0).says("no problem found");
    }
}

/// Processes with this text in their command line.
pub fn processes(text: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    })
    .collect()
}
