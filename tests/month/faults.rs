//! What goes wrong, and what must come of it: how the slots that it meets may end, and who must be told of it.
//!
//! Each fault leaves things as it found them. Between two of them, some ordinary instants pass.

use crate::bucket::Weather;
use crate::support::vault::Act;
use crate::support::wait_for;
use crate::world::{DONE, Ends, HOOKS, World, sources_of};
use jiff::SignedDuration;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

struct Fault {
    name: &'static str,
    act: fn(&mut World),
    /// The policy or job that is next when it strikes; any, when empty.
    when: &'static str,
    /// What must be well before.
    breaks: &'static [&'static str],
}

const fn fault(name: &'static str, act: fn(&mut World)) -> Fault {
    Fault { name, act, when: "", breaks: &[] }
}

const HOOK: &[&str] = &["backup hook"];
const PRUNE: &[&str] = &["prune *"];

const KINDS: &[Fault] = &[
    fault("the store is down", store_is_down),
    fault("the store is busy", store_is_busy),
    Fault { name: "bodies break", act: bodies_break, when: "check", breaks: &["check *"] },
    fault("the daemon is killed", daemon_is_killed),
    fault("everything is killed", everything_is_killed),
    Fault { breaks: HOOK, ..fault("nothing runs for a while", nothing_runs) },
    Fault { breaks: HOOK, ..fault("the clock is a day ahead", clock_is_ahead) },
    Fault { breaks: HOOK, ..fault("the clock is a day behind", clock_is_behind) },
    Fault { when: "shop", ..fault("the disk is full", disk_is_full) },
    fault("the journal is torn", journal_is_torn),
    fault("a second daemon", second_daemon),
    fault("a policy is broken", policy_is_broken),
    Fault { name: "listings are short", act: listings_are_short, when: "prune", breaks: PRUNE },
    Fault { name: "listings are empty", act: listings_are_empty, when: "prune", breaks: PRUNE },
    Fault {
        name: "an object is eaten",
        act: object_is_eaten,
        when: "check",
        breaks: &["check *", "prune *", "copy second"],
    },
    Fault { name: "a dump hangs", act: dump_hangs, when: "hooks", breaks: HOOK },
    fault("a signal in mid-upload", signal_in_mid_upload),
    Fault { when: "books", ..fault("vault is sealed", vault_is_sealed) },
    Fault { when: "books", ..fault("vault starts again", vault_starts_again) },
    Fault { when: "books", ..fault("vault answers 503", vault_answers_503) },
    Fault { name: "nobody takes mail", act: nobody_takes_mail, when: "hooks", breaks: HOOK },
    Fault { name: "a source shrinks", act: source_shrinks, when: "hooks", breaks: HOOK },
    Fault { name: "a source fails", act: source_fails, when: "hooks", breaks: HOOK },
    Fault { breaks: &["copy second"], ..fault("the copy is away", copy_is_away) },
];

impl Fault {
    fn fits(&self, world: &World) -> bool {
        let next = world.next();
        let is_next = self.when.is_empty() || self.when == next.policy || self.when == next.job;
        is_next && !self.breaks.iter().any(|thing| world.failing.contains(*thing))
    }
}

const FAILED: Ends = &["failed"];
const MISSED: Ends = &["missed"];

/// So many instants a fault may take, at most.
const ROOM: usize = 16;

