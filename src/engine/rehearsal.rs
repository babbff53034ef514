//! What an engine does for a rehearsal: it says what a point is loaded into, and compares what came out with what the source held.
//!
//! The ability belongs to a kind and not to a source: nothing here ever sees a configured source, its place or its password. What is
//! loaded into is a [`Scratch`], which only a private directory or a server that was started for this one rehearsal becomes;
//! it is no [`Target::Live`] and never can be. Loading itself is [`super::Engine::load`], as for any restore.
//! Starting, waiting, measuring and tearing down is the affair of `job::rehearse`.

use super::{Fingerprint, FingerprintPart, Naming, Origin, Settings, Target};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::exec::scratch::{Directory, confined};
use crate::exec::{Command, Place};
use crate::secret::{Secret, SecretRef};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a user's own command may take.
const ASKED: Duration = Duration::from_secs(10 * 60);
/// How much of its output is an answer.
const ANSWER: u64 = 1 << 20;

/// The abilities of one kind of source. Without state: everything it is to know comes with the call.
pub trait Rehearsable: Send + Sync {
    /// What a point of this kind is loaded into. No I/O.
    fn ground(&self, subject: &Subject<'_>) -> Result<Ground>;

    /// How a server in a container of the point's image is started. Only asked where the ground is a server.
    fn container(&self, _subject: &Subject<'_>, _password: &Secret) -> Result<ContainerRecipe> {
        Err(Failure::usage("this kind of source is not rehearsed in a container"))
    }

    /// How the same server is started as a process of this host. `None` where there is no such way.
    fn process(&self, _subject: &Subject<'_>, _site: &Site<'_>, _password: &Secret) -> Result<Option<ProcessRecipe>> {
        Ok(None)
    }

    /// How the scratch target is reached; `None` where it is a file or a directory.
    fn settings(&self, subject: &Subject<'_>, reach: Option<&Reach>) -> Settings;

    /// A question that only a server which is ready for work answers. A failure means: not yet.
    fn ready(&self, _settings: &Settings, _cancel: &Cancel) -> Result<()> {
        Ok(())
    }

    /// Refuses a server that has anything of a user in it: the one that was just started is empty, and every other one is not ours.
    fn must_be_empty(&self, _settings: &Settings, _cancel: &Cancel) -> Result<()> {
        Ok(())
    }

    /// What else must be done before the load, such as making it a replica set.
    fn prepare(&self, _subject: &Subject<'_>, _settings: &Settings, _cancel: &Cancel) -> Result<()> {
        Ok(())
    }

    /// Compares what is there now with what the source held when it was dumped.
    fn compare(&self, subject: &Subject<'_>, scratch: &Scratch, context: Context<'_>) -> Result<Comparison>;

    /// How an application comes in that is started beside the server. `None`: there is no server.
    fn entrance(&self) -> Option<Entrance> {
        None
    }

    /// Asks what is there now; gives the first field of the first row, as text.
    fn ask(&self, _scratch: &Scratch, question: &Question, _cancel: &Cancel) -> Result<String> {
        Err(question.is_not_for("this kind of source"))
    }
}

/// The point that is rehearsed.
pub struct Subject<'a> {
    pub origin: &'a dyn Origin,
    /// What the engine called itself when it dumped, as [`super::Dumped::version`].
    pub version: &'a str,
    /// Of the point's data, decoded.
    pub bytes: u64,
    /// An application will be started beside the server.
    pub with_application: bool,
    /// Those that this host may show to a scratch server that is sealed.
    pub unseal_keys: &'a [Secret],
}

/// What a point is loaded into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// A new file of the scratch directory.
    File,
    /// A new directory of it.
    Directory,
    /// A server that is started empty, and then loaded.
    Server,
    /// A data directory that is written first, and on which a server is started then.
    ServerOnData,
}

/// A server in a container. No network, no published port and limits are not for an engine to choose.
#[derive(Clone, Debug, Default)]
pub struct ContainerRecipe {
    /// Instead of the image's own entry point.
    pub entrypoint: Option<Vec<String>>,
    /// After the entry point: settings that make it fast and not safe, for nothing in it is to last.
    pub arguments: Vec<String>,
    /// Never secrets.
    pub environment: Vec<(String, String)>,
    /// Variables of official images that take a secret: `NAME` is given as `NAME_FILE`, the path of a file with it.
    pub secrets: Vec<(String, Secret)>,
    /// Where the server has its data: memory or a volume of the rehearsal's own is mounted there.
    pub data: PathBuf,
    /// What is needed there, about, in bytes.
    pub room: u64,
    /// Files that are put in before the start: path, content, mode.
    pub files: Vec<(PathBuf, Secret, u32)>,
    /// Where the server listens, if its client is in this process and not a program of the container.
    pub port: Option<u16>,
}

