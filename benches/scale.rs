//! What bkp costs beside the backups themselves: the daemon at rest, many sources at once, long histories and lists, proof.
//!
//! `cargo bench --bench scale` builds the program as it is released and prints a table for docs/BENCHMARKS.md; with a name
//! (`-- proof`) only that part of it. It drives the program as a user does; only the histories, which would take weeks to
//! make, are written by the library.

#![allow(clippy::unwrap_used)] // a measurement that cannot be made is to stop

#[path = "../tests/support/mod.rs"]
mod support;

use bkp::event::Cancel;
use bkp::journal::{Fact, Job, Journal, Outcome, Reason, RunEnded, RunStarted, SlotEnd, SlotId};
use bkp::repo::names;
use bkp::repo::point::{Body, EngineInfo, Point};
use bkp::repo::proof::{Level, Proof};
use bkp::repo::record;
use bkp::repo::write::{Draft, Options, Session};
use bkp::repo::writer::{Audience, Writer};
use bkp::repo::{Repository, names::utc};
use bkp::store::{self, Location, Settings};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use support::host::{Host, Running};
use support::{wait_for, wait_for_every};

const SOURCES: usize = 500;
const POINTS: usize = 100_000;
const HISTORY: usize = 10_000;
const RECORDS: usize = 1_000_000;
const REST: Duration = Duration::from_secs(60);

fn main() {
    // `cargo test --benches` only wants to know that it compiles.
    if std::env::args().any(|argument| argument == "--test") || !std::env::args().any(|argument| argument == "--bench")
    {
        return;
    }
    println!("| | measured | goal |\n|---|---|---|");
    let parts: [(&str, fn()); 5] = [
        ("rest", at_rest),
        ("history", long_history),
        ("at-once", all_at_once),
        ("lists", long_lists),
        ("proof", proof),
    ];
    // `cargo bench --bench scale -- lists` for that one alone.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    parts.into_iter().filter(|(name, _)| is_wanted(name)).for_each(|(_, part)| part());
}

fn row(what: &str, measured: impl std::fmt::Display, goal: &str) {
    println!("| {what} | {measured} | {goal} |");
}

/// As many policies as sources, each with a file of its own; `schedule` for all.
fn configure(host: &Host, policies: usize, schedule: &str) {
    host.configure(&format!("repository: {{ url: \"{}\" }}\nhttp: {{ listen: off }}\n", host.url));
    for number in 0..SOURCES {
        fs::create_dir_all(host.path(&format!("data/{number}"))).unwrap();
        fs::write(host.path(&format!("data/{number}/file.txt")), format!("{number}\n").repeat(1000)).unwrap();
    }
    for policy in 0..policies {
        let of_policy = (0..SOURCES).filter(|number| number % policies == policy);
        let source = |number| format!("  s{number:03}: {{ volume: {{ path: \"{}/{number}\" }} }}\n", host.text("data"));
        let sources: String = of_policy.map(source).collect();
        let text = format!("policy: p{policy:03}\nschedule: \"{schedule}\"\nsources:\n{sources}");
        fs::write(host.path(&format!("etc/policies.d/p{policy:03}.yaml")), text).unwrap();
    }
}

/// A daemon, and how long it took until it was ready.
fn daemon(host: &Host) -> (Running, Duration) {
    let begun = Instant::now();
    let mut running = host.start(host.command(&["daemon"]));
    wait_for("the daemon is ready", 120, || {
        assert!(running.child.try_wait().unwrap().is_none(), "it has ended: {}", running.said());
        running.said().contains("ready: ").then_some(())
    });
    (running, begun.elapsed())
}

fn stop(host: &Host, running: Running) {
    running.signal(rustix::process::Signal::TERM);
    host.finish(running).ends(0);
}

/// Seconds of a processor that a process has taken.
fn processor(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).map_or(0.0, |field| field.parse::<f64>().unwrap());
    (ticks(11) + ticks(12)) / 100.0
}

/// A line of `/proc/PID/status`, in MiB.
fn memory(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map_or(0.0, |text| text.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0)
}

