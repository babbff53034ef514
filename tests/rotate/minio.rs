//! Access keys of MinIO, with clients of a well-kept library that sign requests all the time.

use super::emergency::{Held, KeepsSessions};
use super::kills;
use super::secrecy::holds;
use super::support::minio::{Minio, PASSWORD, USER};
use super::support::vault::Vault;
use super::support::{run, wait_for};
use super::world::{Ends, Target, World};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use bkp::durable::random_hex;
use bkp::job::rotate::http::Answer;
use bkp::job::rotate::targets::minio::admin::Admin;
use bkp::job::rotate::targets::minio::envelope;
use bkp::job::rotate::targets::minio::signed::{self, Key, Signed};
use bkp::policy;
use bkp::secret::Secret;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A user with one access key, and an administrator with the rights that the page lists.
pub struct AccessKeys {
    /// Where there is one only.
    minio: Option<&'static Minio>,
    /// Of each node.
    endpoints: Vec<String>,
    bucket: String,
    user: String,
    admin: String,
    first: &'static str,
    rights: Vec<String>,
    for_repository: bool,
    is_set_up: AtomicBool,
}

/// Those that the page asks for.
fn rights() -> Vec<String> {
    let page = include_str!("../../docs/ROTATION_KEYS.md");
    let (_, rest) = page.split_once("```json\n").unwrap();
    let policy: Value = serde_json::from_str(rest.split_once("```").unwrap().0).unwrap();
    let actions = policy["Statement"][0]["Action"].as_array().unwrap().iter();
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

impl AccessKeys {
    pub fn start(part: &str) -> Option<AccessKeys> {
        Minio::shared(part).map(AccessKeys::of_one)
    }

    /// On a server of its own, which may be ended.
    pub fn alone(part: &str) -> Option<AccessKeys> {
        Minio::alone(part).map(|minio| AccessKeys::of_one(Box::leak(Box::new(minio))))
    }

    fn of_one(minio: &'static Minio) -> AccessKeys {
        AccessKeys { minio: Some(minio), ..AccessKeys::of(vec![minio.endpoint().to_owned()], minio.bucket(false)) }
    }

    pub fn of(endpoints: Vec<String>, bucket: String) -> AccessKeys {
        let (user, admin) = (format!("shop-{}", random_hex(4)), format!("rotates-{}", random_hex(4)));
        let first = Box::leak(format!("FIRST{}", random_hex(6).to_uppercase()).into_boxed_str());
        let (rights, is_set_up) = (rights(), AtomicBool::new(false));
        AccessKeys { minio: None, endpoints, bucket, user, admin, first, rights, for_repository: false, is_set_up }
    }

    fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    fn minio(&self) -> &'static Minio {
        self.minio.unwrap()
    }

    fn settings(&self) -> policy::Minio {
        policy::Minio {
            endpoint: self.endpoint().to_owned(),
            region: "us-east-1".into(),
            bucket: self.bucket.clone(),
            ca_file: None,
            quiet: Duration::ZERO,
        }
    }

    /// Of the administrator of all.
    fn call(&self, method: Method, call: &str, query: &[(&str, &str)], body: Vec<u8>) -> Vec<u8> {
        let (minio, secret) = (self.settings(), Secret::new(PASSWORD.into()));
        let url = Admin { minio: &minio, id: USER, secret: Secret::new(PASSWORD.into()) }.url(call, query).unwrap();
        let signed = Signed { minio: &minio, key: Key { id: USER, secret: &secret } };
        // One that is starting, or has not found the others yet, says so.
        wait_for(call, 60, || match signed.send(&method, &url, body.clone()).unwrap() {
            Answer::Done(bytes) => Some(bytes),
            Answer::Refused(status, code) => panic!("{call}: {status} {code}"),
            Answer::Away(why) => {
                let is_starting = ["NotInitialized", "NoQuorum"].iter().any(|said| why.contains(said));
                (!is_starting).then(|| panic!("{call}: {why}"))
            }
        })
    }

    fn sealed(&self, body: &Value) -> Vec<u8> {
        envelope::seal(&Secret::new(PASSWORD.into()), body.to_string().as_bytes()).unwrap()
    }

    fn user(&self, name: &str, secret: &str, policy: &Value) {
        let body = self.sealed(&json!({ "secretKey": secret, "status": "enabled" }));
        self.call(Method::PUT, "add-user", &[("accessKey", name)], body);
        self.call(Method::PUT, "add-canned-policy", &[("name", name)], policy.to_string().into_bytes());
        let query = [("policyName", name), ("userOrGroup", name), ("isGroup", "false")];
        self.call(Method::PUT, "set-user-or-group-policy", &query, Vec::new());
    }

    /// A request to every node.
    pub fn at_each(&self, user: &str, password: &str) -> Vec<Result<(), String>> {
        let at = |endpoint: &String| {
            let asked = |user: &str, password: &str| request(&client(endpoint, user, password), &self.bucket);
            let unknown = Err("InvalidAccessKeyId".to_owned());
            let answer = asked(user, password);
            // One that is starting knows nobody yet, and this is no refusal.
            match answer == unknown && asked(&self.admin, &self.admin_password()) == unknown {
                true => Err("it is starting".to_owned()),
                false if answer == unknown => asked(user, password),
                false => answer,
            }
        };
        self.endpoints.iter().map(at).collect()
    }

    /// Whether the user has a key of that name, and it is not switched off.
    pub fn is_on(&self, id: &str) -> bool {
        let minio = self.settings();
        let admin = Admin { minio: &minio, id: USER, secret: Secret::new(PASSWORD.into()) };
        admin.find(id).unwrap().is_some_and(|known| !known.is_off())
    }

    /// Everything that MinIO shows of its requests to whoever may watch them, meanwhile.
    fn shown_while(&self, work: impl FnOnce()) -> Vec<u8> {
        let (minio, secret, end) = (self.settings(), Secret::new(PASSWORD.into()), AtomicBool::new(false));
        let all = [("s3", "true"), ("internal", "true"), ("threshold", "0s")];
        let url = Admin { minio: &minio, id: USER, secret: Secret::new(PASSWORD.into()) }.url("trace", &all).unwrap();
        let http = signed::client(&minio, Duration::from_secs(300)).unwrap();
        let signed = Signed { minio: &minio, key: Key { id: USER, secret: &secret } };
        let watch = signed.request(&http, &Method::GET, &url, Vec::new()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut response = runtime.block_on(async { watch.send().await }).unwrap();
        std::thread::scope(|scope| {
            let ends = Ends(&end);
            let shown = scope.spawn(|| {
                let mut shown = Vec::new();
                while !end.load(SeqCst) {
                    let chunk = async { tokio::time::timeout(Duration::from_millis(100), response.chunk()).await };
                    if let Ok(chunk) = runtime.block_on(chunk) {
                        shown.extend_from_slice(&chunk.unwrap().unwrap());
                    }
                }
                shown
            });
            work();
            drop(ends);
            shown.join().unwrap()
        })
    }

    /// All that it knows of users and keys, to be put back.
    pub fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        self.minio().stop();
        run("cp", &["-a", self.minio().data().to_str().unwrap(), copy.path().to_str().unwrap()], copy.path());
        self.minio().start_again();
        copy
    }

    pub fn put_back(&self, copy: &tempfile::TempDir) {
        let (data, from) = (self.minio().data(), copy.path().join("data"));
        self.minio().stop();
        std::fs::remove_dir_all(&data).unwrap();
        run("cp", &["-a", from.to_str().unwrap(), data.to_str().unwrap()], copy.path());
        self.minio().start_again();
    }

    pub fn restart(&self) {
        self.minio().stop();
        self.minio().start_again();
    }

    /// What a person does at MinIO.
    pub fn is_made_by_hand(&self, id: &str, secret: &str) {
        let body = json!({ "targetUser": self.user, "accessKey": id, "secretKey": secret });
        self.call(Method::PUT, "add-service-account", &[], self.sealed(&body));
    }

    pub fn is_removed_by_hand(&self, id: &str) {
        self.call(Method::DELETE, "delete-service-account", &[("accessKey", id)], Vec::new());
    }

    /// All access keys of the user, by name.
    pub fn keys(&self) -> Vec<String> {
        let minio = self.settings();
        let admin = Admin { minio: &minio, id: USER, secret: Secret::new(PASSWORD.into()) };
        admin.names_of(&self.user).unwrap()
    }

    fn secret_of(&self, id: &str, secret: &str) {
        let body = self.sealed(&json!({ "newSecretKey": secret }));
        self.call(Method::POST, "update-service-account", &[("accessKey", id)], body);
    }
}

