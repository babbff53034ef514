//! Anchors: into copies, files, mails and time stamps of real servers, by hand and by the daemon; and what they find later.

use super::*;
use crate::support::wait_for;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// A time-stamping authority: `openssl ts`, behind a few lines of HTTP.
pub struct Authority {
    pub url: String,
    directory: tempfile::TempDir,
}

impl Authority {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let configuration = "\
[tsa]\nserial = serial\nsigner_digest = sha256\ndefault_policy = 1.2.3.4\ndigests = sha256, sha384, sha512\naccuracy = secs:1\n\
clock_precision_digits = 3\nordering = yes\ntsa_name = yes\ness_cert_id_chain = no\ness_cert_id_alg = sha256\n";
        fs::write(at.join("tsa.cnf"), configuration).unwrap();
        fs::write(at.join("serial"), "01\n").unwrap();
        fs::write(at.join("leaf.ext"), "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n").unwrap();
        let openssl = |arguments: &str| {
            let status =
                Command::new("openssl").args(arguments.split(' ')).current_dir(at).stderr(Stdio::null()).status();
            assert!(status.unwrap().success(), "{arguments}");
        };
        for name in ["ca", "other"] {
            openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
            ));
        }
        openssl("req -newkey rsa:2048 -nodes -subj /CN=stamps -keyout leaf.key -out leaf.csr");
        openssl(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile leaf.ext -out leaf.pem",
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/tsr", listener.local_addr().unwrap());
        let root = at.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                answer(&root, &body, stream);
            }
        });
        Authority { url, directory }
    }

    pub fn file(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }
}

fn answer(root: &Path, request: &[u8], mut stream: std::net::TcpStream) {
    fs::write(root.join("request"), request).unwrap();
    let reply = "ts -reply -queryfile request -config tsa.cnf -section tsa -signer leaf.pem -inkey leaf.key -chain ca.pem -out reply";
    let output = Command::new("openssl").args(reply.split(' ')).current_dir(root).output().unwrap();
    let body = fs::read(root.join("reply")).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/timestamp-reply\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(&body).unwrap();
}

pub fn configured(host: &Host, to: &str) {
    let copy = format!("copies: [{{ name: far, url: \"file://{}\" }}]", host.text("far"));
    let text = format!(
        "repository: {{ url: \"{}\" }}\n{copy}\nhttp: {{ listen: off }}\nevidence:\n  anchor:\n    schedule: \"0 10 * * *\"\n    to:\n{to}",
        host.url
    );
    host.configure(&text);
}

#[test]
fn what_was_anchored_tells_what_was_cut_off_at_the_end() {
    let host = host();
    configured(&host, &format!("      - copy: far\n      - file: {}\n", host.text("heads.jsonl")));
    host.run(&["copy", "--create", "far"]).ends(0);
    let anchored = host.run(&["evidence", "anchor", "--json"]).ends(0).json();
    let upto = anchored["head"]["seq"].as_u64().unwrap();
    assert_eq!(anchored["places"].as_array().unwrap().iter().filter(|place| place["ok"] == true).count(), 3);
    let document = verified(&host, &[]).ends(0).json();
    let places: Vec<_> = document["anchors"].as_array().unwrap().iter().map(|anchor| anchor["place"].clone()).collect();
    assert_eq!(places, ["the repository", "far", "heads.jsonl".replace("heads.jsonl", "file").as_str()]);
    assert_eq!(document["covered_to"].as_u64(), Some(upto));
    let noted = host.run(&["journal", "--json", "--last", "5"]).ends(0).json();
    let kinds: Vec<_> = noted["records"].as_array().unwrap().iter().map(|record| record["kind"].clone()).collect();
    assert_eq!(kinds, ["run_started", "anchored", "anchored", "anchored", "run_ended"]);

    // Who has the host and the repository takes away the newest records everywhere, and every trace of the anchor.
    let all = segments(&host);
    for path in &all[1..] {
        fs::remove_file(path).unwrap();
    }
    let first = lines(&all[0]);
    write(&all[0], &first[..first.len() - 3]);
    for kind in ["journal", "heads"] {
        host.objects(kind).iter().for_each(|path| fs::remove_file(path).unwrap());
    }
    let document = verified(&host, &[]).ends(4).json();
    let finding = &document["findings"][0];
    assert_eq!(
        (finding["tampering"].clone(), finding["from"].as_u64(), finding["to"].as_u64()),
        ("cut_off".into(), Some(upto - 2), Some(upto))
    );
    host.run(&["evidence", "verify"]).ends(4).says("are cut off at the end: far has held the hash of record");
    // The file alone tells it too, offline.
    fs::remove_dir_all(host.path("far")).unwrap();
    let heads = host.text("heads.jsonl");
    assert!(found(verified(&host, &["--offline", "--anchor", &heads]).ends(4))[0].starts_with("cut_off"));
}

