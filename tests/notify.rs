//! Who is told of what happens: the real program, a real mail server with STARTTLS, and a listener for what goes by HTTP.

#![allow(clippy::unwrap_used)] // all of this is test

#[path = "support/cli.rs"]
mod cli;
#[path = "notify/sinks.rs"]
mod sinks;
mod support;

use cli::{Bkp, eventually, write_database};
use serde_json::json;
use sinks::{MailServer, WebSink};
use std::path::Path;

const PASSWORD: &str = "c4nary-of-smtp";

/// A host with a policy whose one source is a database, and these channels.
fn host(channels: &str) -> Bkp {
    let host = Bkp::with_repository();
    write_database(&host.path("app.db"), &["one"]);
    let policy =
        format!("policy: shop\nsources:\n  app: {{ sqlite: {{ path: {} }} }}\n", host.path("app.db").display());
    host.configure(&format!("notify:\n{channels}"), &policy);
    host
}

fn damage(host: &Bkp) {
    std::fs::rename(host.path("app.db"), host.path("away.db")).unwrap();
}

fn mend(host: &Bkp) {
    std::fs::rename(host.path("away.db"), host.path("app.db")).unwrap();
}

/// Kinds of records in the journal, of these only.
fn noted(host: &Bkp, kind: &str) -> usize {
    let document = host.json(&["journal", "--last", "1000"]);
    document["records"].as_array().unwrap().iter().filter(|record| record["kind"] == kind).count()
}

#[test]
fn a_failure_is_mailed_once_and_its_end_too() {
    let Some(server) = MailServer::start() else { return };
    let host = host("");
    std::fs::write(host.path("smtp-password"), PASSWORD).unwrap();
    let mail = |language: &str| {
        format!(
            "  - {{ mail: {{ to: [ops@example.org], from: bkp@shop.example, smtp: smtp://localhost:{}, ca_file: {} }}, language: {language} }}\n",
            server.port,
            server.certificate.display(),
        )
    };
    host.configure(&format!("notify:\n{}", mail("es")), &policy(&host.path("app.db")));
    host.ok(&["backup"]);
    assert_eq!(server.mails(), Vec::<String>::new(), "nobody wants to know that all is well");
    damage(&host);
    host.run(&["backup"]).expect_code(1);
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    for part in [
        "From: bkp@shop.example",
        "To: ops@example.org",
        "copia de seguridad de app ha fallado",
        "app.db",
        "última correcta",
    ] {
        assert!(mails[0].contains(part), "`{part}` is not in\n{}", mails[0]);
    }
    host.run(&["backup"]).expect_code(1);
    assert_eq!(server.mails().len(), 1, "it is known that this fails");
    mend(&host);
    host.ok(&["backup"]);
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    assert!(mails.iter().any(|mail| mail.contains("vuelve a funcionar")), "{mails:?}");
    assert_eq!((noted(&host, "notified"), noted(&host, "notify_failed")), (2, 0));
}

fn policy(database: &Path) -> String {
    format!("policy: shop\nsources:\n  app: {{ sqlite: {{ path: {} }} }}\n", database.display())
}

#[test]
fn a_webhook_is_signed_and_a_ping_says_how_it_went() {
    let sink = WebSink::start();
    let host = host("");
    std::fs::write(host.path("hmac"), PASSWORD).unwrap();
    std::fs::write(host.path("ping"), format!("{}/ping/uuid\n", sink.url)).unwrap();
    std::fs::write(host.path("slack"), format!("{}/services/T0/{PASSWORD}", sink.url)).unwrap();
    let channels = format!(
        "  - {{ webhook: {{ url: {0}/hook, secret_file: {1} }} }}\n  - {{ ping: {{ url_file: {2} }}, policies: [shop] }}\n  - {{ ntfy: {{ url: {0}/topic }} }}\n  - {{ slack: {{ url_file: {3} }} }}\n",
        sink.url,
        host.path("hmac").display(),
        host.path("ping").display(),
        host.path("slack").display(),
    );
    host.configure(&format!("notify:\n{channels}"), &policy(&host.path("app.db")));
    host.ok(&["backup"]);
    let paths = |requests: &[sinks::Request]| requests.iter().map(|r| r.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&sink.taken()), ["/ping/uuid/start", "/ping/uuid"]);
    damage(&host);
    host.run(&["backup"]).expect_code(1);
    let mut requests = sink.taken();
    requests.sort_by(|a, b| a.path.cmp(&b.path));
    let slack = format!("/services/T0/{PASSWORD}");
    assert_eq!(paths(&requests), ["/hook", "/ping/uuid/fail", "/ping/uuid/start", slack.as_str(), "/topic"]);
    let hook = &requests[0];
    let body: serde_json::Value = serde_json::from_str(&hook.body).unwrap();
    assert_eq!(body["events"][0]["topic"], "failure");
    assert_eq!(body["events"][0]["name"], "app");
    let signed = format!("{}.{}", hook.header("x-bkp-timestamp"), hook.body);
    assert_eq!(hook.header("x-bkp-signature"), format!("sha256={}", sinks::hmac_by_openssl(PASSWORD, &signed)));
    let topic = &requests[4];
    assert!(!topic.body.contains("app"), "others can read a topic: {}", topic.body);
    host.assert_no_trace(PASSWORD);
}

