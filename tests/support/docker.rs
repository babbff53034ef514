//! Real servers in containers of a real Docker Engine, from the images of `tests/images`.
//!
//! Everything goes through the `docker` program, so that nothing here rests on the code under test. Whatever is made has
//! the label `bkp-test=1` and one that names the test process; it is removed with its guard or with the process, and what
//! a killed machine or supervisor left is removed by the next process.

pub mod engine;

use super::supervisor::Supervisor;
use super::{not_run, wait_for_every};
use bkp::durable::random_hex;
use engine::{Network, docker, labels, remove_leftovers, succeeds, text};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::net::IpAddr;
use std::ops::Index;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

const INSTALL: &str = "eval \"$(scripts/install-test-services)\"";
const LIMIT: u64 = 180;

/// Which server it is; MySQL and MariaDB are two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Mysql,
    Mariadb,
    Postgres,
    Redis,
    Valkey,
    Ferretdb,
    MongoJava,
}

impl Kind {
    /// The name of its image, after `bkp-test/`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mysql => "mysql",
            Kind::Mariadb => "mariadb",
            Kind::Postgres => "postgres",
            Kind::Redis => "redis",
            Kind::Valkey => "valkey",
            Kind::Ferretdb => "ferretdb",
            Kind::MongoJava => "mongo-java-server",
        }
    }

    pub fn port(self) -> u16 {
        match self {
            Kind::Mysql | Kind::Mariadb => 3306,
            Kind::Postgres => 5432,
            Kind::Redis | Kind::Valkey => 6379,
            Kind::Ferretdb | Kind::MongoJava => 27017,
        }
    }

    /// The variable with the administrator's password; with `_FILE` behind it, one that names a file.
    pub fn password_variable(self) -> &'static str {
        match self {
            Kind::Mysql | Kind::Mariadb => "MYSQL_ROOT_PASSWORD",
            Kind::Postgres => "POSTGRES_PASSWORD",
            Kind::Redis | Kind::Valkey => "REDIS_PASSWORD",
            Kind::Ferretdb | Kind::MongoJava => "MONGO_INITDB_ROOT_PASSWORD",
        }
    }
}

/// A container that is wanted: what `docker run` is to be told.
#[derive(Clone)]
pub struct Wanted {
    kind: Kind,
    /// After `bkp-test/`.
    image: &'static str,
    name: String,
    password: String,
    environment: Vec<(String, String)>,
    options: Vec<String>,
    arguments: Vec<String>,
    /// Whether Docker goes on asking how it is, each second: that is as much work as most tests are.
    is_watched: bool,
}

impl Wanted {
    fn new(kind: Kind) -> Wanted {
        let name = format!("bkp-test-{}-{}", kind.name(), random_hex(4));
        let password = format!("pw-{}", random_hex(8));
        Wanted {
            kind,
            image: kind.name(),
            name,
            password,
            environment: vec![],
            options: vec![],
            arguments: vec![],
            is_watched: false,
        }
    }

    /// The same kind of server in another version.
    fn image(mut self, image: &'static str) -> Self {
        self.image = image;
        self
    }

    /// Instead of a name that no other container has.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// The administrator's, instead of one that nobody else has. No backslashes: the images do not quote them.
    pub fn password(mut self, password: &str) -> Self {
        self.password = password.into();
        self
    }

    /// When this is the password's variable, or that of its file, no other is set: tell [`password`](Self::password) too.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn label(self, name: &str, value: &str) -> Self {
        self.option("--label").option(&format!("{name}={value}"))
    }

    /// The name of a [`Network`], or `none`.
    pub fn network(self, name: &str) -> Self {
        self.option("--network").option(name)
    }

    /// `VOLUME:/path` or `/path/of/the/host:/path`, with `:ro` behind it if so wanted.
    pub fn volume(self, mount: &str) -> Self {
        self.option("--volume").option(mount)
    }

    /// Docker asks how it is as long as it runs, by the check of its image unless an option names another.
    pub fn watched(mut self) -> Self {
        self.is_watched = true;
        self
    }

    /// Any other option of `docker run`.
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.into());
        self
    }

    /// An argument of the server's own.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts it and waits until it is healthy. `None`, and `part` is told as not run, without Docker or the image.
    pub fn start(self, part: &str) -> Option<Container> {
        start_all(part, [self]).map(|[container]| container)
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn launch(self) -> Container {
        let script = "docker rm -fv \"$1\"";
        let supervisor = Supervisor::new(script, &[OsStr::new(&self.name)]);
        let mut command = Command::new("docker");
        command.args(["run", "--detach", "--name", &self.name]).args(labels());
        let variable = self.kind.password_variable();
        let told = self.variable(variable).or(self.variable(&format!("{variable}_FILE"))).is_some();
        if !told {
            command.args(["--env", variable]).env(variable, &self.password);
        }
        for (name, value) in &self.environment {
            command.args(["--env", name]).env(name, value);
        }
        if !self.is_watched {
            command.arg("--no-healthcheck");
        }
        command.args(&self.options).arg(image_named(self.image)).args(&self.arguments);
        let id = text(command);
        Container { id, wanted: self, supervisor }
    }
}

