//! The store changed behind our back: flipped, cut, swapped and missing objects, strangers' points, a newer format.

use crate::support::host::{Host, noise};
use bkp::repo::keys::Operator;
use bkp::repo::sign::Trust;
use bkp::repo::writer::{Audience, Writer};
use bkp::repo::{Repository, catalog};
use bkp::store::{self, Location, Settings};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use std::fs;
use std::path::{Path, PathBuf};

/// Two sources, so that there is one that is not affected: `docs` has packs, `dump` a stream. One point of each.
fn host() -> Host {
    let host = Host::new();
    fs::create_dir(host.path("data/docs")).unwrap();
    noise(&host.path("data/docs/big"), 3_000_000, 1);
    fs::write(host.path("data/docs/small"), "small").unwrap();
    noise(&host.path("data/dump"), 2_000_000, 2);
    host.sources(&[
        format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs")),
        format!("dump: {{ command: {{ run: [cat, \"{}\"] }} }}", host.text("data/dump")),
    ]);
    // Not as they are configured, which would keep the configuration too.
    let (docs, dump) = (host.text("data/docs"), host.text("data/dump"));
    let (docs, dump) = (format!("docs=volume:{docs}"), format!("dump=command:cat {dump}"));
    host.run(&["backup", "--source", &docs, "--source", &dump]).ends(0);
    host
}

fn title(host: &Host, source: &str) -> String {
    format!("{source}/{}", host.points(source)[0]["point"].as_str().unwrap())
}

/// What can be done to an object; it says which message to expect.
const DAMAGES: [(&str, &str); 4] = [
    ("flipped", "not those that were written"),
    ("flipped at the end", "not those that were written"),
    ("cut", "bytes instead of"),
    ("missing", "missing from the store"),
];

fn damage(path: &Path, how: &str) {
    let mut bytes = fs::read(path).unwrap();
    match how {
        "missing" => return fs::remove_file(path).unwrap(),
        "cut" => bytes.truncate(bytes.len() - 1),
        "flipped" => bytes[0] ^= 1,
        _ => *bytes.last_mut().unwrap() ^= 0x80,
    }
    fs::write(path, bytes).unwrap();
}

/// Each object of the store with the source that needs it. Bodies are told apart by damaging them, see below.
fn objects(host: &Host) -> Vec<(&'static str, PathBuf, &'static str)> {
    let one = |kind| {
        let objects = host.objects(kind);
        assert!(!objects.is_empty());
        objects.into_iter()
    };
    let packs = one("p").map(|path| ("a pack", path, "docs"));
    let streams = one("s").map(|path| ("a stream", path, "dump"));
    let indexes = one("x").map(|path| ("an index", path, "docs"));
    packs.chain(streams).chain(indexes).collect()
}

#[test]
fn a_damaged_object_is_found_with_the_points_it_affects_and_nothing_of_it_is_restored() {
    let host = host();
    for (kind, path, source) in objects(&host) {
        let good = fs::read(&path).unwrap();
        let (hit, whole) = if source == "docs" { ("docs", "dump") } else { ("dump", "docs") };
        let (affected, unaffected) = (title(&host, hit), title(&host, whole));
        for (how, said) in DAMAGES {
            damage(&path, how);
            for level in ["stored", "readable"] {
                println!("{kind} {how} {level}");
                let key = path.strip_prefix(host.store()).unwrap().to_str().unwrap();
                host.read(&["check", "--level", level])
                    .ends(4)
                    .says(key)
                    .says(said)
                    .says(&format!("affects {affected}"))
                    .says_not(&unaffected)
                    .says("Restore what you need from another point");
            }
            let to = host.path("to");
            host.read(&["restore", hit, "--to", to.to_str().unwrap()]).fails(4, key(&host, &path), "");
            assert!(!to.exists(), "{kind} {how}");
            host.read(&["restore", whole, "--to", to.to_str().unwrap()]).ends(0);
            if to.is_dir() {
                fs::remove_dir_all(&to).unwrap()
            } else {
                fs::remove_file(&to).unwrap()
            }
            host.is_tidy();
            fs::write(&path, &good).unwrap();
        }
    }
    host.is_well();
}

