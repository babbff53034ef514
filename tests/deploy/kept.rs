//! bkp's own configuration in the repository: what is needed to begin again, and no secret.

use crate::cli::{Bkp, files};

const CANARY: &str = "canary-7f3a-do-not-keep";

/// A host with a policy whose source needs a secret, here of a command's environment, and a secret in a file.
fn host() -> Bkp {
    let host = Bkp::with_repository();
    let secret = host.write("secrets/password", CANARY);
    let main = format!("repository:\n  url: file://{}\ntimezone: America/Bogota\n", host.repository().display());
    let policy = format!(
        "# What the shop lives from.\npolicy: shop\nsources:\n  letters: {{ volume: {{ path: {} }} }}\n  \
         never: {{ redis: {{ host: 127.0.0.1, port: 1, password_file: {} }} }}\n  \
         other: {{ redis: {{ host: 127.0.0.1, port: 1, password: ref+env://CANARY }} }}\n",
        host.path("letters").display(),
        secret.display()
    );
    host.write("letters/one.txt", "dear");
    host.configure(&main, &policy);
    host
}

fn kept(host: &Bkp) -> usize {
    host.points("bkp-configuration").len()
}

#[test]
fn what_is_configured_is_kept_with_what_it_protects() {
    let host = host();
    let said = host.run(&["backup", "letters"]).expect_code(0);
    said.says(&["bkp-configuration  "]);
    host.ok_with_key(&["restore", "bkp-configuration", "--to", "back"]);
    let back = |name: &str| std::fs::read_to_string(host.path("back").join(name)).unwrap();
    let configured = host.state().parent().unwrap().join("etc");
    assert_eq!(back("bkp.yaml"), std::fs::read_to_string(configured.join("bkp.yaml")).unwrap());
    assert_eq!(
        back("policies.d/policy.yaml"),
        std::fs::read_to_string(configured.join("policies.d/policy.yaml")).unwrap()
    );
    let page = back("HOST.txt");
    let key = std::fs::read_to_string(host.path("key.txt")).unwrap();
    let writer = key.lines().find(|line| line.starts_with("# bkp-writer: ")).unwrap();
    let recipient = key.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap_or("recovery-key");
    let secret = format!("ref+file://{}", host.path("secrets/password").display());
    for expected in [writer, recipient, &secret, "ref+env://CANARY", &host.state().display().to_string(), "host-a"] {
        assert!(page.contains(expected), "`{expected}` is missing:\n{page}");
    }
    // What was restored is a configuration that works, once its secrets are back.
    host.ok(&["config", "check", "--config", host.path("back/bkp.yaml").to_str().unwrap()]);
    host.ok(&["check"]);
}

#[test]
fn no_secret_is_kept_with_it() {
    let host = host();
    let ran = host.command(&["backup", "letters"]).env("CANARY", CANARY).output().unwrap();
    assert!(ran.status.success());
    host.ok_with_key(&["restore", "bkp-configuration", "--to", "back"]);
    let names = files(&host.path("back"));
    assert_eq!(names.len(), 3, "{names:?}");
    for directory in [host.path("back"), host.cache(), host.state(), host.repository()] {
        for name in files(&directory) {
            let content = std::fs::read(directory.join(&name)).unwrap();
            let found = content.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
            assert!(!found, "the secret is in {}", directory.join(&name).display());
        }
    }
}

#[test]
fn it_is_kept_again_only_when_it_changed() {
    let host = host();
    host.ok(&["backup", "letters"]);
    host.ok(&["backup", "letters"]);
    assert_eq!(kept(&host), 1);
    host.add_policy("more.yaml", "policy: more\nsources: { more: { volume: { path: /etc/alternatives } } }\n");
    let document = host.json(&["backup", "letters"]);
    assert_eq!(document["configuration"]["source"], "bkp-configuration");
    assert_eq!(document["points"].as_array().unwrap().len(), 1, "it is told apart from what was asked for");
    assert_eq!(kept(&host), 2);
    // Something that is not configured says nothing about the configuration.
    host.add_policy("more.yaml", "policy: more\nsources: { less: { volume: { path: /etc/alternatives } } }\n");
    host.ok(&["backup", "--source", &format!("adhoc=volume:{}", host.path("letters").display())]);
    assert_eq!(kept(&host), 2);
}

/// What came of the runs that kept it.
fn outcomes(host: &Bkp) -> Vec<String> {
    let journal = host.json(&["journal", "--source", "bkp-configuration"]);
    let ends = journal["records"].as_array().unwrap().iter().filter(|record| record["kind"] == "run_ended");
    ends.map(|record| record["outcome"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn that_it_could_not_be_kept_is_told_until_it_is() {
    let host = host();
    let more = host.state().parent().unwrap().join("etc/policies.d/more.yaml");
    // Somebody takes the file away while the backup goes on.
    let text =
        format!("policy: more\nsources: {{ taker: {{ command: {{ run: [rm, -fv, \"{}\"] }} }} }}\n", more.display());
    host.add_policy("more.yaml", &text);
    host.run(&["backup", "taker"]).expect_code(3).says(&["bkp's own configuration could not be kept", "more.yaml"]);
    assert_eq!(outcomes(&host), ["failed"]);
    let told = "The repository does not have the configuration of bkp as it is now: cannot read";
    assert!(host.run(&["healthcheck", "--objective"]).expect_code(5).stdout.contains(told));
    host.ok(&["backup", "letters"]);
    assert_eq!(outcomes(&host), ["failed", "done"]);
    assert!(!host.run(&["healthcheck", "--objective"]).expect_code(5).stdout.contains(told));
    // There is no record of having looked, and found that nothing had changed.
    host.ok(&["backup", "letters"]);
    assert_eq!((outcomes(&host).len(), kept(&host)), (2, 1));
}

#[test]
fn it_is_no_source_of_anybody_else() {
    let host = Bkp::with_repository();
    host.configure("", "policy: a\nsources: { bkp-configuration: { volume: { path: /srv } } }\n");
    host.run(&["config", "check"]).expect_code(2).says(&["bkp keeps its own configuration under this name"]);
    let host = self::host();
    host.ok(&["backup", "letters"]);
    let status = host.run(&["status"]).expect_code(5);
    assert!(!status.stdout.contains("bkp-configuration"), "nobody has to look after it: {}", status.stdout);
}
