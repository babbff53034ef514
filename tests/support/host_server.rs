//! Real database servers on loopback without containers, each in a temporary directory, as a user without rights.

use super::docker::Kind;
use super::supervisor::Supervisor;
use super::{Server, free_port, not_run, require, wait_for};
use bkp::durable::random_hex;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const MARIADB: Server =
    Server { program: "mariadbd", variable: "BKP_TEST_MARIADB", install: "sudo apt-get install -y mariadb-server" };
const POSTGRES: Server =
    Server { program: "postgres", variable: "BKP_TEST_POSTGRES", install: "sudo apt-get install -y postgresql" };
const REDIS: Server =
    Server { program: "redis-server", variable: "BKP_TEST_REDIS", install: "sudo apt-get install -y redis-server" };
const JAVA: Server =
    Server { program: "java", variable: "BKP_TEST_JAVA", install: "sudo apt-get install -y default-jdk-headless" };

const CONFIGURATION: &str = "redis.conf";

/// Servers refuse to run as root; then they run as this user and group, which is nobody.
const NOBODY: &str = "65534";

/// The process is not the shell's child, so it cannot wait for it but by looking.
const END: &str = r#"pid=$(cat "$1/pid")
[ -z "$pid" ] || kill -9 "$pid"
while [ -n "$pid" ] && kill -0 "$pid"; do sleep 0.1; done
rm -rf "$1""#;

/// A server that is wanted.
pub struct WantedServer {
    kind: Kind,
    arguments: Vec<String>,
    password: String,
    files: Vec<(&'static str, String)>,
}

impl WantedServer {
    fn new(kind: Kind) -> WantedServer {
        WantedServer { kind, arguments: vec![], password: format!("pw-{}", random_hex(8)), files: vec![] }
    }

    /// An argument of the server's own.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// The administrator's, instead of one that nobody else has.
    pub fn password(mut self, password: &str) -> Self {
        self.password = password.into();
        self
    }

    /// Redis with all that it is told in a file that it may write to, and these lines.
    pub fn in_file(self, lines: &str) -> Self {
        self.file(CONFIGURATION, lines)
    }

    /// In its data before it starts for the first time.
    pub fn file(mut self, name: &'static str, text: &str) -> Self {
        self.files.push((name, text.into()));
        self
    }

    /// Whether its program is here; otherwise `part` is told as not run.
    pub fn require(&self, part: &str) -> Option<()> {
        let server = match self.kind {
            Kind::Mariadb => &MARIADB,
            Kind::Postgres => &POSTGRES,
            Kind::Redis => &REDIS,
            _ => &JAVA,
        };
        require(part, server).map(drop)
    }

    /// Starts it and waits until it answers. `None`, and `part` is told as not run, when it is not installed.
    pub fn start(self, part: &str) -> Option<HostServer> {
        let program = match self.kind {
            Kind::Mariadb => require(part, &MARIADB)?,
            // Its other programs stand beside itself, not beside links to it.
            Kind::Postgres => require(part, &POSTGRES)?.canonicalize().unwrap(),
            Kind::Redis => require(part, &REDIS)?,
            _ => require(part, &JAVA)?,
        };
        let classes = if self.kind == Kind::MongoJava { Some(mongo_java_server(part)?) } else { None };
        // Short, for the paths of sockets have at most 107 bytes; and where nobody may look.
        let directory = tempfile::Builder::new().prefix("bkp-").tempdir_in("/tmp").unwrap().keep();
        fs::write(directory.join("pid"), "").unwrap();
        super::host::mode(&directory, 0o755);
        let supervisor = Supervisor::new(END, &[directory.as_os_str()]);
        let server = HostServer {
            kind: self.kind,
            program,
            arguments: self.arguments,
            port: free_port(),
            password: self.password,
            child: None,
            directory,
            supervisor,
        };
        Some(server.set_up(classes, &self.files))
    }
}

/// A server that runs; ended, and its files removed, when this is dropped.
pub struct HostServer {
    kind: Kind,
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    password: String,
    child: Option<Child>,
    directory: PathBuf,
    supervisor: Supervisor,
}

impl HostServer {
    pub fn mariadb() -> WantedServer {
        WantedServer::new(Kind::Mariadb)
    }

    pub fn postgres() -> WantedServer {
        WantedServer::new(Kind::Postgres)
    }