#[test]
fn a_journal_that_was_written_anew_does_not_fit_its_anchor() {
    let host = host();
    configured(&host, &format!("      - file: {}\n", host.text("heads.jsonl")));
    host.run(&["evidence", "anchor"]).ends(0);
    let path = &segments(&host)[0];
    let mut all = lines(path);
    all[12] = all[12].replace("\"bytes\":0", "\"bytes\":7");
    write(path, &rechained(&all, 12));
    let next = &segments(&host)[1];
    let continued = [vec![lines(path).last().unwrap().clone()], lines(next)].concat();
    write(next, &rechained(&continued, 1)[1..]);
    let answer = verified(&host, &["--offline", "--anchor", &host.text("heads.jsonl")]).ends(4);
    let found = found(answer);
    assert!(found.iter().all(|found| found.starts_with("rewritten")), "{found:?}");
    assert!(found.contains(&format!("rewritten 1..{}", all.len())), "{found:?}");
}

#[test]
fn people_hold_the_head_in_a_mail() {
    let Some(server) = sinks::MailServer::start() else { return };
    let host = host();
    let mail = format!(
        "      - mail: {{ to: [auditor@example.org], smtp: \"smtp://localhost:{}\", ca_file: {} }}\n",
        server.port,
        server.certificate.display()
    );
    configured(&host, &mail);
    host.run(&["evidence", "anchor"]).ends(0);
    let mails = server.mails();
    fs::write(host.path("saved.eml"), &mails[0]).unwrap();
    assert!(mails[0].contains("Please keep this mail"), "{}", mails[0]);
    let document = verified(&host, &["--anchor", &host.text("saved.eml")]).ends(0).json();
    let anchor =
        document["anchors"].as_array().unwrap().iter().find(|a| a["place"] == host.text("saved.eml")).unwrap().clone();
    assert_eq!(anchor["fits"], true);
    // A mail of somebody else is none.
    let other = Host::new();
    database(&other.path("data/app.db"), 1, "row");
    other.run(&["backup", "--source", &format!("app=sqlite:{}", other.text("data/app.db"))]).ends(0);
    other
        .run(&["evidence", "verify", "--anchor", &host.text("saved.eml")])
        .ends(4)
        .says("holds no head that this host signed");
}

#[test]
fn an_authority_stamps_the_head_and_openssl_agrees() {
    let authority = Authority::start();
    let host = host();
    configured(
        &host,
        &format!("      - timestamp: {{ url: \"{}\", ca_file: {} }}\n", authority.url, authority.file("ca.pem")),
    );
    host.run(&["evidence", "anchor"]).ends(0);
    let head = host.objects("heads").into_iter().find(|path| path.extension().unwrap() == "json").unwrap();
    let stamp = head.with_extension("tsr");
    let openssl = |data: &Path, authority: &str| {
        let mut command = Command::new("openssl");
        command.args(["ts", "-verify", "-data"]).arg(data).arg("-in").arg(&stamp).args(["-CAfile", authority]);
        command.output().unwrap().status.success()
    };
    assert!(openssl(&head, &authority.file("ca.pem")));
    assert!(!openssl(&head, &authority.file("other.pem")));
    let stamped = |more: &[&str]| {
        let document = verified(&host, more).json();
        (document["ok"].clone(), document["anchors"][0]["stamped"].clone())
    };
    let (ok, stamp_here) = stamped(&[]);
    assert_eq!((ok, stamp_here["trusted"].clone()), (true.into(), true.into()));
    assert_eq!(stamp_here["authority"], "CN=stamps");
    // Somebody who believes another authority does not take it.
    let (ok, _) = stamped(&["--tsa-ca", &authority.file("other.pem")]);
    assert_eq!(ok, false);
    assert_eq!(found(verified(&host, &["--tsa-ca", &authority.file("other.pem")]).ends(4)).len(), 1);
    // In a bundle it is verified by bkp and by openssl.
    let bundle = host.text("bundle");
    host.run(&["evidence", "export", &bundle]).ends(0);
    let mut command = Command::new("sh");
    let key = fs::read_dir(host.path("bundle/keys")).unwrap().next().unwrap().unwrap().path();
    command.arg(host.path("bundle/verify.sh")).arg(key).arg(authority.file("ca.pem"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("time stamp: "), "{said}");
    Host::bare()
        .run(&["evidence", "verify", &bundle, "--key", &bundles::key(&host), "--tsa-ca", &authority.file("ca.pem")])
        .ends(0)
        .says("by CN=stamps");
    the_recipe_of_the_page(&host, &authority);
    // A stamp of another head, or with a changed byte, is none.
    let bytes = fs::read(&stamp).unwrap();
    for at in (0..bytes.len()).step_by(37) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let kept = fs::read(&head).unwrap();
        let authorities = bkp::evidence::timestamp::Authorities::read(Path::new(&authority.file("ca.pem"))).unwrap();
        let same = bkp::evidence::timestamp::verify(&bytes, &kept, Some(&authorities)).unwrap();
        if let Ok(other) = bkp::evidence::timestamp::verify(&changed, &kept, Some(&authorities)) {
            assert_eq!((other.at, other.authority), (same.at, same.authority), "byte {at}");
        }
    }
}