pub fn throw(world: &mut World) {
    let mut faults: Vec<&Fault> = world.chance.shuffled(KINDS.iter().collect());
    for _ in 0..world.chance.between(5, 9) {
        world.step();
    }
    while world.calendar.len() > ROOM {
        // Each kind once, and then whatever chance wants.
        let fault = match faults.iter().position(|fault| fault.fits(world)) {
            Some(at) => faults.remove(at),
            // What is left needs a day of its own.
            None if !faults.is_empty() => {
                world.step();
                continue;
            }
            None => *world.chance.one_of(&KINDS.iter().collect::<Vec<_>>()),
        };
        let is_fresh = fault.fits(world);
        if is_fresh {
            eprintln!("{} {}", world.clock.truth().strftime("%Y-%m-%d %H:%M"), fault.name);
            (fault.act)(world);
        }
        let pause = if faults.is_empty() { world.chance.between(1, 6) } else { 1 };
        for _ in 0..pause {
            if !world.calendar.is_empty() {
                world.step();
            }
        }
    }
    assert!(faults.is_empty(), "the month was too short for: {:?}", faults.iter().map(|f| f.name).collect::<Vec<_>>());
    while !world.calendar.is_empty() {
        world.step();
    }
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

/// For an hour nobody gets through: it is tried again, and told once.
fn outage(world: &mut World, weather: Weather) {
    world.bucket.weather(weather);
    let refused = world.bucket.refused();
    let due = world.advance();
    in_vain_and_told(world, &due);
    assert!(world.bucket.refused() > refused);
    world.bucket.weather(Weather::Fair);
    world.clock.pass(minutes(20));
    world.end(&due, DONE);
}

/// All that is due was tried in vain, also after half an hour, and somebody knows.
fn in_vain_and_told(world: &mut World, due: &[crate::calendar::Slot]) {
    let things = |slot: &crate::calendar::Slot| match sources_of(slot.policy) {
        [] => vec![format!("{} {}", slot.job, slot.policy)],
        sources => sources.iter().map(|source| format!("backup {source}")).collect(),
    };
    let things: Vec<String> = due.iter().flat_map(things).collect();
    world.until("a try in vain of each", |world| {
        due.iter().all(|slot| world.diary.in_vain(slot) >= sources_of(slot.policy).len().max(1)).then_some(())
    });
    world.clock.pass(minutes(31));
    for thing in &things {
        world.fails(thing);
    }
    world.all_are_told();
}

fn store_is_down(world: &mut World) {
    outage(world, Weather::Away);
}

fn store_is_busy(world: &mut World) {
    outage(world, Weather::Busy);
}

fn bodies_break(world: &mut World) {
    world.step_until("check");
    world.bucket.weather(Weather::Torn);
    world.step();
    world.bucket.weather(Weather::Fair);
}

/// At any moment of a slot: the next daemon goes on.
fn daemon_is_killed(world: &mut World) {
    let due = begin_and_wait(world);
    world.kill_daemon();
    world.clock.pass(minutes(7));
    world.start_daemon();
    world.end(&due, DONE);
}

/// The slot comes, and as many records of it as chance says.
fn begin_and_wait(world: &mut World) -> Vec<crate::calendar::Slot> {
    let records = world.diary.records.len() + world.chance.between(0, 9) as usize;
    let due = world.advance();
    world.until("some of the records", |world| {
        let is_over = due.iter().all(|slot| !world.diary.ends(slot).is_empty());
        (is_over || world.diary.records.len() >= records).then_some(())
    });
    due
}

/// The plug is pulled: runs die too.
fn everything_is_killed(world: &mut World) {
    let due = begin_and_wait(world);
    let runs = children(world.daemon.as_ref().unwrap().child.id());
    world.kill_daemon();
    for run in runs {
        let _ = kill_process(Pid::from_raw(run as i32).unwrap(), Signal::KILL);
        wait_for("the end of a run", 30, || (!fs::exists(format!("/proc/{run}")).unwrap()).then_some(()));
    }
    world.clock.pass(minutes(7));
    world.start_daemon();
    world.end(&due, DONE);
}

fn children(of: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).unwrap().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    children.flat_map(|text| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// The machine is off. Of several slots the newest one is made up for.
fn nothing_runs(world: &mut World) {
    world.all_are_told();
    world.stop_daemon();
    let instants = world.chance.between(1, 6);
    let due: Vec<_> = (0..instants).flat_map(|_| world.advance()).collect();
    world.clock.pass(minutes(11));
    world.start_daemon();
    ends_of_a_pause(world, &due);
}

/// The newest of each schedule is done, the others are missed, and that is told.
fn ends_of_a_pause(world: &mut World, due: &[crate::calendar::Slot]) {
    for (number, slot) in due.iter().enumerate() {
        let is_newest = !due[number + 1..].iter().any(|other| (other.job, other.policy) == (slot.job, slot.policy));
        if is_newest {
            let missed = due[..number].iter().any(|other| (other.job, other.policy) == (slot.job, slot.policy));
            world.end(std::slice::from_ref(slot), DONE);
            if missed {
                let thing = format!("{} {}", slot.job, slot.policy);
                world.expect(&format!("missed {thing}"));
                world.expect(&format!("recovery {thing}"));
            }
        } else {
            world.end(std::slice::from_ref(slot), MISSED);
        }
    }
}

/// Somebody sets the clock a day too far, and it is put right hours later.
fn clock_is_ahead(world: &mut World) {
    world.all_are_told();
    let day = SignedDuration::from_hours(24);
    let until = world.clock.truth() + day;
    let mut due = Vec::new();
    while world.calendar.front().is_some_and(|slot| slot.at <= until) {
        due.extend(world.calendar.pop_front());
    }
    world.sources.contents.a_run_may_begin();
    world.clock.wrong_by(day);
    ends_of_a_pause(world, &due);
    world.all_are_told();
    let jumps = world.diary.count("clock_jumped");
    world.clock.wrong_by(SignedDuration::ZERO);
    world.until("the jump is noticed", |world| (world.diary.count("clock_jumped") > jumps).then_some(()));
}

/// Somebody sets the clock back by a day. Nothing is run again; what came meanwhile is made up for.
fn clock_is_behind(world: &mut World) {
    world.all_are_told();
    let jumps = world.diary.count("clock_jumped");
    world.clock.wrong_by(SignedDuration::from_hours(-24));
    world.until("the jump is noticed", |world| (world.diary.count("clock_jumped") > jumps).then_some(()));
    let runs = world.diary.count("run_started");
    let due: Vec<_> = (0..2).flat_map(|_| world.advance()).collect();
    world.clock.pass(minutes(3));
    world.clock.wrong_by(SignedDuration::ZERO);
    world.until("the jump is noticed", |world| (world.diary.count("clock_jumped") > jumps + 1).then_some(()));
    ends_of_a_pause(world, &due);
    let again = world.diary.of_kind("run_started").skip(runs).filter(|run| run["slot"].is_string());
    for run in again {
        assert!(due.iter().any(|slot| run["slot"] == slot.at.to_string().as_str()), "run again: {run}");
    }
}

/// Backups go on, and what could not be written is written later.
fn disk_is_full(world: &mut World) {
    if world.disk.is_none() {
        return crate::support::not_run("a full disk in a month", "mounting a tmpfs takes root");
    }
    world.step_until("shop");
    let (told, mails_before) = (world.events().len(), world.mail.mails().len());
    let filler = world.host.path("state/journal/filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
    let before = sources_of("shop").iter().map(|source| world.bucket.commits_of(source)).collect::<Vec<_>>();
    let due = world.advance();
    for (source, before) in sources_of("shop").iter().zip(before) {
        world.until("a point, without a journal", |world| (world.bucket.commits_of(source) > before).then_some(()));
    }
    drop(file);
    fs::remove_file(&filler).unwrap();
    world.end(&due, DONE);
    // What was told meanwhile arrived, and that could not be written.
    let meanwhile: Vec<_> = world.events().drain(told..).collect();
    if !meanwhile.is_empty() {
        world.until("the mail of it", |world| (world.mail.mails().len() > mails_before).then_some(()));
    }
    world.unwritten.extend(meanwhile.iter().filter_map(|event| event["id"].as_str().map(str::to_owned)));
}

/// A record was half written when the power went.
fn journal_is_torn(world: &mut World) {
    world.kill_daemon();
    let segments = fs::read_dir(world.host.path("state/journal")).unwrap().flatten().map(|entry| entry.path());
    let last = segments.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).max().unwrap();
    let torn = "{\"seq\":99999,\"at\":\"2026-11-0";
    fs::OpenOptions::new().append(true).open(last).unwrap().write_all(torn.as_bytes()).unwrap();
    let mended = world.diary.count("tail_mended");
    world.start_daemon();
    world.until("the end is mended", |world| (world.diary.count("tail_mended") > mended).then_some(()));
}

fn second_daemon(world: &mut World) {
    let first = world.daemon.as_ref().unwrap().child.id();
    world.run(&["daemon"]).fails(11, &format!("process {first}"), "bkp reload");
}

/// The configuration before stays in force, and everybody knows.
fn policy_is_broken(world: &mut World) {
    let refused = |world: &World| world.diary.of_kind("config_loaded").filter(|r| r["ok"] == false).count();
    let before = refused(world);
    let file = world.host.path("etc/policies.d/new.yaml");
    fs::write(&file, "policy: new\nschedle: \"0 1 * * *\"\nsources: [nonsense\n").unwrap();
    world.daemon.as_ref().unwrap().signal(Signal::HUP);
    world.until("it is refused", |world| (refused(world) > before).then_some(()));
    world.step();
    fs::remove_file(&file).unwrap();
    world.run(&["reload"]).ends(0);
    world.expect("configuration");
    world.expect("recovery");
}

/// Nothing is deleted on the word of a listing that lacks something.
fn bad_listing(world: &mut World, weather: Weather) {
    world.step_until("prune");
    let runs = |world: &World| world.diary.of_kind("run_started").filter(|run| run["job"] == "prune").count();
    let before = (runs(world), world.bucket.removals().len());
    world.bucket.weather(weather);
    let due = world.advance();
    world.until("the end of the run", |world| {
        let runs: Vec<_> = world.diary.of_kind("run_started").filter(|run| run["job"] == "prune").collect();
        let run = runs.get(before.0)?["run"].clone();
        world.diary.of_kind("run_ended").find(|end| end["run"] == run).map(drop)
    });
    world.bucket.weather(Weather::Fair);
    let removed = world.bucket.removals();
    let data = removed[before.1..].iter().filter(|removal| !removal.key.contains("/gc/")).collect::<Vec<_>>();
    assert!(data.is_empty(), "deleted on the word of a listing that was {weather:?}: {data:?}");
    match world.wait_for_end(&due[0]).as_str() {
        "failed" => {
            world.end(&due, FAILED);
            world.fails("prune *");
        }
        // What could be tried again was.
        _ => world.end(&due, DONE),
    }
}

fn listings_are_short(world: &mut World) {
    bad_listing(world, Weather::Short);
}

fn listings_are_empty(world: &mut World) {
    bad_listing(world, Weather::Empty);
}

/// A rule of the bucket deletes what is old. The check names what cannot be restored any more, and nothing else; the copy
/// still has it.
fn object_is_eaten(world: &mut World) {
    world.step_until("check");
    let in_copy = world.run(&["points", "--all", "--json", "--from", "second"]).ends(0).json();
    let in_copy: Vec<_> = in_copy["points"].as_array().unwrap().iter().map(|point| point["point"].clone()).collect();
    let listed = world.run(&["points", "--all", "--json"]).ends(0).json();
    let mendable = |p: &&Value| ["app", "hook", "orders"].iter().any(|source| p["source"] == *source);
    let points = listed["points"].as_array().unwrap().iter().filter(mendable);
    // The newest of a source: another one may be given up before a prune misses what it needs.
    let newest: BTreeMap<String, &Value> = points.map(|p| (p["point"].to_string(), p)).collect();
    let newest: BTreeMap<String, &Value> = newest.into_values().map(|p| (p["source"].to_string(), p)).collect();
    let choice: Vec<_> = newest.into_values().filter(|p| in_copy.contains(&p["point"])).collect();
    let eaten = (*world.chance.one_of(&choice)).clone();
    let title = format!("{}/{}", eaten["source"].as_str().unwrap(), eaten["point"].as_str().unwrap());
    let shown = world.run(&["show", eaten["id"].as_str().unwrap(), "--json"]).ends(0).json();
    let stream = &shown["stream_list"][0];
    let object = stream["objects"][0]["key"].as_str().unwrap_or_else(|| panic!("{shown}"));
    let key = format!("prod/{object}");
    let bucket = world.minio_bucket.clone();
    world.minio.ask(async |client| client.delete_object().bucket(bucket).key(&key).send().await.unwrap());
    world.bucket.is_eaten(&key);

    let due = world.advance();
    for slot in &due {
        world.end(std::slice::from_ref(slot), if slot.job == "check" { FAILED } else { DONE });
    }
    world.fails("check *");
    let checked = world.run(&["check", "--json"]).ends(4).json();
    let problems = checked["report"]["problems"].as_array().unwrap();
    let named: Vec<_> = problems.iter().flat_map(|p| p["points"].as_array().unwrap().clone()).collect();
    assert!(named == [title.as_str()], "damaged is {title}, and named is {checked}");
    let status = world.run(&["status", "--json"]).json();
    assert!(status.to_string().contains(&title), "{title} is not in {status}");
    world.step_until("prune");
    let due = world.advance();
    world.end(&due, FAILED);
    world.fails("prune *");
    world.run(&["copy", "--from", "second", "--repair", "repository"]).ends(0);
}

/// It is ended at its deadline, and the next one is as if nothing had been.
fn dump_hangs(world: &mut World) {
    // A deadline is that of the moment when a slot was first expected: when the one before it began.
    world.step_until("hooks");
    world.policy("hooks", &format!("{HOOKS}deadline: 5s\n"));
    world.run(&["reload"]).ends(0);
    world.step();
    world.policy("hooks", HOOKS);
    world.run(&["reload"]).ends(0);
    world.step_until("hooks");
    world.sources.hang_hook(true);
    let due = world.advance();
    world.end(&due, FAILED);
    world.fails("backup hook");
    world.sources.hang_hook(false);
}

fn signal_in_mid_upload(world: &mut World) {
    while sources_of(world.next().policy).is_empty() {
        world.step();
    }
    world.bucket.weather(Weather::Stalled);
    let due = world.advance();
    world.until("an upload is under way", |world| (world.bucket.waiting() > 0).then_some(()));
    world.stop_daemon();
    world.bucket.weather(Weather::Fair);
    assert!(due.iter().any(|slot| world.diary.ends(slot).is_empty()), "{due:?} is not over");
    world.clock.pass(minutes(4));
    world.start_daemon();
    world.end(&due, DONE);
}

/// No password is to be had for a while.
fn without_vault(world: &mut World, goes: impl Fn(&World), comes: impl Fn(&World)) {
    world.step_until("books");
    goes(world);
    // The daemon may have the password in memory, or may have begun after it was read last.
    let degraded = world.diary.ended_with(3);
    let due = world.advance();
    world.until("a try in vain, or a degraded run", |world| {
        (world.diary.in_vain(&due[0]) > 0 || world.diary.ended_with(3) > degraded).then_some(())
    });
    if world.diary.in_vain(&due[0]) > 0 {
        in_vain_and_told(world, &due);
    }
    comes(world);
    world.clock.pass(minutes(20));
    world.end(&due, DONE);
}

fn vault_is_sealed(world: &mut World) {
    without_vault(world, |world| world.vault.seal(), |world| world.vault.unseal());
}

fn vault_starts_again(world: &mut World) {
    without_vault(world, |world| world.vault.stop(), |world| world.vault.start_again());
}

fn vault_answers_503(world: &mut World) {
    let sealed = Act::Answer(503, "{\"errors\":[\"Vault is sealed\"]}");
    let passes = |world: &World| world.vault_proxy.always(Act::Pass);
    without_vault(world, |world| world.vault_proxy.always(sealed.clone()), passes);
}

/// What is to be told meanwhile comes by the other channel, with the news that this one is down; and by mail later.
fn nobody_takes_mail(world: &mut World) {
    world.step_until("hooks");
    world.all_are_told();
    world.all_mails_arrive();
    world.mail.stop();
    world.sources.break_hook(true);
    let due = world.advance();
    world.end(&due, FAILED);
    world.fails("backup hook");
    world.expect("notifier mail");
    world.all_are_told();
    world.sources.break_hook(false);
    world.mail.start_again();
    let before = mails(world);
    world.clock.pass(minutes(61));
    world.until("the mail arrives", |world| (mails(world) > before).then_some(()));
    world.expect("recovery mail");
}

fn mails(world: &World) -> usize {
    world.diary.of_kind("notified").filter(|record| record["channel"] == "mail").count()
}

fn source_fails(world: &mut World) {
    world.step_until("hooks");
    world.sources.break_hook(true);
    let due = world.advance();
    world.end(&due, FAILED);
    world.fails("backup hook");
    world.sources.break_hook(false);
}

/// Most of a source is gone: nothing of it is deleted until somebody has looked.
fn source_shrinks(world: &mut World) {
    world.step_until("hooks");
    world.sources.shrink_hook(true);
    let held = world.bucket.commits().len();
    world.step();
    world.expect("anomaly hook");
    assert_eq!(world.diary.of_kind("hold_placed").next_back().unwrap()["source"], "hook");
    world.step_until("prune");
    world.step();
    world.holds.push(("hook".into(), held, world.bucket.commits().len()));
    world.sources.shrink_hook(false);
    world.run(&["ack", "hook", "--reason", "lines of last year were put away"]).ends(0);
}

/// The other store is not mounted. No backup waits for it, and it catches up.
fn copy_is_away(world: &mut World) {
    while sources_of(world.next().policy).is_empty() {
        world.step();
    }
    fs::rename(world.host.path("second"), world.host.path("second.away")).unwrap();
    for _ in 0..world.chance.between(1, 3) {
        world.step();
    }
    world.fails("copy second");
    fs::rename(world.host.path("second.away"), world.host.path("second")).unwrap();
}
