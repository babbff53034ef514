//! Sources that are files: they are rehearsed in a private directory, and what differs is named.

use super::seeded;
use super::support::host::{Host, database, mode};
use bkp::engine::{Settings, sqlite, volume};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;

/// A database with more than rows, a tree with more than files, and a command; one point of each.
pub fn host() -> Host {
    let host = Host::new();
    database(&host.path("data/app.db"), 100, "hello");
    let connection = rusqlite::Connection::open(host.path("data/app.db")).unwrap();
    let more = "create index by_text on notes (text);
        create view loud as select upper(text) as text from notes;
        create trigger no_empty before insert on notes when new.text = '' begin select raise(abort, 'empty'); end;";
    connection.execute_batch(more).unwrap();
    drop(connection);
    fs::create_dir_all(host.path("data/docs/closed")).unwrap();
    fs::write(host.path("data/docs/a.txt"), "a").unwrap();
    fs::write(host.path("data/docs/closed/b.txt"), "b").unwrap();
    fs::hard_link(host.path("data/docs/a.txt"), host.path("data/docs/same.txt")).unwrap();
    symlink("a.txt", host.path("data/docs/link")).unwrap();
    mode(&host.path("data/docs/closed/b.txt"), 0o400);
    mode(&host.path("data/docs/closed"), 0o500);
    host.sources(&[
        format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db")),
        format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs")),
        "hello: { command: { run: [echo, hello], stream: hello.txt } }".to_owned(),
    ]);
    host
}

fn backed_up() -> Host {
    let host = host();
    host.run(&["backup"]).ends(0);
    host
}