#[test]
fn another_authority_stands_in_for_one_that_gives_no_time_stamp() {
    let (authority, stranger) = (Authority::start(), Authority::start());
    let host = host();
    let nobody = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/tsr", listener.local_addr().unwrap())
    };
    let asked = |urls: &[&str]| {
        let urls = urls.join("\", \"");
        let to = format!("      - timestamp: {{ url: [\"{urls}\"], ca_file: {} }}\n", authority.file("ca.pem"));
        configured(&host, &to);
    };
    // One does not listen, and one is not believed.
    let away = nobody();
    asked(&[&away, &stranger.url, &authority.url]);
    let answer = host.run(&["evidence", "anchor"]).ends(0);
    for url in [&away, &stranger.url] {
        assert!(answer.err.contains(url), "{url}: {}", answer.err);
    }
    let anchors = verified(&host, &[]).ends(0).json()["anchors"].clone();
    assert_eq!(anchors[0]["stamped"]["trusted"], true, "{anchors}");
    asked(&[&away, &nobody()]);
    host.run(&["evidence", "anchor"]).fails(75, "no authority gave a time stamp", "timestamp.url");
}

#[test]
fn a_place_that_does_not_take_it_fails_the_run_and_is_told_of() {
    let sink = sinks::WebSink::start();
    let host = host();
    let to = format!(
        "      - file: /nonexistent/heads.jsonl\n      - {{ name: also, file: {} }}\n",
        host.text("heads.jsonl")
    );
    configured(&host, &to);
    let mut text = fs::read_to_string(host.path("etc/bkp.yaml")).unwrap();
    text.push_str(&format!("notify: [{{ webhook: {{ url: \"{}\" }} }}]\n", sink.url));
    host.configure(&text);
    host.run(&["evidence", "anchor"]).fails(
        1,
        "file: cannot append to /nonexistent/heads.jsonl",
        "bkp evidence anchor",
    );
    // The other place got it.
    assert_eq!(fs::read_to_string(host.path("heads.jsonl")).unwrap().lines().count(), 1);
    let taken = wait_for("the notification", 60, || sink.taken().into_iter().next());
    assert!(taken.body.contains("anchoring of the journal failed"), "{}", taken.body);
    let noted = host.run(&["journal", "--json", "--last", "20"]).ends(0).json();
    let failed = noted["records"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["kind"] == "anchored" && r["ok"] == false)
        .unwrap()
        .clone();
    assert!(failed["message"].as_str().unwrap().contains("No such file"), "{failed}");
}

#[test]
fn the_daemon_anchors_on_schedule() {
    let host = host();
    configured(&host, &format!("      - file: {}\n", host.text("heads.jsonl")));
    let set_clock = |to: &str| {
        let ahead = to.parse::<jiff::Timestamp>().unwrap().duration_since(jiff::Timestamp::now()).as_secs_f64();
        fs::write(host.path("clock.new"), ahead.to_string()).unwrap();
        fs::rename(host.path("clock.new"), host.path("clock")).unwrap();
    };
    let tomorrow = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).strftime("%Y-%m-%d").to_string();
    set_clock(&format!("{tomorrow}T09:59:00Z"));
    let mut command = host.command(&["daemon"]);
    command.env("BKP_CLOCK", host.path("clock"));
    let daemon = host.start(command);
    wait_for("the daemon is ready", 60, || daemon.said().contains("ready: ").then_some(()));
    set_clock(&format!("{tomorrow}T10:00:01Z"));
    wait_for("the anchor", 60, || host.path("heads.jsonl").exists().then_some(()));
    wait_for("the end of the slot", 60, || {
        let all: Vec<String> = segments(&host).iter().flat_map(lines).collect();
        all.iter()
            .any(|line| {
                line.contains("slot_ended") && line.contains("\"job\":\"anchor\"") && line.contains("\"as\":\"done\"")
            })
            .then_some(())
    });
    daemon.signal(rustix::process::Signal::TERM);
    host.finish(daemon).ends(0);
}

/// The commands of docs/EVIDENCE.md, as they stand there.
fn the_recipe_of_the_page(host: &Host, authority: &Authority) {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/EVIDENCE.md")).unwrap();
    let blocks: Vec<&str> = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    let bundle = host.path("bundle");
    let pem = bundle.join("keys").read_dir().unwrap().next().unwrap().unwrap().path();
    fs::copy(pem, bundle.join("key.pem")).unwrap();
    fs::copy(authority.file("ca.pem"), bundle.join("tsa.pem")).unwrap();
    let run = |block: &str| {
        let output = Command::new("sh").args(["-euc", block]).current_dir(&bundle).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (good, said) = run(blocks[0]);
    assert!(good && said.matches("Signature Verified Successfully").count() >= 4, "{said}");
    assert!(!said.contains("does not fit") && !said.contains("cut off") && !said.contains("broken"), "{said}");
    let (good, said) = run(blocks[1]);
    assert!(good && said.contains("Verification: OK"), "{said}");
    // And it finds what it is there to find.
    let path = bundle.join("journal/0000000000000001.jsonl");
    let all = lines(&path);
    write(&path, &[&all[..7], &all[8..]].concat());
    let (good, said) = run(blocks[0]);
    assert!(!good && said.contains("Signature Verification Failure"), "{said}");
    write(&path, &all);
}