fn key<'a>(host: &Host, path: &'a Path) -> &'a str {
    path.strip_prefix(host.store()).unwrap().to_str().unwrap()
}

#[test]
fn a_damaged_body_affects_its_point_alone() {
    let host = host();
    for path in host.objects("b") {
        let good = fs::read(&path).unwrap();
        for (how, said) in DAMAGES {
            damage(&path, how);
            let answer = host.read(&["check"]).ends(4).says(said).says("affects ");
            assert_eq!(answer.out.matches("affects ").count(), 1, "{answer:?}");
            let source = if answer.out.contains("affects docs/") { "docs" } else { "dump" };
            host.read(&["restore", source, "--to", "to"]).fails(4, key(&host, &path), "");
            assert!(!host.path("home/to").exists());
            fs::write(&path, &good).unwrap();
        }
    }
    host.is_well();
}

#[test]
fn swapped_objects_are_found_although_each_is_good() {
    let host = host();
    for kind in ["b", "points", "p"] {
        let all = host.objects(kind);
        let (one, other) = (&all[0], all.last().unwrap());
        assert_ne!(one, other, "{kind}");
        let (first, second) = (fs::read(one).unwrap(), fs::read(other).unwrap());
        fs::write(one, &second).unwrap();
        fs::write(other, &first).unwrap();
        let answer = host.read(&["check"]).ends(4).says(key(&host, one)).says(key(&host, other));
        println!("{answer:?}");
        host.read(&["restore", "docs", "--to", "to"]).fails_somehow();
        assert!(!host.path("home/to").exists());
        fs::write(one, &first).unwrap();
        fs::write(other, &second).unwrap();
    }
    host.is_well();
}

#[test]
fn a_damaged_point_is_named_and_an_older_one_still_restores() {
    let host = host();
    let first = host.objects("points").into_iter().find(|p| key(&host, p).contains("/docs/")).unwrap();
    fs::write(host.path("data/docs/small"), "new").unwrap();
    host.next_second();
    host.run(&["backup", "docs"]).ends(0);
    let second = host.objects("points").into_iter().find(|p| key(&host, p).contains("/docs/") && *p != first).unwrap();
    let good = fs::read(&second).unwrap();
    for how in ["flipped", "flipped at the end", "cut"] {
        damage(&second, how);
        for arguments in [&["check"][..], &["points"], &["status"]] {
            host.run(arguments).ends(4).says(key(&host, &second));
        }
        // The one before is taken, and it is told that there is a newer one that cannot be.
        let answer = host.read(&["restore", "docs", "--to", "to"]).ends(0);
        answer.says(key(&host, &second));
        assert_eq!(fs::read_to_string(host.path("home/to/small")).unwrap(), "small");
        fs::remove_dir_all(host.path("home/to")).unwrap();
        fs::write(&second, &good).unwrap();
    }
    // A point whose object is gone does not exist; the next run builds on the one before. But its place in the chain is known.
    fs::remove_file(&second).unwrap();
    let gone = key(&host, &second);
    host.run(&["check"]).ends(4).says(gone).says("this host wrote it as number 2");
    host.run(&["backup", "docs"]).ends(0);
    host.read(&["check", "--level", "readable"]).ends(4).says("points are missing");
    host.read(&["restore", "docs", "--to", "to"]).ends(0);
    assert_eq!(fs::read_to_string(host.path("home/to/small")).unwrap(), "new");
}

/// Names of the points of `docs`, oldest first, made one second apart.
fn chain_of_three(host: &Host) -> Vec<PathBuf> {
    for text in ["second", "third"] {
        host.next_second();
        fs::write(host.path("data/docs/small"), text).unwrap();
        host.run(&["backup", "docs"]).ends(0);
    }
    host.objects("points").into_iter().filter(|p| key(host, p).contains("/docs/")).collect()
}

#[test]
fn a_point_that_was_taken_out_of_the_middle_is_named() {
    let host = host();
    let points = chain_of_three(&host);
    fs::remove_file(&points[1]).unwrap();
    let name = key(&host, &points[1]).to_owned();
    host.run(&["check", "docs"]).ends(4).says(&name).says("it is missing");
    // Whoever reads elsewhere sees it too.
    let other = Host::bare();
    let mut command = other.command(&["check", "--repo", host.store().to_str().unwrap()]);
    command.env("BKP_IDENTITY", host.identity());
    other.finish(other.start(command)).ends(4).says(&name);
    // Points that are older than the oldest there is were removed on purpose.
    fs::remove_file(&points[0]).unwrap();
    host.run(&["check", "docs"]).ends(0);
}

