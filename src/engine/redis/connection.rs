//! A connection to a server: its protocol (RESP 2), over TCP, TLS or a socket.
//!
//! Blocking, one question at a time; a signal ends every wait. Passwords go out here and come back in no error: what a server
//! says to `AUTH` is told by its first word only, because some servers repeat what they were sent.

use crate::engine::trust;
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a server may be silent. While one prepares data for a replica, it sends an empty line every second.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(10);
/// How soon a signal is noticed.
const TICK: Duration = Duration::from_millis(200);
const BUFFER: usize = 64 << 10;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    Network { host: String, port: u16, ca_file: Option<PathBuf> },
    Socket(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Network { host, port, .. } => write!(f, "{host}:{port}"),
            Address::Socket(path) => path.display().fmt(f),
        }
    }
}

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

pub struct Connection<'a> {
    wire: Box<dyn Wire>,
    pub address: Address,
    cancel: &'a Cancel,
    buffer: Vec<u8>,
    at: usize,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Text(Vec<u8>),
    Number(i64),
    Nothing,
    List(Vec<Reply>),
    /// It said no: `NOPERM this user has no permissions …`.
    Refused(String),
}

impl Reply {
    /// `None` where the server said no.
    pub fn permitted(self) -> Option<Self> {
        (!matches!(self, Reply::Refused(_))).then_some(self)
    }

    /// Every text and number in it, line by line.
    pub fn lines(self) -> Vec<String> {
        match self {
            Reply::Text(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                text.split('\n').map(|line| line.trim_end_matches('\r').to_owned()).collect()
            }
            Reply::Number(number) => vec![number.to_string()],
            Reply::Nothing | Reply::Refused(_) => Vec::new(),
            Reply::List(replies) => replies.into_iter().flat_map(Reply::lines).collect(),
        }
    }
}

impl<'a> Connection<'a> {
    pub fn open(address: &Address, cancel: &'a Cancel) -> Result<Self> {
        let wire: Box<dyn Wire> = match address {
            Address::Socket(path) => {
                let stream = UnixStream::connect(path).map_err(|error| unreachable(address, error))?;
                stream.set_read_timeout(Some(TICK)).context(|| format!("cannot use {address}"))?;
                stream.set_write_timeout(Some(PATIENCE)).context(|| format!("cannot use {address}"))?;
                Box::new(stream)
            }
            Address::Network { host, port, ca_file } => {
                let stream = dial(host, *port).map_err(|error| unreachable(address, error))?;
                match ca_file {
                    Some(file) => Box::new(encrypted(stream, host, file)?),
                    None => Box::new(stream),
                }
            }
        };
        Ok(Connection { wire, address: address.clone(), cancel, buffer: Vec::new(), at: 0 })
    }

    /// Says who asks. Without a user it is the server's default one.
    pub fn authenticate(&mut self, user: Option<&str>, password: Option<&Secret>) -> Result<()> {
        let Some(password) = password else { return Ok(()) };
        let command: Vec<&[u8]> = match user {
            Some(user) => vec![b"AUTH", user.as_bytes(), password.expose().as_bytes()],
            None => vec![b"AUTH", password.expose().as_bytes()],
        };
        match self.ask(&command)? {
            Reply::Refused(text) => Err(not_authenticated(&self.address.to_string(), user, &text)),
            _ => Ok(()),
        }
    }

    pub fn ask(&mut self, command: &[&[u8]]) -> Result<Reply> {
        self.say(&[command])?;
        self.reply()
    }

    /// Sends several commands at once; the answers are to be read with [`reply`](Self::reply).
    pub fn say(&mut self, commands: &[&[&[u8]]]) -> Result<()> {
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        // Reserved at once, or a password would stay behind in memory that was given back.
        bytes.reserve(commands.iter().flat_map(|c| c.iter()).map(|word| word.len() + 32).sum::<usize>() + 32);
        for command in commands {
            bytes.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
            for word in *command {
                bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                bytes.extend_from_slice(word);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        self.cancel.check()?;
        let sent = self.wire.write_all(&bytes).and_then(|()| self.wire.flush());
        sent.map_err(|error| broken(&self.address, error))
    }

    pub fn reply(&mut self) -> Result<Reply> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| self.senseless())?;
        Ok(match kind {
            "+" => Reply::Text(rest.as_bytes().to_vec()),
            "-" => Reply::Refused(rest.to_owned()),
            ":" => Reply::Number(rest.parse().map_err(|_| self.senseless())?),
            "$" | "*" if rest == "-1" => Reply::Nothing,
            "$" => {
                let mut bytes = self.exactly(rest.parse().map_err(|_| self.senseless())?)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Text(bytes)
            }
            "*" => {
                let count: usize = rest.parse().map_err(|_| self.senseless())?;
                Reply::List((0..count).map(|_| self.reply()).collect::<Result<_>>()?)
            }
            _ => return Err(self.senseless()),
        })
    }