fn client(endpoint: &str, id: &str, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .endpoint_url(endpoint)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_timeout(Duration::from_secs(5)).build())
        .force_path_style(true);
    Client::from_conf(config.build())
}

/// Puts a picture there.
fn request(client: &Client, bucket: &str) -> Result<(), String> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap());
    let put = client.put_object().bucket(bucket).key("picture").body(b"a picture".to_vec().into());
    runtime.block_on(put.send()).map(drop).map_err(|error| error.code().unwrap_or("no answer").to_owned())
}

impl Target for AccessKeys {
    fn source(&self, _: &str) -> String {
        "{ sqlite: { path: /srv/shop.db } }".into()
    }

    fn admin_password(&self) -> String {
        "rights-of-its-own".into()
    }

    fn of(&self, admin_file: &str) -> String {
        format!(
            "    minio: {{ endpoint: \"{}\", bucket: {}, quiet: 1s }}\n    admin: {{ user: {}, password_file: {admin_file} }}\n",
            self.endpoint(),
            self.bucket,
            self.admin
        )
    }

    fn users(&self) -> Vec<&'static str> {
        vec![self.first]
    }

    fn account(&self, published: &str) -> String {
        let nodes: Vec<String> =
            self.endpoints.iter().map(|url| format!("'{}'", url.trim_start_matches("http://"))).collect();
        let nodes = if nodes.len() > 1 { format!("    nodes: [{}]\n", nodes.join(", ")) } else { String::new() };
        format!("    account: {}\n    published_user: {published}#/user\n{nodes}", self.user)
    }

    fn set_up(&self, password: &str) {
        if self.is_set_up.swap(true, SeqCst) {
            return self.keys().iter().for_each(|id| self.secret_of(id, password));
        }
        let allow = |action: Value| json!({ "Effect": "Allow", "Action": action, "Resource": ["arn:aws:s3:::*"] });
        let policy = |statement: Value| json!({ "Version": "2012-10-17", "Statement": [statement] });
        self.user(&self.user, &random_hex(16), &policy(allow(json!(["s3:*"]))));
        self.user(&self.admin, &self.admin_password(), &policy(allow(json!(self.rights))));
        // May do less than its user.
        let less = if self.for_repository { json!(["s3:*"]) } else { json!(["s3:ListBucket", "s3:PutObject"]) };
        let less = policy(allow(less));
        let body = json!({ "targetUser": self.user, "accessKey": self.first, "secretKey": password, "policy": less });
        self.call(Method::PUT, "add-service-account", &[], self.sealed(&body));
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        self.log_in_as(self.first, password)
    }

    /// A server that is not there yet refuses nobody.
    fn log_in_as(&self, user: &str, password: &str) -> Result<(), String> {
        let there = wait_for("a node that answers", 60, || {
            let mut answers = self.at_each(user, password);
            answers.retain(|answer| !answer.as_ref().is_err_and(|code| !is_refusal(code)));
            (!answers.is_empty()).then_some(answers)
        });
        match there.iter().find_map(|answer| answer.as_ref().err()) {
            Some(code) if there.iter().any(Result::is_ok) => Err(format!("{code}, and not by all nodes")),
            Some(code) => Err(code.clone()),
            None => Ok(()),
        }
    }
}