#[test]
fn a_store_that_was_rolled_back_is_told_by_the_writer_and_no_number_is_given_twice() {
    let host = host();
    let points = chain_of_three(&host);
    let lost = fs::read(&points[2]).unwrap();
    fs::remove_file(&points[2]).unwrap();
    host.run(&["check"]).ends(4).says(key(&host, &points[2])).says("this host wrote it as number 3");
    host.run(&["backup", "docs"]).ends(0);
    // When it comes back all numbers are there, each once.
    fs::write(&points[2], lost).unwrap();
    host.is_well();
}

#[test]
fn a_fork_is_told_with_both_points() {
    let host = host();
    let series = fs::read_dir(host.path("state/repositories")).unwrap().next().unwrap().unwrap().path().join("series");
    let before = fs::read(series.join("docs.json")).unwrap();
    host.next_second();
    host.run(&["backup", "docs"]).ends(0);
    // As when the state is put back from an old copy, and the store does not show its newest point at that moment.
    let points: Vec<_> = host.objects("points").into_iter().filter(|p| key(&host, p).contains("/docs/")).collect();
    let hidden = fs::read(&points[1]).unwrap();
    fs::remove_file(&points[1]).unwrap();
    fs::write(series.join("docs.json"), before).unwrap();
    host.next_second();
    host.run(&["backup", "docs"]).ends(0);
    fs::write(&points[1], hidden).unwrap();
    let name = points[1].file_name().unwrap().to_str().unwrap();
    host.run(&["check"]).ends(4).says("fork: ").says(name).says("number 2");
}

#[test]
fn damage_stays_in_the_status_until_it_is_seen_mended() {
    let host = host();
    let pack = host.objects("p").pop().unwrap();
    let good = fs::read(&pack).unwrap();
    damage(&pack, "flipped");
    host.run(&["status"]).ends(0);
    host.run(&["check"]).ends(4);
    for _ in 0..2 {
        let status = host.run(&["status"]).ends(4).says("DAMAGED").says(key(&host, &pack)).says("affects docs/");
        assert!(!status.out.contains("All is well"), "{status:?}");
    }
    let document = host.run(&["status", "--json"]).ends(4).json();
    let of = |source: &str| document["sources"].as_array().unwrap().iter().find(|s| s["source"] == source).cloned();
    assert_eq!(of("docs").unwrap()["verdict"], "damaged");
    assert_eq!(of("dump").unwrap()["verdict"], "protected");
    assert_eq!(document["ok"], false);
    // A check of something else, or of a part, says nothing about it.
    host.run(&["check", "dump"]).ends(0);
    host.run(&["check", "--sample", "1%"]).says("");
    host.run(&["status"]).ends(4);
    // A newer point that is whole protects again; the old one stays listed.
    fs::remove_file(&pack).unwrap();
    fs::write(host.path("cache-is-gone"), "").unwrap();
    host.next_second();
    host.run(&["backup", "docs"]).ends(0);
    host.run(&["status"]).ends(0).says("DAMAGED").says(key(&host, &pack));
    fs::write(&pack, &good).unwrap();
    host.run(&["check"]).ends(0);
    host.run(&["status"]).ends(0).says_not("DAMAGED");
}

#[test]
fn what_a_damaged_pack_held_is_stored_again_by_the_next_backup() {
    let host = host();
    for pack in host.objects("p") {
        fs::remove_file(pack).unwrap();
    }
    host.run(&["check"]).ends(4);
    host.run(&["backup", "docs"]).ends(0);
    host.read(&["check", "docs"]).ends(4);
    let id = host.points("docs")[0]["id"].as_str().unwrap().to_owned();
    host.read(&["check", &id, "--level", "readable"]).ends(0);
    host.read(&["restore", &id, "--to", "to"]).ends(0);
    assert_eq!(fs::read(host.path("home/to/big")).unwrap(), fs::read(host.path("data/docs/big")).unwrap());
}

