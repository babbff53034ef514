//! The clients of PostgreSQL: which ones, and how they are told where the server is.
//!
//! The password never stands in an argument, a variable, or a file on a disk. On the host, libpq reads it from a file of
//! this process's memory, which is gone with the process; in a container, where nobody else reads from the terminal, the
//! client asks for it and is answered by standard input.
//! A client must not be older than the server: an older `pg_dump` would not know what it leaves out, so it is refused.

use super::sql;
use crate::engine::Server;
use crate::error::{Context, Failure, Kind, Result};
use crate::event::Cancel;
use crate::exec::{Command, Exec, Place};
use crate::secret::Secret;
use rustix::fs::{MemfdFlags, Mode};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// The last major version of a server that can be dumped: older ones lack `hashtextextended`.
const OLDEST: u32 = 11;
/// How far ahead of the server's major version a client is looked for outside of PATH.
const NEWEST: u32 = 25;

pub struct Clients {
    exec: Box<dyn Exec>,
    server: Server,
    /// Of `pg_dump`, with everything before the name.
    pg_dump: String,
    psql: String,
    password: Option<Secret>,
    file: Option<PasswordFile>,
    /// The database that is connected to when none in particular is meant.
    pub maintenance: String,
    /// As `150018`.
    pub version: u32,
    /// As the server says it.
    pub version_text: String,
}

impl Clients {
    /// Finds the clients and asks the server who it is.
    pub fn find(server: &Server, cancel: &Cancel) -> Result<Self> {
        let exec = server.exec()?;
        let password = server.password()?;
        // A client that asks for it takes one line, and what follows would be statements.
        if password.as_ref().is_some_and(|password| password.expose().contains(['\n', '\r'])) {
            return Err(Failure::new(Kind::Key, "the password for PostgreSQL has several lines")
                .hint("Look at `password` of the source: only one line break at its end is passed over"));
        }
        let file = match (&server.place, &password) {
            (Place::Host, Some(password)) => Some(PasswordFile::new(password)?),
            _ => None,
        };
        let psql = look_for(exec.as_ref(), "psql", (OLDEST..=NEWEST).rev())?;
        let mut clients = Clients {
            exec,
            server: server.clone(),
            pg_dump: String::new(),
            psql,
            password,
            file,
            maintenance: "postgres".into(),
            version: 0,
            version_text: String::new(),
        };
        clients.ask_version(cancel)?;
        clients.find_pg_dump(cancel)?;
        Ok(clients)
    }

    fn ask_version(&mut self, cancel: &Cancel) -> Result<()> {
        let question = "select current_setting('server_version_num')::int as number, version() as text";
        let answer = match super::session::Session::open(self, &self.maintenance, cancel) {
            Err(failure) if failure.full().contains("\"postgres\" does not exist") => {
                self.maintenance = "template1".into();
                super::session::Session::open(self, &self.maintenance, cancel)?.row(question)?
            }
            session => session?.row(question)?,
        };
        self.version = answer["number"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or_default();
        self.version_text = answer["text"].as_str().unwrap_or_default().to_owned();
        if self.major() < OLDEST {
            return Err(Failure::usage(format!(
                "{} is PostgreSQL {}: at least {OLDEST} is needed",
                self.server.location(),
                self.major()
            ))
            .hint("Use `command` with its own pg_dump"));
        }
        Ok(())
    }

    fn find_pg_dump(&mut self, cancel: &Cancel) -> Result<()> {
        self.pg_dump = look_for(self.exec.as_ref(), "pg_dump", self.major()..=NEWEST)?;
        let command =
            Command { program: self.pg_dump.clone().into(), arguments: vec!["--version".into()], ..Command::default() };
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.exec.start(&command, cancel)?, &mut said)
            .context(|| "cannot ask pg_dump for its version".into())?;
        let version = said.split_once("PostgreSQL) ").map(|(_, rest)| rest.trim()).unwrap_or_default();
        let major: u32 = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0);
        if major < self.major() {
            return Err(Failure::usage(format!(
                "pg_dump of {} is of version {version}, older than the server's {}: it does not know all that is there",
                self.exec.place(),
                self.major()
            ))
            .hint(format!("Install postgresql-client-{} there", self.major())));
        }
        Ok(())
    }

    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    pub fn exec(&self) -> &dyn Exec {
        self.exec.as_ref()
    }

    pub fn place(&self) -> &Place {
        &self.server.place
    }

    pub fn user(&self) -> &str {
        self.server.user.as_deref().unwrap_or("postgres")
    }

    /// One of the clients, told where the server is and as whom to speak to it.
    pub fn command(&self, program: &str, database: &str) -> Command {
        let path = match program {
            "psql" => self.psql.clone(),
            _ => format!("{}{program}", self.pg_dump.trim_end_matches("pg_dump")),
        };
        let mut arguments: Vec<OsString> = vec!["-U".into(), self.user().into()];
        if let Some(host) = self.host() {
            arguments.extend(["-h".into(), host]);
        }
        if let Some(port) = self.server.port {
            arguments.extend(["-p".into(), port.to_string().into()]);
        }
        let asks = self.password.is_some() && self.file.is_none();
        arguments.push(if asks { "-W" } else { "-w" }.into());
        arguments.extend(["-d".into(), sql::connection(database).into()]);
        let input = self.password.as_ref().filter(|_| asks).map(|p| Secret::new(format!("{}\n", p.expose())));
        let mut environment: Vec<(OsString, OsString)> =
            vec![("PGAPPNAME".into(), "bkp".into()), ("PGCONNECT_TIMEOUT".into(), "30".into())];
        if let Some(file) = &self.file {
            environment.push(("PGPASSFILE".into(), file.path().into()));
        }
        if let Some(authorities) = &self.server.ca_file {
            environment.push(("PGSSLMODE".into(), "verify-full".into()));
            environment.push(("PGSSLROOTCERT".into(), authorities.into()));
        }
        Command { program: path.into(), arguments, environment, input, ..Command::default() }
    }

    fn host(&self) -> Option<OsString> {
        match (&self.server.socket, &self.server.host, &self.server.place) {
            // Clients want the directory.
            (Some(socket), ..) if is_socket_file(socket) => socket.parent().map(Into::into),
            (Some(socket), ..) => Some(socket.into()),
            (None, Some(host), _) => Some(host.into()),
            (None, None, Place::Host) => Some("127.0.0.1".into()),
            (None, None, Place::Container(_)) => None,
        }
    }
}

