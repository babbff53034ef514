//! Another key for somebody who reads the backups: what it opens, what the one before opens, and a kill at every step.

use super::{dies_at, host};
use crate::support::host::{Answer, Host, database, texts};
use crate::support::minio::{Minio, PASSWORD, USER};
use crate::trees::describe;
use age::secrecy::ExposeSecret;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

mod elsewhere;

/// Writes a new private key beside the host, and gives the public one.
fn new_key(host: &Host, name: &str) -> String {
    let (key, path) = (age::x25519::Identity::generate(), host.path(name));
    fs::write(&path, key.to_string().expose_secret()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    key.to_public().to_string()
}

/// Somebody on another machine, who has this key and what reaches the store.
fn as_stranger(host: &Host, key: &str, arguments: &[&str]) -> Answer {
    let identity = host.text(key);
    let mut command = host.command(&[arguments, &["--identity", &identity]].concat());
    command.env("BKP_STATE_DIR", host.path("elsewhere"));
    host.finish(host.start(command))
}

fn rotate(host: &Host, public: &str, more: &[&str]) -> Answer {
    let replace = format!("ana={public}");
    let (old, new) = (host.text("ana.txt"), host.text("ana-2027.txt"));
    let words = ["rotate", "recipients", &replace, "--identity", &old, "--new-identity", &new];
    host.run(&[&words, more].concat())
}

/// Ana reads, too, and gets another key. Gives its public half.
fn ana(host: &Host) -> String {
    let public = new_key(host, "ana.txt");
    host.read(&["keys", "add", "ana", &public]).ends(0);
    new_key(host, "ana-2027.txt")
}

fn newest_of(host: &Host, source: &str) -> String {
    let points = host.points(source);
    let at = |point: &&serde_json::Value| point["consistent_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    points.iter().max_by_key(at).unwrap()["id"].as_str().unwrap().to_owned()
}

/// What a point of a tree and one of a database restore to, for whoever has this key.
fn reads(host: &Host, key: &str, ids: [&str; 2], as_of: &str) {
    let (docs, app) = (host.path(&format!("{as_of}-{key}-docs")), host.path(&format!("{as_of}-{key}.db")));
    as_stranger(host, key, &["restore", ids[0], "--to", docs.to_str().unwrap()]).ends(0);
    as_stranger(host, key, &["restore", ids[1], "--to", app.to_str().unwrap()]).ends(0);
    assert_eq!(fs::read_to_string(docs.join("changes")).unwrap(), as_of);
    assert!(texts(&app).iter().all(|text| text == as_of));
    if as_of == "new" {
        assert_eq!(describe(&docs), describe(&host.path("data/docs")));
    }
}

fn a_key_for_another(host: &Host) {
    let new = ana(host);
    let old_points = [newest_of(host, "docs"), newest_of(host, "app")];
    let said = rotate(host, &new, &["--because", "INC-42", "--json"]).ends(0).json();
    assert_eq!((&said["end"], &said["done"]["refused"]), (&"rotated".into(), &serde_json::json!(["ana"])), "{said}");
    let proven = said["done"]["proven"][0].as_str().unwrap();
    assert!(proven.contains("read to its end with the new key of ana alone"), "{said}");
    host.run(&["backup"]).ends(0);
    let new_points = [newest_of(host, "docs"), newest_of(host, "app")];
    for [docs, app] in [&old_points, &new_points] {
        as_stranger(host, "ana.txt", &["restore", docs, "--to", &host.text("no")]).ends(12);
        as_stranger(host, "ana.txt", &["restore", app, "--to", &host.text("no.db")]).ends(12);
    }
    for key in ["ana-2027.txt", "recovery-key.txt"] {
        reads(host, key, [&old_points[0], &old_points[1]], "old");
        reads(host, key, [&new_points[0], &new_points[1]], "new");
    }
    // A second time there is nothing left to be changed: it is proven once more, and no rotation is recorded.
    let again = rotate(host, &new, &["--json"]).ends(0).json();
    let (end, done) = (&again["end"], &again["done"]);
    assert_eq!((end, &done["epoch"], &done["refused"][0]), (&"nothing".into(), &said["done"]["epoch"], &"ana".into()));
    assert_eq!(rotations(host), 1);
    what_is_left(host, &new);
    // No key for another: nobody was asked whether that one opens anything.
    let said = host.run(&["rotate", "recipients"]).ends(0);
    said.says("data epoch");
    let facts = host.run(&["journal", "--json"]).ends(0);
    facts.says("INC-42").says("refused").says("proven");
}

/// The tree has chunks of the point from before; the database has not.
fn what_is_left(host: &Host, new: &str) {
    let of = |source: &str| {
        let said = host.run(&["secrets", "--json"]).ends(0).json();
        let former = &said["recipients"]["former"][0];
        assert_eq!(former["name"], "ana");
        let all = former["series"].as_array().unwrap();
        let one = all.iter().find(|one| one["source"] == source).unwrap();
        (
            one["points"].as_u64().unwrap(),
            one["in_part"].as_u64().unwrap(),
            one["ends"]["by"].clone(),
            one["epochs"].clone(),
        )
    };
    assert_eq!(of("docs"), (2, 1, "storing_afresh".into(), serde_json::json!([1])));
    assert_eq!(of("app"), (1, 0, "nothing".into(), serde_json::json!([1])));
    host.run(&["secrets"]).ends(0).says("2 points, 1 in part").says("bkp rotate recipients --afresh");
    rotate(host, new, &["--afresh"]).ends(0).says("nothing was changed").says("store everything again");
    // That all of it is stored once more is no sign of damage.
    host.run(&["backup", "docs"]).ends(0).says_not("held");
    assert_eq!(
        of("docs"),
        (2, 1, "nothing".into(), serde_json::json!([1])),
        "the newest refers to nothing from before"
    );
    let to = host.path("afresh");
    host.read(&["restore", "docs", "--to", to.to_str().unwrap()]).ends(0);
    assert_eq!(describe(&to), describe(&host.path("data/docs")));
    let report = |language: &str| host.run(&["report", "--lang", language, "--format", "md"]).ends(0);
    report("en").says("Keys from before").says("no rule does it");
    report("es").says("Claves anteriores").says("ninguna regla");
}

/// How many the journal knows that came to their end.
fn rotations(host: &Host) -> usize {
    let said = host.run(&["journal", "--json", "--last", "1000"]).ends(0).json();
    said["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record.to_string().contains("\"state\":\"rotated\""))
        .count()
}

#[test]
fn a_new_key_opens_everything_and_the_old_one_nothing_new() {
    a_key_for_another(&host());
}

/// Which locks what is written into it: the data epochs are sealed anew all the same.
#[test]
fn the_same_in_a_bucket_with_locks() {
    let Some(minio) = Minio::shared("another key for a reader, in a bucket") else { return };
    let host = Host::bare();
    let settings = minio.settings(&minio.bucket(true));
    fs::write(host.path("user"), USER).unwrap();
    fs::write(host.path("password"), PASSWORD).unwrap();
    for file in ["user", "password"] {
        fs::set_permissions(host.path(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    host.configure(&format!(
        "repository: {{ url: \"{}\", endpoint: \"{}\", access_key_file: {}, secret_key_file: {}, \
           object_lock: {{ mode: governance, keep: 1d }} }}\n",
        settings.location,
        minio.endpoint(),
        host.text("user"),
        host.text("password")
    ));
    host.run(&["init", "--recovery-key", &host.text("recovery-key.txt")]).ends(0);
    super::fill(&host);
    a_key_for_another(&host);
}

/// Whoever kept a copy of the repository from before reads what was in it; of what came later nothing, with that copy's keys.
#[test]
fn an_old_copy_of_the_keys_opens_only_what_is_old() {
    let host = host();
    let new = ana(&host);
    host.run(&["backup"]).ends(0);
    let old = newest_of(&host, "app");
    copy(&host.store().join("keys"), &host.path("kept"));
    let ana = identity(&host.path("ana.txt"));
    let epoch = fs::read(host.path("kept/epoch-0001.age")).unwrap();
    let mut text = String::new();
    decrypt(&epoch, &[&ana]).unwrap().read_to_string(&mut text).unwrap();
    let epoch: age::x25519::Identity = text.trim().parse().unwrap();
    let kept: [&dyn age::Identity; 2] = [&ana, &epoch];
    let data = || ["points", "b", "s", "p", "x"].iter().flat_map(|kind| host.objects(kind)).collect::<BTreeSet<_>>();
    let opens = |path: &PathBuf| decrypt(&fs::read(path).unwrap(), &kept).is_some();
    let before = data();
    assert!(before.len() > 10 && before.iter().all(opens), "it is the right key");

    rotate(&host, &new, &[]).ends(0).says("the old key of ana opens neither");
    // Who changed the list before wrote its last data epoch late: the same command seals it to the new key once more.
    fs::copy(host.path("kept/epoch-0001.age"), host.store().join("keys/epoch-0001.age")).unwrap();
    host.run(&["doctor", "--identity", &host.text("ana-2027.txt")]).says("ana reads, and should open all");
    rotate(&host, &new, &[]).ends(0).says("sealed to it once more: 1");
    host.run(&["backup"]).ends(0);
    let after: Vec<PathBuf> = data().difference(&before).cloned().collect();
    assert!(after.iter().any(|path| path.to_string_lossy().contains("/p/")), "there are new packs");
    let open: Vec<&PathBuf> = after.iter().filter(|path| opens(path)).collect();
    assert!(open.is_empty(), "{open:?}");
    let points = [newest_of(&host, "docs"), newest_of(&host, "app")];
    copy(&host.path("kept"), &host.store().join("keys"));
    as_stranger(&host, "ana.txt", &["restore", &old, "--to", &host.text("old.db")]).ends(0);
    assert_eq!(texts(&host.path("old.db")), vec!["new"; 200]);
    for point in &points {
        as_stranger(&host, "ana.txt", &["restore", point, "--to", &host.text("no")]).ends(12);
    }
}

fn identity(path: &Path) -> age::x25519::Identity {
    let text = fs::read_to_string(path).unwrap();
    text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap().parse().unwrap()
}

/// With age, and nothing of bkp.
fn decrypt<'a>(sealed: &'a [u8], keys: &[&dyn age::Identity]) -> Option<impl Read + use<'a>> {
    age::Decryptor::new_buffered(sealed).unwrap().decrypt(keys.iter().copied()).ok()
}

/// Files over those that are there, as somebody who has them would put them.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_change_that_is_killed_is_gone_on_with_by_the_same_command() {
    for point in [
        "keys:list-written",
        "keys:epoch-written",
        "keys:epoch-written#2",
        "keys:recipients-written",
        "recipients:changed",
        "recipients:proven",
        "recipients:refused",
    ] {
        let host = host();
        let new = ana(&host);
        let replace = format!("ana={new}");
        let (old, new_file) = (host.text("ana.txt"), host.text("ana-2027.txt"));
        let words = ["rotate", "recipients", &replace, "--identity", &old, "--new-identity", &new_file];
        copy(&host.store().join("keys"), &host.path("kept"));
        dies_at(&host, point, &words);
        // Backups go on, whole in what was before or in what is after, and who has the recovery key reads them all.
        host.run(&["backup"]).ends(0);
        host.read(&["check", "--level", "readable"]).ends(0);
        if point == "keys:recipients-written" {
            // All data epochs are sealed anew, and not to the old key: who has only that is told what opens them.
            host.run(&words[..5]).ends(12).says("--new-identity FILE");
        }
        let is_late = point == "recipients:changed";
        if is_late {
            // Who changed the list before wrote its last data epoch only now.
            fs::copy(host.path("kept/epoch-0001.age"), host.store().join("keys/epoch-0001.age")).unwrap();
        }
        let said = host.run(&words).ends(0).says("the old key of ana opens neither");
        if is_late {
            said.says("sealed to it once more: 1");
        }
        assert_eq!(rotations(&host), 1, "{point}");
        host.run(&["backup"]).ends(0);
        let points = [newest_of(&host, "docs"), newest_of(&host, "app")];
        reads(&host, "ana-2027.txt", [&points[0], &points[1]], "new");
        as_stranger(&host, "ana.txt", &["restore", &points[1], "--to", &host.text("no.db")]).ends(12);
        host.is_well();
    }
}

#[test]
fn a_backup_that_runs_meanwhile_is_whole_with_the_keys_from_before() {
    let host = host();
    let new = ana(&host);
    let bodies = host.objects("b").len();
    let mut command = host.command(&["backup"]);
    command.env("BKP_STOP_AT", "backup:before-point");
    let mut running = host.start(command);
    // Everything that the point will refer to is there, and the point is not.
    running.until("it is about to write the point of app", || host.objects("b").len() > bodies);
    rotate(&host, &new, &["--canary", "docs"])
        .ends(0)
        .says("a run of app was at work meanwhile")
        .says_not("run of docs");
    running.signal(Signal::CONT);
    host.finish(running).ends(0);
    let to = host.path("meanwhile.db");
    as_stranger(&host, "ana-2027.txt", &["restore", "app", "--to", to.to_str().unwrap()]).ends(0);
    assert_eq!(texts(&to), vec!["new"; 200]);
    // The source that it came to afterwards is sealed to the new keys; the one in hand was not, and that is told.
    let said = host.run(&["secrets", "--json"]).ends(0).json();
    let series = said["recipients"]["former"][0]["series"].as_array().unwrap().clone();
    let ends = |source: &str| series.iter().find(|one| one["source"] == source).unwrap()["ends"]["by"].clone();
    assert_eq!((ends("app"), ends("docs")), ("new_keys_on_that_host".into(), "storing_afresh".into()), "{said}");
    host.is_well();
}

/// Whether the private half of the newest data epoch opens to this key.
fn opens_newest_epoch(host: &Host, key: &str) -> bool {
    let keys = fs::read_dir(host.store().join("keys")).unwrap().map(|entry| entry.unwrap().path());
    let newest = keys.filter(|path| path.to_string_lossy().contains("/epoch-")).max().unwrap();
    decrypt(&fs::read(newest).unwrap(), &[&identity(&host.path(key))]).is_some()
}

#[test]
fn a_new_epoch_was_never_sealed_to_who_is_taken_off() {
    let host = host();
    let new = ana(&host);
    assert!(opens_newest_epoch(&host, "ana.txt"));
    let replace = format!("ana={new}");
    dies_at(&host, "keys:epoch-written", &["rotate", "recipients", &replace]);
    assert!(!opens_newest_epoch(&host, "ana.txt") && opens_newest_epoch(&host, "ana-2027.txt"));
    dies_at(&host, "keys:epoch-written", &["keys", "remove", "ana"]);
    assert!(!opens_newest_epoch(&host, "ana.txt") && !opens_newest_epoch(&host, "ana-2027.txt"));
}

/// A host that writes into the repository of `first`.
fn joined(first: &Host) -> Host {
    let second = Host::bare();
    second.configure(&format!("repository: {{ url: \"{}\" }}\n", first.url));
    second.run(&["init", "--join", "--name", "second"]).ends(0);
    database(&second.path("data/other.db"), 5, "other");
    second.sources(&[format!("other: {{ sqlite: {{ path: \"{}\" }} }}", second.text("data/other.db"))]);
    second.run(&["backup"]).ends(0);
    second
}

/// Writes into identity files which hosts there are.
fn vouch(host: &Host, files: &[&str]) {
    let said = host.run(&["keys", "list", "--json"]).ends(0).json();
    let writers = said["writers"].as_array().unwrap();
    let text = |of: &serde_json::Value, name: &str| of[name].as_str().unwrap().to_owned();
    let lines: String =
        writers.iter().map(|w| format!("# bkp-writer: {} {}\n", text(w, "writer"), text(w, "verify_key"))).collect();
    for file in files {
        let key = fs::read_to_string(host.path(file)).unwrap();
        fs::write(host.path(file), format!("{lines}{key}")).unwrap();
    }
}

#[test]
fn two_hosts_that_change_keys_at_once_end_with_both_or_refuse_one() {
    let first = host();
    let new = ana(&first);
    let (other, recovery) = (new_key(&first, "other.txt"), new_key(&first, "recovery-2027.txt"));
    let second = joined(&first);
    let all = ["ana.txt", "ana-2027.txt", "recovery-key.txt", "recovery-2027.txt"];
    vouch(&first, &all);
    let (ana, key) = (first.text("ana.txt"), first.text("recovery-key.txt"));
    let mut command = first.command(&["rotate", "recipients", &format!("ana={new}"), "--identity", &ana]);
    command.args(["--new-identity", &first.text("ana-2027.txt"), "--canary", "app"]);
    command.env("BKP_STOP_AT", "keys:list-written");
    let mut running = first.start(command);
    let lists = || fs::read_dir(first.store().join("keys")).unwrap().flatten();
    let newest = |name: &str| lists().any(|entry| entry.file_name().to_string_lossy() == name);
    running.until("the new list is there", || newest("recipients-0003.json"));
    // The same person, and another key: who comes second is told. Another person: both changes hold.
    let second_rotates = |replace: String| second.run(&["rotate", "recipients", &replace, "--identity", &key]);
    // Who has not heard of it begins no epoch for keys that perhaps nobody has any more.
    let epochs = || lists().filter(|entry| entry.file_name().to_string_lossy().starts_with("epoch-")).count();
    let before = epochs();
    for words in [&["rotate", "recipients", "--afresh"][..], &["keys", "new-epoch"]] {
        second.run(words).fails(13, "this host still seals to number 2", "bkp rotate recipients NAME=KEY");
    }
    assert_eq!(epochs(), before);
    second_rotates(format!("ana={other}")).fails(13, "was given another key meanwhile", "Ask who did it");
    second_rotates(format!("recovery-key={recovery}")).ends(0);
    running.signal(Signal::CONT);
    first.finish(running).ends(0).says("the old key of ana opens neither").says("second");
    for host in [&first, &second] {
        host.run(&["backup"]).ends(0);
    }
    // The first host has begun its epoch before it heard of the second change: that one is given up, too.
    for (host, source) in [(&first, "app"), (&second, "other")] {
        let point = newest_of(host, source);
        for (key, code) in [("recovery-key.txt", 12), ("ana.txt", 12), ("recovery-2027.txt", 0), ("ana-2027.txt", 0)] {
            let to = first.text(&format!("{source}-{key}.db"));
            as_stranger(&first, key, &["restore", &point, "--to", &to]).ends(code);
        }
    }
    let left = |host: &Host| host.run(&["secrets", "--json"]).ends(0).json()["recipients"]["former"].clone();
    for host in [&first, &second] {
        let former = left(host);
        assert_eq!(former.as_array().unwrap().len(), 2, "{former}");
        let ends = |one: &serde_json::Value| one["series"][0]["ends"]["by"].clone();
        assert!(former.as_array().unwrap().iter().all(|one| ends(one) != "new_keys_on_that_host"), "{former}");
    }
}

#[test]
fn a_key_that_nobody_has_is_refused_before_anything_is_changed() {
    let host = host();
    let new = ana(&host);
    let (other, ana, mine) = (new_key(&host, "other.txt"), host.text("ana.txt"), host.text("ana-2027.txt"));
    let recovery = host.text("recovery-key.txt");
    let keys = || {
        let all = fs::read_dir(host.store().join("keys")).unwrap().map(|entry| entry.unwrap().path());
        all.map(|path| (fs::read(&path).unwrap(), path)).collect::<BTreeSet<_>>()
    };
    let before = keys();
    let rotates = |exchanges: &[&str], identity: &str, private: &[&str]| {
        let private = private.iter().flat_map(|file| ["--new-identity", file]);
        let words: Vec<&str> = ["rotate", "recipients", "--identity", identity].into_iter().chain(private).collect();
        host.run(&[&words, exchanges].concat())
    };
    let (to_other, to_new) = (format!("ana={other}"), format!("ana={new}"));
    let all = format!("recovery-key={other}");
    let lacks = "does not have the private half of the key for";
    rotates(&[&to_other], &ana, &[&mine]).fails(2, lacks, "Nothing was changed");
    rotates(&[&to_other], &ana, &[&recovery]).fails(2, lacks, "Nothing was changed");
    rotates(&[&to_new, &all], &ana, &[&mine]).fails(2, lacks, "Nothing was changed");
    rotates(&[&to_new, &all], &ana, &[]).fails(13, "nobody would be left", "--new-identity FILE");
    // The key in force is none for another.
    let old = format!("ana={}", identity(Path::new(&ana)).to_public());
    rotates(&[&old], &ana, &[&ana]).ends(0).says("nothing was changed");
    assert_eq!((keys() == before, rotations(&host)), (true, 0));

    // Whose old key is not there is not said to be refused.
    let json = ["--json", to_new.as_str()];
    let said = rotates(&json, &recovery, &[&mine]).ends(0).json();
    assert_eq!(
        (&said["done"]["refused"], &said["done"]["untried"]),
        (&serde_json::json!([]), &serde_json::json!(["ana"]))
    );
    rotates(&[&old], &mine, &[&ana]).fails(13, "that key was taken off", "Make a new one");
    host.run(&["secrets"]).ends(0).says_not("missing or damaged");
    fs::remove_file(host.store().join("keys/recipients-0001.json")).unwrap();
    host.run(&["secrets"]).ends(0).says("missing or damaged (keys/recipients-NNNN.json): number 1.");
    // Of whoever may have had another key that is not known any more, none is said to be refused.
    let mine_alone = format!("recovery-key={}", identity(Path::new(&recovery)).to_public());
    let said = rotates(&["--json", &mine_alone], &recovery, &[&recovery]).ends(0).json();
    assert_eq!(said["done"]["untried"], serde_json::json!(["recovery-key"]), "{said}");
}
