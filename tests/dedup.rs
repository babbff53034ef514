//! Dumps in the two layouts, through the program: what comes back is the same, what is added is not, and what either costs is
//! measured and told.
#![allow(clippy::unwrap_used)] // all of this is test

mod support;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::docker::Container;
use support::host::{Answer, Host, database, texts};

const MIB: u64 = 1 << 20;

/// A dump as text, of so many rows; those that `changed` says have another value than before.
fn dump(rows: u64, changed: impl Fn(u64) -> bool) -> Vec<u8> {
    let mut text = Vec::new();
    for row in 0..rows {
        let value = blake3::hash(&(if changed(row) { !row } else { row }).to_le_bytes()).to_hex();
        text.extend(format!("insert into ledger values ({row}, '{value}');\n").into_bytes());
    }
    text.extend(b"-- end\n");
    text
}

/// A host with the sources `ledger` (what `cat` says of a file) and `app` (a database), in this layout.
fn host(layout: &str) -> Host {
    let host = Host::new();
    set(&host, layout);
    host
}

fn set(host: &Host, layout: &str) {
    let command = format!("command: {{ run: [cat, \"{}\"], stream: ledger.sql }}", host.text("data/ledger.sql"));
    let sqlite = format!("sqlite: {{ path: \"{}\" }}", host.text("data/app.db"));
    host.sources(&[
        format!("ledger: {{ {command}, layout: {layout} }}"),
        format!("app: {{ {sqlite}, layout: {layout} }}"),
    ]);
}

fn write(host: &Host, data: &[u8]) {
    fs::write(host.path("data/ledger.sql"), data).unwrap();
}

/// Backs up `source`, and gives the bytes that this added.
fn added(host: &Host, source: &str) -> u64 {
    host.run(&["backup", source]).ends(0);
    host.next_second();
    host.points(source)[0]["added_bytes"].as_u64().unwrap()
}

fn exported(host: &Host, point: &str, stream: &str, name: &str) -> Vec<u8> {
    let to = host.path(name);
    let _ = fs::remove_file(&to);
    host.read(&["export", point, stream, "-o", to.to_str().unwrap()]).ends(0);
    fs::read(to).unwrap()
}

/// Ids of the points of a source, oldest first.
fn ids(host: &Host, source: &str) -> Vec<String> {
    host.points(source).iter().rev().map(|point| point["id"].as_str().unwrap().to_owned()).collect()
}

