//! The stacks of `deploy/compose` with bkp as their sidecar, brought up by Docker Compose as they stand: data is written, backed
//! up by the sidecar, and restored.

use crate::cli::{eventually, read_database, write_database};
use crate::images::{DEBIAN, clients, proxy, require, slim};
use crate::support::docker::{self, Kind};
use crate::support::not_run;
use crate::support::supervisor::Supervisor;
use crate::{block, finished, project, succeeded};
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PART: &str = "sidecars of Compose";

/// A copy of `deploy/compose`, with secrets, and one of its stacks up.
struct Stack {
    place: tempfile::TempDir,
    stack: &'static str,
    name: String,
    _removal: Supervisor,
}

/// Everything of a project, however far it came.
pub const REMOVE: &str = "
for kind in container network volume; do
  for id in $(docker $kind ls -q $([ $kind != container ] || echo --all) --filter label=com.docker.compose.project=\"$1\"); do
    case $kind in container) docker rm -fv $id ;; *) docker $kind rm $id ;; esac
  done
done";

/// Whether there is `docker compose`.
pub fn require_compose() -> Option<()> {
    let configuration = std::env::var_os("BKP_TEST_COMPOSE");
    let mut command = Command::new("docker");
    command.args(["compose", "version"]);
    if let Some(directory) = &configuration {
        command.env("DOCKER_CONFIG", directory);
    }
    if command.output().unwrap().status.success() {
        return Some(());
    }
    not_run(PART, "Docker has no Compose; build it with: eval \"$(scripts/install-test-services)\"");
    None
}

impl Stack {
    /// `services` is what an override says for tests: images that there are, and commands for those that do nothing.
    fn prepare(stack: &'static str, services: &str) -> Option<Stack> {
        require(PART)?;
        require_compose()?;
        let place = tempfile::tempdir().unwrap();
        succeeded(Command::new("cp").arg("-r").arg(project("deploy/compose")).arg(place.path()));
        let name = format!("bkp-test-{}", bkp::durable::random_hex(4));
        let removal = Supervisor::new(REMOVE, &[OsStr::new(&name)]);
        let stack = Stack { place, stack, name, _removal: removal };
        std::fs::write(stack.path("test.yaml"), format!("services:\n{services}")).unwrap();
        std::fs::create_dir(stack.path("secrets")).unwrap();
        stack.shared("backups");
        stack.shared("keys");
        Some(stack)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join("compose").join(self.stack).join(name)
    }