/// The repository, and the writer's state, opened past the program.
fn opened(host: &Host) -> (Repository, Writer) {
    let repository = Repository::open(store::open(&Settings::new(Location::Directory(host.store()))).unwrap()).unwrap();
    let writer = Writer::load(&host.path("state"), repository.id()).unwrap().unwrap();
    (repository, writer)
}

#[test]
fn a_point_that_a_stranger_signed_is_no_point() {
    let host = host();
    let (repository, writer) = opened(&host);
    let wanted = catalog::Wanted { source: Some("docs"), ..Default::default() };
    let points = catalog::list(&repository, &writer.keyring(), &writer.trust(), wanted).unwrap().points;
    let mut forged = points[0].clone();
    forged.point = format!("20990101T000000Z-{}", bkp::durable::random_hex(4));
    forged.consistent_at = "2099-01-01T00:00:00Z".parse().unwrap();
    // Everybody who knows the recipients can seal; only the writer can sign.
    let sealed = forged.seal(&SigningKey::from_bytes(&[7; 32]), &writer.audience(Audience::All)).unwrap();
    repository.store.put_new(&forged.key(), Bytes::from(sealed), None).unwrap();

    for arguments in [&["points"][..], &["check"], &["status"]] {
        host.read(arguments).ends(4).says(forged.key().as_str()).says("not signed by the writer");
    }
    host.read(&["restore", forged.point.as_str(), "--to", "to"]).fails_somehow();
    assert!(!host.path("home/to").exists());
    // The newest is the one that is genuine.
    host.read(&["restore", "docs", "--to", "to"]).ends(0);
    assert_eq!(fs::read_to_string(host.path("home/to/small")).unwrap(), "small");
    // It stays when the store's copy of the key is exchanged for the stranger's.
    let public = host.store().join("writers").join(format!("{}.json", writer.id()));
    let text = fs::read_to_string(&public).unwrap();
    let stranger = bkp::repo::sign::key_text(&SigningKey::from_bytes(&[7; 32]).verifying_key());
    fs::write(&public, text.replace(&writer.info.verify_key, &stranger)).unwrap();
    host.run(&["points"]).ends(4).says(writer.id());
    fs::write(&public, text).unwrap();
    repository.store.delete(&forged.key()).unwrap();
    host.is_well();
}

#[test]
fn a_stranger_who_registers_as_a_writer_is_told_apart() {
    let host = host();
    let (repository, _) = opened(&host);
    let now = jiff::Timestamp::now();
    let stranger = bkp::repo::init::join(&repository, "stranger", &host.path("stranger"), now).unwrap();
    let (operator, _) = (Operator::read(&[host.identity()]).unwrap(), Trust::default());
    assert!(!operator.trusted.contains_key(stranger.id()));
    host.read(&["points"]).ends(0).says("only the store vouches for writer").says(stranger.id());
}

#[test]
fn a_repository_of_a_newer_version_is_left_alone() {
    let host = host();
    let path = host.store().join("repository.json");
    let text = fs::read_to_string(&path).unwrap();
    let newer = text.replace("\"format\": 1", "\"format\": 2");
    assert_ne!(newer, text);
    fs::write(&path, newer).unwrap();
    let before = host.objects(".");
    let commands: [&[&str]; 7] =
        [&["backup"], &["points"], &["check"], &["status"], &["restore", "docs"], &["keys", "new-epoch"], &["init"]];
    for arguments in commands {
        host.read(arguments).fails(1, "the repository is of format 2", "Use a newer bkp");
    }
    assert_eq!(host.objects("."), before);
    fs::write(&path, text).unwrap();
    host.is_well();
}

#[test]
fn a_repository_file_that_is_garbage_is_told() {
    let host = host();
    let path = host.store().join("repository.json");
    let text = fs::read(&path).unwrap();
    for garbage in ["", "{", "[]", "{\"format\": \"x\"}"] {
        fs::write(&path, garbage).unwrap();
        host.run(&["points"]).fails(1, "repository.json is damaged", "from a copy");
    }
    fs::write(&path, text).unwrap();
    host.is_well();
}
