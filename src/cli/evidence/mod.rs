//! `bkp evidence`: the journal as proof for others.

mod export;
mod key;
mod look;
mod verify;

use super::Ran;
use super::anchor::Anchoring;
use super::environment::{Access, Environment};
use super::output::plain;
use crate::error::{Failure, Kind, Result};
use crate::evidence::timestamp::Authorities;
use crate::evidence::{Keeper, REPOSITORY, Signer};
use crate::repo::sign::Trusted;
use crate::repo::writer::{Writer, state_file};
use crate::repo::{Repository, catalog};
use ed25519_dalek::VerifyingKey;
use export::Exporting;
use verify::Verify;

pub use look::Look;

#[derive(clap::Subcommand, Debug)]
#[command(after_help = "\
What it proves, and how to verify it without bkp, is in docs/EVIDENCE.md.

Examples:
  bkp evidence verify
  bkp evidence anchor
  bkp evidence export evidence.tar --period 2026-Q4")]
pub enum Command {
    Verify(Verify),
    Export(Exporting),
    Anchor(Anchoring),
    Key(key::Arguments),
}

impl Command {
    pub fn run(self, env: &Environment) -> Ran {
        match self {
            Command::Verify(arguments) => arguments.run(env),
            Command::Export(arguments) => arguments.run(env),
            Command::Anchor(arguments) => arguments.run(env),
            Command::Key(arguments) => arguments.run(env),
        }
    }
}

/// Whose journal the repository has, and how to read it.
struct Door {
    repository: Repository,
    access: Access,
    writer: String,
    signer: VerifyingKey,
    pinned: bool,
}

impl Door {
    fn of(env: &Environment, repository: Repository, writer: Option<&str>) -> Result<Self> {
        let access = env.listing(&repository)?;
        let own = access.writer.as_ref().map(|writer| writer.id().to_owned());
        let known = || catalog::writers(&repository).map(|(writers, _)| writers);
        let writer = match (writer, own) {
            (Some(id), _) => id.to_owned(),
            (None, Some(own)) => own,
            (None, None) => match &known()?[..] {
                [one] => one.writer.clone(),
                all => {
                    let ids: Vec<String> =
                        all.iter().map(|info| format!("{} ({})", info.writer, plain(&info.name))).collect();
                    return Err(Failure::usage("the repository has the journals of several hosts")
                        .hint(format!("Name one with --writer: {}", ids.join(", "))));
                }
            },
        };
        let info = known()?.into_iter().find(|info| info.writer == writer);
        let info = info.ok_or_else(|| {
            Failure::usage(format!("the repository knows no host `{}`", plain(&writer))).hint("See: bkp keys list")
        })?;
        let trusted = access.trust.decide(&info.writer, &info.verify_key)?;
        let (signer, pinned) = (*trusted.key(), matches!(trusted, Trusted::Pinned(_)));
        Ok(Door { repository, access, writer, signer, pinned })
    }

    /// The same, where the journal of this host is meant unless another one is named: the only writer of a repository is another
    /// host for those who only read it.
    fn of_host(env: &Environment, repository: Repository, writer: Option<&str>) -> Result<Self> {
        let door = Door::of(env, repository, writer)?;
        if writer.is_some() || door.is_of_this_host() {
            return Ok(door);
        }
        Err(Failure::new(Kind::Key, "this host is no writer of the repository, and has no key to sign its journal with").hint(
            "A verifier, which only reads, gets a key of its own with: bkp evidence key --new. For what another host sealed, name it with --writer",
        ))
    }

    fn keeper<'a>(&'a self, authorities: Option<&'a Authorities>) -> Keeper<'a> {
        Keeper {
            place: REPOSITORY.to_owned(),
            repository: &self.repository,
            keys: &self.access.keys,
            writer: &self.writer,
            signer: self.signer,
            authorities,
        }
    }

    fn is_of_this_host(&self) -> bool {
        self.access.writer.as_ref().is_some_and(|own| own.id() == self.writer)
    }
}

/// The id of the only journal.
fn only(keeper: &Keeper<'_>) -> Result<String> {
    let all: Vec<String> = keeper.journals()?.into_iter().collect();
    match &all[..] {
        [one] => Ok(one.clone()),
        [] => Err(Failure::failed(format!("{} holds no journal of writer {} yet", keeper.place, keeper.writer))
            .hint("It is put there after a backup, once a segment is full, and by: bkp evidence anchor")),
        all => Err(Failure::new(
            Kind::Verification,
            format!("writer {} has more than one journal: {}", keeper.writer, all.join(", ")),
        )
        .hint("A host has one. Somebody wrote it anew, or its state was lost: look at the host")),
    }
}

/// The writer of this host, where the repository is not asked.
pub fn only_writer(env: &Environment) -> Result<Writer> {
    let state = &env.paths()?.state;
    let mut known = Vec::new();
    for entry in std::fs::read_dir(state.join("repositories")).into_iter().flatten().flatten() {
        known.extend(entry.file_name().to_str().and_then(|id| Writer::load(state, id).transpose()));
    }
    match (known.pop(), known.len()) {
        (Some(writer), 0) => writer,
        (None, _) => {
            Err(Failure::new(Kind::Key, "this host is no writer of a repository, and has no key to sign with"))
        }
        (Some(_), _) => {
            Err(Failure::new(Kind::Key, "this host writes into several repositories").hint("Leave out --offline"))
        }
    }
}

/// Who signs the journal of this host, where the repository is not asked: its writer, else a key of its own.
fn signer(env: &Environment) -> Result<Signer> {
    match only_writer(env) {
        Ok(writer) => Ok(Signer::of(&writer)),
        Err(failure) => Signer::own(&env.paths()?.state)?.ok_or_else(|| {
            Failure::new(failure.kind(), failure.full())
                .hint("A verifier, which only reads, gets a key of its own with: bkp evidence key --new")
        }),
    }
}

/// The key of a host that only reads: it writes into no repository, and made one of its own.
fn verifier(env: &Environment) -> Result<Option<Signer>> {
    match has_writer(env)? {
        true => Ok(None),
        false => Signer::own(&env.paths()?.state),
    }
}

fn has_writer(env: &Environment) -> Result<bool> {
    let state = &env.paths()?.state;
    let entries = std::fs::read_dir(state.join("repositories")).into_iter().flatten().flatten();
    Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).any(|id| state_file(state, &id).exists()))
}