/// Because of who asks, and not because of the server.
fn is_refusal(code: &str) -> bool {
    ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"].contains(&code)
}

impl KeepsSessions for AccessKeys {
    /// Each request is a login.
    fn hold(&self, user: &str, password: &str) -> Result<Held, String> {
        let (client, bucket) = (client(self.endpoint(), user, password), self.bucket.clone());
        request(&client, &bucket)?;
        Ok(Box::new(move || request(&client, &bucket).is_ok()))
    }

    fn is_given(&self, user: &str, password: &str) {
        self.secret_of(user, password);
    }
}

#[test]
fn access_keys_are_rotated_without_a_refused_request() {
    let part = "access keys of MinIO";
    let (Some(vault), Some(keys)) = (Vault::shared(part), AccessKeys::start(part)) else { return };
    let keys = Arc::new(keys);
    let mut world = World::with(vault, Arc::clone(&keys) as Arc<dyn Target>, "");
    world.open_shop();
    let plan = world.rotate(&["shop-db", "--dry-run", "--json"]).ends(0).json();
    assert!(plan["refused"].is_null() && plan["gap_seconds"] == 0.0 && plan["warnings"] == json!([]), "{plan}");
    assert_eq!(keys.keys(), [keys.first], "a dry run changes nothing");
    let shown = keys.shown_while(|| {
        world.rotate(&["shop-db", "--because", "INC-42"]).ends(0).says("shop-db is rotated");
    });
    let new = world.one_password_works(&world.old);
    assert!(holds(&shown, "add-service-account") && holds(&shown, &world.published_user()), "MinIO showed nothing");
    for secret in [&new, &world.old, &keys.admin_password()] {
        assert!(!holds(&shown, secret), "MinIO shows it to whoever may watch requests");
    }
    assert_eq!(keys.log_in_as(keys.first, &world.old).unwrap_err(), "InvalidAccessKeyId");
    assert_eq!(keys.keys(), [world.published_user()], "the old one is removed");
    for state in ["unused", "retired", "proven", "rotated"] {
        assert!(world.states().contains(&state.to_owned()), "{state}");
    }
    for secret in [&new, &world.old] {
        world.is_told_nowhere(secret);
    }
    kills::wait_for_distance(&world);
    let before = world.published_user();
    // However long it is watched: whoever wants it to end is heard, and who goes on takes up where it was.
    let policy = world.host.path("etc/policies.d/shop.yaml");
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, text.replace("quiet: 1s", "quiet: 1h")).unwrap();
    let times = |state: &str| world.states().iter().filter(|known| *known == state).count();
    let moved = times("moved");
    let watching = world.host.start(world.host.command(&["rotate", "shop-db"]));
    wait_for("the consumers to be moved", 120, || (times("moved") == 2 * moved).then_some(()));
    watching.signal(rustix::process::Signal::TERM);
    world.host.finish(watching).ends(143);
    std::fs::write(&policy, text).unwrap();
    world.rotate(&["resume", "shop-db"]).ends(0);
    assert_eq!((times("reloaded"), times("moved")), (2 * moved, 3 * moved), "nobody is moved twice");
    world.one_password_works(&new);
    assert_eq!(keys.log_in_as(&before, &new).unwrap_err(), "InvalidAccessKeyId");
    // What the first one was not allowed to, the last one is not either.
    let id = world.published_user();
    let minio = keys.settings();
    let root = Admin { minio: &minio, id: USER, secret: Secret::new(PASSWORD.into()) };
    let known = root.find(&id).unwrap().unwrap();
    assert!(!known.implied_policy && known.user == keys.user, "{known:?}");
}

