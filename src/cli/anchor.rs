//! `bkp evidence anchor`: seals the journal, and puts its head where this host cannot take it back.

use super::Ran;
use super::environment::Environment;
use super::output::table;
use crate::clock;
use crate::error::{Failure, Kind, Result};
use crate::evidence::{Anchor, Away, Placed};
use crate::job::Places;
use crate::job::recorder::What;
use crate::journal::Job;
use crate::notify;
use crate::policy::{AnchorPlace, Holder, ObjectLock, PRIMARY};
use crate::repo::Repository;
use crate::repo::writer::Writer;
use crate::store::Retain;

/// Seal the journal, and put its signed head in the repository and in the places of `evidence.anchor.to`
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The daemon does it on `evidence.anchor.schedule`. Each place is tried whatever came of the others; when one did not take it, it
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

fn anchor(env: &Environment) -> Result<()> {
    let repository = env.repository()?;
    let writer = env.writer(&repository)?;
    let journal = env.journal()?;
    let head = journal.seal(clock::now())?.zip(journal.id()?);
    let Some((head, id)) = head else {
        return Err(Failure::failed("there is no journal to anchor").hint("Make a backup first: bkp backup"));
    };
    let retain = retain(env)?;
    let away = Away { repository: &repository, writer: &writer, places: &env.places(&repository)?, retain };
    let put = away.put_missing(&journal).map(drop);
    let anchor = Anchor::of(head, &id, &writer, clock::now())?;
    let address = repository.store.describe();
    let result = put.and_then(|()| anchor.into_store(&repository, None, retain.as_ref()));
    let mut placed = vec![Placed { place: PRIMARY.to_owned(), kind: "repository", address, result }];
    for place in &env.configuration()?.evidence.places {
        let result = env.cancel.check().and_then(|()| put_in(env, place, &anchor, &repository));
        let (kind, address) = (place.holder.kind(), place.holder.address());
        placed.push(Placed { place: place.name.clone(), kind, address, result });
    }
    let facts: Vec<_> = placed.iter().map(|one| anchor.fact(one)).collect();
    env.recorder()?.note(&facts);
    tell(env, &anchor, &placed)
}

fn put_in(env: &Environment, place: &AnchorPlace, anchor: &Anchor, repository: &Repository) -> Result<()> {
    match &place.holder {
        Holder::Copy(name) => {
            let copy = env.repository_or(Some(name))?;
            let lock = env.configuration()?.copy(name)?.store.object_lock;
            anchor.into_store(&copy, Some(repository), locked(env, lock)?.as_ref())
        }
        Holder::File(path) => anchor.into_file(path),
        Holder::Mail(mail) => notify::write_to(mail, env.secrets()?, &anchor.head.host, anchor.letter()),
        Holder::TimeStamp(authority) => anchor.stamped(authority, repository, retain(env)?.as_ref()),
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
    if placed.len() == 1 {
        env.output.note(
            "Nobody but the repository holds it: write `evidence: { anchor: { to: [...] } }`, see docs/EVIDENCE.md",
        );
    }
    let failed: Vec<String> =
        placed.iter().filter_map(|one| Some(format!("{}: {}", one.place, one.result.as_ref().err()?.full()))).collect();
    let hint = placed.iter().find_map(|one| one.result.as_ref().err()?.next_step().map(str::to_owned));
    // What may pass is tried again by the daemon.
    let kind = match placed.iter().filter_map(|one| one.result.as_ref().err()).all(|f| f.kind() == Kind::TryLater) {
        true => Kind::TryLater,
        false => Kind::Failed,
    };
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