fn at_rest() {
    let host = Host::new();
    configure(&host, SOURCES, "0 0 1 1 *");
    let (running, ready) = daemon(&host);
    let pid = running.child.id();
    std::thread::sleep(Duration::from_secs(5));
    let before = processor(pid);
    std::thread::sleep(REST);
    let part = (processor(pid) - before) / REST.as_secs_f64() * 100.0;
    row("daemon at rest, 500 policies of one source: processor", format!("{part:.2} % of a core"), "< 0.1 %");
    row("… resident (`VmRSS`)", format!("{:.0} MiB", memory(pid, "VmRSS")), "< 40 MiB");
    row("… of its own (`RssAnon`)", format!("{:.0} MiB", memory(pid, "RssAnon")), "");
    row("… start to ready", format!("{:.2} s", ready.as_secs_f64()), "");
    stop(&host, running);
}

fn long_history() {
    let host = Host::new();
    configure(&host, SOURCES, "0 0 1 1 *");
    let journal = Journal::of(&host.path("state"));
    let now = Timestamp::now();
    for number in 0..HISTORY {
        let at = now - SignedDuration::from_mins(((HISTORY - number) * 10) as i64);
        journal.lock().unwrap().append(&slot(number, at), at).unwrap();
    }
    let (running, ready) = daemon(&host);
    let pid = running.child.id();
    row("start to ready behind 10,000 backups", format!("{:.2} s", ready.as_secs_f64()), "< 1 s");
    row("… processor until then", format!("{:.2} s", processor(pid)), "");
    row("… resident (`VmRSS`)", format!("{:.0} MiB", memory(pid, "VmRSS")), "< 40 MiB");
    stop(&host, running);
}

/// Everything that the journal has of one slot of a policy with one source.
fn slot(number: usize, at: Timestamp) -> [Fact; 4] {
    let (policy, source) = (format!("p{:03}", number % SOURCES), format!("s{:03}", number % SOURCES));
    let id = SlotId { job: Job::Backup, policy: policy.clone(), slot: at };
    let run = format!("{number:016x}");
    let started = RunStarted {
        run: run.clone(),
        job: Job::Backup,
        source: Some(source),
        policy: Some(policy),
        slot: Some(at),
        reason: Reason::Schedule,
        pid: 1,
    };
    let ended = RunEnded {
        run: run.clone(),
        outcome: Outcome::Done,
        code: 0,
        message: None,
        hint: None,
        point: Some(format!("{}-{number:08x}", utc(at))),
        bytes: 1 << 30,
        added: 1 << 20,
        seconds: 12.5,
        consistent_at: Some(at),
    };
    [
        Fact::SlotExpected { id: id.clone(), due: at, deadline: at + SignedDuration::from_hours(6) },
        Fact::RunStarted(started),
        Fact::RunEnded(ended),
        Fact::SlotEnded { id, end: SlotEnd::Done, why: None, runs: vec![run] },
    ]
}