#[test]
fn rotations_of_access_keys_that_were_killed_are_brought_to_their_end() {
    let part = "killed rotations of access keys";
    let Some(vault) = Vault::shared(part) else { return };
    kills::at_once(3, &|points| {
        let Some(keys) = AccessKeys::start(part) else { return };
        kills::converges(vault, Arc::new(keys), points.iter().copied());
    });
}

#[test]
fn rotations_of_access_keys_are_taken_back() {
    let part = "rotations of access keys that are taken back";
    let (Some(vault), Some(keys)) = (Vault::shared(part), AccessKeys::start(part)) else { return };
    let keys = Arc::new(keys);
    let mut world = World::with(vault, Arc::clone(&keys) as Arc<dyn Target>, "");
    world.open_shop();
    let points = ["rotate:accepted", "rotate:published", "rotate:moved#2", "rotate:unused"];
    kills::all_are_taken_back_on_request(&world, points.into_iter(), || {
        assert_eq!(keys.keys(), [keys.first], "the new one is removed");
    });
    kills::all_are_taken_back(&world, kills::BACK.into_iter());
    assert_eq!((world.published_user().as_str(), keys.keys()), (keys.first, vec![keys.first.to_owned()]));
}

/// A program that nobody named, and that goes on with the old key: it is seen before it is locked out.
#[test]
fn whoever_still_signs_with_the_old_key_turns_it_back() {
    let part = "clients of MinIO that nobody named";
    let (Some(vault), Some(keys)) = (Vault::shared(part), AccessKeys::start(part)) else { return };
    let keys = Arc::new(keys);
    let world = World::with(vault, Arc::clone(&keys) as Arc<dyn Target>, "");
    let end = AtomicBool::new(false);
    let is_over = || end.load(SeqCst);
    std::thread::scope(|scope| {
        let ends = Ends(&end);
        let forgotten = scope.spawn(|| {
            let mut requests = 0;
            while !is_over() {
                keys.log_in_as(keys.first, &world.old).unwrap();
                requests += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            requests
        });
        world.consumers_are("      web: { command: [\"true\"], patience: 1s }\n");
        let answer = world.rotate(&["shop-db"]);
        drop(ends);
        answer.fails(1, "still open, from 127.0.0.1", "rotate again");
        assert!(forgotten.join().unwrap() > 0);
    });
    assert_eq!(world.published_user(), keys.first);
    assert_eq!(keys.keys(), [keys.first], "the new one is removed");
}

#[test]
fn what_cannot_be_replaced_is_refused_before_anything_is_changed() {
    let part = "access keys that are none";
    let (Some(vault), Some(mut keys)) = (Vault::shared(part), AccessKeys::start(part)) else { return };
    keys.rights.retain(|right| right != "admin:ServerTrace");
    let keys = Arc::new(keys);
    let world = World::with(vault, Arc::clone(&keys) as Arc<dyn Target>, "");
    let env = |id: &str, secret: &str| format!("AWS_ID={id}\nAWS_SECRET={secret}\nS3_ID={id}\nS3_SECRET={secret}\n");
    let path = world.host.path("data/s3.env");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, env(keys.first, &world.old)).unwrap();
    let told = |variables: &str, users: &str| {
        world.consumers_are(&format!(
            "      web: {{ env_file: {}, variable: {variables}, user_variable: {users}, command: [\"true\"] }}\n",
            path.display()
        ));
    };
    // A second pair is exchanged as a pair, or not at all.
    told("AWS_SECRET", "AWS_ID");
    let advice = "in web: `variable: [AWS_SECRET, S3_SECRET]` and `user_variable: [AWS_ID, S3_ID]`";
    world.rotate(&["shop-db"]).fails(13, "s3.env#S3_ID (the user that changes, beside AWS_ID", advice);
    told("[AWS_SECRET, S3_SECRET]", "AWS_ID");
    world.rotate(&["shop-db"]).fails(13, "s3.env#S3_ID", "in web: `user_variable: [AWS_ID, S3_ID]`");
    told("[AWS_SECRET, S3_SECRET]", "[AWS_ID, S3_ID]");
    world.rotate(&["shop-db", "--dry-run"]).ends(0).says("may not watch requests (admin:ServerTrace)");
    let answer = world.rotate(&["shop-db"]).ends(0);
    assert!(answer.err.contains("is not seen"), "{}", answer.err);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), env(&world.published_user(), &world.published()));
    world.consumers_are("      web: { command: [\"true\"] }\n");
    // The user itself has a secret, too, and is no key that could be removed.
    let secret = random_hex(16);
    let body = keys.sealed(&json!({ "secretKey": secret, "status": "enabled" }));
    keys.call(Method::PUT, "add-user", &[("accessKey", &keys.user)], body);
    vault.write(&world.name, json!({ "user": keys.user, "password": secret }));
    kills::wait_for_distance(&world);
    world.rotate(&["shop-db"]).fails(13, "or the user itself", "mc admin accesskey create");
}