#[test]
fn a_channel_that_is_down_holds_up_nobody_and_is_told_of() {
    let sink = WebSink::start();
    let host = host("");
    let nobody = sinks::free_port();
    let channels = format!(
        "  - {{ name: away, webhook: {{ url: http://127.0.0.1:{nobody}/hook }} }}\n  - {{ name: there, webhook: {{ url: {}/hook }} }}\n",
        sink.url
    );
    host.configure(&format!("notify:\n{channels}"), &policy(&host.path("app.db")));
    damage(&host);
    host.run(&["backup"]).expect_code(1);
    assert_eq!(sink.taken().len(), 1, "the failure reached the one that is there");
    assert_eq!(noted(&host, "notify_failed"), 1);
    host.run(&["backup"]).expect_code(1);
    let told = sink.taken();
    assert_eq!(told.len(), 1);
    assert!(told[0].body.contains("a channel for notifications cannot be reached: away"), "{}", told[0].body);
    let tried = host.run(&["notify", "test", "--json"]).expect_code(1);
    let outcome = |at: usize| tried.document()["channels"][at]["ok"].clone();
    assert_eq!((outcome(0), outcome(1)), (json!(false), json!(true)));
    assert!(sink.taken()[0].body.contains("this is a test"));
}

#[test]
fn the_daemon_tells_of_what_its_runs_come_to() {
    let sink = WebSink::start();
    let host = host("");
    let channels = format!("  - {{ webhook: {{ url: {}/hook }}, on: [failure] }}\n", sink.url);
    let scheduled =
        policy(&host.path("app.db")).replace("sources:", "schedule: \"* * * * * *\"\ndeadline: 20s\nsources:");
    host.configure(&format!("notify:\n{channels}"), &scheduled);
    damage(&host);
    let mut daemon = host.start(&["daemon"]);
    eventually("a failure is told", || noted(&host, "notified") > 0);
    let requests = sink.taken();
    assert!(requests[0].body.contains("backup of app failed"), "{}", requests[0].body);
    rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM).unwrap();
    daemon.wait().unwrap();
}

#[test]
fn an_odd_backup_holds_its_source_until_somebody_has_looked() {
    let sink = WebSink::start();
    let host = host("");
    let channels = format!("  - {{ webhook: {{ url: {}/hook }} }}\n", sink.url);
    host.configure(&format!("notify:\n{channels}"), &policy(&host.path("app.db")));
    let long = "a long row of the shop ".repeat(2000);
    write_database(&host.path("app.db"), &[&long, &long, &long, &long]);
    host.ok(&["backup"]);
    assert_eq!(noted(&host, "hold_placed"), 0);
    write_database(&host.path("app.db"), &["short"]);
    rusqlite::Connection::open(host.path("app.db")).unwrap().execute_batch("vacuum").unwrap();
    host.run(&["backup"]).expect_code(3);
    assert_eq!(noted(&host, "hold_placed"), 1);
    let told = sink.taken();
    assert!(
        told.iter().any(|request| request.body.contains("bkp ack") && request.body.contains("retention is held")),
        "{told:?}"
    );
    host.run(&["ack", "ap"]).expect_code(2).says(&["no source `ap` is held", "Held are: app"]);
    let freed = host.json(&["ack", "app", "--reason", "archived"]);
    assert_eq!(freed["status"], "released");
    assert_eq!(host.json(&["ack", "app"])["status"], "already_free");
    assert_eq!(noted(&host, "hold_released"), 1);
}

