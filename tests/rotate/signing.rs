//! Keys that sign tokens, with signers and verifiers of a well-kept library that work all the time.

use super::hosts::{is_taken_over, suspended};
use super::kills;
use super::support::host::Host;
use super::support::vault::Vault;
use super::support::wait_for;
use super::world::Ends;
use bkp::durable::random_hex;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long a token is good.
const LIFETIME: Duration = Duration::from_secs(2);
/// How long a verifier remembers what it read.
const REMEMBERS: Duration = Duration::from_secs(2);

pub struct Shop {
    pub host: Host,
    vault: &'static Vault,
    pub name: String,
}

/// A key as people make one: by openssl, in the form that it has by default.
fn openssl(kind: &[&str]) -> String {
    let made = Command::new("openssl").args(kind).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap()
}

impl Shop {
    /// With a key of `kind`, whose public half is published as `public`.
    pub fn new(vault: &'static Vault, (pem, public): (&str, Value), algorithm: &str, extra: &str) -> Shop {
        let host = Host::new();
        let name = format!("tokens-{}", random_hex(4));
        vault.write(&name, json!({ "kid": "by-hand", "key": pem }));
        // Somebody else's stays.
        let other = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "other" });
        vault.write(&format!("{name}-jwks"), json!({ "keys": [other, public] }));
        fs::write(host.path("signing.pem"), pem).unwrap();
        fs::write(host.path("token"), vault.root_token()).unwrap();
        host.configure(&format!(
            "repository: {{ url: \"{}\" }}\ntimezone: UTC\nvault: {{ address: \"{}\", token_file: {} }}\nrotate: {{ vault_path: kv/bkp/{name} }}\n",
            host.url,
            vault.address(),
            host.text("token"),
        ));
        let policy = format!(
            "policy: shop\nsources:\n  docs: {{ volume: {{ path: /srv }} }}\nrotate:\n  tokens:\n    signing_key: {{ jwks: ref+vault://kv/{name}-jwks#/keys, algorithm: {algorithm}, overlap: 3s, lifetime: 3s }}\n    published: ref+vault://kv/{name}#/key\n    published_user: ref+vault://kv/{name}#/kid\n    distance: 1s\n{extra}    consumers:\n      shop: {{ secret_file: {}, command: [\"true\"] }}\n",
            host.text("signing.pem")
        );
        fs::write(host.path("etc/policies.d/shop.yaml"), policy).unwrap();
        Shop { host, vault, name }
    }

    pub fn published(&self) -> (String, String) {
        let data = &self.vault.get(&format!("kv/data/{}", self.name))["data"];
        (data["kid"].as_str().unwrap().to_owned(), data["key"].as_str().unwrap().to_owned())
    }

    pub fn keys(&self) -> Value {
        json!({ "keys": self.vault.get(&format!("kv/data/{}-jwks", self.name))["data"]["keys"] })
    }

    pub fn kids(&self) -> Vec<String> {
        let keys = self.keys();
        keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    /// In the policy.
    fn exchange(&self, text: &str, other: &str) {
        let path = self.host.path("etc/policies.d/shop.yaml");
        let before = fs::read_to_string(&path).unwrap();
        assert!(before.contains(text), "{before}");
        fs::write(path, before.replace(text, other)).unwrap();
    }

    pub fn dies_at(&self, point: &str, arguments: &[&str]) {
        let mut command = self.host.command(arguments);
        command.env("BKP_CRASH_AT", point);
        self.host.finish(self.host.start(command)).was_killed();
    }

    pub fn sign(&self) -> String {
        let (kid, pem) = self.published();
        sign(&kid, &pem)
    }
}

pub fn sign(kid: &str, pem: &str) -> String {
    let pem = pem.as_bytes();
    let all = [
        (Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem)),
        (Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
    ];
    let until = jiff::Timestamp::now().as_second() + 3600;
    let signed = all.into_iter().find_map(|(algorithm, key)| {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
        encode(&header, &json!({ "sub": "somebody", "exp": until }), &key.ok()?).ok()
    });
    signed.expect("a library reads the key")
}

