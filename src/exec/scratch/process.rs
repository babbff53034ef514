//! A scratch server as a process of this host, for hosts and containers without a container engine.
//!
//! Everything it writes is in a private directory of its own. Where bkp is root the server is nobody, can gain no privilege,
//! and, where it is reached by a socket and the system lets it, has no network at all. It listens on a socket in its directory, or on
//! loopback where it knows no sockets. It ends with bkp, also when that is killed. Memory is not limited here.

use super::{Directory, Lease, Reach, Running};
use crate::error::{Context, Failure, Result};
use crate::event::Cancel;
use crate::exec::Command;
use crate::exec::host::{Background, Host};
use crate::secret::Secret;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The user without rights, on every Linux.
const NOBODY: u32 = 65534;
/// A socket's path is no longer.
const SOCKET: usize = 107;
/// How long what is run before the server may take.
const BEFORE: Duration = Duration::from_secs(300);
/// How long the server may take to end for each kind word.
const PATIENCE: Duration = Duration::from_secs(5);

/// A private directory that a server may live in.
#[derive(Debug)]
pub struct Site {
    directory: Directory,
    port: u16,
}

/// A server to start in a [`Site`].
#[derive(Debug, Default)]
pub struct Wanted {
    /// The first of these that is found is the server.
    pub programs: Vec<&'static str>,
    /// Where programs are looked for, before PATH.
    pub directories: Vec<PathBuf>,
    pub arguments: Vec<OsString>,
    /// Run to their end before, as the same user, such as the making of an empty data directory.
    pub before: Vec<Command>,
    /// Written before: path in the directory, and content. Only the server can read them.
    pub files: Vec<(PathBuf, Secret)>,
    /// It listens on [`Site::socket`], or else on [`Site::port`].
    pub by_socket: bool,
    /// It is not started where it would have a network: by the socket, and only where [`Site::is_alone`].
    pub alone: bool,
}

#[derive(Debug)]
pub struct Body {
    /// Absent once it was left.
    server: Option<Background>,
    directory: Directory,
    reach: Reach,
    isolation: String,
}

impl Site {
    /// In `parent`, which must be there and whose path must be short.
    pub fn make(lease: &Lease<'_>, parent: &Path) -> Result<Self> {
        let directory = Directory::make(lease, parent)?;
        give(directory.path())?;
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = free.context(|| "cannot find a free port".into())?.port();
        let site = Site { directory, port };
        match site.socket().as_os_str().len() {
            0..=SOCKET => Ok(site),
            _ => Err(Failure::usage(format!("{} is too long a path for sockets", parent.display()))
                .hint("Use a shorter directory for what is temporary: TMPDIR=/tmp")),
        }
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("s")
    }

    /// Free on loopback a moment ago.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a server that is reached by its socket has no network here.
    pub fn is_alone(&self, cancel: &Cancel) -> bool {
        Confined::here(true, cancel).without_network
    }

    /// Starts the server, on whatever was put into the directory before. Whether it is ready is for its clients to find out.
    pub fn start(self, wanted: &Wanted, cancel: &Cancel) -> Result<Running> {
        for (path, content) in &wanted.files {
            write(path, content)?;
        }
        give(self.path())?;
        let user = Confined::here(wanted.by_socket, cancel);
        if wanted.alone && !user.without_network {
            return Err(Failure::failed("the scratch server would have a network here, and must not"));
        }
        let program = self.server(wanted)?;
        for command in &wanted.before {
            self.run(command.clone(), wanted, &user)?.wait(BEFORE, cancel)?;
        }
        let arguments = wanted.arguments.clone();
        let server = self.run(Command { program: program.into(), arguments, ..Command::default() }, wanted, &user)?;
        let reach = match wanted.by_socket {
            true => Reach { socket: Some(self.socket()), ..Reach::default() },
            false => Reach { host: Some("127.0.0.1".into()), port: Some(self.port), socket: None },
        };
        let isolation = user.isolation(wanted.by_socket);
        let body = Body { server: Some(server), directory: self.directory, reach, isolation };
        Ok(Running(super::Body::Process(Box::new(body))))
    }

    fn server(&self, wanted: &Wanted) -> Result<PathBuf> {
        let found = wanted.programs.iter().find_map(|program| {
            let command = Command { program: program.into(), environment: vec![path(wanted)], ..Command::default() };
            Host::find(&command).ok()
        });
        found.ok_or_else(|| {
            Failure::failed(format!("there is no server program on this host: looked for {}", wanted.programs.join(", ")))
                .hint("Install the server here (it need not run), use the sidecar image with servers, or rehearse where there is Docker")
        })
    }

