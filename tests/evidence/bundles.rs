//! Bundles: exported, verified with bkp and without it, and tampered with.

use super::*;
use std::process::Command;

/// A bundle of a host with a sealed segment, a signed rehearsal and newer records.
pub fn exported(host: &Host) -> PathBuf {
    rehearsed(host, &[]);
    Journal::of(&host.path("state")).seal(bkp::clock::now()).unwrap();
    host.run(&["backup"]).ends(0);
    rehearsed(host, &["table users: 9 rows, the source held 10"]);
    host.run(&["backup"]).ends(0);
    let bundle = host.path("bundle");
    host.run(&["evidence", "export", host.text("bundle").as_str()]).ends(0).says("bkp evidence verify");
    bundle
}

pub fn key(host: &Host) -> String {
    let state = fs::read_dir(host.path("state/repositories")).unwrap().next().unwrap().unwrap().path();
    let state: Value = serde_json::from_slice(&fs::read(state.join("writer.json")).unwrap()).unwrap();
    state["info"]["verify_key"].as_str().unwrap().to_owned()
}

/// Verification needs nothing of the host.
pub fn offline(arguments: &[&str]) -> Answer {
    Host::bare().run(&[&["evidence", "verify", "--json"], arguments].concat())
}

#[test]
fn a_bundle_is_verified_anywhere() {
    let host = host();
    let bundle = exported(&host);
    let bundle = bundle.to_str().unwrap();
    let document = offline(&[bundle, "--key", &key(&host)]).ends(0).json();
    assert_eq!(
        (document["ok"].clone(), document["sealed"].clone(), document["segments"].clone()),
        (true.into(), 2.into(), 2.into())
    );
    assert_eq!((document["rehearsals"].clone(), document["attested"].clone()), (2.into(), 2.into()));
    assert_eq!(document["key"]["pinned"], true);
    // The recovery key file names the host's key.
    offline(&[bundle, "--key", &host.text("recovery-key.txt")]).ends(0);
    // Without a key, it is said whose word that is.
    Host::bare().run(&["evidence", "verify", bundle]).ends(3).says("the bundle's own word");
    // The key of somebody else fits nothing.
    let stranger = Host::new();
    offline(&[bundle, "--key", &key(&stranger)]).ends(4);
    // A tar file says the same, and an operator makes one without the host, of what was sealed.
    let tar = host.text("evidence.tar");
    host.run(&["evidence", "export", &tar]).ends(0);
    host.run(&["evidence", "export", &tar]).ends(13).says("is there already");
    assert_eq!(offline(&[&tar, "--key", &key(&host)]).ends(0).json()["records"], document["records"]);
    let elsewhere = Host::bare();
    let (made, identity) = (elsewhere.text("operators.tar"), host.text("recovery-key.txt"));
    let arguments = ["evidence", "export", &made, "--repo", &host.url, "--identity", &identity];
    elsewhere.run(&arguments).ends(0);
    offline(&[&made, "--key", &key(&host)]).ends(3).says("--unsigned");
    assert_eq!(offline(&[&made, "--key", &key(&host), "--unsigned"]).ends(0).json()["records"], 44);
    offline(&["/etc/hostname"]).ends(4).says("is no bundle of evidence");
}

#[test]
fn a_rehearsal_is_a_statement_that_other_tools_read() {
    let host = host();
    let bundle = exported(&host);
    let mut results = Vec::new();
    for entry in fs::read_dir(bundle.join("rehearsals")).unwrap() {
        let envelope: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
        use base64::Engine;
        let payload = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let statement: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(statement["predicateType"], "https://in-toto.io/attestation/test-result/v0.1");
        // The point itself is the subject, by the hash of its object.
        let name = statement["subject"][0]["name"].as_str().unwrap();
        let point = host.objects("points").into_iter().find(|path| path.ends_with(name)).unwrap();
        use sha2::Digest;
        let sha256 = hex::encode(sha2::Sha256::digest(fs::read(point).unwrap()));
        assert_eq!(statement["subject"][0]["digest"]["sha256"].as_str().unwrap(), sha256);
        results.push((statement["predicate"]["result"].clone(), statement["predicate"]["failedTests"].clone()));
    }
    results.sort_by_key(|(result, _)| result.to_string());
    let failed = serde_json::json!(["equal", "difference: table users: 9 rows, the source held 10"]);
    assert_eq!(results, [("FAILED".into(), failed), ("PASSED".into(), serde_json::json!([]))]);
}

