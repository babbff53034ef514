//! Consumers: how one is told a new secret, takes it up, and is seen to work with it.
//!
//! A kind of telling is a [`Delivery`], a kind of taking up a [`Reload`]; each is one file here and one line in [`Consumer::of`].
//! Everything can be done twice: after a crash it is. What a consumer holds is told by looking, never by remembering.

mod command;
mod compose;
mod container;
mod docker;
pub(super) mod env_file;
pub mod file;
mod kubernetes;
mod one_by_one;
mod secret_file;
mod swarm;
pub(super) mod text;
pub(super) mod variables;

use super::scan::Found;
use super::state::Holds;
use crate::backoff::pause;
use crate::engine::{Credential, Pair};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::exec::host::Host;
use crate::exec::{Command, Exec};
use crate::policy::{self, Told};
use crate::secret::Secret;
use std::io::Read;
use std::time::{Duration, Instant};

/// Between two looks at a consumer that does not work yet.
const PAUSE: Duration = Duration::from_millis(500);
/// One look.
const LOOK: Duration = Duration::from_secs(30);

/// Where a consumer finds the secret when it starts.
pub trait Delivery: Send + Sync {
    /// What it would find now.
    fn holds(&self, pair: Pair<'_>) -> Result<Holds>;

    /// From now on it finds the other one of the pair. What it finds now is kept aside until [`Delivery::settle`]. `leased` is
    /// asked right before each thing that is changed.
    fn deliver(&self, pair: Pair<'_>, to: Holds, leased: &Cancel) -> Result<()>;

    /// Whether a new one, which may be of others' making, can be written there at all.
    fn takes(&self, _new: &Credential) -> Result<()> {
        Ok(())
    }

    /// The rotation is over: nothing is kept aside any more.
    fn settle(&self, leased: &Cancel) -> Result<()>;

    /// Who else is given the same, by the same means, and is none of these consumers; and what else of the same means has it.
    fn others(&self, _told: &[policy::Consumer], _current: &Secret) -> Result<Vec<Found>> {
        Ok(Vec::new())
    }

    /// For people: what will be changed.
    fn describe(&self) -> String;
}

/// How a consumer takes up what it finds.
pub trait Reload: Send + Sync {
    /// It begins anew, with what it finds.
    fn reload(&self, credential: &Credential, cancel: &Cancel) -> Result<()>;

    /// Whether it can be done at all: a failure is what would go wrong. Gives what people should know of besides. Changes nothing.
    fn preflight(&self, _cancel: &Cancel) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Why it does not work, as far as that can be seen from outside; `None` when it does.
    fn trouble(&self, cancel: &Cancel) -> Result<Option<String>>;

    /// For people: what will be done.
    fn describe(&self) -> String;
}

/// One that uses the secret.
pub struct Consumer {
    pub name: String,
    pub delivery: Box<dyn Delivery>,
    reload: Box<dyn Reload>,
    check: Option<Vec<String>>,
    pub patience: Duration,
}

impl Consumer {
    /// The one place that knows all kinds.
    pub fn of(rotation: &str, consumer: &policy::Consumer, all: &[policy::Consumer]) -> Self {
        let delivery: Box<dyn Delivery> = match file::told(consumer, all) {
            Told::Published => Box::new(Reads),
            Told::EnvFile { path, variables, user_variables } => {
                Box::new(env_file::EnvFile::new(&path, &variables, &user_variables))
            }
            Told::SecretFile(path) => Box::new(secret_file::SecretFile::new(&path)),
            Told::Swarm(service) => Box::new(swarm::Swarm::new(rotation, &service)),
            Told::Kubernetes(workload) => Box::new(kubernetes::Kubernetes::new(rotation, &workload)),
        };
        let reload: Box<dyn Reload> = match &consumer.reload {
            policy::Reload::Compose(service, policy::How::OneByOne { ready, grace }) => {
                Box::new(one_by_one::OneByOne {
                    compose: compose::Compose::new(service, &policy::How::Recreate),
                    ready: ready.clone(),
                    grace: *grace,
                    patience: consumer.patience,
                    told: match &consumer.told {
                        Told::EnvFile { .. } => one_by_one::By::Variables,
                        Told::SecretFile(path) => one_by_one::By::File(path.clone()),
                        Told::Published | Told::Swarm(_) | Told::Kubernetes(_) => one_by_one::By::Nothing,
                    },
                })
            }
            policy::Reload::Compose(service, how) => Box::new(compose::Compose::new(service, how)),
            policy::Reload::Swarm(service) => Box::new(swarm::Swarm::new(rotation, service)),
            policy::Reload::Container { name, signal } => Box::new(container::Container::new(name, signal.as_deref())),
            policy::Reload::Kubernetes(workload) => Box::new(kubernetes::Kubernetes::new(rotation, workload)),
            policy::Reload::Command(words) => {
                Box::new(command::Hook::new(rotation, &consumer.name, words, consumer.patience))
            }
        };
        let (name, check) = (consumer.name.clone(), consumer.check.clone());
        Consumer { name, delivery, reload, check, patience: consumer.patience }
    }

    pub fn reload(&self, credential: &Credential, cancel: &Cancel) -> Result<()> {
        self.reload.reload(credential, cancel)
    }

    /// What would go wrong, before anything is begun.
    pub fn preflight(&self, cancel: &Cancel) -> Result<Vec<String>> {
        let notes = self.reload.preflight(cancel)?;
        Ok(notes.into_iter().map(|note| format!("{}: {note}", self.name)).collect())
    }

    /// Waits until it works, and has nothing `left` of what it had.
    pub fn gate(&self, left: &dyn Fn() -> Result<Option<String>>, cancel: &Cancel) -> Result<()> {
        let begun = Instant::now();
        loop {
            cancel.check()?;
            let why = self.trouble(cancel)?.map_or_else(left, |why| Ok(Some(why)))?;
            let Some(why) = why else { return Ok(()) };
            if begun.elapsed() >= self.patience || !pause(PAUSE, &|| cancel.check().is_err()) {
                cancel.check()?;
                return Err(Failure::new(Kind::Failed, format!("{} does not work with it: {why}", self.name)));
            }
        }
    }

    fn trouble(&self, cancel: &Cancel) -> Result<Option<String>> {
        if let Some(why) = self.reload.trouble(cancel)? {
            return Ok(Some(why));
        }
        let Some(check) = &self.check else { return Ok(None) };
        match run(check, None, &[], LOOK.min(self.patience), cancel) {
            Ok(_) => Ok(None),
            Err(failure) => cancel.check().map(|()| Some(failure.full())),
        }
    }

    /// What will be done, in the order in which it is.
    pub fn describe(&self) -> String {
        let check =
            self.check.as_ref().map_or_else(String::new, |words| format!(", until its check ({}) ends well", words[0]));
        format!("{}: {}; {}{check}", self.name, self.delivery.describe(), self.reload.describe())
    }

    /// What should be known of how it is seen to work.
    pub fn warning(&self) -> Option<String> {
        let weak = self.check.is_none();
        weak.then(|| format!("{} has no `check`: that it starts is all that is seen of it", self.name))
    }
}

/// Nobody need be told: it reads what is published.
struct Reads;

impl Delivery for Reads {
    fn holds(&self, _: Pair<'_>) -> Result<Holds> {
        Ok(Holds::Published)
    }

    fn deliver(&self, _: Pair<'_>, _: Holds, _: &Cancel) -> Result<()> {
        Ok(())
    }

    fn settle(&self, _: &Cancel) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        "reads what is published".into()
    }
}

/// Runs a command to its end, and gives what it says. Its arguments are told nobody: there may be a password among them.
fn run(
    words: &[String],
    input: Option<Secret>,
    environment: &[(&str, String)],
    limit: Duration,
    cancel: &Cancel,
) -> Result<String> {
    let (program, arguments) = words.split_first().expect("a command has a program");
    let command = Command {
        program: program.into(),
        arguments: arguments.iter().map(Into::into).collect(),
        environment: environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        input,
        limit: Some(limit),
        ..Command::default()
    };
    let mut said = Vec::new();
    Host.start(&command, cancel)?
        .read_to_end(&mut said)
        .map_err(|error| Failure::from_io(error, || format!("cannot run {program}")))?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}