    /// A directory that whoever bkp is in its container may write to.
    fn shared(&self, name: &str) {
        std::fs::create_dir_all(self.path(name)).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o777)).unwrap();
    }

    fn secret(&self, name: &str) -> String {
        let secret = format!("pw-{}", bkp::durable::random_hex(8));
        self.give_secret(name, &secret);
        secret
    }

    fn give_secret(&self, name: &str, secret: &str) {
        std::fs::write(self.path("secrets").join(name), secret).unwrap();
        std::fs::set_permissions(self.path("secrets").join(name), std::fs::Permissions::from_mode(0o444)).unwrap();
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &self.name, "--file", "compose.yaml", "--file", "test.yaml"]);
        command.args(arguments).current_dir(self.path("."));
        if let Some(directory) = std::env::var_os("BKP_TEST_COMPOSE") {
            command.env("DOCKER_CONFIG", directory);
        }
        command.env("BKP_IMAGE", slim()).env("BACKUPS", self.path("backups"));
        for (variable, kind) in
            [("MYSQL_IMAGE", Kind::Mysql), ("POSTGRES_IMAGE", Kind::Postgres), ("REDIS_IMAGE", Kind::Redis)]
        {
            command.env(variable, docker::image(kind));
        }
        command.env("MONGO_IMAGE", docker::image(Kind::Ferretdb));
        if self.stack == "django-celery" {
            command.env("BKP_CLIENTS_IMAGE", clients());
        }
        if self.stack == "microservices-mysql" {
            command.env("PROXY_IMAGE", proxy());
        }
        for variable in ["FLASK_IMAGE", "GATEWAY_IMAGE"] {
            command.env(variable, DEBIAN);
        }
        command
    }

    /// Up, and what bkp speaks to has its name in the network: on a busy machine Docker may be late with it.
    fn up(&self, names: &[&str]) {
        let (code, _, stderr) = finished(&mut self.compose(&["up", "--detach", "--wait", "--quiet-pull"]));
        let logs = || finished(&mut self.compose(&["logs"]));
        assert_eq!(code, 0, "{stderr}\n{:?}", logs());
        for name in names {
            let look = ["exec", "--no-TTY", "bkp", "getent", "hosts", name];
            eventually(&format!("the name {name}"), || finished(&mut self.compose(&look)).0 == 0);
        }
    }

    /// bkp in the sidecar. As the exit code may tell of warnings, it is given.
    fn bkp(&self, arguments: &[&str]) -> (i32, String, String) {
        finished(&mut self.compose(&[&["exec", "--no-TTY", "bkp", "bkp"], arguments].concat()))
    }

    #[track_caller]
    fn bkp_ok(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.bkp(arguments);
        assert!([0, 3].contains(&code), "bkp {arguments:?} ended with {code}:\n{stdout}\n{stderr}");
        stdout + &stderr
    }

    /// With the recovery key beside the sidecar's state; only tests do that.
    fn init(&self) {
        self.bkp_ok(&["init", "--recovery-key", "/var/lib/bkp/key.txt"]);
    }

    fn volume(&self, name: &str) -> PathBuf {
        docker::engine::docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &format!("{}_{name}", self.name)]).into()
    }

    /// A command in a service of the stack, with input.
    #[track_caller]
    fn exec(&self, service: &str, variables: &[(&str, &str)], command: &[&str]) -> String {
        let mut all = vec!["exec".to_owned(), "--no-TTY".into()];
        variables.iter().for_each(|(name, value)| all.extend(["--env".into(), format!("{name}={value}")]));
        all.push(service.into());
        all.extend(command.iter().map(|word| (*word).to_owned()));
        succeeded(&mut self.compose(&all.iter().map(String::as_str).collect::<Vec<_>>()))
    }
}

/// Instead of the daemon: these tests say themselves when to back up. Compose waits for no container without a health check.
const WAITS: &str = concat!(
    "  bkp: { entrypoint: [tini, --, sleep], command: [infinity], ",
    "healthcheck: { test: [CMD, \"true\"], interval: 1s } }\n"
);
/// As it stands, but asked for its health at once.
const ASKED_SOON: &str = "  bkp: { healthcheck: { interval: 1s } }\n";

fn own(path: &Path, uid: u32) {
    for entry in std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
        std::os::unix::fs::chown(entry, Some(uid), Some(uid)).unwrap();
    }
    std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
}

#[test]
fn a_sqlite_database_on_a_volume_without_any_socket() {
    let services = format!("{ASKED_SOON}  app: {{ command: [sleep, infinity] }}\n");
    let Some(stack) = Stack::prepare("flask-sqlite", &services) else { return };
    // Often, so that the daemon has something to do.
    let policy = stack.path("bkp/policies.d/flask.yaml");
    let text = std::fs::read_to_string(&policy).unwrap().replace("*/30 * * * *", "*/2 * * * * *");
    std::fs::write(&policy, text).unwrap();
    let init = ["run", "--rm", "--no-TTY", "bkp", "init", "--recovery-key", "/var/lib/bkp/key.txt"];
    succeeded(&mut stack.compose(&init));
    let database = stack.volume("data").join("app.db");
    write_database(&database, &["one", "two"]);
    own(&stack.volume("data"), 1000);
    stack.up(&[]);
    let health = ["inspect", "-f", "{{.State.Health.Status}}", &format!("{}-bkp-1", stack.name)];
    assert_eq!(docker::engine::docker(&health), "healthy", "Compose has waited for it");
    eventually("the daemon has made a backup", || stack.bkp(&["status"]).0 == 0);
    stack.bkp_ok(&["config", "check"]);
    stack.bkp_ok(&["restore", "tasks", "--to", "/volumes/data/back.db", "--identity", "/var/lib/bkp/key.txt"]);
    assert_eq!(read_database(&stack.volume("data").join("back.db")), ["one", "two"]);
    succeeded(&mut stack.compose(&["stop", "--timeout", "60", "bkp"]));
    let ended = ["inspect", "-f", "{{.State.ExitCode}}", &format!("{}-bkp-1", stack.name)];
    assert_eq!(docker::engine::docker(&ended), "0", "it ends in order");
}

