//! `docs/DISASTER.md`, run as it stands: a stack is lost with its machine, and comes back on an empty one.
//!
//! A machine is a namespace of mounts in which `/etc`, `/root`, `/srv`, `/var/lib` and `/var/cache` are its own, above the host's;
//! the engine is the host's. So the paths of the document are used, and nothing of them stays.

use crate::images::require;
use crate::support::docker::{self, Kind};
use crate::support::minio::{Minio, PASSWORD, USER};
use crate::support::supervisor::Supervisor;
use crate::{compose, project, succeeded};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

const PART: &str = "docs/DISASTER.md";

/// Runs its script with a root that remembers nothing. `$1` is where the layers go, `$2` the script.
const MACHINE: &str = r#"
set -e
mkdir -p "$1/docker"
mount --bind /var/lib/docker "$1/docker"
for place in etc root srv var/lib var/cache; do
  mkdir -p "$1/upper/$place" "$1/work/$place"
  mount -t overlay overlay -o "lowerdir=/$place,upperdir=$1/upper/$place,workdir=$1/work/$place" "/$place"
done
mount --bind "$1/docker" /var/lib/docker
rm -rf /etc/bkp /var/lib/bkp /var/cache/bkp /srv/shop /root/bkp-configuration
# Warnings are read by a person, who goes on.
bkp() { command bkp "$@" || [ $? = 3 ]; }
set -e
. "$2"
"#;

struct Machine {
    layers: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Machine { layers: tempfile::tempdir().unwrap() }
    }

    fn run(&self, script: &str) -> String {
        let file = self.layers.path().join("script");
        std::fs::write(&file, script).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", MACHINE, "machine"]).arg(self.layers.path());
        command.arg(&file);
        let bkp = Path::new(env!("CARGO_BIN_EXE_bkp")).parent().unwrap();
        let path = format!("{}:{}", bkp.display(), std::env::var("PATH").unwrap());
        command.env_clear().env("PATH", path).env("HOME", "/root").env("TZ", "UTC");
        if let Some(directory) = std::env::var_os("BKP_TEST_COMPOSE") {
            command.env("DOCKER_CONFIG", directory);
        }
        succeeded(&mut command)
    }
}

/// The engine reads no file of a machine, so the secret comes by way of a variable.
fn stack() -> String {
    format!(
        "name: shop\nservices:\n  db:\n    image: {}\n    labels: {{ bkp-test: '1' }}\n    \
         environment: {{ MYSQL_ROOT_PASSWORD_FILE: /run/secrets/db, MYSQL_DATABASE: shop }}\n    \
         secrets: [db]\n    volumes: [db:/var/lib/mysql]\n  app:\n    image: {}\n    labels: {{ bkp-test: '1' }}\n    \
         volumes: [uploads:/srv/uploads]\nsecrets:\n  db: {{ environment: DB_PASSWORD }}\n\
         volumes:\n  db: {{ labels: {{ bkp-test: '1' }} }}\n  uploads: {{ labels: {{ bkp-test: '1' }} }}\n",
        docker::image(Kind::Mariadb),
        docker::image(Kind::Redis),
    )
}

/// The commands of the document, as one script. `values` replace the block that says what one has.
fn script(values: &str) -> String {
    let document = std::fs::read_to_string(project("docs/DISASTER.md")).unwrap();
    let mut blocks: Vec<_> =
        document.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect();
    assert!(blocks.len() >= 7 && blocks[0].contains("BKP_IDENTITY="), "{blocks:?}");
    values.clone_into(&mut blocks[0]);
    blocks.join("\n")
}

/// The document calls the project `shop`: one of somebody else must not be touched.
fn is_free() -> bool {
    let foreign = |what: &str, list: &[&str], format: &str| {
        let mut command = Command::new("docker");
        command.args(list).args(["--filter", "label=com.docker.compose.project=shop", "--format", format]);
        let listed = succeeded(&mut command);
        assert!(
            listed.lines().all(|line| line == "1"),
            "there is a {what} of a project `shop` on this engine: {listed}"
        );
    };
    foreign("container", &["ps", "--all"], "{{.Label \"bkp-test\"}}");
    foreign("volume", &["volume", "ls"], "{{.Label \"bkp-test\"}}");
    true
}