/// Starts several at once; see [`Wanted::start`].
pub fn start_all<const N: usize>(part: &str, wanted: [Wanted; N]) -> Option<[Container; N]> {
    for each in &wanted {
        require_image(part, each.image)?;
    }
    let started = wanted.map(Wanted::launch);
    started.iter().for_each(Container::wait_until_healthy);
    Some(started)
}

/// A container that runs; removed, with its anonymous volumes, when this is dropped.
pub struct Container {
    id: String,
    wanted: Wanted,
    supervisor: Supervisor,
}

impl Container {
    pub fn mysql() -> Wanted {
        Wanted::new(Kind::Mysql)
    }

    pub fn mariadb() -> Wanted {
        Wanted::new(Kind::Mariadb)
    }

    pub fn mariadb_11() -> Wanted {
        Wanted::new(Kind::Mariadb).image("mariadb-11")
    }

    pub fn postgres() -> Wanted {
        Wanted::new(Kind::Postgres)
    }

    pub fn postgres_18() -> Wanted {
        Wanted::new(Kind::Postgres).image("postgres-18")
    }

    pub fn redis() -> Wanted {
        Wanted::new(Kind::Redis)
    }

    pub fn redis_8() -> Wanted {
        Wanted::new(Kind::Redis).image("redis-8")
    }

    pub fn valkey() -> Wanted {
        Wanted::new(Kind::Valkey)
    }

    pub fn ferretdb() -> Wanted {
        Wanted::new(Kind::Ferretdb)
    }

    pub fn kind(&self) -> Kind {
        self.wanted.kind
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn name(&self) -> &str {
        &self.wanted.name
    }

    /// The administrator's.
    pub fn password(&self) -> &str {
        &self.wanted.password
    }

    /// The administrator.
    pub fn user(&self) -> &str {
        match self.kind() {
            Kind::Mysql | Kind::Mariadb => "root",
            Kind::Postgres => self.wanted.variable("POSTGRES_USER").unwrap_or("postgres"),
            Kind::Redis | Kind::Valkey => "default",
            Kind::Ferretdb | Kind::MongoJava => self.wanted.variable("MONGO_INITDB_ROOT_USERNAME").unwrap_or("root"),
        }
    }

    pub fn port(&self) -> u16 {
        self.kind().port()
    }

    /// Where it is now, as seen from here: another place after another start.
    pub fn ip(&self) -> IpAddr {
        let all = self.inspect("{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{end}}");
        all.lines().find_map(|line| line.parse().ok()).unwrap_or_else(|| panic!("{} has no address", self.name()))
    }

    /// What `docker inspect` says in this format.
    pub fn inspect(&self, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.id])
    }

    pub fn logs(&self) -> String {
        let output = Command::new("docker").args(["logs", &self.id]).output().unwrap();
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }

    /// Stops it in order; its data stays.
    pub fn stop(&self) {
        docker(&["stop", &self.id]);
    }

    pub fn start_again(&self) {
        docker(&["start", &self.id]);
        self.wait_until_healthy();
    }

    /// Runs a command in it, with these variables and this input.
    pub fn exec_with(&self, environment: &[(&str, &str)], command: &[&str], input: &[u8]) -> Output {
        let mut docker = Command::new("docker");
        docker.args(["exec", "--interactive"]);
        for (name, value) in environment {
            docker.args(["--env", name]).env(name, value);
        }
        docker.arg(&self.id).args(command);
        let mut child = docker.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // A command may end without reading all of it.
            scope.spawn(move || stdin.write_all(input).ok());
            child.wait_with_output().unwrap()
        })
    }

    pub fn exec(&self, command: &[&str], input: &[u8]) -> Output {
        self.exec_with(&[], command, input)
    }

    /// Asks the server itself, as its administrator and with its own client: SQL, or commands of Redis, one in a line.
    /// The answer has one row in a line, columns separated by tabs, and no headings.
    #[track_caller]
    pub fn query(&self, database: &str, text: &str) -> String {
        let output = self.try_query(database, text);
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The same where a refusal is expected. No database is the one that is always there.
    pub fn try_query(&self, database: &str, text: &str) -> Output {
        let password = self.password();
        match self.kind() {
            Kind::Mysql | Kind::Mariadb => {
                let command = ["mysql", "--batch", "--raw", "--skip-column-names", "--user=root", database];
                let command = &command[..if database.is_empty() { 5 } else { 6 }];
                self.exec_with(&[("MYSQL_PWD", password)], command, text.as_bytes())
            }
            Kind::Postgres => {
                let database = if database.is_empty() { "postgres" } else { database };
                let client = ["psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--field-separator=\t"];
                let options = ["--set=ON_ERROR_STOP=1", "--username", self.user(), "--dbname", database];
                self.exec(&[&client[..], &options].concat(), text.as_bytes())
            }
            Kind::Redis | Kind::Valkey => {
                let client = format!("{}-cli", self.kind().name());
                let database = if database.is_empty() { "0" } else { database };
                self.exec_with(&[("REDISCLI_AUTH", password)], &[&client, "-e", "-n", database], text.as_bytes())
            }
            Kind::Ferretdb | Kind::MongoJava => unreachable!("there is no client in the image: use a driver"),
        }
    }

    fn wait_until_healthy(&self) {
        let asked =
            ["image", "inspect", "--format", "{{json .Config.Healthcheck.Test}}", &image_named(self.wanted.image)];
        let check: Vec<String> = serde_json::from_str(&docker(&asked)).unwrap();
        let check: Vec<&str> = check.iter().skip(1).map(String::as_str).collect();
        let format = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}";
        wait_for_every(200, &format!("the health of {}", self.name()), LIMIT, || {
            let state = self.inspect(format);
            let is_over = state.starts_with("exited") || state.starts_with("dead") || state.ends_with("unhealthy");
            assert!(!is_over, "{} is {state}: {}", self.name(), self.logs());
            let is_healthy = match self.wanted.is_watched {
                true => state == "running healthy",
                false => state == "running" && self.exec(&check, b"").status.success(),
            };
            is_healthy.then_some(())
        });
    }
}

