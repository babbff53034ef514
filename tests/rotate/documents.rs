//! What `docs/ROTATION.md` tells people to do, done as it stands there: a stack of Docker Compose with a hand-written `.env`.

use super::support::docker::engine::docker;
use super::support::docker::{Kind, image_named, require};
use super::support::host::Host;
use super::support::supervisor::Supervisor;
use super::support::vault::Vault;
use super::support::{not_run, wait_for_every};
use bkp::durable::random_hex;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;

const PART: &str = "the steps of docs/ROTATION.md";

/// A Compose project, by its name.
pub const REMOVE: &str = "
for kind in container network; do
  for id in $(docker $kind ls -q $([ $kind != container ] || echo --all) --filter label=com.docker.compose.project=\"$1\"); do
    docker $kind rm $([ $kind != container ] || echo --force --volumes) $id
  done
done";

/// What the user has. The shop logs in all the time, and writes down each time that it could not.
const STACK: &str = r#"name: PROJECT
services:
  db:
    image: IMAGE
    environment: { MYSQL_ROOT_PASSWORD: root-of-the-shop, MYSQL_USER: app, MYSQL_PASSWORD: "${DB_PASSWORD}", MYSQL_DATABASE: shop }
  web:
    image: IMAGE
    entrypoint: [sh, -c, "until mariadb -hdb -uapp -e 'select 1'; do sleep 0.2; done; while :; do if mariadb -hdb -uapp -e 'select 1' > /dev/null; then touch /tmp/ok; else rm -f /tmp/ok; echo refused >> /shop/refused; fi; sleep 0.1; done"]
    environment: { MYSQL_PWD: "${DB_PASSWORD}" }
    volumes: ["./shop:/shop"]
    healthcheck: { test: [CMD, test, -e, /tmp/ok], interval: 1s, retries: 60 }
    stop_grace_period: 1s
"#;

fn block<'p>(page: &'p str, language: &str, number: usize) -> &'p str {
    let (_, steps) = page.split_once("documents.rs runs these as they are -->").unwrap();
    let after = steps.split(&format!("```{language}\n")).nth(number).unwrap();
    after.split_once("```").unwrap().0
}

#[test]
fn a_hand_written_env_file_becomes_a_rotated_stack() {
    let configuration = std::env::var_os("BKP_TEST_COMPOSE");
    let with_compose = |mut command: Command| {
        if let Some(directory) = &configuration {
            command.env("DOCKER_CONFIG", directory);
        }
        command
    };
    let mut version = Command::new("docker");
    version.args(["compose", "version"]);
    if !with_compose(version).output().is_ok_and(|output| output.status.success()) {
        return not_run(PART, "Docker has no Compose; build it with: eval \"$(scripts/install-test-services)\"");
    }
    let Some(vault) = Vault::shared(PART) else { return };
    // Whether there is the image.
    if require(PART, Kind::Mariadb).is_none() {
        return;
    }
    let (host, project) = (Host::new(), format!("bkp-test-{}", random_hex(4)));
    let _removal = Supervisor::new(REMOVE, &[OsStr::new(&project)]);
    let shop = host.text("data/shop");
    fs::create_dir_all(host.path("data/shop/shop")).unwrap();
    let stack = STACK.replace("PROJECT", &project).replace("IMAGE", &image_named("mariadb"));
    fs::write(host.path("data/shop/compose.yaml"), stack).unwrap();
    fs::write(host.path("data/shop/.env"), "# by hand\nDB_PASSWORD=hand-written\n").unwrap();
    let here = |text: &str| {
        let text = text.replace("/srv/shop", &shop).replace("/etc/bkp/", &format!("{}/", host.text("etc")));
        let text =
            text.replace("shop-db-1", &format!("{project}-db-1")).replace("shop-web-1", &format!("{project}-web-1"));
        text.replace("kv/bkp/rot", &format!("kv/bkp/{project}"))
    };
    let mut up = Command::new("docker");
    up.args(["compose", "--project-directory", &shop, "up", "--detach", "--wait"]);
    let output = with_compose(up).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let page = include_str!("../../docs/ROTATION.md");
    let mut server = Command::new("docker");
    server.args(["exec", "--interactive", "--env", "MYSQL_PWD=root-of-the-shop", &format!("{project}-db-1")]);
    server.args(["mariadb", "-h127.0.0.1", "-uroot", "-e", block(page, "sql", 1)]);
    let output = server.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(host.path("etc/rotate-password"), "a password of its own").unwrap();
    fs::write(host.path("token"), vault.root_token()).unwrap();
    host.configure(&format!(
        "repository: {{ url: \"{}\" }}\nvault: {{ address: \"{}\", token_file: {} }}\nrotate: {{ vault_path: kv/bkp/{project} }}\n",
        host.url,
        vault.address(),
        host.text("token")
    ));
    fs::write(host.path("etc/policies.d/shop.yaml"), here(block(page, "yaml", 1))).unwrap();

    // Both programs as a user has them.
    let programs = host.path("programs");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(vault.program(), programs.join("vault")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bkp"), programs.join("bkp")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    for commands in [block(page, "sh", 1), block(page, "sh", 2)] {
        let mut shell = host.command(&[]);
        let environment: Vec<_> = shell.get_envs().map(|(n, v)| (n.to_owned(), v.map(OsStr::to_owned))).collect();
        shell = Command::new("sh");
        shell.args(["-euc", &here(commands)]).env_clear();
        shell.envs(environment.into_iter().filter_map(|(name, value)| Some((name, value?))));
        shell.env("PATH", &path).env("VAULT_ADDR", vault.address()).env("VAULT_TOKEN", vault.root_token());
        let output = with_compose(shell).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("hand-written"), "{said}");
    }

    let new = vault.get("kv/data/shop/database")["data"]["password"].as_str().unwrap().to_owned();
    assert_ne!(new, "hand-written");
    assert_eq!(fs::read_to_string(host.path("data/shop/.env")).unwrap(), format!("# by hand\nDB_PASSWORD={new}\n"));
    let told = docker(&["inspect", "--format", "{{json .Config.Env}}", &format!("{project}-web-1")]);
    assert!(told.contains(&format!("MYSQL_PWD={new}")), "{told}");
    wait_for_every(200, "a login of the shop", 60, || {
        let health = docker(&["inspect", "--format", "{{.State.Health.Status}}", &format!("{project}-web-1")]);
        (health == "healthy").then_some(())
    });
    assert!(!host.path("data/shop/shop/refused").exists(), "the shop was refused");
}
