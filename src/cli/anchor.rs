//! `bkp evidence anchor`: seals the journal, and puts its head where this host cannot take it back.

use super::Ran;
use super::environment::Environment;
use super::evidence::only_writer;
use super::output::table;
use crate::clock;
use crate::error::{Failure, Kind, Result};
use crate::evidence::{Anchor, Away, Kept, Placed, Signer};
use crate::job::Places;
use crate::job::recorder::What;
use crate::journal::{Job, Journal};
use crate::notify;
use crate::policy::{AnchorPlace, Holder, ObjectLock, PRIMARY};
use crate::repo::Repository;
use crate::repo::writer::Writer;
use crate::store::Retain;

/// Seal the journal, and put its signed head in the repository and in the places of `evidence.anchor.to`
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The daemon does it on `evidence.anchor.schedule`. Each place is tried whatever came of the others; when one did not take it, it \
ends with exit code 1, and channels for failures are told.

Examples:
  bkp evidence anchor
  bkp evidence anchor --json | jq '.places[] | select(.ok | not)'")]
pub struct Anchoring {}

impl Anchoring {
    pub fn run(self, env: &Environment) -> Ran {
        env.recorder()?.command(What::of(Job::Anchor), || anchor(env).map(|()| None))
    }
}

/// Who signs, and where the repository is: that it is away keeps nobody else from holding the head.
enum Hand {
    Writer(Box<Writer>, Result<Repository>),
    /// Of a host that writes into no repository.
    Own(Signer),
}

impl Hand {
    fn of(env: &Environment) -> Result<Self> {
        let own = || Signer::own(&env.paths()?.state);
        let repository = match env.repository() {
            Ok(repository) => repository,
            Err(failure) => match only_writer(env) {
                Ok(writer) => return Ok(Hand::Writer(Box::new(writer), Err(failure))),
                Err(_) => return own()?.map(Hand::Own).ok_or(failure),
            },
        };
        match env.writer(&repository) {
            Ok(writer) => Ok(Hand::Writer(Box::new(writer), Ok(repository))),
            Err(failure) if failure.kind() == Kind::Key => match own()? {
                Some(own) => Ok(Hand::Own(own)),
                None => Err(Failure::new(Kind::Key, failure.full()).hint(
                    "Register it with: bkp init --join; a verifier, which only reads, gets a key of its own with: bkp evidence key --new",
                )),
            },
            Err(failure) => Err(failure),
        }
    }

    fn signer(&self) -> Signer {
        match self {
            Hand::Writer(writer, _) => Signer::of(writer),
            Hand::Own(signer) => signer.clone(),
        }
    }
}

fn anchor(env: &Environment) -> Result<()> {
    let journal = env.journal()?;
    let hand = Hand::of(env)?;
    let head = journal.seal(clock::now())?.zip(journal.id()?);
    let Some((head, id)) = head else {
        return Err(Failure::failed("there is no journal to anchor").hint("Make a backup first: bkp backup"));
    };
    let anchor = Anchor::of(head, &id, &hand.signer(), clock::now())?;
    let mut placed = Vec::new();
    match &hand {
        Hand::Own(_) => keep(env, &anchor)?,
        Hand::Writer(writer, repository) => {
            let result = match repository {
                Ok(repository) => into_repository(env, (repository, writer), &journal, &anchor),
                Err(failure) => keep(env, &anchor).and(Err(again(failure))),
            };
            let address = env.store_settings().map(|settings| settings.location.to_string()).unwrap_or_default();
            placed.push(Placed { place: PRIMARY.to_owned(), kind: "repository", address, result });
        }
    }
    for place in &env.configuration()?.evidence.places {
        let result = env.cancel.check().and_then(|()| put_in(env, place, &anchor, &hand));
        let (kind, address) = (place.holder.kind(), place.holder.address());
        placed.push(Placed { place: place.name.clone(), kind, address, result });
    }
    let facts: Vec<_> = placed.iter().map(|one| anchor.fact(one)).collect();
    env.recorder()?.note(&facts);
    tell(env, &anchor, &placed)
}

/// Everything that the head covers, and then the head.
fn into_repository(
    env: &Environment,
    (repository, writer): (&Repository, &Writer),
    journal: &Journal,
    anchor: &Anchor,
) -> Result<()> {
    let (places, retain) = (env.places(repository)?, retain(env)?);
    Away { repository, writer, places: &places, retain }.put_missing(journal)?;
    anchor.into_store(repository, None, retain.as_ref())
}

/// For bundles, as long as no repository has it.
fn keep(env: &Environment, anchor: &Anchor) -> Result<()> {
    Kept::of(&env.paths()?.state).put(&anchor.head.journal, anchor.head.seq, &anchor.envelope)
}

