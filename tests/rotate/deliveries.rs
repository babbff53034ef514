//! How consumers are told and moved, with real containers that log in all the time.

use super::documents::REMOVE;
use super::kills::wait_for_distance;
use super::secrecy::{Events, hash, holds};
use super::servers::Mariadb;
use super::support::docker::engine::docker;
use super::support::docker::{Kind, image_named, require};
use super::support::host::{Answer, Running};
use super::support::supervisor::Supervisor;
use super::support::vault::Vault;
use super::support::{not_run, wait_for_every};
use super::world::{Target, World};
use bkp::durable::random_hex;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;
use std::sync::Arc;

/// Logs in all the time with what it has, writes down each refusal, and tells by its hash what it logged in with.
const LIVES: &str = r#"
use() { export MYSQL_PWD="$$(cat $$1)"; }
used() { printf %s "$$MYSQL_PWD" | sha256sum > /tmp/used; }
lives() {
  while :; do
    if mariadb -h127.0.0.1 -P$$PORT -uapp -e 'select 1' > /tmp/said 2>&1; then used; else echo "$$MODE: $$(cat /tmp/said)" >> /shop/refused; fi
    sleep 0.1
  done
}
"#;

/// A project of Compose whose containers use the server of the world.
pub struct Stack {
    pub world: World,
    pub project: String,
    /// From before its containers are made.
    events: Events,
    _removal: Supervisor,
}

impl Stack {
    /// `services`: YAML, in which `LIVES` is a shell's functions; each container has `/shop`, and the server at `127.0.0.1:$PORT`.
    pub fn start(part: &str, services: &str, consumers: &str) -> Option<Stack> {
        if !compose(&["version"]).output().is_ok_and(|output| output.status.success()) {
            not_run(part, "Docker has no Compose; build it with: eval \"$(scripts/install-test-services)\"");
            return None;
        }
        require(part, Kind::Mariadb)?;
        let (vault, server) = (Vault::shared(part)?, Mariadb::start(part)?);
        let port = server.port();
        let project = format!("bkp-test-{}", random_hex(4));
        let removal = Supervisor::new(REMOVE, &[OsStr::new(&project)]);
        let world = World::with(vault, Arc::new(server) as Arc<dyn Target>, "");
        let stack = Stack { world, project, events: Events::begin(), _removal: removal };
        for name in ["shop", "secrets"] {
            fs::create_dir_all(stack.world.host.path(&format!("data/{name}"))).unwrap();
        }
        let lives = LIVES.replace("$$1", "$1").replace('\n', "\n        ");
        let services = services
            .replace("LIVES", &lives)
            .replace(
                "COMMON",
                &format!("image: {}\n    network_mode: host\n    stop_grace_period: 1s", image_named("mariadb")),
            )
            .replace("PORT_IS", &port.to_string());
        fs::write(stack.path("compose.yaml"), format!("name: {}\n{services}", stack.project)).unwrap();
        stack.consumers(consumers);
        Some(stack)
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.world.host.path("data").join(name)
    }

    /// `DIRECTORY` and `PROJECT` stand for those of the stack.
    pub fn consumers(&self, consumers: &str) {
        let consumers = consumers.replace("DIRECTORY", &self.world.host.text("data")).replace("PROJECT", &self.project);
        self.world.consumers_are(&consumers);
    }

