//! `bkp discover`: what it takes for protected is, and what it writes is a configuration.

use super::*;
use serde_json::Value;
use support::docker::{Kind, image};

/// A container without a server, removed at the end.
struct Plain(String);

impl Plain {
    fn start(project: &str, mounts: &[&str]) -> Plain {
        let name = unique("plain");
        let label = format!("com.docker.compose.project={project}");
        let mounts: Vec<&str> = mounts.iter().flat_map(|mount| ["-v", mount]).collect();
        let command = [&["run", "-d", "--name", &name, "--label", &label, "--no-healthcheck"], &mounts[..]].concat();
        docker(&[&command[..], &[&image(Kind::Redis), "sleep", "3600"]].concat());
        Plain(name)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rm", "-fv", &self.0]).output();
    }
}

fn found(host: &Bkp, project: &str, name: &str) -> Value {
    let document = host.run(&["discover", "--json", "--project", project]).document();
    let all = document["found"].as_array().unwrap().clone();
    all.into_iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name} is not found: {document}"))
}

fn etc(host: &Bkp, path: &str) -> PathBuf {
    host.state().parent().unwrap().join("etc").join(path)
}

#[test]
fn names_are_free_in_the_whole_configuration() {
    let stacks = [(); 2].map(|()| Stack::start(PART, [("db", Container::redis())]));
    let [Some(one), Some(two)] = stacks else { return };
    let host = host_with("  db: { sqlite: { path: /srv/app.db } }\n");
    for (stack, name) in [(&one, "db-2"), (&two, "db-3")] {
        host.ok(&["discover", "--project", stack.prefix(), "--write"]);
        let policy = std::fs::read_to_string(etc(&host, &format!("policies.d/{}.yaml", stack.prefix()))).unwrap();
        assert!(policy.contains(&format!("  {name}: {{ redis: ")), "{policy}");
        let secret = std::fs::read_to_string(etc(&host, &format!("secrets/{name}"))).unwrap();
        assert_eq!(secret, stack["db"].password());
        host.ok(&["config", "check"]);
    }
    // A file that something else may refer to is not taken for this password, and not replaced.
    let other = Bkp::with_repository();
    std::fs::create_dir(etc(&other, "secrets")).unwrap();
    std::fs::write(etc(&other, "secrets/db"), "another").unwrap();
    let refused = other.run(&["discover", "--project", one.prefix(), "--write"]).expect_code(13);
    refused.says(&["secrets/db is there already, with another content"]);
    assert_eq!(std::fs::read_dir(etc(&other, "policies.d")).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(etc(&other, "secrets/db")).unwrap(), "another");
}

#[test]
fn documents_beside_a_server_are_no_part_of_it() {
    let (docs, data) = (Volume::new(&unique("docs")), Volume::new(&unique("mysql")));
    let wanted = Container::mariadb()
        .volume(&format!("{}:/data", docs.name))
        .volume(&format!("{}:/var/lib/mysql", data.name))
        .volume(&format!("{}:/srv/tree", docs.name));
    let Some(stack) = Stack::start(PART, [("db", wanted)]) else { return };
    std::fs::write(mountpoint(&docs.name).join("letter.txt"), "dear").unwrap();
    let host = Bkp::with_repository();
    let documents = found(&host, stack.prefix(), &docs.name);
    assert_eq!(documents["coverage"]["verdict"], "not_protected", "{documents}");
    // The server would stand still with it, while it is to be dumped.
    assert!(!documents["suggestions"][0]["yaml"].as_str().unwrap().contains("quiesce"), "{documents}");
    assert_eq!(found(&host, stack.prefix(), &data.name)["coverage"]["verdict"], "part_of");
}

#[test]
fn files_of_an_unknown_program_are_to_be_read_while_it_stands_still() {
    let Some(()) = support::docker::require(PART, Kind::Redis) else { return };
    let volume = Volume::new(&unique("index"));
    std::fs::write(mountpoint(&volume.name).join("segments_1"), "of a search engine").unwrap();
    let project = unique("project");
    let container = Plain::start(&project, &[&format!("{}:/srv", volume.name)]);
    let host = Bkp::with_repository();
    host.ok(&["discover", "--project", &project, "--write"]);
    host.ok(&["backup"]).says(&["note: paused for", &container.0]);
}

#[test]
fn what_a_source_leaves_out_is_not_protected_by_it() {
    let Some(()) = support::docker::require(PART, Kind::Redis) else { return };
    let directory = tempfile::tempdir().unwrap();
    let project = unique("project");
    let [docs, mounted] = ["docs", "mounted"].map(|name| directory.path().join(name));
    [&docs, &mounted].into_iter().for_each(|place| std::fs::create_dir(place).unwrap());
    let _mounted = trees::Mounted::tmpfs(&mounted).unwrap();
    [&docs, &mounted].into_iter().for_each(|place| std::fs::write(place.join("letter.txt"), "dear").unwrap());
    let (docs, mounted) = (docs.display().to_string(), mounted.display().to_string());
    let _container = Plain::start(&project, &[&format!("{docs}:/docs"), &format!("{mounted}:/mounted")]);
    let verdict = |more: &str, of: &str| {
        let host = host_with(&format!("  all: {{ volume: {{ path: {}{more} }} }}\n", directory.path().display()));
        found(&host, &project, of)["coverage"]["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict("", &docs), "protected");
    assert_eq!(verdict(", exclude: [docs]", &docs), "not_protected");
    assert_eq!(verdict(", include: [\"letters/**\"]", &docs), "not_protected");
    assert_eq!(verdict("", &mounted), "not_protected");
}
