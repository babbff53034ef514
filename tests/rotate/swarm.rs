//! A service of a real Swarm: given a secret of another name for each version, and back when its tasks do not come up.

use super::kills::wait_for_distance;
use super::secrecy::{Events, hash, holds};
use super::servers::Mariadb;
use super::support::docker::engine::docker;
use super::support::docker::{Kind, image_named, require};
use super::support::supervisor::Supervisor;
use super::support::vault::Vault;
use super::world::{Target, World};
use bkp::durable::random_hex;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

const END: &str = r#"docker service rm "$1"
for attempt in $(seq 60); do
  for secret in $(docker secret ls --format '{{.Name}}' | grep "^$1"); do docker secret rm "$secret"; done
  [ -n "$(docker secret ls --format '{{.Name}}' | grep "^$1")" ] || break
  sleep 0.5
done
[ "$2" = own ] && docker swarm leave --force && docker network rm docker_gwbridge"#;

/// Ends when it is refused, and when it is given what somebody does not like.
const PROGRAM: &str = r#"
export MYSQL_PWD="$(cat /run/secrets/db_password)"
[ ! -e /shop/broken ] || grep -qF -f /shop/broken <<< "$MYSQL_PWD" || exit 1
while :; do
  mariadb -h127.0.0.1 -P"$PORT" -uapp -e 'select 1' > /tmp/said 2>&1 || cat /tmp/said >> /shop/refused
  printf %s "$MYSQL_PWD" | sha256sum > /tmp/used
  sleep 0.1
done"#;

struct Service {
    world: World,
    /// Also of its secret. Another one, which has the same password, is called so, too, with `-reports` behind it.
    name: String,
    events: Events,
    _supervisor: Supervisor,
    _turn: File,
}

impl Service {
    fn start(part: &str) -> Option<Service> {
        require(part, Kind::Mariadb)?;
        let (vault, server) = (Vault::shared(part)?, Mariadb::start(part)?);
        let port = server.port();
        // A node is in one swarm at a time, so one test of the machine has it.
        let turn = File::create(std::env::temp_dir().join("bkp-test-swarm.lock")).unwrap();
        turn.lock().unwrap();
        let own = docker(&["info", "--format", "{{.Swarm.LocalNodeState}}"]) != "active";
        let name = format!("bkp-test-{}", random_hex(4));
        let supervisor = Supervisor::new(END, &[OsStr::new(&name), OsStr::new(if own { "own" } else { "not own" })]);
        if own {
            docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
        }
        let world = World::with(vault, Arc::new(server) as Arc<dyn Target>, "");
        fs::create_dir(world.host.path("data/shop")).unwrap();
        let events = Events::begin();
        let other = format!("{name}-reports");
        for (name, text) in [(&name, world.old.clone()), (&other, format!("DB_PASSWORD={}\n", world.old))] {
            let mut create = Command::new("docker");
            create.args(["secret", "create", "--label", "bkp-test=1", name, "-"]).stdin(Stdio::piped());
            let mut create = create.stdout(Stdio::null()).spawn().unwrap();
            create.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(create.wait().unwrap().success());
        }
        let secret = format!("source={name},target=db_password,mode=0400");
        let mount = format!("type=bind,source={},destination=/shop", world.host.text("data/shop"));
        docker(
            &[
                &["service", "create", "--detach=false", "--quiet", "--no-resolve-image", "--name", &name][..],
                &["--label", "bkp-test=1", "--container-label", "bkp-test=1", "--network", "host", "--secret", &secret],
                &["--secret", &other],
                &["--mount", &mount, "--env", &format!("PORT={port}"), "--replicas", "2", "--stop-grace-period", "1s"],
                &["--update-monitor", "1s", "--restart-delay", "1s", "--no-healthcheck", "--entrypoint", "bash"],
                &[&image_named("mariadb"), "-c", PROGRAM],
            ]
            .concat(),
        );
        world.consumers_are(&format!(
            "      web:\n        swarm: {{ service: {name}, secret: {name} }}\n        patience: 1m\n"
        ));
        Some(Service { world, name, events, _supervisor: supervisor, _turn: turn })
    }