/// The one rehearsal that a command told of.
fn one(document: &Value) -> &Value {
    let all = document["rehearsals"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{document}");
    &all[0]
}

/// The records of rehearsals in the journal.
pub fn recorded(host: &Host) -> Vec<Value> {
    let answer = host.run(&["journal", "--json"]).ends(0);
    let records = answer.json()["records"].as_array().unwrap().clone();
    records.into_iter().filter(|record| record["kind"] == "rehearsed").collect()
}

fn proof(host: &Host, source: &str) -> Value {
    host.points(source)[0]["level"].clone()
}

#[test]
fn every_source_comes_back_as_it_was_and_nothing_is_left() {
    let host = backed_up();
    let answer = host.read(&["rehearse", "--json"]).ends(0);
    let document = answer.json();
    assert_eq!(document["ok"], true);
    for (source, level, kind) in [("app", "equal", "file"), ("docs", "equal", "directory")] {
        let all = document["rehearsals"].as_array().unwrap();
        let rehearsal = all.iter().find(|r| r["source"] == source).unwrap();
        assert_eq!((&rehearsal["reached"], &rehearsal["target"]["kind"]), (&level.into(), &kind.into()), "{rehearsal}");
        assert!(rehearsal["compared"].as_u64().unwrap() >= 5, "{rehearsal}");
        assert_eq!(proof(&host, source), level);
        let phases = rehearsal["phases"].as_object().unwrap();
        let named: Vec<&str> = phases.keys().map(String::as_str).collect();
        assert_eq!(named, ["decode", "fetch", "index", "load", "overhead", "verify"]);
    }
    // What a command gave can be read, and nobody knows what it means.
    assert_eq!(proof(&host, "hello"), "readable");
    assert_eq!(recorded(&host).len(), 3);
    assert_eq!(fs::read_dir(host.path("cache/rehearsals")).unwrap().count(), 0);
    host.run(&["status"]).ends(0).says("equal");
}

#[test]
fn what_changed_after_the_backup_is_no_fault() {
    let host = backed_up();
    database(&host.path("data/app.db"), 7, "other");
    mode(&host.path("data/docs/closed"), 0o700);
    fs::remove_dir_all(host.path("data/docs")).unwrap();
    for source in ["app", "docs"] {
        host.read(&["rehearse", source]).ends(0).says("equal");
    }
}

#[test]
fn a_dump_that_lost_something_is_found_and_what_it_lost_is_named() {
    let host = backed_up();
    let path = host.path("data/app.db");
    let change = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    change("create table orders (id integer primary key)");
    let settings = Settings::Sqlite(sqlite::Settings::of(path.clone()));
    seeded::lossy(&host, "app", &settings, || {
        change(
            "delete from notes where rowid = (select max(rowid) from notes); drop table orders; drop trigger no_empty;
             drop view loud; create view loud as select text from notes; drop index by_text",
        );
    });
    let answer = host.read(&["rehearse", "app", "--json"]).ends(4);
    let document = answer.json();
    let found = one(&document);
    let differences: Vec<&str> = found["differences"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for expected in [
        "table notes: 99 rows instead of 100",
        "table orders: missing",
        "trigger no_empty: missing",
        "index by_text: missing",
        "view loud: another definition",
    ] {
        assert!(differences.contains(&expected), "{expected}: {differences:?}");
    }
    assert_eq!((&found["reached"], &found["differing"]), (&"loaded".into(), &differences.len().into()));
    assert_eq!(proof(&host, "app"), Value::Null, "what is known to differ is not proven");
    assert_eq!(recorded(&host)[0]["differing"], differences.len());
    host.read(&["rehearse", "app"]).ends(4).says("table orders: missing").says("more");
}

#[test]
fn one_changed_byte_is_found() {
    let host = backed_up();
    let path = host.path("data/app.db");
    seeded::lossy(&host, "app", &Settings::Sqlite(sqlite::Settings::of(path.clone())), || {
        let change = "update notes set text = 'hellp' where rowid = (select min(rowid) from notes)";
        rusqlite::Connection::open(&path).unwrap().execute_batch(change).unwrap();
    });
    host.read(&["rehearse", "app"]).ends(4).says("table notes: other content");
    let file = host.path("data/docs/a.txt");
    seeded::lossy(&host, "docs", &Settings::Volume(volume::Settings::of(host.path("data/docs"))), || {
        // Of the same size, and as old as it was.
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "b").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    });
    host.read(&["rehearse", "docs"]).ends(4).says("tree: ");
}

#[test]
fn points_of_versions_that_named_no_definitions_are_compared_all_the_same() {
    let host = backed_up();
    let settings = Settings::Sqlite(sqlite::Settings::of(host.path("data/app.db")));
    seeded::point(&host, "app", &settings, |dumped| dumped.fingerprint.objects.clear());
    host.read(&["rehearse", "app"]).ends(0).says("equal");
    seeded::point(&host, "app", &settings, |dumped| {
        dumped.fingerprint.objects.clear();
        dumped.fingerprint.parts.get_mut("schema").unwrap().digest = "0".repeat(64);
    });
    host.read(&["rehearse", "app"]).ends(4).says("schema: other content");
}

#[test]
fn what_is_bound_to_no_instant_is_not_called_equal() {
    let host = backed_up();
    let settings = Settings::Sqlite(sqlite::Settings::of(host.path("data/app.db")));
    seeded::point(&host, "app", &settings, |dumped| dumped.fingerprint.method = "in another way".into());
    let answer = host.read(&["rehearse", "app", "--json"]).ends(3);
    let document = answer.json();
    assert_eq!(one(&document)["reached"], "loaded");
    assert!(one(&document)["unbound"].as_str().unwrap().contains("made in different ways"));
}

#[test]
fn which_point_and_how_far() {
    let host = backed_up();
    let first = host.points("app")[0]["id"].as_str().unwrap().to_owned();
    host.next_second();
    host.run(&["backup", "app"]).ends(0);
    let chosen = |arguments: &[&str]| {
        let answer = host.read(&[&["rehearse", "--json"], arguments].concat()).ends(0);
        let document = answer.json();
        let point = one(&document)["point"].as_str().unwrap();
        (point.rsplit_once('-').unwrap().1.to_owned(), one(&document)["reached"].as_str().unwrap().to_owned())
    };
    assert_ne!(chosen(&["app"]).0, first);
    assert_eq!(chosen(&[&first]), (first.clone(), "equal".into()));
    assert_eq!(chosen(&["app", "--at", &first]).0, first);
    assert_eq!(chosen(&["app", "--level", "loaded"]).1, "loaded");
    assert_eq!(chosen(&["app", "--level", "readable"]).1, "readable");
    chosen(&["app", "--random"]);
    let plan =
        host.read(&["rehearse", "app", "--dry-run"]).ends(0).says("restore all of it there").says("Nothing was done");
    assert!(plan.out.contains("compare with what the source held"), "{plan:?}");
    host.read(&["rehearse", "nothing"]).fails_somehow();
    host.read(&["rehearse", "app", "--at", "2001-01-01"]).ends(1).says("no point of app is as old as");
}

#[test]
fn a_target_that_is_kept_says_where_it_is_and_how_to_remove_it() {
    let host = backed_up();
    let answer = host.read(&["rehearse", "app", "--keep"]).ends(0).says("rm -r");
    let kept: Vec<_> = fs::read_dir(host.path("cache/rehearsals")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1, "{answer:?}");
    // The next rehearsal leaves it alone.
    host.read(&["rehearse", "app"]).ends(0);
    assert_eq!(fs::read_dir(host.path("cache/rehearsals")).unwrap().count(), 1);
}

#[test]
fn the_key_is_the_configured_one_and_a_wrong_one_is_told() {
    let host = backed_up();
    host.run(&["rehearse", "app"]).fails(12, "needs a private key", "keys add");
    host.configure(&format!(
        "repository: {{ url: \"{}\" }}\nrehearse: {{ identity_file: \"{}\" }}\n",
        host.url,
        host.text("recovery-key.txt")
    ));
    host.run(&["rehearse", "app"]).ends(0).says("equal");
    host.run(&["doctor"]).says("names a recovery key");
    let other = Host::new();
    host.configure(&format!(
        "repository: {{ url: \"{}\" }}\nrehearse: {{ identity_file: \"{}\" }}\n",
        host.url,
        other.text("recovery-key.txt")
    ));
    host.run(&["rehearse", "app"]).ends(12).says("belongs to repository");
    host.run(&["doctor"]).says("belongs to repository");
}

#[test]
fn assertions_hold_or_do_not() {
    let host = backed_up();
    let policy = |least: &str| {
        let text = format!(
            "policy: all\nobjectives: {{ rto: 1h }}\nrehearse:\n  level: equal\n  assert:\n    \
             - {{ source: app, name: notes are there, sql: select count(*) from notes, min: {least} }}\n    \
             - {{ source: app, sql: select text from notes limit 1, equals: hello }}\n    \
             - {{ source: docs, run: [cat, a.txt], equals: a }}\n\
             sources:\n  app: {{ sqlite: {{ path: \"{}\" }} }}\n  docs: {{ volume: {{ path: \"{}\" }} }}\n",
            host.text("data/app.db"),
            host.text("data/docs")
        );
        fs::write(host.path("etc/policies.d/all.yaml"), text).unwrap();
    };
    policy("100");
    let answer = host.read(&["rehearse", "all", "--json"]).ends(0);
    let document = answer.json();
    for rehearsal in document["rehearsals"].as_array().unwrap() {
        assert_eq!(rehearsal["reached"], "checked", "{rehearsal}");
        assert_eq!(rehearsal["rto_objective_seconds"], 3600.0);
    }
    assert_eq!(proof(&host, "docs"), "checked");
    policy("101");
    host.read(&["rehearse", "app"])
        .ends(4)
        .says("DOES NOT HOLD: notes are there (100, expected at least 101)")
        .says("notes are there does not hold");
    host.run(&["status"]).ends(4).says("1 thing to look at").says("The last rehearsal of a restore of app failed");
    policy("100");
    host.read(&["rehearse", "app"]).ends(0);
    host.run(&["status"]).ends(0).says("All is well");
}

/// What came back is foreign: its links lead to the live data, and its scripts may do anything.
#[test]
fn a_command_of_the_user_has_what_was_restored_and_nothing_else() {
    let host = host();
    fs::create_dir(host.path("data/live")).unwrap();
    fs::write(host.path("data/live/index.html"), "live").unwrap();
    symlink(host.path("data/live"), host.path("data/docs/current")).unwrap();
    host.run(&["backup", "docs"]).ends(0);
    let asked = |run: &str, expected: &str, code| {
        let text = format!(
            "policy: all\nrehearse:\n  assert:\n    - {{ name: it, run: {run}{expected} }}\nsources:\n  docs: {{ volume: {{ path: \"{}\" }} }}\n",
            host.text("data/docs")
        );
        fs::write(host.path("etc/policies.d/all.yaml"), text).unwrap();
        host.read(&["rehearse", "docs"]).ends(code)
    };
    asked("[cat, closed/b.txt]", ", equals: b", 0);
    asked("[test, -s, current/index.html]", "", 4).says("DOES NOT HOLD");
    asked("[sh, -c, 'echo touched >> current/index.html']", "", 4);
    asked("[sh, -c, '(echo other > a.txt) 2>/dev/null || echo kept']", ", equals: kept", 0);
    asked("[sh, -c, 'grep -c : /proc/net/dev']", ", equals: \"1\"", 0);
    asked("[sh, -c, 'ls -d /home /root /var /srv /etc/shadow 2>/dev/null | wc -l']", ", equals: \"0\"", 0);
    asked("[sh, -c, 'env | grep -c BKP || true']", ", equals: \"0\"", 0);
    assert_eq!(fs::read_to_string(host.path("data/live/index.html")).unwrap(), "live");
    assert_eq!(fs::read_dir(host.path("cache/rehearsals")).unwrap().count(), 0);
}

#[test]
fn samples_of_a_check_come_to_everything() {
    let host = backed_up();
    let sample = || {
        let document = host.run(&["check", "--sample", "25%", "--json"]).ends(0).json();
        let read = document["report"]["objects_read"].as_u64().unwrap();
        (document["part"].as_str().unwrap().to_owned(), read, document["report"]["objects"].as_u64().unwrap())
    };
    let samples: Vec<_> = (0..4).map(|_| sample()).collect();
    let parts: Vec<&str> = samples.iter().map(|(part, ..)| part.as_str()).collect();
    assert_eq!(parts, ["part 1 of 4 was read", "part 2 of 4 was read", "part 3 of 4 was read", "part 4 of 4 was read"]);
    assert_eq!(samples.iter().map(|(_, read, _)| read).sum::<u64>(), samples[0].2, "{samples:?}");
    host.run(&["journal"]).ends(0).says("part 4 of 4 was read");
}

#[test]
fn how_long_restores_took_is_shown_and_what_one_would_take_now() {
    let host = backed_up();
    host.read(&["rehearse", "--history"]).fails(1, "no rehearsal stands in the journal", "bkp rehearse");
    host.read(&["rehearse"]).ends(0);
    host.read(&["rehearse", "docs"]).ends(0);
    let document = host.run(&["rehearse", "docs", "--history", "--json"]).ends(0).json();
    assert_eq!(document["rehearsals"].as_array().unwrap().len(), 2, "{document}");
    let estimate = &document["estimates"]["docs"];
    assert_eq!((&estimate["rehearsals"], &estimate["target"]), (&2.into(), &"directory".into()), "{document}");
    let seconds = |one: &Value| one["rto_seconds"].as_f64().unwrap();
    let mean = document["rehearsals"].as_array().unwrap().iter().map(seconds).sum::<f64>() / 2.0;
    assert!((estimate["seconds"].as_f64().unwrap() - mean).abs() < 0.01, "{document}");
    let all = host.run(&["rehearse", "--history"]).ends(0).says("RESTORED IN").says("app").says("hello");
    assert_eq!(all.out.matches("(from 2 rehearsals into a directory").count(), 1, "{}", all.out);
    host.run(&["status"]).ends(0).says("restore of ").says("(from 2 rehearsals into a directory");
    let status = host.run(&["status", "--json"]).ends(0).json();
    let of = |source: &str| status["sources"].as_array().unwrap().iter().find(|s| s["source"] == source).unwrap();
    assert_eq!(of("docs")["restore"]["rehearsals"], 2, "{status}");
    assert_eq!(of("hello")["restore"], Value::Null, "it is read, and restored nowhere");
}
