//! When the month is over: every slot, every point, every object and every alert is accounted for.

use crate::bucket::{Commit, point};
use crate::keeping::{Keep, Made, kept};
use crate::world::World;
use bkp::repo::Repository;
use bkp::repo::catalog::{self, Wanted};
use bkp::repo::container::decode;
use bkp::repo::index::IndexReader;
use bkp::repo::names;
use bkp::repo::point::{Pin, Point};
use bkp::repo::writer::Writer;
use bkp::secret::SecretRef;
use bkp::store::{self, Location, Settings};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

/// The sources that policies name; there is one more, for the configuration of bkp itself.
const SOURCES: [&str; 4] = ["app", "docs", "orders", "hook"];

pub fn everything_is_accounted_for(world: &mut World) {
    world.all_are_told();
    world.all_mails_arrive();
    world.stop_daemon();
    every_slot_has_come_to_one_end(world);
    everybody_was_told(world);
    let commits = world.bucket.commits();
    nothing_went_that_is_kept(world, &commits);
    prune_to_the_end(world);
    what_is_kept_is_there_and_nothing_else(world, &commits);
    every_point_restores(world, &commits);
    world.run(&["check"]).ends(0).says("no problem found");
    world.run(&["copies"]).ends(0).says("2 of 2 copies good");
    world.run(&["journal", "verify"]).ends(0).says("no problem found");
    // The state directory has a day to get rid of what a kill left.
    let state = world.host.path("state");
    let left: Vec<_> = world.host.leftovers().into_iter().filter(|path| !path.starts_with(&state)).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

fn every_slot_has_come_to_one_end(world: &mut World) {
    world.diary.read();
    for (slot, allowed) in &world.came {
        let ends = world.diary.ends(slot);
        assert!(ends.len() == 1 && allowed.contains(&ends[0].as_str()), "{slot:?} {ends:?}, not one of {allowed:?}");
        let why = world.diary.why(slot);
        assert!(ends[0] == "done" || why.len() > 10, "{slot:?} {} without a reason", ends[0]);
    }
    // The journal knows of no slot that the diary of the test does not have.
    let last = world.came.keys().next_back().unwrap().at;
    let known: BTreeSet<(String, &str, &str)> =
        world.came.keys().map(|slot| (slot.at.to_string(), slot.job, slot.policy)).collect();
    for record in world.diary.of_kind("slot_ended") {
        let text = |key: &str| record[key].as_str().unwrap_or("backup").to_owned();
        let slot: Timestamp = text("slot").parse().unwrap();
        let (job, policy) = (text("job"), text("policy"));
        let is_known = known.iter().any(|(at, j, p)| *at == slot.to_string() && *j == job && *p == policy);
        assert!(is_known || slot > last, "nobody expected {record}");
    }
    none_ran_twice(world);
}

/// Of each source, at most one run of a slot came to a good end.
fn none_ran_twice(world: &World) {
    let good: BTreeSet<&str> = world
        .diary
        .of_kind("run_ended")
        .filter(|run| run["outcome"] == "done" || run["outcome"] == "warnings")
        .filter_map(|run| run["run"].as_str())
        .collect();
    let mut runs: BTreeMap<[String; 4], usize> = BTreeMap::new();
    for run in world.diary.of_kind("run_started").filter(|run| run["slot"].is_string()) {
        if good.contains(run["run"].as_str().unwrap()) {
            let key = ["job", "policy", "source", "slot"].map(|key| run[key].to_string());
            *runs.entry(key).or_default() += 1;
        }
    }
    let twice: Vec<_> = runs.iter().filter(|(_, times)| **times > 1).collect();
    // Only the copying that follows a backup is a run of its own each time.
    let twice: Vec<_> = twice.into_iter().filter(|(run, _)| !run[0].contains("copy")).collect();
    assert!(twice.is_empty(), "run twice: {twice:?}");
}

/// What a piece of news is about, as the faults say it: `failure check *`.
fn subject(event: &Value) -> String {
    let part = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let policy = event["policy"].as_str().unwrap_or("*").to_owned();
    let name = if event["topic"] == "missed" { policy } else { part("name") };
    [part("topic"), part("job"), name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn everybody_was_told(world: &World) {
    let events = world.events();
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for event in &events {
        *told.entry(subject(event)).or_default() += 1;
    }
    assert_eq!(told, world.news, "what was told, and what should have been: {events:#?}");
    nothing_is_left_open(&events);
    // The mails say the same.
    let missing = world.not_mailed();
    assert!(missing.is_empty(), "never came by mail: {missing:?} of {events:#?}");
    let mails = world.mail.mails().join("\n");
    for words in ["failed", "works again"] {
        assert!(mails.contains(words), "no mail says `{words}`:\n{mails}");
    }
}

/// Each alert was cleared, and none was cleared that was not raised.
fn nothing_is_left_open(events: &[Value]) {
    let mut failing: BTreeSet<String> = BTreeSet::new();
    for event in events {
        let subject = subject(event);
        let of = |topic: &str| subject.strip_prefix(topic).map(|rest| rest.trim().to_owned());
        if let Some(thing) = of("failure").or_else(|| of("missed")).or_else(|| of("notifier")) {
            failing.insert(thing);
        } else if subject == "configuration" {
            failing.insert(String::new());
        } else if let Some(thing) = of("recovery") {
            assert!(failing.remove(&thing), "{thing} recovered and had not failed: {events:#?}");
        }
    }
    assert!(failing.is_empty(), "still open: {failing:?} of {events:#?}");
}

/// As `policies` say it in [`World`].
fn keep(source: &str) -> Keep {
    match source {
        "app" | "docs" => Keep { last: 3, daily: 5, weekly: 3, zone: "America/New_York" },
        "orders" => Keep { last: 0, daily: 6, weekly: 3, zone: "Europe/Madrid" },
        _ => Keep { last: 4, daily: 0, weekly: 2, zone: "UTC" },
    }
}

const OF_COPY: Keep = Keep { last: 2, daily: 0, weekly: 3, zone: "UTC" };

fn made(commits: &[Commit], source: &str) -> Vec<Made> {
    let mut known = BTreeSet::new();
    let of_source = commits.iter().filter(|commit| commit.source == source);
    of_source.filter(|commit| known.insert(&commit.made.name)).map(|commit| commit.made.clone()).collect()
}

/// What came twice: a repair from the copy brings back what was forgotten long ago, too. As it came late it is not believed,
/// and may stay until it is forgotten by hand.
fn returned(commits: &[Commit]) -> BTreeSet<&str> {
    let mut known = BTreeSet::new();
    commits.iter().map(|commit| commit.made.name.as_str()).filter(|name| !known.insert(*name)).collect()
}

/// Whenever a point went, retention did not keep it, and its source was not held.
fn nothing_went_that_is_kept(world: &World, commits: &[Commit]) {
    let removals = world.bucket.removals();
    let returned = returned(commits);
    let gone: Vec<_> = removals.iter().filter_map(|removal| Some((removal, point(&removal.key)?))).collect();
    assert!(gone.len() > 20, "only {} points went in all the month", gone.len());
    for (removal, (source, name)) in gone.into_iter().filter(|(_, (_, name))| !returned.contains(name.as_str())) {
        let before = &commits[..removal.commits];
        let stays = kept(&keep(&source), &made(before, &source));
        assert!(!stays.contains(&name), "{source}/{name} went at {}, and is kept", removal.at);
        let held = |(of, from, to): &&(String, usize, usize)| *of == source && (*from..*to).contains(&removal.commits);
        assert!(!world.holds.iter().any(|hold| held(&hold)), "{source}/{name} went while its source was held");
    }
}

/// Nothing is made any more; time passes until all that is given up is gone.
fn prune_to_the_end(world: &mut World) {
    let hours = SignedDuration::from_hours;
    world.clock.pass(hours(1));
    world.run(&["copy"]).ends(0);
    world.run(&["check", "--level", "readable"]).ends(0);
    world.run(&["check", "--copy", "second", "--level", "readable"]).ends(0);
    for wait in [1, 8 * 24, 25, 25, 25, 25] {
        world.clock.pass(hours(wait));
        for place in [&[][..], &["--copy", "second"]] {
            world.run(&[&["prune", "--max-delete", "100%"], place].concat()).ends(0);
        }
    }
    let again = world.run(&["prune"]).ends(0);
    again.says("0 points forgotten").says("0 B in 0 objects deleted");
}

fn names_in(world: &World, place: &[&str], source: &str) -> BTreeSet<String> {
    let words = [&["points", "--all", "--json", "--source", source], place].concat();
    let answer = world.run(&words).ends(0).json();
    let points = answer["points"].as_array().unwrap().iter();
    points.map(|point| point["point"].as_str().unwrap().to_owned()).collect()
}

fn what_is_kept_is_there_and_nothing_else(world: &World, commits: &[Commit]) {
    let returned = returned(commits);
    let others = |mut names: BTreeSet<String>| {
        names.retain(|name| !returned.contains(name.as_str()));
        names
    };
    for source in SOURCES {
        let mut all = made(commits, source);
        let left = others(names_in(world, &[], source));
        assert_eq!(left, others(kept(&keep(source), &all)), "{source} in the repository");
        // A copy has a clock of its own, that of the host: it believes what was copied while that one was wrong.
        for made in &mut all {
            made.stored = stored_in_copy(world, source, &made.name).unwrap_or(made.stored.max(made.at));
        }
        assert_eq!(names_in(world, &["--from", "second"], source), kept(&OF_COPY, &all), "{source} in the copy");
    }
    nothing_else_is_stored(world);
}

fn stored_in_copy(world: &World, source: &str, name: &str) -> Option<Timestamp> {
    let writers = std::fs::read_dir(world.host.path("second/w")).unwrap().flatten();
    let mut files = writers.map(|writer| writer.path().join("points").join(source).join(name));
    let modified = files.find_map(|path| path.metadata().ok())?.modified().unwrap();
    Some(Timestamp::try_from(modified).unwrap())
}

/// In both stores, all data is data of the points that are left.
fn nothing_else_is_stored(world: &World) {
    let primary = Settings {
        endpoint: Some(world.bucket.endpoint()),
        region: "us-east-1".into(),
        access_key: Some(SecretRef::File(world.host.path("access-key"))),
        secret_key: Some(SecretRef::File(world.host.path("secret-key"))),
        ..Settings::new(Location::Bucket { bucket: world.minio_bucket.clone(), prefix: "prod".into() })
    };
    for settings in [primary, Settings::new(Location::Directory(world.host.path("second")))] {
        let repository = Repository::open(store::open(&settings).unwrap()).unwrap();
        let writer = Writer::load(&world.host.path("state"), repository.id()).unwrap().unwrap();
        let catalog = catalog::list(&repository, &writer.keyring(), &writer.trust(), Wanted::default()).unwrap();
        let needed: BTreeSet<String> =
            catalog.points.iter().flat_map(|point| needed(&repository, &writer, point)).collect();
        let root = format!("w/{}/", writer.id());
        let of_kind = |kind: &str| repository.store.list(&format!("{root}{kind}/")).unwrap();
        let stored: BTreeSet<String> = ["s", "p", "x", "b"]
            .into_iter()
            .flat_map(|kind| of_kind(kind).into_iter().map(|entry| entry.key.to_string()))
            .collect();
        assert_eq!(stored, needed, "objects in {}", repository.store.describe());
        assert_eq!(of_kind("ckpt").len(), 0, "what unfinished runs left behind");
        let open: Vec<String> = of_kind("sess").into_iter().map(|entry| entry.key.to_string()).collect();
        assert_eq!(open, Vec::<String>::new(), "sessions in {}", repository.store.describe());
    }
}

fn needed(repository: &Repository, writer: &Writer, point: &Point) -> Vec<String> {
    let pins: Vec<&Pin> = point.pins().collect();
    let mut keys: Vec<String> = pins.iter().map(|pin| pin.key.to_string()).collect();
    for pin in pins.iter().filter(|pin| pin.key.as_str().contains("/x/")) {
        let sealed = store::read(&*repository.store, &pin.key).unwrap();
        let data = decode::open_whole(&sealed, &writer.keyring(), pin.key.as_str()).unwrap();
        let index = IndexReader::new(&data[..], pin.key.as_str()).unwrap();
        keys.extend(index.packs.iter().map(|pack| names::pack(&point.writer, &pack.sha256).to_string()));
    }
    keys
}

/// From both stores, through the program, and with what the source held.
fn every_point_restores(world: &World, commits: &[Commit]) {
    let mut work = Vec::new();
    for (number, place) in [&[][..], &["--from", "second"]].into_iter().enumerate() {
        for source in SOURCES {
            let names = names_in(world, place, source);
            work.extend(names.into_iter().map(|name| (number, place, source, name)));
        }
    }
    let total = work.len();
    let work = Mutex::new(work);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some((number, place, source, name)) = work.lock().unwrap().pop() else { return };
                    let commit = commits.iter().find(|commit| commit.made.name == name).unwrap();
                    restores(world, place, source, commit, &world.host.path(&format!("restored-{number}-{name}")));
                }
            });
        }
    });
    assert!(total > 20, "only {total} points are left");
}

pub fn restores(world: &World, place: &[&str], source: &str, commit: &Commit, to: &Path) {
    let name = &commit.made.name;
    let id = name.split('-').nth(1).unwrap();
    if source == "orders" {
        // Into a new database of the server, one at a time.
        static SERVER: Mutex<()> = Mutex::new(());
        let _one = SERVER.lock().unwrap();
        world.run(&[&["restore", id], place].concat()).ends(0);
        let database = world.sources.database.query("", "show databases like 'books\\_restore%'");
        return world.sources.compare_orders(&database, commit.content, name);
    }
    let words = [&["restore", id, "--to", to.to_str().unwrap()], place].concat();
    world.run(&words).ends(0);
    world.sources.compare(source, to, commit.content, name);
}