/// Containers of one stack: one prefix of their names, one network where they know each other by their short names, and
/// the labels that Compose would give.
pub struct Stack {
    prefix: String,
    containers: BTreeMap<String, Container>,
    network: Network,
}

impl Stack {
    pub fn start<const N: usize>(part: &str, wanted: [(&str, Wanted); N]) -> Option<Stack> {
        for (_, each) in &wanted {
            require_image(part, each.image)?;
        }
        let prefix = format!("bkp-test-{}", random_hex(4));
        let network = Network::new(&prefix);
        let names = wanted.each_ref().map(|(name, _)| (*name).to_owned());
        let wanted = wanted.map(|(name, wanted)| {
            let wanted = wanted.name(&format!("{prefix}-{name}")).network(&prefix);
            let wanted = wanted.option("--network-alias").option(name);
            wanted.label("com.docker.compose.project", &prefix).label("com.docker.compose.service", name)
        });
        let containers = names.into_iter().zip(start_all(part, wanted)?).collect();
        Some(Stack { prefix, containers, network })
    }

    /// What the names of its containers begin with, before `-` and the short name.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn network(&self) -> &str {
        &self.network.name
    }
}

impl Index<&str> for Stack {
    type Output = Container;

    fn index(&self, name: &str) -> &Container {
        &self.containers[name]
    }
}

/// The image of that server, with the tag of the files that it was made of.
pub fn image(kind: Kind) -> String {
    image_named(kind.name())
}

pub fn image_named(name: &str) -> String {
    let tag = std::env::var("BKP_TEST_IMAGES").unwrap_or_else(|_| "latest".into());
    format!("bkp-test/{name}:{tag}")
}

/// Whether Docker answers and has the image; otherwise `part` is told as not run.
pub fn require(part: &str, kind: Kind) -> Option<()> {
    require_image(part, kind.name())
}

fn require_image(part: &str, name: &str) -> Option<()> {
    static ENGINE: OnceLock<bool> = OnceLock::new();
    let answers = ENGINE.get_or_init(|| {
        let answers = succeeds(&["version", "--format", "{{.Server.Version}}"]);
        if answers {
            remove_leftovers();
        }
        answers
    });
    if !answers {
        not_run(part, &format!("no Docker Engine answers; install and start it with: {INSTALL}"));
        return None;
    }
    let image = image_named(name);
    if !succeeds(&["image", "inspect", &image]) {
        not_run(part, &format!("Docker has no image {image}; build it with: {INSTALL}"));
        return None;
    }
    Some(())
}