/// Where a process may live: everything it writes goes here.
pub struct Site<'a> {
    pub directory: &'a Path,
    /// Free on loopback, for servers that know no sockets.
    pub port: u16,
    /// A path short enough for a socket.
    pub socket: &'a Path,
    /// A server that is reached by the socket has no network.
    pub alone: bool,
}

/// A server as a process of this host.
#[derive(Clone, Debug)]
pub struct ProcessRecipe {
    /// One of these is the server: the first that is found, beside what is in PATH also in these directories.
    pub programs: Vec<&'static str>,
    pub directories: Vec<PathBuf>,
    /// What is run to its end before, such as the making of an empty data directory. Programs are looked for in the same places.
    pub before: Vec<Command>,
    pub arguments: Vec<OsString>,
    /// Files of the site that are written first: path, content.
    pub files: Vec<(PathBuf, Secret)>,
    /// It listens on the socket of its site, or else on its port.
    pub by_socket: bool,
    /// It is not started where it would have a network.
    pub alone: bool,
}

/// Where a scratch server answers.
#[derive(Clone, Debug)]
pub struct Reach {
    pub place: Place,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub socket: Option<PathBuf>,
    /// Of the password that only this rehearsal knows.
    pub password: SecretRef,
}

/// What a point is loaded into, made for it alone.
#[derive(Debug)]
pub struct Scratch {
    settings: Settings,
    path: Option<PathBuf>,
}

impl Scratch {
    /// A file or a directory in `directory`, which nobody else has.
    pub fn in_directory(directory: &Directory, name: &str, settings: Settings) -> Self {
        Scratch { settings, path: Some(directory.path().join(name)) }
    }

    /// A server that was started for this rehearsal. Its password, which is in `directory`, opens no other.
    pub fn of_server(_directory: &Directory, settings: Settings) -> Self {
        Scratch { settings, path: None }
    }

    /// A server that was started on data in `directory`.
    pub fn now_served(self, settings: Settings) -> Self {
        Scratch { settings, ..self }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The file or directory; `None` for a server.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Runs a user's own command there: inside the scratch container, or on what was restored into a directory, with nothing else
    /// of this host in reach. Gives its output.
    pub fn run(&self, command: &[String], cancel: &Cancel) -> Result<String> {
        let (program, arguments) = command.split_first().ok_or_else(|| Failure::usage("the command is empty"))?;
        let server = self.settings.server().map(|server| &server.place);
        let (place, command) = match (server, &self.path) {
            (Some(place @ Place::Container(_)), _) => {
                let arguments = arguments.iter().map(Into::into).collect();
                (place, Command { program: program.into(), arguments, limit: Some(ASKED), ..Command::default() })
            }
            (None, Some(path)) => {
                let root = crate::durable::parent_of(path).join("root");
                (&Place::Host, confined::around(command, &root, path, ASKED, cancel)?)
            }
            _ => {
                return Err(Failure::usage(
                    "`run` is refused: this server is a process of the host and in no container",
                )
                .hint("Ask the server itself (`sql`, `mongo`, `redis`), or rehearse where there is Docker"));
            }
        };
        let mut output = Vec::new();
        let exec = place.exec()?;
        exec.start(&command, cancel)?
            .take(ANSWER)
            .read_to_end(&mut output)
            .context(|| format!("`{program}` failed"))?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    pub fn target(&self) -> Target {
        match &self.path {
            Some(path) => Target::New(path.clone()),
            None => Target::NewDatabases(Naming::Same),
        }
    }
}

/// Refuses a server that holds something already, such as `a database shop`: the one that was just started is empty, and every
/// other one is not ours.
pub fn must_be_fresh(found: Option<String>) -> Result<()> {
    let Some(found) = found else { return Ok(()) };
    let text = format!("the scratch server has {found} already, so it is no fresh one; nothing was restored");
    Err(Failure::new(Kind::Refused, text).hint("An image that comes with data cannot be rehearsed into"))
}

/// What is asked of a scratch target for a user's own assertion.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    Sql {
        database: Option<String>,
        query: String,
    },
    /// A command document, as JSON, and the path to the value in its answer.
    Mongo {
        database: String,
        command: serde_json::Value,
        value: Option<String>,
    },
    /// A command and its arguments.
    Redis {
        database: u32,
        command: Vec<String>,
    },
    /// A command inside the scratch container, or in the scratch directory: its output.
    Run(Vec<String>),
    /// An application that is started beside the scratch server: what it answers.
    Http(Probe),
}