fn is_socket_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".s.PGSQL."))
}

/// Programs of PostgreSQL are often not in PATH, and several versions stand side by side.
fn look_for(exec: &dyn Exec, program: &str, majors: impl Iterator<Item = u32>) -> Result<String> {
    let of = |major: u32| [format!("/usr/lib/postgresql/{major}/bin"), format!("/usr/pgsql-{major}/bin")];
    let mut candidates: Vec<String> = majors.flat_map(of).map(|directory| format!("{directory}/{program}")).collect();
    // The server's own version first, then what PATH has.
    candidates.insert(candidates.len().min(2), program.to_owned());
    candidates.extend(["/usr/local/bin", "/opt/bitnami/postgresql/bin"].map(|d| format!("{d}/{program}")));
    let names: Vec<&str> = candidates.iter().map(String::as_str).collect();
    exec.find(&names)?.ok_or_else(|| {
        Failure::usage(format!("there is no {program} in {}", exec.place()))
            .hint("Looked for in PATH and /usr/lib/postgresql/*/bin: install postgresql-client, or run the clients where they are with `container`")
    })
}

/// A failure to connect, with what to do about it.
pub fn explained(failure: Failure, user: &str) -> Failure {
    if failure.kind() != Kind::Failed {
        return failure;
    }
    let text = failure.full();
    let about = |kind: Kind, what: String| Failure::new(kind, what).because(text.clone());
    if text.contains("password authentication failed") || text.contains("no password supplied") {
        return about(Kind::Key, format!("PostgreSQL does not let `{user}` in"))
            .hint("Look at `user` and `password` of the source");
    }
    if text.contains("no pg_hba.conf entry") {
        return about(Kind::Key, format!("PostgreSQL does not let `{user}` in from here"))
            .hint("Add a line for this user and address to pg_hba.conf, and reload it");
    }
    if text.contains("permission denied for database") {
        return about(Kind::Failed, format!("`{user}` may not connect to the database"))
            .hint(format!("GRANT CONNECT ON DATABASE … TO {}", sql::name(user)));
    }
    if text.contains("lock timeout") {
        return failure.hint(
            "Another statement changes the table (ALTER, VACUUM FULL …): look at pg_locks, and run the backup when it is done",
        );
    }
    failure.hint("See what the server's log says")
}

/// A password as libpq reads it, in memory that has a path as long as this lives.
struct PasswordFile(OwnedFd);

impl PasswordFile {
    fn new(password: &Secret) -> Result<Self> {
        let what = || "cannot hand the password over".to_owned();
        let escaped = Secret::new(password.expose().replace('\\', "\\\\").replace(':', "\\:"));
        let line = Secret::new(format!("*:*:*:*:{}\n", escaped.expose()));
        let file = rustix::fs::memfd_create("bkp", MemfdFlags::CLOEXEC).context(what)?;
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR).context(what)?;
        let mut bytes = line.expose().as_bytes();
        while !bytes.is_empty() {
            let written = rustix::io::write(&file, bytes).context(what)?;
            bytes = &bytes[written..];
        }
        Ok(PasswordFile(file))
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}