fn storage(host: &Host, source: &str) -> Value {
    let status = host.run(&["status", "--json"]).json();
    let sources = status["sources"].as_array().unwrap();
    sources.iter().find(|state| state["source"] == source).unwrap()["storage"].clone()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_the_point_before_had_is_not_stored_again() {
    let host = host("dedup");
    let dumps = [
        dump(100_000, |_| false),
        dump(100_000, |row| row == 70_000),
        [&b"-- of another server\n"[..], &dump(100_000, |row| row == 70_000)].concat(),
    ];
    let mut all = Vec::new();
    for data in &dumps {
        write(&host, data);
        all.push(added(&host, "ledger"));
    }
    assert!(all[0] > 3 * MIB && all[1] < MIB && all[2] < MIB, "{all:?}");
    assert_eq!(host.objects("s"), Vec::<PathBuf>::new(), "no stream has an object of its own");
    for (id, data) in ids(&host, "ledger").iter().zip(&dumps) {
        assert!(exported(&host, id, "ledger.sql", "out") == *data, "{id}");
    }
    host.read(&["show", "ledger"]).ends(0).says("deduplicated");
    host.is_well();
}

#[test]
fn a_database_comes_back_from_chunks() {
    let host = host("dedup");
    database(&host.path("data/app.db"), 60_000, "a text that takes some room in each row of the table");
    let first = added(&host, "app");
    let connection = rusqlite::Connection::open(host.path("data/app.db")).unwrap();
    connection.execute("update notes set text = 'another text' where id = 40000", []).unwrap();
    drop(connection);
    let second = added(&host, "app");
    assert!(second < first / 2, "{first}, then {second}");
    for id in ids(&host, "app") {
        let to = host.path(&id);
        host.read(&["restore", &id, "--to", to.to_str().unwrap()]).ends(0);
    }
    let [old, new] = [0, 1].map(|n| texts(&host.path(&ids(&host, "app")[n])));
    assert!(old.iter().all(|text| text.starts_with("a text")));
    assert_eq!((new.len(), new[39_999].as_str()), (60_000, "another text"));
    // In place, the safety backup is deduplicated too.
    let id = &ids(&host, "app")[0];
    host.read(&["restore", id, "--in-place", "--confirm", "app"]).ends(0);
    assert!(texts(&host.path("data/app.db")) == old);
    let safety = &host.points("app")[0];
    assert!(safety["purpose"] == "safety" && safety["added_bytes"].as_u64().unwrap() < MIB, "{safety}");
    host.is_well();
}

#[test]
fn the_layout_may_change_between_points() {
    let host = host("stream");
    let dumps: Vec<_> = (0..4).map(|number| dump(30_000, |row| row % 10_000 == number)).collect();
    for (layout, data) in ["stream", "dedup", "dedup", "stream"].into_iter().zip(&dumps) {
        set(&host, layout);
        write(&host, data);
        added(&host, "ledger");
    }
    let pieces = ["s", "p"].map(|kind| host.objects(kind).len());
    assert_eq!(pieces[0], 2, "of the first and the last point");
    assert!(pieces[1] >= 2);
    for (id, data) in ids(&host, "ledger").iter().zip(&dumps) {
        assert!(exported(&host, id, "ledger.sql", "out") == *data, "{id}");
    }
    host.is_well();
}

#[test]
fn a_flipped_bit_is_found_at_both_levels_and_names_the_points_that_need_it() {
    let host = host("dedup");
    write(&host, &dump(60_000, |_| false));
    added(&host, "ledger");
    // The other pack, a small one, is of bkp's own configuration.
    let first = host.objects("p");
    let shared = first.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap().clone();
    write(&host, &dump(60_000, |row| row == 9));
    added(&host, "ledger");
    let own = host.objects("p").into_iter().find(|pack| !first.contains(pack)).unwrap();
    let points: Vec<String> =
        host.points("ledger").iter().rev().map(|p| p["point"].as_str().unwrap().to_owned()).collect();
    for (pack, affected) in [(&shared, &points[..]), (&own, &points[1..])] {
        let good = fs::read(pack).unwrap();
        flip(pack);
        for level in ["stored", "readable"] {
            let found = host.read(&["check", "--level", level, "--json"]).ends(4).json();
            let problems = found["report"]["problems"].as_array().unwrap();
            let named: Vec<String> = affected.iter().map(|point| format!("ledger/{point}")).collect();
            assert!(problems.iter().any(|p| p["points"] == serde_json::json!(named)), "{level}: {found}");
        }
        host.read(&["export", &ids(&host, "ledger")[1], "-o", host.text("broken").as_str()])
            .ends(4)
            .says(pack.file_name().unwrap().to_str().unwrap());
        assert!(!host.path("broken").exists());
        fs::write(pack, good).unwrap();
    }
    // An index is part of the point as well.
    for index in host.objects("x") {
        let good = fs::read(&index).unwrap();
        flip(&index);
        host.read(&["check", "--level", "stored"]).ends(4).says(index.file_name().unwrap().to_str().unwrap());
        fs::write(&index, good).unwrap();
    }
    // With the packs lost, nothing is built upon them.
    fs::remove_file(&shared).unwrap();
    host.run(&["check"]).ends(4).says("is missing");
    added(&host, "ledger");
    let newest = ids(&host, "ledger").pop().unwrap();
    assert!(exported(&host, &newest, "ledger.sql", "out") == dump(60_000, |row| row == 9));
}

#[test]
fn a_dump_that_fails_half_way_leaves_no_point_and_is_gone_on_with() {
    let host = Host::new();
    let data = dump(400_000, |_| false);
    write(&host, &data);
    let broken = format!("head -c 30000000 {} && exit 7", host.text("data/ledger.sql"));
    host.sources(&[format!(
        "ledger: {{ command: {{ run: [sh, -c, \"{broken}\"], stream: ledger.sql }}, layout: dedup }}"
    )]);
    host.run(&["backup"]).fails_somehow().says("status 7");
    assert_eq!((host.points("ledger").len(), host.objects("points").len()), (0, 0));

    set(&host, "dedup");
    let added = added(&host, "ledger");
    let packs: u64 = host.objects("p").iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
    assert!(added < packs * 3 / 4, "{added} of {packs} were stored now, the rest before");
    assert!(exported(&host, "ledger", "ledger.sql", "out") == data);
    host.is_well();
}

#[test]
fn status_tells_what_each_layout_costs() {
    let host = host("stream");
    let twin = self::host("dedup");
    let mut really = Vec::new();
    for round in 0..3u64 {
        let data = dump(600_000, |row| round > 0 && row % 8_000 == round);
        write(&host, &data);
        write(&twin, &data);
        added(&host, "ledger");
        really.push(added(&twin, "ledger"));
        if round == 0 {
            assert_eq!(storage(&host, "ledger"), Value::Null, "there is nothing to compare with");
        }
    }
    let told = storage(&host, "ledger");
    assert_eq!((told["layout"].as_str(), told["points"].as_u64()), (Some("stream"), Some(2)), "{told}");
    let (stream, dedup) = (told["stream_bytes"].as_u64().unwrap(), told["dedup_bytes"].as_u64().unwrap());
    let of_points = host.points("ledger")[0]["added_bytes"].as_u64().unwrap();
    assert!(stream.abs_diff(of_points) < of_points / 100, "{stream}, {of_points}");
    let mean = (really[1] + really[2]) / 2;
    // Each host cuts by a secret of its own, so the chunks that change are not the same.
    assert!(dedup.abs_diff(mean) < mean / 3, "told {dedup}, really {mean}");
    assert_eq!(told["better"], "dedup");
    host.run(&["status"]).says("dedup would add about").says("-> set `layout: dedup`");
    host.run(&["show", "ledger"]).ends(0).says("dedup would add about");

    // Seen from the other side, it is the same.
    let other = storage(&twin, "ledger");
    assert_eq!((other["layout"].as_str(), &other["better"]), (Some("dedup"), &Value::Null), "{other}");
    assert!(other["dedup_bytes"].as_u64().unwrap().abs_diff(mean) < mean / 20, "{other}, really {mean}");
    let stream_of_twin = other["stream_bytes"].as_u64().unwrap();
    assert!(stream_of_twin.abs_diff(stream) < stream / 10, "{stream_of_twin}, {stream}");
    twin.run(&["status"]).says("stream would add about").says_not("-> set");
}

#[test]
fn a_dump_in_which_all_changes_gains_nothing_and_is_told_so() {
    let host = host("stream");
    for round in 0..3u64 {
        write(&host, &dump(100_000, |row| row % 3 == round));
        added(&host, "ledger");
    }
    let told = storage(&host, "ledger");
    let (stream, dedup) = (told["stream_bytes"].as_u64().unwrap(), told["dedup_bytes"].as_u64().unwrap());
    assert!(told["better"].is_null() && dedup > stream * 9 / 10, "{told}");
}

#[test]
fn the_scripts_in_the_repository_restore_it() {
    for tool in ["age", "zstd", "python3", "openssl"] {
        if Command::new(tool).arg("--help").output().is_err() {
            return support::not_run(
                "dedup with the restore scripts",
                &format!("{tool} is missing; apt-get install {tool}"),
            );
        }
    }
    let host = host("dedup");
    let dumps = [dump(60_000, |_| false), dump(60_000, |row| row % 20_000 == 3)];
    for data in &dumps {
        write(&host, data);
        added(&host, "ledger");
    }
    database(&host.path("data/app.db"), 1_000, "in chunks");
    added(&host, "app");
    for script in ["restore.sh", "restore.py"] {
        let run = |words: &[&str]| {
            let mut command = Command::new(if script == "restore.sh" { "sh" } else { "python3" });
            command.arg(host.store().join("restore").join(script)).arg("-i").arg(host.identity()).args(words);
            let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.contains("Complete and verified"), "{script}: {said}");
            output.stdout
        };
        for (point, data) in host.points("ledger").iter().rev().zip(&dumps) {
            assert!(run(&["stream", "ledger", point["point"].as_str().unwrap()]) == *data, "{script}");
        }
        let to = host.path(script);
        fs::write(&to, run(&["stream", "app"])).unwrap();
        assert_eq!(texts(&to), vec!["in chunks"; 1_000]);
    }
}