#[test]
fn whatever_is_changed_in_a_bundle_is_found_by_bkp_and_by_the_recipe() {
    let host = host();
    let bundle = exported(&host);
    let key = key(&host);
    let pem = bundle.join("keys").read_dir().unwrap().next().unwrap().unwrap().path();
    fs::copy(&pem, host.path("key.pem")).unwrap();
    let first = bundle.join("journal/0000000000000001.jsonl");
    let second = bundle.join("journal/0000000000000045.jsonl");
    assert!(second.is_file(), "{:?}", fs::read_dir(bundle.join("journal")).unwrap().collect::<Vec<_>>());
    assert_eq!(recipe(&host), Some(0));
    let all = lines(&first);
    let tail = lines(&second);
    let edited = rechained(&[&all[..5], &[all[5].replace("app", "ape")], &all[6..]].concat(), 5);
    type Tamper<'a> = (&'a str, Box<dyn Fn() + 'a>, &'a str);
    let cases: [Tamper<'_>; 6] = [
        ("a record rewritten", Box::new(|| write(&first, &edited)), "signature 1..44"),
        ("a record removed", Box::new(|| write(&first, &[&all[..7], &all[8..]].concat())), "removed 8..8"),
        (
            "records moved",
            Box::new(|| write(&first, &[&all[..7], &[all[8].clone(), all[7].clone()], &all[9..]].concat())),
            "reordered 8..8",
        ),
        ("the end cut off", Box::new(|| write(&second, &tail[..tail.len() - 1])), "cut_off"),
        ("a segment gone", Box::new(|| fs::remove_file(&first).unwrap()), "removed 1..44"),
        ("the last segment gone", Box::new(|| fs::remove_file(&second).unwrap()), "cut_off 45..49"),
    ];
    for (what, tamper, expected) in cases {
        tamper();
        let answer = offline(&[bundle.to_str().unwrap(), "--key", &key]);
        let found = found(answer.ends(4));
        assert!(found.iter().any(|found| found.starts_with(expected)), "{what}: {found:?}");
        assert_eq!(recipe(&host), Some(4), "{what}");
        write(&first, &all);
        write(&second, &tail);
    }
    // A statement that says something else.
    let statement = bundle.join("rehearsals").read_dir().unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&statement).unwrap();
    let at = text.find("\"payload\":\"").unwrap() + 40;
    let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    fs::write(&statement, format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    let found = found(offline(&[bundle.to_str().unwrap(), "--key", &key]).ends(4));
    assert!(found[0].starts_with("statement"), "{found:?}");
    assert_eq!(recipe(&host), Some(4));
}

fn week_of(day: &str) -> String {
    let week = day.parse::<jiff::civil::Date>().unwrap().iso_week_date();
    format!("{}-W{:02}", week.year(), week.week())
}

/// `verify.sh`, as it stands in the bundle.
pub fn recipe(host: &Host) -> Option<i32> {
    let mut command = Command::new("sh");
    command.arg(host.path("bundle/verify.sh")).arg(host.path("key.pem")).env("EVERY_RECORD", "1");
    let output = command.output().unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.status.code()
}

#[test]
fn a_bundle_of_a_period_begins_and_ends_where_it_should() {
    let host = host();
    exported(&host);
    let part = host.text("part.tar");
    host.run(&["evidence", "export", &part, "--period", "1 minute ago..now"]).ends(2);
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    for (number, period) in [today.clone(), format!("{today}..{today}"), week_of(&today)].iter().enumerate() {
        let part = host.text(&format!("part-{number}.tar"));
        host.run(&["evidence", "export", &part, "--period", period]).ends(0);
        assert_eq!(offline(&[&part, "--key", &key(&host)]).ends(0).json()["records"], 49, "{period}");
    }
    host.run(&["evidence", "export", "none.tar", "--period", "2019-Q1"]).ends(1).says("no record of that period");
    assert!(!host.path("home/none.tar").exists());
}