/// The key that bkp opens its own repository with.
#[test]
fn bkp_goes_on_with_the_new_key_of_its_own_repository() {
    let part = "bkp's own access key";
    let (Some(vault), Some(mut keys)) = (Vault::shared(part), AccessKeys::start(part)) else { return };
    keys.for_repository = true;
    let keys = Arc::new(keys);
    let world = World::with(vault, Arc::clone(&keys) as Arc<dyn Target>, "");
    let database = world.host.path("data/app.db");
    rusqlite::Connection::open(&database)
        .unwrap()
        .execute_batch("CREATE TABLE t (n); INSERT INTO t VALUES (1)")
        .unwrap();
    let policy = world.host.path("etc/policies.d/shop.yaml");
    // A source that is ill says nothing of the key.
    let ill = "sources:\n  a-gone: { sqlite: { path: /nowhere/gone.db } }\n";
    let text = std::fs::read_to_string(&policy).unwrap().replacen("sources:\n", ill, 1);
    let text = text.replace("/srv/shop.db", database.to_str().unwrap());
    std::fs::write(policy, text).unwrap();
    let path = world.host.path("etc/bkp.yaml");
    let rest = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    let name = &world.name;
    let repository = format!(
        "repository:\n  url: s3://{}\n  endpoint: {}\n  access_key: ref+vault://kv/{name}#/user\n  secret_key: ref+vault://kv/{name}#/password\n",
        keys.bucket,
        keys.endpoint()
    );
    std::fs::write(&path, format!("{repository}{rest}")).unwrap();
    world.consumers_are("      bkp: { command: [\"true\"] }\n");
    world.host.run(&["init", "--recovery-key", world.host.text("own-key.txt").as_str()]).ends(0);
    world.host.run(&["backup", "db"]).ends(0);
    world.rotate(&["shop-db"]).ends(0).says("shop-db is rotated");
    assert_ne!(world.published_user(), keys.first);
    assert_eq!(keys.log_in(&world.old).unwrap_err(), "InvalidAccessKeyId");
    let points = world.host.run(&["points", "--json"]).ends(0).json();
    let of_db = points["points"].as_array().unwrap().iter().filter(|point| point["source"] == "db");
    assert_eq!(of_db.count(), 2, "the rotation ended with a backup: {points}");
    world.host.run(&["backup", "db"]).ends(0);
}