/// Five policies of a hundred sources each, due in the same minute.
fn all_at_once() {
    let host = Host::new();
    let due = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC) + SignedDuration::from_secs(75);
    configure(&host, 5, &format!("{} {} * * *", due.minute(), due.hour()));
    let (running, _) = daemon(&host);
    let pid = running.child.id();
    let slot = due.timestamp().to_string()[..16].to_owned();
    let (mut together, mut daemon_alone, mut largest) = (0f64, 0f64, 0f64);
    let ended = wait_for_every(200, "all slots have ended", 1800, || {
        let children = children(pid);
        let each = children.iter().map(|child| memory(*child, "RssAnon"));
        let sum: f64 = each.clone().sum();
        let own = memory(pid, "RssAnon");
        (largest, daemon_alone) = (each.fold(largest, f64::max), daemon_alone.max(own));
        together = together.max(sum + own);
        let records = records(&host);
        let ends =
            records.iter().filter(|r| r["kind"] == "slot_ended" && r["slot"].as_str().unwrap().starts_with(&slot));
        (ends.count() == 5).then_some(records)
    });
    let at = |record: &serde_json::Value| record["at"].as_str().unwrap().parse::<Timestamp>().unwrap();
    let runs: BTreeMap<&str, &serde_json::Value> =
        ended.iter().filter(|r| r["kind"] == "run_started").map(|r| (r["run"].as_str().unwrap(), r)).collect();
    let good: Vec<_> = ended.iter().filter(|r| r["kind"] == "run_ended" && r["outcome"] == "done").collect();
    let begun = good.iter().map(|end| at(runs[end["run"].as_str().unwrap()])).min().unwrap();
    let last = good.iter().map(|end| at(end)).max().unwrap();
    let mut of_policy: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for end in good.iter().take(SOURCES / 2) {
        let policy = runs[end["run"].as_str().unwrap()]["policy"].as_str().unwrap();
        of_policy.entry(policy).or_default().push(at(end));
    }
    let half: Vec<usize> = of_policy.values().map(Vec::len).collect();
    row(
        "500 sources due in the same minute: done",
        format!("{} in {:.0} s", good.len(), last.duration_since(begun).as_secs_f64()),
        "all",
    );
    row("… of each of five policies among the first half", format!("{half:?}"), "fairly");
    row("… memory of their own, daemon and runs together, at most", format!("{together:.0} MiB"), "< 256 MiB");
    row("… of the largest run; of the daemon", format!("{largest:.0} MiB; {daemon_alone:.0} MiB"), "");
    stop(&host, running);
}

fn children(of: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
}