#[test]
fn dumps_of_a_server_are_deduplicated() {
    let part = "dumps of PostgreSQL in the dedup layout";
    let Some(server) = Container::postgres().env("POSTGRES_DB", "shop").start(part) else { return };
    server.query(
        "shop",
        "create table goods (id int primary key, name text); \
         insert into goods select i, md5(i::text) || md5((i + 1)::text) from generate_series(1, 200000) i",
    );
    let host = Host::new();
    host.sources(&[format!("shop: {{ postgres: {{ container: {}, user: postgres }}, layout: dedup }}", server.name())]);
    let well = |answer: Answer| assert!([Some(0), Some(3)].contains(&answer.status.code()), "{answer:?}");
    let backup = || {
        well(host.run(&["backup", "shop"]));
        host.next_second();
        host.points("shop")[0]["added_bytes"].as_u64().unwrap()
    };
    let first = backup();
    server.query("shop", "insert into goods select i, 'new' from generate_series(300001, 300100) i");
    let second = backup();
    assert!(first > 4 * MIB && second < first / 4, "{first}, then {second}");
    let ids = ids(&host, "shop");
    for (id, rows) in ids.iter().zip(["200000", "200100"]) {
        let name = format!("back_{rows}");
        well(host.read(&["restore", id, "--database", "shop", "--as", &name]));
        assert_eq!(server.query(&name, "select count(*) from goods"), rows);
    }
    host.is_well();
}
