//! The server's own clients: which there are, how they log in, and which options they take.
//!
//! User and password go in by standard input only. A client that reads nothing else takes them as its options file; one
//! that also reads statements is started by a shell, which passes the first lines on through a pipe of their own.
//! A client of the other flavour is not used: its dumps are not complete.

use super::session::{self, Session};
use crate::engine::Server;
use crate::error::{Context, Failure, Result};
use crate::event::Cancel;
use crate::exec::{Command, Exec, Output, Remarks};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read;
use std::sync::OnceLock;
use std::time::Duration;

/// Reads options up to an empty line, and hands them to the client through a pipe: no argument, no variable of the
/// environment, no file. What follows is the client's standard input. A here-document would be a file of bash before 5.1,
/// and `printf` an argument where the shell does not have it itself.
const LOGIN: &str = r#"options=
while IFS= read -r line && [ -n "$line" ]; do options="$options$line
"; done
case $(command -v printf) in
*/* | '') echo 'this shell has no printf of its own: the password would be an argument' >&2; exit 1 ;;
esac
exec 4<&0
printf '%s\n' "$options" | {
    exec 3<&0 0<&4 4<&-
    exec "$0" --defaults-extra-file=/dev/fd/3 "$@"
}
"#;

/// A client that writes nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    Mysql,
    Mariadb,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavour::Mysql => "MySQL",
            Flavour::Mariadb => "MariaDB",
        })
    }
}

/// What a server or a client says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub flavour: Flavour,
    pub number: (u32, u32, u32),
    pub text: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flavour, self.text)
    }
}

impl Version {
    /// From `SELECT VERSION()`, such as `8.0.36` or `10.11.18-MariaDB-log`.
    pub fn of_server(text: &str) -> Self {
        let flavour = if text.contains("MariaDB") { Flavour::Mariadb } else { Flavour::Mysql };
        // Old replication clients were told a version that begins with 5.5.5-.
        let text = text.strip_prefix("5.5.5-").filter(|_| flavour == Flavour::Mariadb).unwrap_or(text);
        Version { flavour, number: number(text), text: text.to_owned() }
    }

    /// From `--version`: `mysqldump  Ver 9.7.4 for Linux`, `mariadb-dump  Ver 10.19 Distrib 10.11.18-MariaDB, for …`,
    /// `mariadb-dump from 11.8.3-MariaDB, client 10.19 for …`.
    pub fn of_client(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let after = |word: &str| words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1));
        let version = after("Distrib").or_else(|| after("from")).or_else(|| after("Ver")).copied().unwrap_or_default();
        let flavour = if text.contains("MariaDB") { Flavour::Mariadb } else { Flavour::Mysql };
        let version = version.trim_end_matches(',');
        Version { flavour, number: number(version), text: version.to_owned() }
    }

    pub fn at_least(&self, flavour: Flavour, number: (u32, u32, u32)) -> bool {
        self.flavour == flavour && self.number >= number
    }
}

fn number(text: &str) -> (u32, u32, u32) {
    let mut parts = text.split(['.', '-']).map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    });
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

/// The client that spoke to a server last, and of which flavour both are.
#[derive(Default)]
pub struct Found(OnceLock<(String, Flavour)>);

/// A server, with the client that speaks to it.
pub struct Client<'a> {
    server: &'a Server,
    exec: Box<dyn Exec>,
    program: String,
    login: Secret,
    pub version: Version,
}

impl<'a> Client<'a> {
    /// Finds the client, logs in, and learns what the server is. With the session that was asked.
    pub fn connect<'c>(server: &'a Server, cancel: &'c Cancel) -> Result<(Self, Session<'c>)> {
        Client::connect_again(server, &Found::default(), cancel)
    }

    /// The same for whoever connects again and again: in a container, each look for the client is a process of its own.
    pub fn connect_again<'c>(server: &'a Server, found: &Found, cancel: &'c Cancel) -> Result<(Self, Session<'c>)> {
        let exec = server.exec()?;
        let unknown = Version::of_server("");
        let mut client = Client { server, exec, program: String::new(), login: login(server)?, version: unknown };
        let flavour;
        (client.program, flavour) = found.0.get().cloned().map_or_else(|| client.first(cancel), Ok)?;
        let mut session = client.session(cancel)?;
        client.version = Version::of_server(&session.one("SELECT VERSION()")?);
        if flavour != client.version.flavour {
            client.program = client.of_flavour(&["mysql"], cancel)?.0;
            session = client.session(cancel)?;
        }
        let _ = found.0.set((client.program.clone(), client.version.flavour));
        Ok((client, session))
    }

    fn first(&self, cancel: &Cancel) -> Result<(String, Flavour)> {
        let wanted = ["mariadb", "mysql"];
        let program = self.exec.find(&wanted)?.ok_or_else(|| missing(self.exec.as_ref(), &wanted))?;
        // Both have a `mysql`, and only one a `mariadb`.
        let flavour = match program.as_str() {
            "mariadb" => Flavour::Mariadb,
            program => self.version_of(program, cancel)?.flavour,
        };
        Ok((program, flavour))
    }

    pub fn place(&self) -> String {
        self.exec.place()
    }

    /// The dump program of the server's flavour, and its version.
    pub fn dump_program(&self, cancel: &Cancel) -> Result<(String, Version)> {
        match self.version.flavour {
            Flavour::Mariadb => self.of_flavour(&["mariadb-dump", "mysqldump"], cancel),
            Flavour::Mysql => self.of_flavour(&["mysqldump"], cancel),
        }
    }

    fn of_flavour(&self, programs: &[&str], cancel: &Cancel) -> Result<(String, Version)> {
        let found = self.exec.find(programs)?.ok_or_else(|| missing(self.exec.as_ref(), programs))?;
        let version = self.version_of(&found, cancel)?;
        if version.flavour == self.version.flavour {
            return Ok((found, version));
        }
        let text = format!(
            "`{found}` on {} is {version}, and the server at {} is {}: the other one's client does not work well enough",
            self.place(),
            self.server.location(),
            self.version
        );
        Err(Failure::usage(text).hint(format!("Install the client of {}, or name the container", self.version.flavour)))
    }

    fn version_of(&self, program: &str, cancel: &Cancel) -> Result<Version> {
        let command = Command {
            program: program.into(),
            arguments: vec!["--version".into()],
            limit: Some(Duration::from_secs(60)),
            ..Command::default()
        };
        let mut text = String::new();
        self.exec
            .start(&command, cancel)?
            .read_to_string(&mut text)
            .context(|| format!("cannot ask {program} for its version"))?;
        Ok(Version::of_client(&text))
    }

    /// A client that answers questions.
    pub fn session<'c>(&self, cancel: &'c Cancel) -> Result<Session<'c>> {
        let arguments = ["--batch", "--skip-column-names", "--unbuffered", "--default-character-set=utf8mb4"];
        let command = self.speaking(&arguments);
        let conversation = self.exec.converse(&command, cancel).map_err(|f| self.explain(f))?;
        Session::begin(conversation).map_err(|f| self.explain(f))
    }

    /// Runs statements to their end.
    pub fn feed(&self, statements: &mut dyn Read, cancel: &Cancel) -> Result<()> {
        let arguments = ["--batch", "--binary-mode", "--comments", "--default-character-set=utf8mb4"];
        let mut command = self.speaking(&arguments);
        command.arguments.push("--max-allowed-packet=1G".into());
        self.exec.feed(&command, statements, cancel).map_err(|f| self.explain(f))
    }

    fn speaking(&self, arguments: &[&str]) -> Command {
        let mut all: Vec<std::ffi::OsString> = vec!["-c".into(), LOGIN.into(), (&self.program).into()];
        all.push("--connect-timeout=30".into());
        all.extend(arguments.iter().map(Into::into));
        let input = Secret::new(format!("{}\n", self.login.expose()));
        Command { program: "sh".into(), arguments: all, input: Some(input), ..self.plain() }
    }

    /// Starts a dump, which ends with its terminator or fails. What it says besides is for `remarks`.
    pub fn dump<'c>(
        &self,
        program: &str,
        arguments: &[String],
        remarks: &Remarks,
        cancel: &'c Cancel,
    ) -> Result<Output<'c>> {
        let mut all: Vec<std::ffi::OsString> = vec!["--defaults-extra-file=/dev/stdin".into()];
        all.extend(arguments.iter().map(Into::into));
        let command = Command {
            program: program.into(),
            arguments: all,
            input: Some(self.login.clone()),
            terminator: Some("-- Dump completed".into()),
            silence: Some(SILENCE),
            remarks: remarks.clone(),
            ..self.plain()
        };
        self.exec.start(&command, cancel).map_err(|f| self.explain(f))
    }

    /// Where a login is configured, the one in somebody's home directory must not come before it.
    fn plain(&self) -> Command {
        let own = self.server.user.is_some() || self.server.password.is_some();
        let home = own.then(|| ("HOME".into(), "/nonexistent".into()));
        Command { environment: home.into_iter().collect(), ..Command::default() }
    }

    /// Says what a refused login or connection means. Other failures pass.
    pub fn explain(&self, failure: Failure) -> Failure {
        let at = self.server.location();
        let user = self.server.user.as_deref().unwrap_or("the default user");
        session::explain(failure, &at, user)
    }
}

fn missing(exec: &dyn Exec, programs: &[&str]) -> Failure {
    let names: Vec<String> = programs.iter().map(|p| format!("`{p}`")).collect();
    Failure::usage(format!("there is no client on {}: looked for {}", exec.place(), names.join(" and "))).hint(
        "Use an image that has the client, install it (mariadb-client, mysql-client), or run bkp where it is and give `host`",
    )
}

/// The `[client]` group of an options file.
fn login(server: &Server) -> Result<Secret> {
    let mut text = "[client]\n".to_owned();
    let mut set = |name: &str, value: &str| text.push_str(&format!("{name}={}\n", option(value)));
    if let Some(user) = &server.user {
        set("user", user);
    }
    if let Some(password) = server.password()? {
        set("password", password.expose());
    }
    let here = server.place == crate::exec::Place::Host;
    match (&server.host, &server.socket) {
        (None, Some(socket)) => set("socket", &socket.display().to_string()),
        (Some(host), _) => set("host", host),
        (None, None) if here || server.port.is_some() => set("host", "127.0.0.1"),
        (None, None) => {}
    }
    if server.socket.is_none() && (here || server.host.is_some() || server.port.is_some()) {
        set("protocol", "tcp");
    }
    if let Some(port) = server.port {
        set("port", &port.to_string());
    }
    let is_socket = server.host.is_none() && (server.socket.is_some() || !here && server.port.is_none());
    match &server.ca_file {
        // Nobody is between: there is no name to prove, and what is trusted is on this host, not where the client is.
        Some(_) if is_socket => set("loose-ssl-mode", "REQUIRED"),
        Some(ca) => {
            set("ssl-ca", &ca.display().to_string());
            set("loose-ssl-mode", "VERIFY_IDENTITY");
            text.push_str("loose-ssl-verify-server-cert\n");
        }
        None => {}
    }
    Ok(Secret::new(text))
}

/// A value as an options file wants it.
fn option(value: &str) -> String {
    let mut text = String::from('"');
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let cases = [
            ("mysqldump  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", Flavour::Mysql, (9, 7, 4)),
            ("mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)", Flavour::Mysql, (5, 7, 44)),
            ("mariadb-dump  Ver 10.19 Distrib 10.11.18-MariaDB, for debian-linux-gnu", Flavour::Mariadb, (10, 11, 18)),
            ("mariadb-dump from 11.8.3-MariaDB, client 10.19 for linux (x86_64)", Flavour::Mariadb, (11, 8, 3)),
        ];
        for (text, flavour, number) in cases {
            let version = Version::of_client(text);
            assert_eq!((version.flavour, version.number), (flavour, number), "{text}");
        }
        let old = Version::of_server("5.5.5-10.4.2-MariaDB-1:10.4.2");
        assert_eq!((old.flavour, old.number), (Flavour::Mariadb, (10, 4, 2)));
        assert_eq!(Version::of_server("8.0.36").number, (8, 0, 36));
    }

    /// In every shell that this machine has; bash before 5.1 would write a here-document to a file.
    #[test]
    fn options_come_through_a_pipe_and_the_rest_through_standard_input() {
        use crate::exec::host::Host;
        assert!(!LOGIN.contains("<<"));
        let client = "test -p /dev/fd/3 && cat /dev/fd/3; printf '%s,' \"$@\"; cat";
        let login = "first\npass\\word=\"%s $x\"\n\nrest\\n\n";
        // A script in the client's place.
        let login_script = LOGIN.replace("exec \"$0\"", "exec sh -c \"$0\" sh");
        for shell in [&["sh"][..], &["bash"], &["dash"], &["busybox", "sh"]] {
            if Host.find(&shell[..1]).unwrap().is_none() {
                continue;
            }
            let words = [&shell[1..], &["-c", &login_script], &[client, "a b"]].concat();
            let command = Command {
                program: shell[0].into(),
                arguments: words.iter().map(|word| (*word).into()).collect(),
                input: Some(Secret::new(login.into())),
                ..Command::default()
            };
            let mut said = String::new();
            Host.start(&command, &Cancel::default()).unwrap().read_to_string(&mut said).unwrap();
            let expected = "first\npass\\word=\"%s $x\"\n\n--defaults-extra-file=/dev/fd/3,a b,rest\\n\n";
            assert_eq!(said, expected, "{shell:?}");
        }
    }

    #[test]
    fn options_are_quoted() {
        assert_eq!(option("a b#c"), "\"a b#c\"");
        assert_eq!(option("q\"b\\n\n"), "\"q\\\"b\\\\n\\n\"");
    }
}
