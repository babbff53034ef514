//! Redis and Valkey, rehearsed in a container and as a process of this host.

use super::seeded;
use super::support::docker::Container;
use super::support::docker::Wanted;
use super::support::host::Host;
use super::support::host_server::HostServer;
use super::{nothing_is_left, only};
use bkp::engine::redis::{Method, Settings};
use bkp::engine::{Dumped, Server};
use bkp::exec::Place;
use bkp::exec::docker::Selector;
use bkp::secret::SecretRef;
use std::fs;
use std::sync::Mutex;

const PART: &str = "rehearsals of Redis and Valkey";

/// Something of every type, in two databases, with times that are over before anybody looks; and users.
const DATA: &str = "\
set greeting hello
rpush list a b c
hset hash f 1 g 2
zadd sorted 1.5 x 2 y
sadd set m n
xadd stream 1-1 k v
set short gone PX 1500
acl setuser app on >word ~app:* &* +@read +@write -flushall
acl setuser looker on nopass ~* +get (~other:* +set)
select 3
set other 42";

fn container(wanted: Wanted) -> Option<(Host, Container)> {
    let server = wanted.start(PART)?;
    server.query("", DATA);
    let host = Host::new();
    fs::write(host.path("data/password"), server.password()).unwrap();
    let password = host.text("data/password");
    host.sources(&[format!("cache: {{ redis: {{ container: {}, password_file: \"{password}\" }} }}", server.name())]);
    Some((host, server))
}

fn comes_back_equal(wanted: Wanted) {
    let Some((host, server)) = container(wanted) else { return };
    host.run(&["backup"]).ends(0);
    server.query("", "flushall");
    let document = host.read(&["rehearse", "--json"]).json();
    let found = only(&document);
    assert_eq!((&found["reached"], &found["target"]["kind"]), (&"equal".into(), &"container".into()), "{document}");
    assert!(found["compared"].as_u64().unwrap() >= 5, "{found}");
    nothing_is_left(&host);
}

#[test]
fn redis_comes_back_equal_in_a_container_of_its_image() {
    comes_back_equal(Container::redis());
}

#[test]
fn redis_that_appends_comes_back_equal() {
    comes_back_equal(Container::redis().argument("--appendonly").argument("yes"));
}

#[test]
fn valkey_comes_back_equal_in_a_container_of_its_image() {
    comes_back_equal(Container::valkey());
}

#[test]
fn redis_comes_back_equal_as_a_process() {
    let Some(server) = HostServer::redis().start(PART) else { return };
    server.query("", DATA);
    let host = Host::new();
    fs::write(host.path("data/password"), server.password()).unwrap();
    let password = host.text("data/password");
    let port = server.port();
    host.sources(&[format!("cache: {{ redis: {{ host: 127.0.0.1, port: {port}, password_file: \"{password}\" }} }}")]);
    host.run(&["backup"]).ends(0);
    let document = host.read(&["rehearse", "--json"]).json();
    let found = only(&document);
    assert_eq!((&found["reached"], &found["target"]["kind"]), (&"equal".into(), &"process".into()), "{document}");
    nothing_is_left(&host);
}

#[test]
fn each_loss_is_named() {
    let Some((host, server)) = container(Container::redis()) else { return };
    let place = Place::Container(Selector::Name(server.name().into()));
    let password = Some(SecretRef::File(host.path("data/password")));
    let server_settings = Server { place, password, ..Server::default() };
    let settings = Settings { server: server_settings, method: Method::Automatic, sentinel: None };
    let settings = bkp::engine::Settings::Redis(settings);
    let before: Mutex<Option<Dumped>> = Mutex::new(None);
    let point = || {
        seeded::point(&host, "cache", &settings, |dumped| {
            let mut before = before.lock().unwrap();
            match &*before {
                Some(before) => {
                    dumped.fingerprint = before.fingerprint.clone();
                    dumped.details["users"] = before.details["users"].clone();
                }
                None => *before = Some(dumped.clone()),
            }
        });
    };
    server.query("", "del short");
    point();
    let lost =
        "hset hash f 2\nacl setuser app -get\nacl deluser looker\nselect 3\ndel other\nset another 42\nset more 1";
    server.query("", lost);
    point();
    let document = host.read(&["rehearse", "--json"]).ends(4).json();
    let found = only(&document);
    let differences = found["differences"].as_array().unwrap();
    let told = |text: &str| differences.iter().any(|d| d.as_str().unwrap().contains(text));
    for text in ["user app: other rules", "user looker: missing", "keys instead of 1", "other content"] {
        assert!(told(text), "{text} is not in {differences:#?}");
    }
    nothing_is_left(&host);
}

