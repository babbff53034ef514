//! Who asks a server: bkp itself over a connection, or the client program inside the server's container.
//!
//! Both give the same lines. The program is told its password by standard input, never by argument or environment.

use super::connection::{Address, Connection, Reply, not_authenticated, refused};
use crate::engine::Server;
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Cancel;
use crate::exec::{Command, Exec, Place};
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::time::Duration;

pub const PORT: u16 = 6379;
const LIMIT: Duration = Duration::from_secs(60);

/// Lines of an answer, or what the server said instead.
pub enum Answer {
    Lines(Vec<String>),
    Refused(String),
}

pub trait Client {
    fn ask(&mut self, command: &[&str]) -> Result<Answer>;

    /// For people.
    fn server(&self) -> String;

    /// The same about one of the numbered databases.
    fn ask_in(&mut self, database: u32, command: &[&str]) -> Result<Answer>;

    /// Asks what must be allowed. `rule` is the permission that it takes.
    fn demand(&mut self, command: &[&str], rule: &str) -> Result<Vec<String>> {
        match self.ask(command)? {
            Answer::Lines(lines) => Ok(lines),
            Answer::Refused(text) => Err(refused(&self.server(), &command.join(" "), rule, &text)),
        }
    }

    /// What `INFO` tells.
    fn info(&mut self) -> Result<BTreeMap<String, String>> {
        let lines = self.demand(&["INFO"], "+info")?;
        let pairs = lines.iter().filter_map(|line| line.trim().split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl Client for Connection<'_> {
    fn ask(&mut self, command: &[&str]) -> Result<Answer> {
        let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
        Ok(match Connection::ask(self, &words)? {
            Reply::Refused(text) => Answer::Refused(text),
            reply => Answer::Lines(reply.lines()),
        })
    }

    fn ask_in(&mut self, database: u32, command: &[&str]) -> Result<Answer> {
        match Client::ask(self, &["SELECT", &database.to_string()])? {
            Answer::Lines(_) => Client::ask(self, command),
            refused => Ok(refused),
        }
    }

    fn server(&self) -> String {
        self.address.to_string()
    }
}

/// The client program where the server runs.
pub struct Program<'a> {
    exec: Box<dyn Exec>,
    program: String,
    arguments: Vec<String>,
    user: Option<String>,
    password: Option<Secret>,
    cancel: &'a Cancel,
}

impl<'a> Program<'a> {
    pub fn find(server: &Server, cancel: &'a Cancel) -> Result<Self> {
        let exec = server.exec()?;
        let names = ["valkey-cli", "redis-cli", "keydb-cli"];
        let program = exec.find(&names)?.ok_or_else(|| {
            Failure::failed(format!("there is no client in {}: looked for {}", exec.place(), names.join(", ")))
                .hint("Use an image with the client, or let bkp reach the server over the network")
        })?;
        let arguments = match (&server.socket, server.port) {
            (Some(socket), _) => vec!["-s".to_owned(), socket.display().to_string()],
            (None, port) => vec!["-p".to_owned(), port.unwrap_or(PORT).to_string()],
        };
        Ok(Program { exec, program, arguments, user: server.user.clone(), password: server.password()?, cancel })
    }

    fn input(&self, command: &[&str]) -> Secret {
        let mut text = String::with_capacity(4096);
        if let Some(password) = &self.password {
            text.push_str("AUTH ");
            if let Some(user) = &self.user {
                quote(&mut text, user);
            }
            quote(&mut text, password.expose());
            text.push('\n');
        }
        for word in command {
            quote(&mut text, word);
        }
        text.push('\n');
        Secret::new(text)
    }
}

/// As the client program reads words of a line.
fn quote(text: &mut String, word: &str) {
    text.push('"');
    for byte in word.bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            0x20..0x7f => text.push(char::from(byte)),
            other => write!(text, "\\x{other:02x}").expect("text takes all"),
        }
    }
    text.push_str("\" ");
}

impl Client for Program<'_> {
    fn ask(&mut self, command: &[&str]) -> Result<Answer> {
        let run = Command {
            program: (&self.program).into(),
            arguments: self.arguments.iter().map(Into::into).collect(),
            input: Some(self.input(command)),
            limit: Some(LIMIT),
            ..Command::default()
        };
        let mut bytes = Vec::new();
        self.exec.start(&run, self.cancel)?.read_to_end(&mut bytes).context(|| format!("{} failed", self.program))?;
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<String> = text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect();
        if self.password.is_some() {
            let first = if lines.is_empty() { String::new() } else { lines.remove(0) };
            if first != "OK" {
                return Err(not_authenticated(&self.server(), self.user.as_deref(), &first));
            }
            // Errors end with an empty line here.
            while lines.len() > 1 && lines.first().is_some_and(String::is_empty) {
                lines.remove(0);
            }
        }
        let first = lines.first().map_or("", String::as_str);
        if first.starts_with("Could not connect") {
            return Err(Failure::new(Kind::TryLater, format!("{}: {first}", self.server())));
        }
        let code = first.split(' ').next().unwrap_or_default();
        let refusal = ["ERR", "NOPERM", "NOAUTH", "LOADING", "MISCONF", "BUSY", "MASTERDOWN"].contains(&code);
        Ok(if refusal { Answer::Refused(first.to_owned()) } else { Answer::Lines(lines) })
    }

    fn ask_in(&mut self, database: u32, command: &[&str]) -> Result<Answer> {
        let arguments = self.arguments.clone();
        self.arguments.extend(["-n".to_owned(), database.to_string()]);
        let answer = self.ask(command);
        self.arguments = arguments;
        answer
    }

    fn server(&self) -> String {
        self.exec.place()
    }
}

/// Where bkp itself would reach the server.
pub fn address(server: &Server) -> Result<Address> {
    match (&server.socket, &server.place) {
        (Some(socket), Place::Host) => Ok(Address::Socket(socket.clone())),
        _ => {
            let (host, port) = server.address(PORT)?;
            Ok(Address::Network { host, port, ca_file: server.ca_file.clone() })
        }
    }
}

/// A connection that was let in.
pub fn connect<'a>(server: &Server, address: &Address, cancel: &'a Cancel) -> Result<Connection<'a>> {
    let password = server.password()?;
    let mut connection = Connection::open(address, cancel)?;
    connection.authenticate(server.user.as_deref(), password.as_ref())?;
    match Connection::ask(&mut connection, &[b"PING"])? {
        // It lets in, but not everything: what is needed is asked for later. After a failed save even PING is refused.
        Reply::Refused(text) if text.starts_with("NOPERM") || text.starts_with("MISCONF") => Ok(connection),
        Reply::Refused(text) => Err(refused(&connection.address.to_string(), "PING", "+ping", &text)),
        _ => Ok(connection),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_client_program() {
        let mut text = String::new();
        quote(&mut text, "a \"b\" \\ c\nä");
        assert_eq!(text, r#""a \"b\" \\ c\x0a\xc3\xa4" "#);
    }
}
