//! Docker Swarm for real: the task of a service is found wherever Swarm put it, with a password in a Swarm secret.

use crate::cli::Bkp;
use crate::support::docker::engine::{Volume, docker};
use crate::support::docker::{Kind, image, require};
use crate::support::supervisor::Supervisor;
use crate::{PART, unique};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

/// A node is in one swarm at a time, so one test of the machine has it. What is not a test's own is never left.
struct Swarm {
    service: String,
    _supervisor: Supervisor,
    volume: Option<Volume>,
    _turn: File,
}

const END: &str = r#"docker service rm "$1"
for attempt in $(seq 60); do docker secret rm "$2" && break; sleep 0.5; done
[ "$3" = own ] && docker swarm leave --force && docker network rm docker_gwbridge"#;

impl Swarm {
    /// A Redis with an append-only file.
    fn start(password: &str) -> Option<Swarm> {
        require(PART, Kind::Redis)?;
        let turn = File::create(std::env::temp_dir().join("bkp-test-swarm.lock")).unwrap();
        turn.lock().unwrap();
        let own = docker(&["info", "--format", "{{.Swarm.LocalNodeState}}"]) != "active";
        let (service, secret) = (unique("service"), unique("secret"));
        let arguments = [service.as_str(), &secret, if own { "own" } else { "not own" }].map(OsStr::new);
        let supervisor = Supervisor::new(END, &arguments);
        let volume = Volume::new(&unique("swarm"));
        if own {
            docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
        }
        let mut create = Command::new("docker");
        create.args(["secret", "create", "--label", "bkp-test=1", &secret, "-"]).stdin(Stdio::piped());
        let mut create = create.stdout(Stdio::null()).spawn().unwrap();
        create.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        assert!(create.wait().unwrap().success());
        let file = format!("REDIS_PASSWORD_FILE=/run/secrets/{secret}");
        let data = format!("type=volume,source={},destination=/data", volume.name);
        docker(
            &[
                &["service", "create", "--detach=false", "--quiet", "--no-resolve-image", "--name", &service][..],
                &["--label", "bkp-test=1", "--container-label", "bkp-test=1", "--secret", &secret, "--env", &file],
                &["--mount", &data, &image(Kind::Redis), "--appendonly", "yes", "--repl-diskless-sync-delay", "0"],
            ]
            .concat(),
        );
        Some(Swarm { service, _supervisor: supervisor, volume: Some(volume), _turn: turn })
    }

    /// The container of the task that runs now.
    fn task(&self) -> String {
        let filter = format!("label=com.docker.swarm.service.name={}", self.service);
        docker(&["ps", "--filter", &filter, "--filter", "status=running", "--format", "{{.Names}}"])
    }

    fn redis(&self, password: &str, words: &[&str]) -> String {
        let login = format!("REDISCLI_AUTH={password}");
        docker(&[&["exec", "--env", &login, &self.task(), "redis-cli"][..], words].concat())
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        // Before the volume: a task uses it.
        let _ = Command::new("docker").args(["service", "rm", &self.service]).output();
        crate::cli::eventually("the end of the task", || self.task().is_empty());
        drop(self.volume.take());
    }
}

#[test]
fn a_redis_of_a_swarm_service_is_found_again_after_its_task_was_made_anew() {
    let password = "pw-of-the-swarm";
    let Some(swarm) = Swarm::start(password) else { return };
    let rights = "+ping +info +time +psync +replconf +config|get +acl|list +role";
    let user: Vec<&str> =
        ["acl", "setuser", "backup", "on", ">pw-of-backup"].into_iter().chain(rights.split(' ')).collect();
    swarm.redis(password, &user);
    swarm.redis(password, &["set", "session", "alive"]);

    let host = Bkp::with_repository();
    let file = host.write("secret", "pw-of-backup");
    host.configure("", include_str!("../../policies/swarm-redis-sentinel.yaml"));
    let bkp = |words: &[&str]| {
        let mut command = host.command(words);
        command.env("CART_SERVICE", &swarm.service).env("CART_PASSWORD_FILE", &file);
        crate::cli::Ran::of(command.output().unwrap())
    };
    bkp(&["backup", "carts"]).expect_code(0);
    let shown = bkp(&["show", "carts", "--json"]).expect_code(0).document();
    assert!(shown["image"]["name"].as_str().unwrap().starts_with("bkp-test/redis"), "{shown}");
    bkp(&["restore", "carts", "--to", "restored", "--identity", "key.txt"]).expect_code(0);
    assert!(host.path("restored/appendonlydir").is_dir(), "a server with appendonly reads nothing else");

    let first = swarm.task();
    docker(&["service", "update", "--force", "--detach=false", "--quiet", &swarm.service]);
    assert_ne!(swarm.task(), first, "Swarm made another container");
    swarm.redis(password, &user);
    assert_eq!(swarm.redis(password, &["get", "session"]), "alive");
    bkp(&["backup", "carts"]).expect_code(0);
    assert_eq!(bkp(&["points", "--source", "carts", "--json"]).document()["points"].as_array().unwrap().len(), 2);

    // With the account that the task was told, whose file is nowhere but in it.
    host.configure("", "policy: taking\nlabels: { own_accounts: true }\n");
    docker(&[
        "service",
        "update",
        "--container-label-add",
        "bkp.policy=taking",
        "--detach=false",
        "--quiet",
        &swarm.service,
    ]);
    let taken = bkp(&["backup"]);
    assert!([0, 3].contains(&taken.code), "{}", taken.stderr);
    assert_eq!(host.points(&swarm.service).len(), 1, "the label brings in the task that runs, not those that ended");
}