    /// A standby of this server of PostgreSQL, with its roles; it lives as long as it is kept.
    pub fn standby(&self) -> HostServer {
        let directory = tempfile::Builder::new().prefix("bkp-").tempdir_in("/tmp").unwrap().keep();
        fs::write(directory.join("pid"), "").unwrap();
        super::host::mode(&directory, 0o755);
        if rustix::process::geteuid().is_root() {
            super::run("chown", &[&format!("{NOBODY}:{NOBODY}"), "."], &directory);
        }
        let supervisor = Supervisor::new(END, &[directory.as_os_str()]);
        let (program, password) = (self.program.clone(), self.password.clone());
        let (kind, port, arguments, child) = (self.kind, free_port(), self.arguments.clone(), None);
        let mut server = HostServer { kind, program, arguments, port, password, child, directory, supervisor };
        let mut command = server.as_owner(&self.program.with_file_name("pg_basebackup"));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-R", "-c", "fast"]);
        server.succeeds(command.arg("-D").arg(server.data()).env("PGPASSWORD", &self.password));
        server.start_again();
        server
    }

    pub fn redis() -> WantedServer {
        WantedServer::new(Kind::Redis)
    }

    /// Speaks MongoDB's protocol and has an oplog, but no users; its data is in memory.
    pub fn mongo_java() -> WantedServer {
        WantedServer::new(Kind::MongoJava)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The administrator.
    pub fn user(&self) -> &str {
        match self.kind {
            Kind::Postgres => "postgres",
            Kind::Redis => "default",
            _ => "root",
        }
    }

    /// The administrator's; the only account with rights, and without the password it has none.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The socket's file; for PostgreSQL its directory, as its clients want it.
    pub fn socket(&self) -> PathBuf {
        if self.kind == Kind::Postgres { self.directory.clone() } else { self.directory.join("socket") }
    }

    /// Where the server keeps its files; they belong to the user that it runs as.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    /// Ends it in order; its data stays.
    pub fn stop(&mut self) {
        // PostgreSQL would wait for its clients.
        self.end(if self.kind == Kind::Postgres { Signal::INT } else { Signal::TERM });
    }

    /// Ends it as a failure of its machine would.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Processes of a PostgreSQL that was killed notice that a moment later, and keep its data until then.
    fn lets_go_of_its_data(&self) -> bool {
        let data = fs::canonicalize(self.data()).unwrap_or_else(|_| self.data());
        let works_there =
            |process: &fs::DirEntry| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == data);
        !fs::read_dir("/proc").unwrap().flatten().any(|process| works_there(&process))
    }