fn records(host: &Host) -> Vec<serde_json::Value> {
    let mut files: Vec<_> =
        fs::read_dir(host.path("state/journal")).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn long_lists() {
    let host = Host::new();
    configure(&host, SOURCES, "0 0 1 1 *");
    write_points(&host);
    for (what, arguments, goal) in [
        ("`bkp points`, 100,000 points of 500 sources", &["points"][..], "< 1 s"),
        ("`bkp points --all --json`", &["points", "--all", "--json"], "< 1 s"),
        ("`bkp points --source s007 --all`", &["points", "--source", "s007", "--all"], ""),
        ("`bkp status`", &["status"], ""),
    ] {
        let first = timed(&host, arguments);
        let (warm, worked, most) = best(&host, arguments);
        let first = format!("the first time {:.2} s ({:.2} s of a processor)", first.0, first.1);
        row(what, format!("{warm:.2} s ({worked:.2} s of a processor), {most:.0} MiB; {first}"), goal);
    }
}

/// A year of 500 sources: a report over all of it in each format, and whether it is whole.
fn proof() {
    let host = Host::new();
    configure(&host, SOURCES, "0 0 1 1 *");
    let now = Timestamp::now();
    let slots = RECORDS / 4;
    let begun = now - SignedDuration::from_mins(2 * slots as i64);
    write_journal(&Journal::of(&host.path("state")), slots, begun);
    let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
    let period = format!("{}..{}", day(begun), day(now));
    for format in ["html", "pdf", "md", "csv", "json", "oscal"] {
        let report = ["report", "--period", &period, "--format", format, "--framework", "ens", "--output", "report"];
        measured(&host, &format!("`bkp report --format {format}`, 1,000,000 records"), &report, "< 5 s, < 256 MiB");
    }
    let verify = ["evidence", "verify"];
    measured(&host, "`bkp evidence verify`, 1,000,000 records, nothing sealed", &verify, "< 2 s");
    let begun = Instant::now();
    host.run(&["evidence", "anchor"]).ends(0);
    row("`bkp evidence anchor`, the first: all of it is sealed", format!("{:.2} s", begun.elapsed().as_secs_f64()), "");
    measured(&host, "`bkp evidence verify`, compared with what was sealed", &verify, "");
    measured(&host, "`bkp evidence verify --offline`", &["evidence", "verify", "--offline"], "");
    measured(&host, "`bkp status`, which folds it", &["status"], "");
}

fn measured(host: &Host, what: &str, arguments: &[&str], goal: &str) {
    let (best, worked, most) = best(host, arguments);
    row(what, format!("{best:.2} s ({worked:.2} s of a processor), {most:.0} MiB"), goal);
}

/// The best of three, what it took of a processor, and the most memory of any.
fn best(host: &Host, arguments: &[&str]) -> (f64, f64, f64) {
    let all = [(); 3].map(|()| timed(host, arguments));
    let least = |of: fn(&(f64, f64, f64)) -> f64| all.iter().map(of).fold(f64::MAX, f64::min);
    (least(|one| one.0), least(|one| one.1), all.iter().map(|one| one.2).fold(0.0, f64::max))
}

/// Seconds by the clock and of a processor, and MiB.
fn timed(host: &Host, arguments: &[&str]) -> (f64, f64, f64) {
    let (begun, mut spent, mut most) = (Instant::now(), 0f64, 0f64);
    let mut running = host.start(host.command(arguments));
    let pid = running.child.id();
    while running.child.try_wait().unwrap().is_none() {
        most = most.max(memory(pid, "VmHWM"));
        spent = spent.max(processor(pid));
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = begun.elapsed().as_secs_f64();
    // Where a place was not asked it is not known whether all is well, and sources without a point are told.
    let answer = host.finish(running);
    assert!(matches!(answer.status.code(), Some(0 | 3 | 5)), "{answer:?}");
    (took, spent, most)
}

fn write_journal(journal: &Journal, slots: usize, begun: Timestamp) {
    for batch in (0..slots).step_by(1000) {
        let at = |number: usize| begun + SignedDuration::from_mins(2 * number as i64);
        let facts: Vec<Fact> = (batch..(batch + 1000).min(slots)).flat_map(|number| slot(number, at(number))).collect();
        journal.append(&facts, at(batch)).unwrap();
    }
}

/// Signed and sealed as they would be, under names that they would have; what they pin is not there.
fn write_points(host: &Host) {
    let repository = Repository::open(store::open(&Settings::new(Location::Directory(host.store()))).unwrap()).unwrap();
    let writer = Writer::load(&host.path("state"), repository.id()).unwrap().unwrap();
    let now = Timestamp::now();
    let template = template(&repository, &writer, now);
    let threads = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for part in 0..threads {
            let (repository, writer, template) = (&repository, &writer, &template);
            scope.spawn(move || {
                let to = |key: &bkp::store::Key, bytes: &[u8]| write(&host.store().join(key.as_str()), bytes);
                for number in (part..POINTS).step_by(threads) {
                    let at = now - SignedDuration::from_mins(5 * (POINTS - number) as i64);
                    let point = Point {
                        source: format!("s{:03}", number % SOURCES),
                        point: format!("{}-{number:08x}", utc(at)),
                        sequence: (number / SOURCES) as u64 + 1,
                        consistent_at: at,
                        ..template.clone()
                    };
                    to(&point.key(), &point.seal(&writer.signing, &writer.audience(Audience::All)).unwrap());
                    let proof = Proof {
                        repository: repository.id().to_owned(),
                        writer: writer.id().to_owned(),
                        point_writer: writer.id().to_owned(),
                        source: point.source.clone(),
                        point: point.point.clone(),
                        level: Level::Stored,
                        at: now,
                        detail: serde_json::Value::Null,
                    };
                    let sealed = record::seal(&proof, writer, &writer.audience(Audience::All)).unwrap();
                    to(&names::proof(writer.id(), &point.source, &point.point, "stored", now), &sealed);
                }
            });
        }
    });
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn template(repository: &Repository, writer: &Writer, at: Timestamp) -> Point {
    let cancel = Cancel::default();
    let mut session = Session::begin(repository, writer, "template", Options::default(), &cancel, at).unwrap();
    session.stream("dump", &mut &b"a dump"[..]).unwrap();
    let draft = Draft {
        engine: EngineInfo { kind: "postgres".into(), version: "PostgreSQL 17.5".into(), image: None },
        started_at: at,
        consistent_at: at,
        written_at: at,
        host: "host".into(),
        stack: None,
        purpose: None,
        body: Body::default(),
    };
    session.commit(draft).unwrap()
}
