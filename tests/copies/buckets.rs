//! Copies and hosts in buckets of a real server, with accounts that may do only what `docs/STORES.md` gives them.

use crate::support::host::{Host, database, texts};
use crate::support::minio::Minio;
use crate::support::minio_accounts::Account;
use crate::trees::describe;
use crate::{content, host_with};
use bkp::durable::random_hex;
use bkp::store::{Key, StoreError, open};
use serde_json::{Value, json};
use std::fs;

/// A bucket, and a prefix in it.
struct Place {
    minio: &'static Minio,
    bucket: String,
}

impl Place {
    fn new(part: &str, lock: bool) -> Option<Place> {
        let minio = Minio::shared(part)?;
        Some(Place { minio, bucket: minio.bucket(lock) })
    }

    fn url(&self) -> String {
        format!("s3://{}/prod", self.bucket)
    }

    /// The account that may do everything.
    fn administrator(&self) -> Account {
        self.account(json!([{ "Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"] }]))
    }

    fn account(&self, statements: Value) -> Account {
        self.minio.account(&json!({ "Version": "2012-10-17", "Statement": statements }))
    }

    /// The policy of the page on stores, for this bucket.
    fn account_of_the_page(&self, heading: &str, writer: &str) -> Account {
        let page = include_str!("../../docs/STORES.md");
        let (_, section) = page.split_once(heading).unwrap_or_else(|| panic!("docs/STORES.md has no `{heading}`"));
        let (_, block) = section.split_once("```json\n").unwrap();
        let (policy, _) = block.split_once("```").unwrap();
        let policy = policy.replace("BUCKET", &self.bucket).replace("PREFIX", "prod").replace("WRITER", writer);
        self.minio.account(&serde_json::from_str(&policy).unwrap_or_else(|e| panic!("{heading}: {e}:\n{policy}")))
    }

    /// The keys of a store in the configuration.
    fn yaml(&self, account: &Account, more: &str) -> String {
        let (url, endpoint) = (self.url(), self.minio.endpoint());
        format!("    url: {url}\n    endpoint: {endpoint}\n{}{more}", account.yaml("    "))
    }

    fn names(&self) -> Vec<String> {
        self.minio.ask(async |client| {
            let listed = client.list_objects_v2().bucket(&self.bucket).prefix("prod/").send().await.unwrap();
            listed.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
        })
    }

    /// Mode and end of an object's lock.
    fn lock(&self, name: &str) -> Option<(String, i64)> {
        self.minio.ask(async |client| {
            let head = client.head_object().bucket(&self.bucket).key(name).send().await.unwrap();
            let until = head.object_lock_retain_until_date()?.secs();
            Some((head.object_lock_mode()?.as_str().to_owned(), until))
        })
    }
}