/// An application and what it is asked. In its command, its environment and its files stands what it needs to reach the server:
/// `{host}`, `{port}`, `{user}`, `{password_file}`; and `{password}`, in files alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub image: String,
    pub command: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub files: Vec<(PathBuf, String)>,
    pub port: u16,
    pub path: String,
    /// Of a good answer.
    pub status: u16,
    /// How long it may take until it gives one.
    pub patience: Duration,
}

/// How an application beside a scratch server comes into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entrance {
    pub port: u16,
    /// None where the scratch server asks nobody who he is.
    pub user: Option<&'static str>,
}

impl Question {
    /// The refusal of an engine that does not understand it.
    pub fn is_not_for(&self, what: &str) -> Failure {
        let word = match self {
            Question::Sql { .. } => "sql",
            Question::Mongo { .. } => "mongo",
            Question::Redis { .. } => "redis",
            Question::Run(_) => "run",
            Question::Http(_) => "http",
        };
        Failure::usage(format!("`{word}:` cannot be asked of {what}")).hint("Correct `assert` of the policy")
    }
}

/// Differences that are kept by name; of more there is only the number.
const LISTED: usize = 100;

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Parts that were compared.
    pub compared: u64,
    /// In words, each with the name of what differs; the first of them.
    pub differences: Vec<String>,
    pub differing: u64,
    /// What could not be compared, and why: with any, nothing is called equal.
    pub unbound: Vec<String>,
}

impl Comparison {
    /// Of two fingerprints that were taken in the same way; else what there is to say of them, and nothing is compared.
    pub fn of(was: &Fingerprint, is: &Fingerprint) -> std::result::Result<Self, Self> {
        let mut comparison = Comparison::default();
        if was.method == is.method {
            return Ok(comparison);
        }
        comparison.unbound.push("the point was made by a version of bkp that compared otherwise".into());
        Err(comparison)
    }

    /// Compares everything that either side has, by its name.
    pub fn all<T: PartialEq>(
        &mut self,
        was: &BTreeMap<String, T>,
        is: &BTreeMap<String, T>,
        told: impl Fn(&T, &T) -> String,
    ) {
        let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        for name in names {
            self.part(name, was.get(name), is.get(name), &told);
        }
    }

    pub fn differs(&mut self, what: impl Into<String>) {
        self.differing += 1;
        if self.differences.len() < LISTED {
            self.differences.push(what.into());
        }
    }

    /// Compares one part. `was` is what the source had, `is` what came back.
    pub fn part<T: PartialEq>(
        &mut self,
        name: &str,
        was: Option<&T>,
        is: Option<&T>,
        told: impl FnOnce(&T, &T) -> String,
    ) {
        self.compared += 1;
        match (was, is) {
            (Some(was), Some(is)) if was == is => {}
            (Some(was), Some(is)) => self.differs(format!("{name}: {}", told(was, is))),
            (Some(_), None) => self.differs(format!("{name}: missing")),
            (None, Some(_)) => self.differs(format!("{name}: the source did not have it")),
            (None, None) => self.compared -= 1,
        }
    }

    pub fn is_equal(&self) -> bool {
        self.differing == 0 && self.unbound.is_empty() && self.compared > 0
    }
}

/// How two counts of one thing differ.
pub fn counted(was: &FingerprintPart, is: &FingerprintPart, what: &str) -> String {
    match was.count == is.count {
        true => "other content".to_owned(),
        false => format!("{} {what} instead of {}", is.count, was.count),
    }
}

/// What points of this kind are rehearsed by; `None` for kinds of which no more than reading can be rehearsed.
pub fn rehearsable(kind: &str) -> Option<&'static dyn Rehearsable> {
    match kind {
        "sqlite" => Some(&super::sqlite::Rehearsal),
        "volume" => Some(&super::volume::Rehearsal),
        "mongo" => Some(&super::mongo::Rehearsal),
        "redis" => Some(&super::redis::Rehearsal),
        "postgres" => Some(&super::postgres::Rehearsal),
        "mysql" => Some(&super::mysql::Rehearsal),
        "vault" => Some(&super::vault::Rehearsal),
        _ => None,
    }
}