/// As a program does that knows nothing but the list.
pub fn verify(token: &str, keys: &Value) -> Result<(), String> {
    let keys: JwkSet = serde_json::from_value(keys.clone()).map_err(|e| e.to_string())?;
    let header = decode_header(token).map_err(|e| e.to_string())?;
    let key = keys.find(header.kid.as_deref().unwrap()).ok_or("no such key")?;
    let key = DecodingKey::from_jwk(key).map_err(|e| e.to_string())?;
    decode::<Value>(token, &key, &Validation::new(header.alg)).map(drop).map_err(|e| e.to_string())
}

/// Signs all the time, and verifies each token when it is new and when it is about to end, with a list that is as old as it may be.
fn works(shop: &Shop, end: &AtomicBool, verified: &AtomicU64) -> Vec<String> {
    let mut failures = Vec::new();
    let (mut list, mut read) = (shop.keys(), Instant::now());
    let mut tokens: VecDeque<(Instant, String)> = VecDeque::new();
    while !end.load(SeqCst) {
        if read.elapsed() > REMEMBERS - Duration::from_millis(200) {
            (list, read) = (shop.keys(), Instant::now());
        }
        let token = shop.sign();
        let mut try_it = |token: &str| {
            verified.fetch_add(1, SeqCst);
            failures.extend(verify(token, &list).err());
        };
        try_it(&token);
        std::thread::sleep(Duration::from_millis(10));
        tokens.push_back((Instant::now(), token));
        while let Some((_, token)) =
            tokens.pop_front_if(|(since, _)| since.elapsed() > LIFETIME - Duration::from_millis(500))
        {
            try_it(&token);
        }
    }
    failures
}

/// While a shop signs and verifies; gives nothing back but what `act` does.
pub fn while_open<T>(shop: &Shop, act: impl FnOnce() -> T) -> T {
    let (end, verified) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let ends = Ends(&end);
        let working = scope.spawn(|| works(shop, &end, &verified));
        wait_for("tokens that are verified", 60, || (verified.load(SeqCst) > 3).then_some(()));
        let acted = act();
        let before = verified.load(SeqCst);
        wait_for("more of them", 60, || (verified.load(SeqCst) > before + 5).then_some(()));
        drop(ends);
        let failures = working.join().unwrap();
        assert!(failures.is_empty(), "{} of {} were refused: {failures:?}", failures.len(), verified.load(SeqCst));
        acted
    })
}

/// P-256, of which the public half is computed by the library of the tests.
pub fn ec(form: &[&str]) -> (String, Value) {
    let pem = openssl(form);
    let mut child = Command::new("openssl")
        .args(["ec", "-pubout", "-outform", "DER"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), pem.as_bytes()).unwrap();
    let der = child.wait_with_output().unwrap().stdout;
    let (x, y) = der[der.len() - 64..].split_at(32);
    let text = |bytes| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    (pem, json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y), "kid": "by-hand", "alg": "ES256" }))
}

pub const PKCS8: [&str; 5] = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const SEC1: [&str; 5] = ["ecparam", "-name", "prime256v1", "-genkey", "-noout"];

#[test]
fn every_token_is_verified_while_the_key_is_exchanged() {
    let Some(vault) = Vault::shared("signing keys") else { return };
    let (pem, public) = ec(&PKCS8);
    let shop = Shop::new(vault, (&pem, public), "ES256", "");
    let plan = shop.host.run(&["rotate", "tokens", "--dry-run", "--json"]).ends(0).json();
    assert!(plan["refused"].is_null() && plan["gap_seconds"] == 0.0, "{plan}");
    assert!(plan["warnings"].to_string().contains("its name, by-hand, is not its thumbprint"), "{plan}");
    assert_eq!(shop.kids(), ["other", "by-hand"], "a dry run changes nothing");
    let old = shop.sign();
    while_open(&shop, || shop.host.run(&["rotate", "tokens", "--because", "INC-42"]).ends(0).says("tokens is rotated"));
    let (kid, key) = shop.published();
    assert_eq!(shop.kids(), ["other", kid.as_str()]);
    verify(&shop.sign(), &shop.keys()).unwrap();
    assert_eq!(verify(&old, &shop.keys()).unwrap_err(), "no such key", "the old key opens nothing");
    assert_eq!(fs::read_to_string(shop.host.path("signing.pem")).unwrap(), key);
    let told = Command::new("grep")
        .args(["-rlF", "--", key.lines().nth(1).unwrap()])
        .args(["state", "cache", "store", "etc"].map(|name| shop.host.path(name)))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), "");
    // To another algorithm, and from that.
    for algorithm in ["EdDSA", "RS256"] {
        kills::wait_for_a_moment(&shop.host);
        let path = shop.host.path("etc/policies.d/shop.yaml");
        let text = fs::read_to_string(&path).unwrap();
        let before = if algorithm == "EdDSA" { "ES256" } else { "EdDSA" };
        fs::write(path, text.replace(before, algorithm)).unwrap();
        while_open(&shop, || shop.host.run(&["rotate", "tokens"]).ends(0));
        assert_eq!(shop.keys()["keys"][1]["alg"], algorithm);
    }
}