const DAY: i64 = 86_400;

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[test]
fn a_copy_in_a_bucket_is_locked_and_restores() {
    let Some(place) = Place::new("copies in a bucket", true) else { return };
    let host = host_with(&[]);
    let account = place.administrator();
    let copy = |keep: &str| {
        let more = format!("    object_lock: {{ mode: compliance, keep: {keep} }}\n    bandwidth: 500MiB/s\n");
        let copy = place.yaml(&account, &more).replacen("    url", "  - name: bucket\n    url", 1);
        host.configure(&format!("repository: {{ url: \"{}\" }}\ncopies:\n{copy}", host.url));
    };
    copy("1d");
    host.run(&["copy", "--create", "bucket"]).ends(0);
    host.run(&["backup"]).ends(0).says("copy bucket: 3 points");
    let objects = place.names();
    let of_points: Vec<&String> =
        objects.iter().filter(|name| name.contains("/w/")).filter(|n| !n.contains("/proofs/")).collect();
    assert!(of_points.len() > 8, "{objects:?}");
    for name in &of_points {
        let (mode, until) = place.lock(name).unwrap_or_else(|| panic!("{name} is not locked"));
        assert!(mode == "COMPLIANCE" && until > now() + DAY - 600 && until < now() + DAY + 600, "{name}: {until}");
    }

    // What the next point needs of what is there is locked as long as that point.
    copy("3d");
    fs::write(host.path("data/docs/deep/file"), "new").unwrap();
    host.run(&["backup", "docs"]).ends(0);
    let pack = objects.iter().filter(|name| name.contains("/p/"));
    let raised = pack.filter(|name| place.lock(name).unwrap().1 > now() + 3 * DAY - 600).count();
    assert!(raised >= 1, "no pack that was there is locked for longer");
    host.run(&["check", "--copy", "bucket"]).ends(0).says("no problem found");

    fs::remove_dir_all(host.store()).unwrap();
    host.read(&["restore", "docs", "--from", "bucket", "--to", &host.text("docs")]).ends(0);
    assert_eq!(describe(&host.path("docs")), describe(&host.path("data/docs")));
    // Anywhere, with the key, the place and the credentials.
    let bare = Host::bare();
    bare.configure(&format!("repository:\n{}", place.yaml(&account, "")));
    fs::copy(host.identity(), bare.identity()).unwrap();
    bare.read(&["restore", "log", "--to", &bare.text("log.db")]).ends(0);
    assert_eq!(texts(&bare.path("log.db")), vec!["old"; 20_000]);
    bare.read(&["check", "--level", "readable"]).ends(0);
}

/// A host whose repository is that place.
fn host_at(place: &Place, account: &Account, more: &str) -> Host {
    let host = Host::bare();
    use_account(&host, place, account, more);
    content(&host, "old", 1);
    host.sources(&[
        format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db")),
        format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs")),
    ]);
    host
}

fn use_account(host: &Host, place: &Place, account: &Account, more: &str) {
    host.configure(&format!("repository:\n{}", place.yaml(account, more)));
}

fn init(host: &Host) -> String {
    let made = host.run(&["init", "--recovery-key", &host.text("recovery-key.txt"), "--json"]).ends(0).json();
    made["writer"].as_str().unwrap().to_owned()
}

#[test]
fn tampering_is_tried_and_what_the_store_refused_is_told() {
    let Some(place) = Place::new("tampering with a bucket that locks", true) else { return };
    let administrator = place.administrator();
    let governance = "    object_lock: { mode: governance, keep: 1d }\n";
    let host = host_at(&place, &administrator, governance);
    let writer = init(&host);
    // Who may lift the lock may destroy, and that is not as the configuration means it.
    host.run(&["doctor", "--tamper"]).ends(1).says("CAN destroy").says("delete the version in spite of its lock");
    // Compliance holds against everybody.
    use_account(&host, &place, &administrator, "    object_lock: { mode: compliance, keep: 1d }\n");
    host.run(&["doctor", "--tamper"]).ends(0).says("it cannot destroy").says("shorten its lock in spite of it");
    // Who may not delete destroys nothing; but this server lets everybody lift a governance lock who may set one.
    let limited = place.account_of_the_page("### MinIO", &writer);
    use_account(&host, &place, &limited, governance);
    host.run(&["doctor", "--tamper"]).ends(3).says("it cannot destroy").says("It can lift the lock");
    host.run(&["doctor"]).ends(0).says("backups are locked as the configuration asks");
}

#[test]
fn a_store_that_lets_itself_be_emptied_is_warned_of() {
    let Some(place) = Place::new("tampering with a bucket that does not lock", false) else { return };
    let host = host_at(&place, &place.administrator(), "");
    let copy = host.text("second");
    let main = fs::read_to_string(host.path("etc/bkp.yaml")).unwrap();
    host.configure(&format!("{main}copies:\n  - {{ name: second, url: \"file://{copy}\" }}\n"));
    init(&host);
    host.run(&["copy", "--create", "second"]).ends(0);
    let answer = host.run(&["doctor", "--tamper"]).ends(3);
    answer.says("repository: this host CAN destroy").says("second: this host CAN destroy");
    assert!(!place.names().iter().any(|name| name.contains("/probe/")), "the probe was left");
}