#[test]
fn a_server_that_never_answers_is_told_with_the_end_of_its_log() {
    let Some(server) = HostServer::redis().start(PART) else { return };
    server.query("", "set a 1");
    let host = Host::new();
    fs::write(host.path("data/password"), server.password()).unwrap();
    let password = host.text("data/password");
    let port = server.port();
    host.sources(&[format!("cache: {{ redis: {{ host: 127.0.0.1, port: {port}, password_file: \"{password}\" }} }}")]);
    host.run(&["backup"]).ends(0);
    let main = fs::read_to_string(host.path("etc/bkp.yaml")).unwrap();
    host.configure(&format!("{main}rehearse: {{ patience: 2s }}\n"));
    // One that runs and listens to nobody.
    fs::create_dir(host.path("bin")).unwrap();
    super::support::host::mode(host.root(), 0o755);
    fs::write(host.path("bin/redis-server"), "#!/bin/sh\necho thinking about it\nexec sleep 1000\n").unwrap();
    super::support::host::mode(&host.path("bin"), 0o755);
    super::support::host::mode(&host.path("bin/redis-server"), 0o755);
    let mut command = host.command(&["rehearse"]);
    let path = format!("{}:{}", host.text("bin"), std::env::var("PATH").unwrap());
    command.env("BKP_IDENTITY", host.identity()).env("PATH", path);
    let answer = host.finish(host.start(command)).ends(4);
    answer.says("did not answer within").says("thinking about it");
    nothing_is_left(&host);
}

/// A source that no policy names: its label brought it in, and a rehearsal takes it like any other.
#[test]
fn a_source_that_came_by_its_label_is_rehearsed() {
    let policy = format!("labelled-{}", bkp::durable::random_hex(4));
    let source = format!("{policy}-cache");
    let wanted = Container::redis().label("bkp.policy", &policy).label("bkp.source", &source);
    let Some(server) = wanted.start(PART) else { return };
    server.query("", DATA);
    let host = Host::new();
    fs::write(host.path("data/password"), server.password()).unwrap();
    let taking = format!(
        "policy: {policy}\nlabels:\n  redis: {{ password_file: \"{}\" }}\nrehearse:\n  assert: [{{ source: {source}, redis: [GET, other], database: \"3\", equals: \"42\" }}]\n",
        host.text("data/password")
    );
    fs::write(host.path("etc/policies.d/all.yaml"), taking).unwrap();
    // Other tests have containers with labels for policies that are not here, and a word on those is a warning.
    assert!(matches!(host.run(&["backup"]).status.code(), Some(0 | 3)));
    for what in [None, Some(policy.as_str()), Some(source.as_str())] {
        let arguments: Vec<&str> = ["rehearse", "--json"].into_iter().chain(what).collect();
        let document = host.read(&arguments).ends(0).json();
        let found = only(&document);
        assert_eq!((&found["source"], &found["reached"]), (&source.as_str().into(), &"checked".into()), "{found}");
        nothing_is_left(&host);
    }
    host.run(&["status"]).ends(0).says(&source).says("into a container");
    // What is bkp's own is nothing that anybody has to protect.
    let document = host.read(&["rehearse", &source, "--keep", "--json"]).ends(0).json();
    let kept = only(&document)["kept"].as_str().unwrap().split_whitespace();
    let kept =
        kept.map(|word| word.trim_matches(';')).find(|word| word.starts_with("bkp-scratch-")).unwrap().to_owned();
    let found = host.run(&["discover"]);
    super::support::docker::engine::docker(&["rm", "-fv", &kept]);
    super::support::docker::engine::docker(&["volume", "rm", "-f", &kept]);
    found.says(server.name()).says_not(&kept).says_not("bkp.scratch");
}