#[test]
fn a_key_of_openssl_is_taken_and_a_wrong_one_is_refused() {
    let Some(vault) = Vault::shared("signing keys made by hand") else { return };
    let (pem, public) = ec(&SEC1);
    let shop = Shop::new(vault, (&pem, public), "ES256", "");
    shop.host.run(&["rotate", "tokens", "--dry-run"]).ends(0);
    // The list has another key under that name.
    let (_, another) = ec(&SEC1);
    vault.write(&format!("{}-jwks", shop.name), json!({ "keys": [another] }));
    shop.host.run(&["rotate", "tokens"]).fails(12, "refuses", "");
    vault.write(&shop.name, json!({ "kid": "by-hand", "key": "hunter2" }));
    shop.host.run(&["rotate", "tokens", "--dry-run"]).fails(12, "no key that signs", "a private key as PEM");
}

#[test]
fn what_takes_longer_than_a_process_should_live_is_resumed() {
    let Some(vault) = Vault::shared("signing keys that take long") else { return };
    let (pem, public) = ec(&PKCS8);
    let shop = Shop::new(vault, (&pem, public), "ES256", "");
    let path = shop.host.path("etc/policies.d/shop.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("overlap: 3s", "overlap: 2h")).unwrap();
    shop.host.run(&["rotate", "tokens"]).fails(
        75,
        "verifiers may not have read the new key until",
        "bkp rotate resume",
    );
    let kids = shop.kids();
    assert_eq!((kids.len(), shop.published().0), (3, "by-hand".to_owned()), "it is there, and signs nothing: {kids:?}");
    // Two hours later.
    fs::write(&path, text.replace("overlap: 3s", "overlap: 1s").replace("lifetime: 3s", "lifetime: 24h")).unwrap();
    shop.host.run(&["rotate", "resume", "tokens"]).fails(
        75,
        "tokens that were signed with the key by-hand may be valid until",
        "",
    );
    let kid = shop.published().0;
    assert_eq!(shop.kids(), ["other", "by-hand", kid.as_str()]);
    // As long as the old one is there, it can be taken back, in an emergency it is not waited for.
    shop.host.run(&["rotate", "resume", "tokens", "--emergency"]).ends(0).says("tokens is rotated");
    assert_eq!(shop.kids(), ["other", kid.as_str()]);
    fs::write(&path, text.replace("lifetime: 3s", "lifetime: 24h")).unwrap();
    kills::wait_for_a_moment(&shop.host);
    shop.host.run(&["rotate", "tokens"]).fails(75, "may be valid until", "");
    shop.host.run(&["rotate", "status"]).ends(0).says("stopped midway").says("may be valid until");
    let next = shop.published().0;
    let rollback = ["rotate", "rollback", "tokens"];
    shop.host.run(&rollback).fails(75, &format!("tokens that were signed with the key {next} may be valid until"), "");
    let exp = |number: usize| shop.keys()["keys"][number]["exp"].clone();
    assert_eq!((shop.published().0, shop.kids()), (kid.clone(), vec!["other".to_owned(), kid.clone(), next]));
    assert!(exp(1).is_null() && exp(2).is_i64(), "it signs again: {}", shop.keys());
    shop.host.run(&[&rollback[..], &["--emergency"]].concat()).ends(0).says("as it was before");
    assert_eq!((shop.published().0, shop.kids()), (kid.clone(), vec!["other".to_owned(), kid]));
    assert!(exp(1).is_null(), "{}", shop.keys());
}

/// Whoever goes on with it does not have to say so again.
#[test]
fn an_emergency_of_a_signing_key_waits_for_nothing_until_its_end() {
    let Some(vault) = Vault::shared("an emergency of a signing key") else { return };
    let (pem, public) = ec(&PKCS8);
    let shop = Shop::new(vault, (&pem, public), "ES256", "");
    shop.exchange("overlap: 3s, lifetime: 3s", "overlap: 2h, lifetime: 24h");
    shop.dies_at("rotate:recorded", &["rotate", "tokens", "--emergency"]);
    shop.dies_at("rotate:retired", &["rotate", "resume", "tokens"]);
    shop.host.run(&["rotate", "resume", "tokens"]).ends(0).says("tokens is rotated");
    assert_eq!(shop.kids(), ["other", shop.published().0.as_str()]);
    // And bkp makes the key.
    let file = shop.host.text("signing.pem");
    let supplied = ["rotate", "tokens", "--new-password-file", file.as_str()];
    shop.host.run(&supplied).fails(2, "bkp itself makes the new secret of tokens", "Leave out --new-password-file");
}

/// It is suspended before it notes until when tokens of the old key may be good, and another host takes the rotation back. What it
/// would note then is of a key that signs. Gives a token of the new one.
fn is_overtaken(shop: &Shop) -> String {
    let (main, other) = (fs::read_to_string(shop.host.path("etc/bkp.yaml")).unwrap(), Host::new());
    for name in ["etc/policies.d/shop.yaml", "token"] {
        fs::copy(shop.host.path(name), other.path(name)).unwrap();
    }
    other.configure(&main.replace(&shop.host.url, &other.url));
    fs::write(shop.host.path("etc/bkp.yaml"), main.replace("rotate: { ", "rotate: { lease: 4s, ")).unwrap();
    let sleeper = suspended(&shop.host, "rotate:draining", &["rotate", "tokens"]);
    let token = shop.sign();
    assert_ne!(shop.published().0, "by-hand");
    is_taken_over(&other, &["rotate", "rollback", "tokens"]);
    let left = shop.keys();
    sleeper.signal(Signal::CONT);
    shop.host.finish(sleeper).fails(11, "taken over", "bkp rotate status");
    assert_eq!(shop.keys(), left, "it noted something");
    shop.host.run(&["rotate", "resume", "tokens"]).ends(0).says("nothing is under way");
    fs::write(shop.host.path("etc/bkp.yaml"), main).unwrap();
    token
}

/// On the way back, tokens of the new key are as good as those of the old one were on the way there.
#[test]
fn tokens_of_the_new_key_are_verified_while_it_is_taken_back() {
    let Some(vault) = Vault::shared("signing keys that are taken back") else { return };
    let (pem, public) = ec(&PKCS8);
    let shop = Shop::new(vault, (&pem, public), "ES256", "");
    let fails = shop.host.text("fails-once");
    shop.exchange("[\"true\"]", &format!("[sh, -c, \"! rm {fails} 2>&1\"]"));
    while_open(&shop, || {
        let token = is_overtaken(&shop);
        assert_eq!(shop.published().0, "by-hand");
        assert_eq!(verify(&token, &shop.keys()).unwrap_err(), "no such key", "in the end");
        // By itself, where the shop does not take it.
        kills::wait_for_a_moment(&shop.host);
        shop.dies_at("rotate:published", &["rotate", "tokens"]);
        fs::write(&fails, "").unwrap();
        shop.host.run(&["rotate", "resume", "tokens"]).fails(1, "the old password is in force", "rotate again");
        assert_eq!(shop.published().0, "by-hand");
    });
    assert_eq!(shop.kids(), ["other", "by-hand"]);
    assert!(shop.keys()["keys"][1]["exp"].is_null(), "it signs: {}", shop.keys());
}

#[test]
fn killed_rotations_of_a_signing_key_are_brought_to_their_end() {
    let Some(vault) = Vault::shared("killed rotations of signing keys") else { return };
    let converge = |points: &[&str]| {
        let (pem, public) = ec(&PKCS8);
        let shop = Shop::new(vault, (&pem, public), "EdDSA", "");
        while_open(&shop, || {
            for point in points {
                let before = shop.published().0;
                kills::wait_for_a_moment(&shop.host);
                shop.dies_at(point, &["rotate", "tokens"]);
                shop.host.run(&["rotate", "resume", "tokens"]).ends(0);
                let (kid, kids) = (shop.published().0, shop.kids());
                assert_eq!(kids, ["other", kid.as_str()], "{point}");
                assert_eq!(kid == before, *point == "rotate:saved", "{point}");
            }
        });
    };
    kills::at_once(4, &converge);
}