    fn exactly(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let cut = || Failure::failed("the server's answer is cut");
        let read = self.take(length.saturating_add(2)).read_to_end(&mut bytes);
        let read = read.map_err(|error| Failure::from_io(error, || "cannot read the server's answer".into()))?;
        if (read as u64) < length.saturating_add(2) { Err(cut()) } else { Ok(bytes) }
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < 64 << 10 {
            let read = self.read(&mut byte).map_err(|error| broken(&self.address, error))?;
            if read == 0 {
                let text = format!("{} closed the connection", self.address);
                return Err(
                    Failure::failed(text).hint("Look at the server's log: was it stopped, is it out of room, or was the transfer too slow for it (client-output-buffer-limit replica)?")
                );
            }
            if byte[0] == b'\n' {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            line.push(byte[0]);
        }
        Err(self.senseless())
    }

    fn senseless(&self) -> Failure {
        Failure::failed(format!("{} does not answer as Redis does", self.address))
            .hint("Is it the right port, and does it want TLS (then give `ca_file`)?")
    }
}

/// Bytes as they come; `Ok(0)` is the end of the connection.
impl Read for Connection<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            if into.len() >= BUFFER {
                return wait(&mut self.wire, into, self.cancel);
            }
            self.buffer.resize(BUFFER, 0);
            let read = wait(&mut self.wire, &mut self.buffer, self.cancel);
            self.at = 0;
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        let length = into.len().min(self.buffer.len() - self.at);
        into[..length].copy_from_slice(&self.buffer[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

fn wait(wire: &mut Box<dyn Wire>, into: &mut [u8], cancel: &Cancel) -> io::Result<usize> {
    let begun = Instant::now();
    loop {
        cancel.check()?;
        match wire.read(into) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if begun.elapsed() > PATIENCE {
                    let text = format!("the server was silent for {} s", PATIENCE.as_secs());
                    return Err(Failure::new(Kind::TryLater, text).hint("Look at the server's load and log").into());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // How servers and networks end; whoever reads knows whether it was time.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => {
                return Ok(0);
            }
            other => return other,
        }
    }
}

fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TICK))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn encrypted(
    stream: TcpStream,
    host: &str,
    ca_file: &Path,
) -> Result<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
    let (config, name) = (trust::authorities(ca_file)?, trust::name_of(host)?);
    let session = rustls::ClientConnection::new(config, name)
        .map_err(|e| Failure::failed(format!("cannot speak TLS with {host}")).because(e))?;
    Ok(rustls::StreamOwned::new(session, stream))
}

fn unreachable(address: &Address, error: io::Error) -> Failure {
    Failure::new(Kind::TryLater, format!("cannot reach the server at {address}"))
        .because(error)
        .hint("Does it run, and does it listen there for this host?")
}

fn broken(address: &Address, error: io::Error) -> Failure {
    Failure::from_io(error, || format!("the connection to {address} broke"))
}

/// What it means that a server did not accept a password.
pub fn not_authenticated(server: &str, user: Option<&str>, reply: &str) -> Failure {
    let code = reply.split_whitespace().next().unwrap_or_default();
    let user = user.unwrap_or("default");
    let text = match code {
        "WRONGPASS" => format!("{server} refuses the password of user {user}"),
        "LOADING" => return loading(server),
        _ if reply.contains("without any password") || reply.contains("no password is set") => {
            format!("{server} has no password, but one is configured")
        }
        _ => format!(
            "{server} does not accept AUTH for user {user} ({})",
            code.trim_matches(|c: char| !c.is_ascii_uppercase())
        ),
    };
    Failure::new(Kind::Key, text).hint("Set `user` and `password` of this source to what the server has")
}

fn loading(server: &str) -> Failure {
    Failure::new(Kind::TryLater, format!("{server} is still loading its data"))
        .hint("Run the command again when it has started; `INFO persistence` shows how far it is")
}

/// A failure for an answer that says no. `wanted` is what was asked for; `rule` the permission that allows it.
pub fn refused(server: &str, wanted: &str, rule: &str, reply: &str) -> Failure {
    let code = reply.split_whitespace().next().unwrap_or_default();
    match code {
        "LOADING" => loading(server),
        "NOAUTH" => Failure::new(Kind::Key, format!("{server} wants a password"))
            .hint("Give `password` (and `user`) of this source, as a reference"),
        "NOPERM" => Failure::new(Kind::Key, format!("{server} does not permit {wanted} to this user"))
            .hint(format!("On the server: ACL SETUSER <user> {rule}")),
        "NOMASTERLINK" => {
            Failure::new(Kind::TryLater, format!("{server} is a replica that has lost its master: it gives no data"))
                .hint("Wait until it is connected again, or point this source at the master")
        }
        "MISCONF" => Failure::failed(format!("{server} refuses {wanted} after a failed save: {reply}"))
            .hint("Look at the server's log; often its data directory is full or not writable"),
        _ => Failure::failed(format!("{server} refuses {wanted}: {reply}")),
    }
}