#[test]
fn a_source_whose_tables_are_gone_is_held_though_its_file_is_as_large_as_before() {
    let sink = WebSink::start();
    let host = host("");
    let channels = format!("  - {{ webhook: {{ url: {}/hook }} }}\n", sink.url);
    host.configure(&format!("notify:\n{channels}"), &policy(&host.path("app.db")));
    let change = |statements: &str| {
        rusqlite::Connection::open(host.path("app.db")).unwrap().execute_batch(statements).unwrap();
    };
    change(&(0..8).map(|number| format!("create table t{number} (text);")).collect::<String>());
    host.ok(&["backup"]);
    change("drop table t0; drop table t1");
    host.ok(&["backup"]);
    change(&(2..8).map(|number| format!("drop table t{number};")).collect::<String>());
    host.run(&["backup"]).expect_code(3).says(&["1 of 7 tables"]);
    assert_eq!(noted(&host, "hold_placed"), 1);
    let told = sink.taken();
    assert!(told.iter().any(|request| request.body.contains("1 of 7 tables")), "{told:?}");
    // From now on that is what there is.
    host.ok(&["ack", "app"]);
    host.ok(&["backup"]);
    assert_eq!(noted(&host, "hold_placed"), 1);
}

#[test]
fn discord_and_telegram_are_told_as_their_servers_want_it() {
    let sink = WebSink::start();
    let host = host("");
    std::fs::write(host.path("discord"), format!("{}/api/webhooks/1/{PASSWORD}\n", sink.url)).unwrap();
    std::fs::write(host.path("bot"), format!("12345:{PASSWORD}\n")).unwrap();
    let channels = format!(
        "  - {{ discord: {{ url_file: {} }} }}\n  - {{ telegram: {{ token_file: {}, chat: \"-100200\", api: {} }} }}\n",
        host.path("discord").display(),
        host.path("bot").display(),
        sink.url
    );
    // Mentions everybody, and says more than fits into a message.
    let script = "echo '@everyone <@1>'; yes 'a long complaint' | head -n 500; exit 1";
    let policy =
        format!("policy: shop\nsources:\n  app: {{ command: {{ run: [sh, -c, \"({script}) >&2; exit 1\"] }} }}\n");
    host.configure(&format!("notify:\n{channels}"), &policy);
    host.run(&["backup"]).expect_code(1);
    let mut requests = sink.taken();
    requests.sort_by(|a, b| a.path.cmp(&b.path));
    let paths: Vec<&str> = requests.iter().map(|request| request.path.as_str()).collect();
    let (discord, bot) = (format!("/api/webhooks/1/{PASSWORD}"), format!("/bot12345:{PASSWORD}/sendMessage"));
    assert_eq!(paths, [discord.as_str(), bot.as_str()]);
    let body = |at: usize| -> serde_json::Value {
        assert_eq!(requests[at].header("content-type"), "application/json");
        serde_json::from_str(&requests[at].body).unwrap()
    };
    let [told, sent] = [0, 1].map(body);
    // https://discord.com/developers/docs/resources/webhook: `content` of up to 2000 characters.
    let content = told["content"].as_str().unwrap();
    assert!(content.contains("app") && content.chars().count() <= 2000, "{content}");
    assert_eq!(told["allowed_mentions"], json!({ "parse": [] }), "nobody is called by what a server said");
    // https://core.telegram.org/bots/api#sendmessage: `text` of up to 4096 characters, as it stands without `parse_mode`.
    assert_eq!(sent["chat_id"], "-100200");
    assert!(sent["text"].as_str().unwrap().chars().count() <= 4096 && sent["parse_mode"].is_null(), "{sent}");
    assert_eq!((noted(&host, "notified"), noted(&host, "notify_failed")), (2, 0));
    host.assert_no_trace(PASSWORD);
}