    pub fn compose(&self, words: &[&str]) -> String {
        let directory = self.world.host.text("data");
        let output = compose(&[&["--project-directory", &directory], words].concat()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// With the Compose of the tests.
    pub fn rotate(&self, words: &[&str]) -> Answer {
        self.world.host.finish(self.begin(words, ("BKP_CRASH_AT", "")))
    }

    pub fn begin(&self, words: &[&str], (variable, point): (&str, &str)) -> Running {
        let mut command = self.world.host.command(&[&["rotate"], words].concat());
        command.envs(configuration().map(|directory| ("DOCKER_CONFIG", directory))).env(variable, point);
        self.world.host.start(command)
    }

    pub fn dies_at(&self, point: &str, words: &[&str]) {
        let answer = self.world.host.finish(self.begin(words, ("BKP_CRASH_AT", point)));
        println!("killed at {point}: {:?} {}", answer.status, answer.err);
        answer.was_killed();
    }

    /// The container has logged in with this, and with nothing else since.
    pub fn uses(&self, container: &str, password: &str) {
        let name = format!("{}-{container}", self.project);
        let script = format!("test '{}' = \"$(cat /tmp/used)\"", hash(password));
        wait_for_every(100, &format!("{name} to use it"), 60, || {
            let output = Command::new("docker").args(["exec", &name, "sh", "-c", &script]).output().unwrap();
            output.status.success().then_some(())
        });
    }

    #[track_caller]
    pub fn nobody_was_refused(&self) {
        let refused = fs::read_to_string(self.path("shop/refused")).unwrap_or_default();
        assert_eq!(refused, "", "logins were refused");
    }

    /// What is published works, and the other does not.
    #[track_caller]
    pub fn one_password_works(&self, refused: &str) -> String {
        let published = self.world.published();
        assert_ne!(published, refused);
        self.world.target.log_in(&published).unwrap();
        self.world.target.log_in(refused).unwrap_err();
        let events = self.events.so_far();
        assert!(holds(&events, &self.project), "Docker told nothing");
        for secret in [refused, &published] {
            assert!(!holds(&events, secret), "Docker tells it");
        }
        published
    }
}

fn configuration() -> Option<OsString> {
    std::env::var_os("BKP_TEST_COMPOSE")
}

fn compose(words: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.arg("compose").args(words).envs(configuration().map(|directory| ("DOCKER_CONFIG", directory)));
    command
}

/// `web` has the file itself, `worker` the directory in which it is.
const SECRET_FILES: &str = r#"services:
  web:
    COMMON
    volumes: ["./shop:/shop"]
    secrets: [db_password]
    environment: { PORT: "PORT_IS", MODE: web }
    entrypoint:
      - bash
      - -c
      - |
        LIVES
        use /run/secrets/db_password
        lives
    healthcheck: { test: [CMD-SHELL, "test -e /tmp/used && { test ! -e /shop/broken || grep -qF -f /shop/broken /run/secrets/db_password; }"], interval: 1s, retries: 60 }
  worker:
    COMMON
    healthcheck: { disable: true }
    volumes: ["./shop:/shop", "./secrets:/secrets:ro"]
    environment: { PORT: "PORT_IS", MODE: worker }
    entrypoint:
      - bash
      - -c
      - |
        LIVES
        use /secrets/db_password
        trap 'use /secrets/db_password' HUP
        lives
secrets:
  db_password: { file: ./secrets/db_password }
"#;

const THEIR_CONSUMERS: &str = r#"      web:
        secret_file: DIRECTORY/secrets/db_password
        compose: { directory: DIRECTORY, service: web }
        patience: 20s
      worker:
        secret_file: DIRECTORY/secrets/db_password
        container: { name: PROJECT-worker-1, signal: HUP }
        check: [docker, exec, PROJECT-worker-1, bash, -c, "test \"$(sha256sum < /secrets/db_password)\" = \"$(cat /tmp/used)\""]
        patience: 20s
"#;

#[test]
fn a_secret_file_is_exchanged_and_those_who_mount_it_are_moved() {
    let Some(stack) = Stack::start("secret files of containers", SECRET_FILES, &THEIR_CONSUMERS.replace("$(", "$$("))
    else {
        return;
    };
    let (file, old) = (stack.path("secrets/db_password"), stack.world.old.clone());
    fs::write(&file, &old).unwrap();
    chown(&file, Some(999), Some(998)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    stack.compose(&["up", "--detach"]);
    stack.uses("worker-1", &old);
    let started =
        |name: &str| docker(&["inspect", "--format", "{{.State.StartedAt}}", &format!("{}-{name}", stack.project)]);
    let (web, worker) = (started("web-1"), started("worker-1"));

    // A signal lets nobody see another file in the place of one that is mounted by itself.
    let consumers = THEIR_CONSUMERS.replace("$(", "$$(");
    stack.consumers(&consumers.replace("service: web }", "service: web, signal: HUP }"));
    stack.rotate(&["shop-db", "--dry-run"]).fails(13, "would not see another one by HUP", "Add each to");
    stack.consumers(&consumers);

    let plan = stack.rotate(&["shop-db", "--dry-run"]).ends(0);
    plan.says(&format!("replace {}", file.display())).says("restart --no-deps web").says("kill --signal HUP");
    stack.rotate(&["shop-db"]).ends(0);
    let new = stack.one_password_works(&old);
    stack.uses("web-1", &new);
    stack.uses("worker-1", &new);
    assert_eq!(fs::read_to_string(&file).unwrap(), new);
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (999, 998, 0o444));
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    assert_ne!(started("web-1"), web, "the file itself is mounted: only a restart lets it be seen");
    assert_eq!(started("worker-1"), worker, "the directory is mounted: a signal was enough");
    stack.nobody_was_refused();

    // One that works with the old one only: everybody is taken back to it. The whole of it would be found where it is.
    fs::write(stack.path("shop/broken"), &new[..12]).unwrap();
    wait_for_distance(&stack.world);
    stack.rotate(&["shop-db"]).fails(1, "the old password is in force: web", "rotate again");
    assert_eq!(stack.one_password_works(&old), new);
    assert_eq!(fs::read_to_string(&file).unwrap(), new);
    stack.uses("web-1", &new);
    stack.uses("worker-1", &new);
    stack.nobody_was_refused();
    stack.world.is_told_nowhere(&new);
}