    /// Starts it on its old data at its old place.
    pub fn start_again(&mut self) {
        if self.kind == Kind::Postgres {
            wait_for("the end of what was left of it", 60, || self.lets_go_of_its_data().then_some(()));
        }
        let mut command = self.as_owner(&self.program.clone());
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let (data, socket, port) = (path(self.data()), path(self.socket()), self.port);
        match self.kind {
            Kind::Mariadb => {
                command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
                command.args(["--innodb-buffer-pool-size=32M", &format!("--port={port}")]);
                command.args([format!("--datadir={data}"), format!("--socket={socket}")]);
                command.arg(format!("--pid-file={}", path(self.directory.join("data/server.pid"))));
            }
            Kind::Postgres => {
                command.args(["-D", &data, "-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
                command.args(["-c", &format!("unix_socket_directories={socket}"), "-c", "fsync=off"]);
            }
            Kind::Redis if self.data().join(CONFIGURATION).exists() => _ = command.arg(self.data().join(CONFIGURATION)),
            Kind::Redis => {
                let settings = self.redis_settings();
                command.args(settings.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]));
            }
            _ => {
                command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", &format!("{data}:{data}/*"), "Server"]);
                command.arg(port.to_string());
            }
        }
        let child = command.args(&self.arguments).spawn().unwrap();
        fs::write(self.directory.join("pid"), child.id().to_string()).unwrap();
        self.child = Some(child);
        wait_for(&format!("the start of {:?}", self.kind), 60, || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{:?} ended with {ended:?}: {}", self.kind, self.log());
            self.is_ready().then_some(())
        });
    }

    /// Settings with their values.
    fn redis_settings(&self) -> [(&'static str, String); 6] {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        [
            ("bind", "127.0.0.1".to_owned()),
            ("port", self.port.to_string()),
            ("dir", text(self.data())),
            ("requirepass", self.password.clone()),
            ("unixsocket", text(self.socket())),
            ("save", String::new()),
        ]
    }

    /// Asks the server itself as its administrator; see [`Container::query`](super::docker::Container::query).
    #[track_caller]
    pub fn query(&self, database: &str, text: &str) -> String {
        let output = self.try_query(database, text);
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The same where a refusal is expected.
    pub fn try_query(&self, database: &str, text: &str) -> Output {
        self.ask(&self.password, database, text)
    }

    fn ask(&self, password: &str, database: &str, text: &str) -> Output {
        let port = self.port.to_string();
        let mut command = match self.kind {
            Kind::Mariadb => {
                let mut command = Command::new("mariadb");
                command.args(["--no-defaults", "--batch", "--raw", "--skip-column-names", "--user=root"]);
                command.arg("--socket").arg(self.socket()).env("MYSQL_PWD", password);
                command
            }
            Kind::Postgres => {
                let mut command = Command::new(self.program.with_file_name("psql"));
                command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--field-separator=\t"]);
                command.args(["--set=ON_ERROR_STOP=1", "--username=postgres", "--host=127.0.0.1", "--port", &port]);
                command.arg("--dbname").env("PGPASSWORD", password);
                command
            }
            Kind::Redis => {
                let mut command = Command::new("redis-cli");
                command.args(["-e", "-p", &port, "-n"]).env("REDISCLI_AUTH", password);
                command
            }
            _ => unreachable!("it has no client: use a driver"),
        };
        match (self.kind, database) {
            (Kind::Mariadb, "") => {}
            (Kind::Postgres, "") => _ = command.arg("postgres"),
            (_, "") => _ = command.arg("0"),
            (_, database) => _ = command.arg(database),
        }
        let mut input = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut input, text.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut input).unwrap();
        command.stdin(input).output().unwrap()
    }

    fn set_up(mut self, classes: Option<PathBuf>, files: &[(&str, String)]) -> Self {
        let data = self.data();
        fs::create_dir(&data).unwrap();
        if let Some(from) = classes {
            for entry in fs::read_dir(from).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, data.join(path.file_name().unwrap())).unwrap();
            }
        }
        for (name, text) in files {
            let own: String = match *name {
                CONFIGURATION => self.redis_settings().map(|(name, value)| format!("{name} \"{value}\"\n")).concat(),
                _ => String::new(),
            };
            fs::write(data.join(name), own + text).unwrap();
        }
        if rustix::process::geteuid().is_root() {
            super::run("chown", &["-R", &format!("{NOBODY}:{NOBODY}"), "."], &self.directory);
        }
        match self.kind {
            Kind::Mariadb => self.set_up_mariadb(),
            Kind::Postgres => self.set_up_postgres(),
            _ => self.start_again(),
        }
        self
    }

    fn set_up_mariadb(&mut self) {
        let mut command = self.as_owner(Path::new("mariadb-install-db"));
        command.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
        self.succeeds(command.arg(format!("--datadir={}", self.data().display())));
        self.start_again();
        // Accounts without a password are made for other names of this machine, too, and for nobody.
        let text = format!(
            "set sql_log_bin = 0; delete from mysql.global_priv where User = '' or Host not in ('localhost', '127.0.0.1'); \
             flush privileges; set password for root@127.0.0.1 = password('{0}'); set password for root@localhost = password('{0}')",
            self.password
        );
        let output = self.ask("", "", &text);
        assert!(output.status.success(), "{output:?}");
    }

    fn set_up_postgres(&mut self) {
        let file = self.directory.join("password");
        fs::write(&file, &self.password).unwrap();
        let mut command = self.as_owner(&self.program.with_file_name("initdb"));
        command.args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
        self.succeeds(command.arg("-D").arg(self.data()).arg(format!("--pwfile={}", file.display())));
        fs::remove_file(&file).unwrap();
        self.start_again();
    }

    fn is_ready(&self) -> bool {
        let port = self.port.to_string();
        let mut command = match self.kind {
            Kind::Mariadb => {
                let mut command = Command::new("mariadb-admin");
                command.args(["--no-defaults", "--user=root", "ping", "--socket"]).arg(self.socket());
                command
            }
            Kind::Postgres => {
                let mut command = Command::new(self.program.with_file_name("pg_isready"));
                command.args(["-q", "-h", "127.0.0.1", "-p", &port]);
                command
            }
            _ => return TcpStream::connect(("127.0.0.1", self.port)).is_ok(),
        };
        command.output().is_ok_and(|output| output.status.success())
    }

    /// The program as the user that the files belong to, in the server's directory and with nothing of this environment.
    fn as_owner(&self, program: &Path) -> Command {
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let log = File::options().create(true).append(true).open(self.directory.join("log")).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
        command.env_clear().env("PATH", path).env("HOME", &self.directory).current_dir(&self.directory);
        // A starting MariaDB removes the temporary tables of others that it finds there.
        command.env("TMPDIR", self.data());
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn succeeds(&self, command: &mut Command) {
        let status = command.status().unwrap();
        assert!(status.success(), "{command:?}: {}", self.log());
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            if child.try_wait().unwrap().is_none() {
                kill_process(Pid::from_child(&child), signal).unwrap();
            }
            child.wait().unwrap();
            // Its number may be another's now.
            fs::write(self.directory.join("pid"), "").unwrap();
        }
    }
}

impl Drop for HostServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The directory with its classes.
fn mongo_java_server(part: &str) -> Option<PathBuf> {
    let directory = std::env::var_os("BKP_TEST_MONGO_JAVA").map(PathBuf::from);
    if directory.is_none() {
        not_run(part, "mongo-java-server is missing; build it with: eval \"$(scripts/install-test-services)\"");
    }
    directory
}