#[test]
fn a_digest_comes_by_mail_at_its_hour_and_once() {
    let Some(server) = MailServer::start() else { return };
    let host = host("");
    let mail = format!(
        "  - {{ mail: {{ to: [ops@example.org], from: bkp@shop.example, smtp: smtp://localhost:{}, ca_file: {} }}, on: [digest], digest: \"08:00\" }}\n",
        server.port,
        server.certificate.display(),
    );
    host.configure(&format!("timezone: UTC\nhttp: {{ listen: off }}\nnotify:\n{mail}"), &policy(&host.path("app.db")));
    let clock = |to: &str| {
        let ahead = to.parse::<jiff::Timestamp>().unwrap().duration_since(jiff::Timestamp::now()).as_secs_f64();
        std::fs::write(host.path("clock.new"), ahead.to_string()).unwrap();
        std::fs::rename(host.path("clock.new"), host.path("clock")).unwrap();
    };
    let command = |arguments: &[&str]| {
        let mut command = host.command(arguments);
        command.env("BKP_CLOCK", host.path("clock"));
        command
    };
    clock("2027-03-01T07:58:00Z");
    assert!(command(&["backup"]).output().unwrap().status.success());
    damage(&host);
    assert_eq!(command(&["backup"]).output().unwrap().status.code(), Some(1));
    let mut daemon = command(&["daemon"]).spawn().unwrap();
    eventually("the daemon runs", || noted(&host, "daemon_started") == 1);
    assert_eq!(server.mails(), Vec::<String>::new(), "its hour has not come");
    clock("2027-03-01T08:00:01Z");
    eventually("the digest has come", || !server.mails().is_empty());
    clock("2027-03-01T21:00:00Z");
    eventually("the daemon has seen the evening", || noted(&host, "clock_jumped") >= 2);
    rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM).unwrap();
    daemon.wait().unwrap();
    let mails = server.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    for part in ["To: ops@example.org", "good backups: 1", "failed backups: 1"] {
        assert!(mails[0].contains(part), "`{part}` is not in\n{}", mails[0]);
    }
}

/// The same from the files, also where the configuration is wrong or the journal long.
fn recorded(host: &Bkp, kind: &str) -> usize {
    let files =
        std::fs::read_dir(host.state().join("journal")).into_iter().flatten().flatten().map(|entry| entry.path());
    let segments = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    let mark = format!("\"kind\":\"{kind}\"");
    segments.map(|path| std::fs::read_to_string(path).unwrap().matches(&mark).count()).sum()
}

/// Sets the clock of the daemon, which begins at the real one.
fn set_clock(host: &Bkp, days_ahead: u64) {
    std::fs::write(host.path("clock.new"), (days_ahead * 86_400).to_string()).unwrap();
    std::fs::rename(host.path("clock.new"), host.path("clock")).unwrap();
}

fn stop(mut daemon: std::process::Child) {
    rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM).unwrap();
    daemon.wait().unwrap();
}

#[test]
fn a_clock_that_was_ahead_while_a_channel_was_down_silences_nobody() {
    let host = host("");
    let port = sinks::free_port();
    let channels = format!("  - {{ webhook: {{ url: http://127.0.0.1:{port}/hook }} }}\n");
    host.configure(&format!("http: {{ listen: off }}\nnotify:\n{channels}"), &policy(&host.path("app.db")));
    damage(&host);
    let command = |arguments: &[&str]| {
        let mut command = host.command(arguments);
        command.env("BKP_CLOCK", host.path("clock")).stderr(std::process::Stdio::null());
        command
    };
    let fails = || assert_eq!(command(&["backup"]).status().unwrap().code(), Some(1));
    set_clock(&host, 0);
    let daemon = command(&["daemon"]).spawn().unwrap();
    eventually("the daemon runs", || recorded(&host, "daemon_started") == 1);
    set_clock(&host, 400);
    eventually("the clock is seen to be ahead", || recorded(&host, "clock_jumped") == 1);
    fails();
    eventually("it cannot be told while the clock is ahead", || recorded(&host, "notify_failed") > 0);
    set_clock(&host, 1);
    eventually("the clock is seen to be right again", || recorded(&host, "clock_jumped") == 2);
    let sink = WebSink::at(port);
    eventually("what waited arrives", || recorded(&host, "notified") == 1);
    fails();
    eventually("the next failure arrives, too", || recorded(&host, "notified") == 2);
    stop(daemon);
    let daemon = command(&["daemon"]).spawn().unwrap();
    eventually("the daemon runs again", || recorded(&host, "daemon_started") == 2);
    set_clock(&host, 3);
    fails();
    eventually("and after a restart", || recorded(&host, "notified") == 3);
    assert_eq!(sink.events().iter().filter(|event| event["topic"] == "failure").count(), 3);
    stop(daemon);
}