    /// Starts a command as it is run here: as whom, where, and with which programs in reach.
    fn run(&self, command: Command, wanted: &Wanted, user: &Confined) -> Result<Background> {
        let mut environment = vec![path(wanted), ("HOME".into(), self.path().into())];
        environment.extend(command.environment);
        let plain = Command { environment, directory: Some(self.path().to_owned()), ..command };
        let program = Host::find(&plain)?;
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        Background::start(&name, &user.around(plain, &program), &self.path().join("log"))
    }
}

/// How the server is kept from what is not its own.
struct Confined {
    is_root: bool,
    /// `setpriv` is there.
    drops: bool,
    /// `unshare` works.
    without_network: bool,
}

impl Confined {
    fn here(by_socket: bool, cancel: &Cancel) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let works = |program: &str, arguments: &[&str]| {
            let arguments = arguments.iter().map(Into::into).collect();
            let command = Command { program: program.into(), arguments, ..Command::default() };
            Background::start(program, &command, Path::new("/dev/null"))
                .is_ok_and(|run| run.wait(BEFORE, cancel).is_ok())
        };
        let drops = is_root
            && works("setpriv", &["--no-new-privs", "--reuid=65534", "--regid=65534", "--clear-groups", "true"]);
        let without_network = drops && by_socket && works("unshare", &["--net", "true"]);
        Confined { is_root, drops, without_network }
    }

    fn around(&self, command: Command, program: &Path) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if self.without_network {
            words.extend(["unshare", "--net"].map(Into::into));
        }
        if self.drops {
            let options = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--clear-groups"];
            words.extend(options.map(Into::into));
            words.extend([format!("--reuid={NOBODY}").into(), format!("--regid={NOBODY}").into()]);
        }
        words.push(program.into());
        words.extend(command.arguments);
        Command { program: words.remove(0), arguments: words, ..command }
    }

    fn isolation(&self, by_socket: bool) -> String {
        let user = match (self.is_root, self.drops) {
            (true, true) => "a user without rights",
            (true, false) => "root, as there is no setpriv",
            (false, _) => "the user of bkp",
        };
        let network = match (self.without_network, by_socket) {
            (true, _) => "no network",
            (false, true) => "reached by a socket of its own only",
            (false, false) => "listening on loopback only",
        };
        format!("process of {user} in a private directory; {network}")
    }
}

fn path(wanted: &Wanted) -> (OsString, OsString) {
    let known = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let all = wanted.directories.iter().cloned().chain(std::env::split_paths(&known)).chain(usual);
    // Only a directory with a colon in its name cannot be said.
    ("PATH".into(), std::env::join_paths(all).unwrap_or(known))
}

/// A file that only the server can read.
fn write(path: &Path, content: &Secret) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).context(what)?;
    file.write_all(content.expose().as_bytes()).context(what)
}

/// Makes the user without rights the owner, where bkp is root; of a directory with all that is in it. Links are not followed.
fn give(path: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let what = || format!("cannot give {} to another user", path.display());
    lchown(path, Some(NOBODY), Some(NOBODY)).context(what)?;
    if path.symlink_metadata().context(what)?.is_dir() {
        for entry in std::fs::read_dir(path).context(what)? {
            give(&entry.context(what)?.path())?;
        }
    }
    Ok(())
}

impl Body {
    pub fn reach(&self) -> Reach {
        self.reach.clone()
    }

    pub fn isolation(&self) -> &str {
        &self.isolation
    }

    pub fn check(&mut self) -> Result<()> {
        let Some(server) = &mut self.server else { return Ok(()) };
        match server.ended()? {
            None => Ok(()),
            Some(status) => Err(server.failure(&crate::exec::host::ended_with(status))),
        }
    }

    pub fn logs(&self) -> String {
        self.server.as_ref().map(Background::log).unwrap_or_default()
    }

    pub fn keep(&mut self) -> Result<String> {
        self.directory.leave()?;
        if let Some(server) = self.server.take() {
            server.leave();
        }
        let path = self.directory.path().display();
        let at = match (&self.reach.socket, self.reach.port) {
            (Some(socket), _) => format!("socket {}", socket.display()),
            (None, port) => format!("127.0.0.1:{}", port.unwrap_or_default()),
        };
        Ok(format!(
            "a server at {at}, with its data in {path}; it goes at its deadline, or with its process and that directory"
        ))
    }

    pub fn end(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.end(PATIENCE)?;
        }
        self.directory.end()
    }
}