#[test]
fn a_stack_comes_back_on_an_empty_machine() {
    let Some(()) = require(PART) else { return };
    let Some(()) = compose::require_compose() else { return };
    let Some(minio) = Minio::shared(PART) else { return };
    let _one = bkp::durable::Lock::take(&std::env::temp_dir().join("bkp-test-shop.lock"), "the project shop").unwrap();
    assert!(is_free());
    let remove = || succeeded(Command::new("sh").args(["-c", compose::REMOVE, "remove", "shop"]));
    remove();
    let _removal = Supervisor::new(compose::REMOVE, &[OsStr::new("shop")]);
    let bucket = minio.bucket(false);
    let safe = tempfile::tempdir().unwrap();
    let key = safe.path().join("recovery-key.txt");
    let secret = |name: &str, value: &str| format!("printf %s '{value}' > {name}\n");
    let document = std::fs::read_to_string(project("docs/DISASTER.md")).unwrap();
    let policy = document.split("\n```yaml\n").nth(1).unwrap().split("\n```").next().unwrap();

    let old = Machine::new();
    let setup = [
        "mkdir -p /srv/shop/secrets /etc/bkp/policies.d /etc/bkp/secrets && cd /srv/shop\n".to_owned(),
        secret("secrets/db", "correct-horse"),
        secret(".env", "DB_PASSWORD=correct-horse"),
        secret("/etc/bkp/secrets/s3_access_key", USER),
        secret("/etc/bkp/secrets/s3_secret_key", PASSWORD),
        format!("cat > compose.yaml <<'END'\n{}END\n", stack()),
        format!("cat > /etc/bkp/policies.d/shop.yaml <<'END'\n{policy}\nEND\n"),
        format!(
            "cat > /etc/bkp/bkp.yaml <<'END'\nrepository:\n  url: s3://{bucket}/prod\n  endpoint: {}\n  \
             access_key_file: /etc/bkp/secrets/s3_access_key\n  secret_key_file: /etc/bkp/secrets/s3_secret_key\nEND\n",
            minio.endpoint()
        ),
        "docker compose up --detach --wait\n".into(),
        "docker compose exec -T db mysql -uroot -pcorrect-horse shop -e \"create table goods (name text); insert into goods values ('pears')\"\n".into(),
        "docker compose exec -T app sh -c 'echo pixels > /srv/uploads/photo.jpg'\n".into(),
        format!("bkp init --recovery-key {} && bkp backup || [ $? = 3 ]\n", key.display()),
        "docker compose exec -T db mysql -uroot -pcorrect-horse shop -e \"insert into goods values ('figs')\"\n".into(),
    ];
    old.run(&setup.concat());
    drop(old);
    remove();

    let values = format!(
        "export BKP_REPO=s3://{bucket}/prod BKP_ENDPOINT={}\nexport AWS_ACCESS_KEY_ID={USER} AWS_SECRET_ACCESS_KEY={PASSWORD}\n\
         export BKP_IDENTITY={}\n",
        minio.endpoint(),
        key.display()
    );
    let said = Machine::new().run(&script(&values));
    assert!(said.contains("All is well"), "{said}");
    let inside = |service: &str, command: &[&str]| {
        docker::engine::docker(&[&["exec", &format!("shop-{service}-1")], command].concat())
    };
    let goods = ["mysql", "-uroot", "-pcorrect-horse", "-BN", "shop", "-e", "select name from goods"];
    assert_eq!(inside("db", &goods), "pears", "what came after the backup is lost, and nothing else");
    assert_eq!(inside("app", &["cat", "/srv/uploads/photo.jpg"]), "pixels");
}