#[test]
fn the_policy_for_hosts_lets_them_back_up_and_refuses_to_delete() {
    let Some(place) = Place::new("the policy for hosts", true) else { return };
    let lock = "    object_lock: { mode: governance, keep: 1d }\n";
    let host = host_at(&place, &place.administrator(), lock);
    let writer = init(&host);
    let limited = place.account_of_the_page("### MinIO", &writer);
    use_account(&host, &place, &limited, lock);
    host.run(&["backup"]).ends(0);
    host.next_second();
    content(&host, "new", 2);
    host.run(&["backup"]).ends(0);
    host.run(&["check"]).ends(0).says("no problem found");
    host.read(&["restore", "app", "--to", &host.text("app.db")]).ends(0);
    assert_eq!(texts(&host.path("app.db")), vec!["new"; 300]);

    let store = open(&limited.settings(settings(&place))).unwrap();
    let other = format!("w/{}/s/{}", random_hex(8), random_hex(16));
    let refused = store.put(&Key::new(&other).unwrap(), b"x".as_slice().into(), None);
    assert!(matches!(refused, Err(StoreError::Denied(_))), "{refused:?}");
    for entry in store.list(&format!("w/{writer}/")).unwrap() {
        let refused = store.delete(&entry.key);
        assert!(matches!(refused, Err(StoreError::Denied(_))), "{}: {refused:?}", entry.key);
    }
}

fn settings(place: &Place) -> bkp::store::Settings {
    let location = place.url().parse().unwrap();
    bkp::store::Settings { endpoint: Some(place.minio.endpoint().into()), ..bkp::store::Settings::new(location) }
}

#[test]
fn many_hosts_write_into_one_bucket_without_knowing_of_each_other() {
    let Some(place) = Place::new("many hosts in one bucket", false) else { return };
    let first = host_at(&place, &place.administrator(), "");
    init(&first);
    let others: Vec<Host> = (0..4).map(|_| host_at(&place, &place.administrator(), "")).collect();
    let mut lines = Vec::new();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, host) in others.iter().enumerate() {
            let place = &place;
            threads.push(scope.spawn(move || {
                let name = format!("host-{number}");
                let joined = host.run(&["init", "--join", "--name", &name, "--json"]).ends(0).json();
                let writer = joined["writer"].as_str().unwrap().to_owned();
                // From here on it may write below its own prefix only.
                use_account(host, place, &place.account_of_the_page("### MinIO", &writer), "");
                database(&host.path("data/app.db"), 50, &name);
                for _ in 0..3 {
                    host.run(&["backup"]).ends(0);
                    host.next_second();
                }
                assert_eq!(host.points("app").len(), 3);
                joined["trust_line"].as_str().unwrap().to_owned()
            }));
        }
        scope.spawn(|| first.run(&["backup"]).ends(0));
        lines.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
    });
    // The operator's key comes to know them.
    let key = fs::read_to_string(first.identity()).unwrap();
    fs::write(first.identity(), format!("{key}{}\n", lines.join("\n"))).unwrap();
    let all = first.read(&["points", "--all", "--json"]).ends(0).json();
    assert_eq!(all["points"].as_array().unwrap().len(), 4 * 2 * 3 + 2, "{all}");
    for (number, host) in others.iter().enumerate() {
        fs::copy(first.identity(), host.identity()).unwrap();
        host.read(&["restore", "app", "--to", &host.text("app.db")]).ends(0);
        assert_eq!(texts(&host.path("app.db")), vec![format!("host-{number}"); 50]);
        host.read(&["restore", "docs", "--to", &host.text("docs")]).ends(0);
        assert_eq!(describe(&host.path("docs")), describe(&host.path("data/docs")));
    }
    first.read(&["check", "--level", "readable"]).ends(0);
}