fn put_in(env: &Environment, place: &AnchorPlace, anchor: &Anchor, hand: &Hand) -> Result<()> {
    match (&place.holder, hand) {
        (Holder::Copy(name), Hand::Writer(writer, _)) => {
            let copy = env.repository_or(Some(name))?;
            let lock = env.configuration()?.copy(name)?.store.object_lock;
            anchor.into_store(&copy, Some(&writer.info), locked(env, lock)?.as_ref())
        }
        (Holder::Copy(_), Hand::Own(_)) => {
            Err(Failure::new(Kind::Key, "this host is no writer of the repository, and puts nothing into its copies")
                .hint("A verifier anchors in a file, a mail or a time stamp: look at `evidence.anchor.to`"))
        }
        (Holder::File(path), _) => anchor.into_file(path),
        (Holder::Mail(mail), _) => notify::write_to(mail, env.secrets()?, &anchor.head.host, anchor.letter()),
        (Holder::TimeStamp(authority), hand) => {
            let (stamp, silent) = anchor.stamped(authority)?;
            for failure in silent {
                env.output.warn(&format!("another authority was asked for the time stamp: {}", failure.full()));
            }
            match hand {
                Hand::Writer(_, Ok(repository)) => anchor.stamp_into_store(&stamp, repository, retain(env)?.as_ref()),
                _ => Kept::of(&env.paths()?.state).put_stamp(&anchor.head.journal, anchor.head.seq, &stamp),
            }
        }
    }
}

/// A failure that is told in two places.
fn again(failure: &Failure) -> Failure {
    let again = Failure::new(failure.kind(), failure.full());
    match failure.next_step() {
        Some(hint) => again.hint(hint),
        None => again,
    }
}

fn tell(env: &Environment, anchor: &Anchor, placed: &[Placed]) -> Result<()> {
    let view = |one: &Placed| {
        serde_json::json!({
            "place": one.place,
            "kind": one.kind,
            "address": one.address,
            "ok": one.result.is_ok(),
            "message": one.result.as_ref().err().map(Failure::full),
            "hint": one.result.as_ref().err().and_then(Failure::next_step),
        })
    };
    let document = serde_json::json!({ "head": anchor.head, "places": placed.iter().map(view).collect::<Vec<_>>() });
    env.output.answer(&document, || {
        let row = |one: &Placed| {
            let outcome = one.result.as_ref().map_or_else(Failure::full, |()| "holds it".to_owned());
            vec![one.place.clone(), one.kind.to_owned(), one.address.clone(), outcome]
        };
        let places = table(&["PLACE", "KIND", "WHERE", "OUTCOME"], placed.iter().map(row));
        format!("record {} with hash {}\n{places}", anchor.head.seq, anchor.head.hash)
    })?;
    if placed.iter().all(|one| one.place == PRIMARY) {
        let nobody = if placed.is_empty() { "Nobody holds it" } else { "Nobody but the repository holds it" };
        env.output.note(&format!("{nobody}: write `evidence: {{ anchor: {{ to: [...] }} }}`, see docs/EVIDENCE.md"));
    }
    let failed: Vec<String> =
        placed.iter().filter_map(|one| Some(format!("{}: {}", one.place, one.result.as_ref().err()?.full()))).collect();
    let hint = placed.iter().find_map(|one| one.result.as_ref().err()?.next_step().map(str::to_owned));
    // What may pass is tried again by the daemon.
    let mut kinds = placed.iter().filter_map(|one| one.result.as_ref().err());
    let kind = if kinds.all(|f| f.kind() == Kind::TryLater) { Kind::TryLater } else { Kind::Failed };
    match failed[..] {
        [] => Ok(()),
        _ => Err(Failure::new(
            kind,
            format!("the head of the journal is not everywhere it should be: {}", failed.join("; ")),
        )
        .hint(hint.unwrap_or_else(|| "Look at `evidence.anchor.to`, then: bkp evidence anchor".to_owned()))),
    }
}

/// How long the repository is to keep evidence, where it has object lock.
fn retain(env: &Environment) -> Result<Option<Retain>> {
    let lock = env.configuration()?.repository.as_ref().and_then(|repository| repository.object_lock);
    locked(env, lock)
}

fn locked(env: &Environment, lock: Option<ObjectLock>) -> Result<Option<Retain>> {
    let keep = env.configuration()?.evidence.keep;
    let until = env.now.checked_add(keep).unwrap_or(jiff::Timestamp::MAX);
    Ok(lock.map(|lock| Retain { mode: lock.mode, until }))
}

/// The journal of this host is kept where the host cannot change it. That this fails is no failure of the run before it.
pub fn put_away(env: &Environment, repository: &Repository, writer: &Writer, places: &Places) {
    let away = || {
        let away = Away { repository, writer, places, retain: retain(env)? };
        away.put(&env.journal()?)
    };
    if let Err(failure) = away() {
        env.output.warn(&format!("the journal could not be put into the repository: {}", failure.full()));
    }
}