/// The lines of the README, beside a stack of somebody.
#[test]
fn a_sidecar_in_ten_lines() {
    let Some(stack) = Stack::prepare("flask-sqlite", "  app: {}\n") else { return };
    let sidecar = block("README.md", "yaml", "stop_grace_period");
    assert_eq!(sidecar.lines().count(), 10);
    let backups = format!("{}:", stack.path("backups").display());
    std::fs::write(stack.path("bkp.yaml"), sidecar.replace("/mnt/backup:", &backups)).unwrap();
    let own_stack = format!(
        "services:\n  app:\n    image: {DEBIAN}\n    command: [sleep, infinity]\n    volumes: [\"data:/data\"]\nvolumes:\n  data:\n"
    );
    std::fs::write(stack.path("compose.yaml"), own_stack).unwrap();
    std::fs::remove_file(stack.path("bkp/policies.d/flask.yaml")).unwrap();
    let policy = "policy: data\nschedule: \"*/2 * * * * *\"\nsources: { data: { volume: { path: /volumes/data } } }\n";
    std::fs::write(stack.path("bkp/policies.d/data.yaml"), policy).unwrap();
    let commands = block("README.md", "sh", "bkp.yaml up -d");
    let (first, last) = commands.rsplit_once('\n').unwrap();
    let run = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-e", "-c", script]).current_dir(stack.path(".")).env("COMPOSE_PROJECT_NAME", &stack.name);
        command.envs(stack.compose(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
        finished(&mut command)
    };
    let (code, _, stderr) = run(first);
    assert_eq!(code, 0, "{stderr}");
    eventually("the daemon has made a backup", || run(&last.replace("exec bkp", "exec -T bkp")).0 == 0);
}

#[test]
fn databases_over_the_network_into_a_bucket() {
    // FerretDB's image stands in for MongoDB's, and takes no file.
    let mongo = "  campus-mongo: { entrypoint: [sh, -c, 'MONGO_INITDB_ROOT_PASSWORD=$$(cat /run/secrets/mongo) exec sh /entrypoint.sh'] }\n";
    let Some(stack) = Stack::prepare("django-celery", &format!("{WAITS}{mongo}")) else { return };
    let redis = stack.secret("redis");
    for name in ["postgres", "mongo", "s3_access_key", "s3_secret_key"] {
        stack.secret(name);
    }
    // Its own test has the bucket; here the way to the databases matters.
    std::fs::write(stack.path("bkp/bkp.yaml"), "repository: { url: file:///var/lib/bkp/repository }\n").unwrap();
    stack.up(&["campus-postgres", "campus-mongo", "campus-redis"]);
    let sql = |database: &str, text: &str| {
        stack.exec("campus-postgres", &[], &["psql", "-qAtU", "postgres", "-d", database, "-c", text])
    };
    sql("campus", "create table student (name text); insert into student values ('Ana'), ('Luis')");
    stack.exec("campus-redis", &[("REDISCLI_AUTH", &redis)], &["redis-cli", "lpush", "queue", "task"]);
    std::fs::write(stack.volume("media").join("photo.jpg"), "pixels").unwrap();
    stack.init();
    stack.bkp_ok(&["backup"]);

    sql("campus", "delete from student");
    stack.bkp_ok(&["restore", "campus-db", "--identity", "/var/lib/bkp/key.txt"]);
    let copy = sql("postgres", "select datname from pg_database where datname like 'campus_restore_%'");
    assert_eq!(sql(&copy, "select name from student order by 1"), "Ana\nLuis");
    stack.bkp_ok(&["restore", "media", "--to", "/tmp/media", "--identity", "/var/lib/bkp/key.txt"]);
    assert_eq!(stack.exec("bkp", &[], &["cat", "/tmp/media/photo.jpg"]), "pixels");
    stack.bkp_ok(&["restore", "celery", "--to", "/tmp/redis", "--identity", "/var/lib/bkp/key.txt"]);
    stack.exec("bkp", &[], &["test", "-s", "/tmp/redis/dump.rdb"]);
    stack.bkp_ok(&["check", "--level", "readable", "--identity", "/var/lib/bkp/key.txt"]);
    // Neither the engine nor anything outside can be reached by the databases' network.
    stack.exec("bkp", &[], &["test", "!", "-e", "/var/run/docker.sock"]);
}

#[test]
fn databases_in_their_containers_through_a_proxy() {
    let Some(stack) =
        Stack::prepare("microservices-mysql", &format!("{WAITS}  gateway: {{ command: [sleep, infinity] }}\n"))
    else {
        return;
    };
    let passwords = ["mysql_auth", "mysql_grades"].map(|name| stack.secret(name));
    stack.secret("redis");
    stack.up(&["docker"]);
    let sql = |service: &str, password: &str, text: &str| {
        stack.exec(service, &[("MYSQL_PWD", password)], &["mysql", "-BNuroot", "-e", text])
    };
    sql("mysql-auth", &passwords[0], "create table auth.user (name text); insert into auth.user values ('ana')");
    sql(
        "mysql-grades",
        &passwords[1],
        "create table grades.grade (student text); insert into grades.grade values ('luis')",
    );
    std::fs::write(stack.volume("documents").join("letter.txt"), "dear").unwrap();
    stack.init();
    let said = stack.bkp_ok(&["backup"]);
    assert!(said.contains("paused for"), "{said}");
    stack.bkp_ok(&["check", "--level", "readable", "--identity", "/var/lib/bkp/key.txt"]);

    sql("mysql-auth", &passwords[0], "drop table auth.user");
    stack.bkp_ok(&["restore", "mysql-auth", "--identity", "/var/lib/bkp/key.txt"]);
    let copy = sql("mysql-auth", &passwords[0], "show databases like 'auth\\_restore\\_%'");
    assert_eq!(sql("mysql-auth", &passwords[0], &format!("select name from `{copy}`.user")), "ana");
    stack.bkp_ok(&["restore", "files", "--to", "/tmp/files", "--identity", "/var/lib/bkp/key.txt"]);
    assert_eq!(stack.exec("bkp", &[], &["cat", "/tmp/files/letter.txt"]), "dear");

    // What would be root on the host, the proxy refuses.
    let address = docker::engine::docker(&[
        "inspect",
        "-f",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
        &format!("{}-docker-1", stack.name),
    ]);
    let through = |arguments: &[&str]| {
        finished(Command::new("docker").env("DOCKER_HOST", format!("tcp://{address}:2375")).args(arguments))
    };
    assert_eq!(through(&["ps", "--quiet"]).0, 0);
    for refused in [
        &["create", DEBIAN, "true"][..],
        &["rm", "--force", &stack.name],
        &["volume", "create", "bkp-test-refused"],
        &["image", "ls"],
        &["network", "ls"],
        &["cp", "/etc/hostname", &format!("{}-redis-1:/tmp/", stack.name)],
    ] {
        let (code, _, stderr) = through(refused);
        assert!(code != 0 && stderr.contains("not allowed by the socket proxy"), "{refused:?}: {stderr}");
    }
}