#[test]
fn what_is_wrong_in_the_configuration_is_told_without_what_may_be_a_secret() {
    const SECRET: &str = "hunter2";
    let sink = WebSink::start();
    let host = host("");
    let hook = format!("  - {{ webhook: {{ url: {}/hook }}, on: [configuration] }}\n", sink.url);
    let good = format!("http: {{ listen: off }}\nnotify:\n{hook}");
    host.configure(&good, &policy(&host.path("app.db")));
    let log = std::fs::File::create(host.path("log")).unwrap();
    let daemon = host.command(&["daemon"]).stderr(log).spawn().unwrap();
    eventually("the daemon runs", || noted(&host, "daemon_started") == 1);
    let loaded = || recorded(&host, "config_loaded");
    for wrong in [
        "  - slack: { url: https://hooks.slack.example/services/T0/hunter2 }",
        "  - slack: https://hooks.slack.example/services/T0/hunter2",
        "  - ping: { url: https://hc.example/hunter2 }",
        "  - webhook: { url: \"http://user:hunter2@h.example/x\" }",
        "  - webhook: { url: \"http://h.example/x?token=hunter2\" }",
        "  - webhook: { url: \"http://h.example/x\", pasword: hunter2 }",
        "  - { ntfy: { url: \"htp://h.example/hunter2\", tokn: hunter2 } }",
        "  - mail: { smtp: \"smtp://me:hunter2@m.example\", to: [a@m.example], pwd: hunter2 }",
        "repository: { url: \"s3://b/x\", endpoint: \"http://user:hunter2@127.0.0.1:9\" }",
        "repository:\n  url: s3://b/x\n  secert: |\n    hunter2: x\n    a: [",
        "repository:\n  pwd \"hunter2\n  url: s3://b/x",
        "vault: hunter2",
        "timezone: $hunter2",
    ] {
        host.configure(&format!("{good}{wrong}\n"), &policy(&host.path("app.db")));
        for arguments in [&["config", "check"][..], &["config", "check", "--json"], &["backup"]] {
            let ran = host.run(arguments).expect_code(2);
            assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(SECRET), "{wrong}\n{ran:?}");
        }
        let before = loaded();
        rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::HUP).unwrap();
        eventually("the daemon has looked", || loaded() > before);
        host.configure(&good, &policy(&host.path("app.db")));
        host.ok(&["reload"]);
    }
    eventually("it is told", || !sink.events().is_empty());
    stop(daemon);
    host.assert_no_trace(SECRET);
    let log = std::fs::read_to_string(host.path("log")).unwrap();
    assert!(log.contains("bkp.yaml:4:19: a secret is never written here"), "where it is, and what: {log}");
    for text in [log, sink.taken().iter().map(|request| request.body.clone()).collect()] {
        assert!(!text.contains(SECRET) && !text.contains(" | "), "a line of the file is shown: {text}");
    }
}

#[test]
fn status_knows_of_everything_that_the_page_knows() {
    let host = host("");
    let port = sinks::free_port();
    let channels = format!("  - {{ webhook: {{ url: http://127.0.0.1:{port}/hook }}, on: [failure] }}\n");
    host.configure(&format!("notify:\n{channels}"), &policy(&host.path("app.db")));
    host.ok(&["backup"]);
    assert!(host.ok(&["status"]).stdout.starts_with("All is well: 1 source protected"));
    damage(&host);
    host.run(&["backup"]).expect_code(1);
    let status = host.run(&["status"]).expect_code(3).stdout;
    for part in [
        "Attention: 1 source protected, and 2 things to look at",
        "FAILED   The last run of app failed",
        "FAILED   webhook takes no messages",
        "         -> bkp notify test webhook",
    ] {
        assert!(status.contains(part), "`{part}` is not in\n{status}");
    }
    let document = host.run(&["status", "--json"]).expect_code(3).document();
    let names: Vec<_> = document["concerns"].as_array().unwrap().iter().map(|one| one["concern"].clone()).collect();
    assert_eq!((names, document["ok"].clone()), (vec![json!("failing"), json!("channel_failing")], json!(false)));
    mend(&host);
    host.ok(&["backup"]);
    let journal = host.state().join("journal/0000000000000001.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text.replacen("app", "apq", 1)).unwrap();
    let status = host.run(&["status"]).expect_code(4).stdout;
    assert!(status.contains("The journal is damaged") && status.contains("-> bkp journal verify"), "{status}");
    assert!(!status.contains("All is well"), "{status}");
}