    fn given(&self) -> String {
        let format = "{{range .Spec.TaskTemplate.ContainerSpec.Secrets}}{{if eq .File.Name \"db_password\"}}{{.SecretName}} {{.File.Name}} {{.File.Mode}}{{end}}{{end}}";
        docker(&["service", "inspect", "--format", format, &self.name])
    }

    fn secrets(&self) -> Vec<String> {
        let listed = docker(&["secret", "ls", "--format", "{{.Name}}"]);
        let mut names: Vec<String> = listed.lines().filter(|n| n.starts_with(&self.name)).map(str::to_owned).collect();
        names.sort();
        names
    }

    /// All of its tasks have logged in with what is published, and nobody was ever refused.
    #[track_caller]
    fn one_password_works(&self, refused: &str) -> String {
        let published = self.world.published();
        assert_ne!(published, refused);
        self.world.target.log_in(&published).unwrap();
        self.world.target.log_in(refused).unwrap_err();
        let filter = format!("label=com.docker.swarm.service.name={}", self.name);
        let tasks = docker(&["ps", "--filter", &filter, "--filter", "status=running", "--quiet"]);
        assert_eq!(tasks.lines().count(), 2);
        let script = format!("until test \"{}\" = \"$(cat /tmp/used)\"; do sleep 0.1; done", hash(&published));
        for task in tasks.lines() {
            docker(&["exec", task, "timeout", "30", "bash", "-c", &script]);
        }
        let refused = fs::read_to_string(self.world.host.path("data/shop/refused")).unwrap_or_default();
        assert_eq!(refused, "", "logins were refused");
        self.world.is_told_nowhere(&published);
        let events = self.events.so_far();
        assert!(holds(&events, "exec_start") && !holds(&events, &published), "Docker tells it");
        published
    }
}

#[test]
fn a_service_is_given_a_secret_of_another_name() {
    let Some(service) = Service::start("rotations in a Swarm") else { return };
    let (world, name, old) = (&service.world, &service.name, service.world.old.clone());
    // What else it is given is looked at, too.
    let other = format!("{name}-reports");
    let besides = format!("given to the Swarm service {name}, beside {name}");
    world.rotate(&["shop-db", "--dry-run"]).ends(13).says(&other).says(&besides);
    let path = world.host.path("etc/policies.d/shop.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("    consumers:\n", &format!("    known: [{other}]\n    consumers:\n"))).unwrap();
    let plan = world.rotate(&["shop-db", "--dry-run"]).ends(0);
    plan.says(&format!("a new version of the Swarm secret {name}, given to the service {name}"));
    world.rotate(&["shop-db"]).ends(0);
    let new = service.one_password_works(&old);
    let first = service.given();
    assert!(first.starts_with(&format!("{name}.")) && first.ends_with(" db_password -r--------"), "{first}");
    assert_eq!(service.secrets().len(), 3, "what people made stays");

    // Killed when the secret was made, and when the service was told, and gone on with; the version before is removed.
    let mut passwords = vec![new];
    for point in ["rotate-consumer:made", "rotate:delivered"] {
        wait_for_distance(world);
        world.dies_at(point, &["shop-db"]);
        world.rotate(&["resume", "shop-db"]).ends(0);
        passwords.push(service.one_password_works(passwords.last().unwrap()));
    }
    let [_, new, newer] = &passwords[..] else { unreachable!() };
    let second = service.given();
    assert_ne!(first, second);
    assert_eq!(service.secrets().len(), 3);

    fs::write(world.host.path("data/shop/broken"), &newer[..12]).unwrap();
    wait_for_distance(world);
    world.rotate(&["shop-db"]).fails(1, &format!("the Swarm service {name} was not updated (paused)"), "rotate again");
    assert_eq!(service.one_password_works(new), *newer);
    assert_eq!(service.given(), second);
    assert_eq!(service.secrets().len(), 3);
}
