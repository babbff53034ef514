//! Configuration that is wrong: told with file, line and caret, all at once, and nothing is done.

use crate::support::host::Host;
use std::fs;

/// Every command that needs the configuration refuses; `message` is what stands in it, `mark` the line that is shown.
fn refuses(policy: &str, message: &str, mark: &str) {
    let host = Host::new();
    fs::create_dir(host.path("data/docs")).unwrap();
    let file = host.path("etc/policies.d/all.yaml");
    fs::write(&file, policy).unwrap();
    for arguments in [&["config", "check"][..], &["backup"], &["status"]] {
        let answer = host.run(arguments).ends(2).says(message).says(mark).says("all.yaml:");
        assert!(answer.err.contains("^") || answer.out.contains("^"), "there is no caret: {answer:?}");
    }
    assert!(host.objects(".").iter().all(|path| !path.to_str().unwrap().contains("/sess/")));
    // Put right, it runs.
    host.sources(&[format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs"))]);
    host.run(&["config", "check"]).ends(0);
    host.run(&["backup"]).ends(0);
    host.is_well();
}

#[test]
fn an_unknown_key() {
    let policy = "policy: all\nsources:\n  docs: { volume: { path: /srv/docs, exlude: [a] } }\n";
    refuses(policy, "exlude", "exlude: [*]");
}

#[test]
fn a_key_that_is_there_twice() {
    let policy = "policy: all\nsources:\n  docs: { volume: { path: /srv/a } }\n  docs: { volume: { path: /srv/b } }\n";
    refuses(policy, "docs", "docs: { volume: { path: ****** } }");
}

#[test]
fn a_wrong_type() {
    let policy = "policy: all\nsources:\n  docs: { volume: { path: [1, 2] } }\n";
    refuses(policy, "path", "path: [*, *]");
}

#[test]
fn several_problems_are_told_at_once() {
    let policy = "policy: all\nschedul: \"@daily\"\nsources:\n  docs: { volume: { pth: /srv/docs } }\n";
    refuses(policy, "schedul", "pth: *********");
}

#[test]
fn a_secret_that_is_written_inline_is_refused_and_not_repeated() {
    let host = Host::new();
    fs::write(host.path("secret"), "hunter2-very-secret").unwrap();
    for key in ["access_key", "secret_key"] {
        host.configure(&format!(
            "repository:\n  url: s3://backups/prod\n  endpoint: http://127.0.0.1:9\n  {key}: hunter2-very-secret\n"
        ));
        for arguments in [&["config", "check"][..], &["config", "show"], &["backup"], &["points", "--json"]] {
            host.run(arguments).ends(2).says(key).says("^");
        }
        host.run(&["doctor"]).ends(1).says(key).says("a secret is never written here");
    }
    // In the URL, on the command line and in the configuration.
    for url in ["s3://user:hunter2-very-secret@backups/prod", "https://user:hunter2-very-secret@host/b"] {
        host.configure(&format!("repository: {{ url: \"{url}\" }}\n"));
        host.run(&["points"]).ends(2);
        host.configure("");
        host.run(&["points", "--repo", url]).ends(2);
    }
}

#[test]
fn a_configuration_that_is_named_must_be_there() {
    let host = Host::new();
    fs::remove_file(host.path("etc/bkp.yaml")).unwrap();
    host.run(&["backup"]).ends(2).says("bkp.yaml");
}
