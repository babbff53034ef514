//! `bkp copies`: how many good copies there are, and how far behind each is. Also what other commands do with copies: bring them up
//! to date after a backup, and say which of them has what the repository does not give.

use super::Ran;
use super::copy::{Target, into};
use super::environment::{Access, Environment};
use super::format::{count, size, span};
use super::locks;
use super::output::{plain, table};
use super::shell;
use crate::error::{Failure, Kind, Result};
use crate::job::copy::Copied;
use crate::job::copy::state::{CopyState, Pins, Shelves, Standing, compare, pins, wanted};
use crate::job::damage;
use crate::job::lock::Kept;
use crate::policy::PRIMARY;
use crate::repo::point::Point;
use crate::repo::writer::Writer;
use crate::repo::{Repository, catalog, copy, names};
use crate::store;
use std::time::Duration;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
The repository counts as the first copy. Ends with exit code 3 when not all of them are good.

Examples:
  bkp copies
  bkp copies --json | jq '.copies[] | select(.standing != \"good\")'")]
pub struct Arguments {}

/// Looking does not wait long for a store that is away.
const PATIENCE: Duration = Duration::from_secs(10);

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let states = look(env, env.open(briefly(env.store_settings()?)))?;
        let good = states.iter().filter(|state| state.standing == Standing::Good).count();
        let document = serde_json::json!({
            "ok": good == states.len(), "good": good, "all": states.len(), "at": env.now, "copies": states,
        });
        env.output.answer(&document, || format!("{}\n\n{}", headline(&states), listing(&states)))?;
        if !env.output.json {
            next_steps(&states).iter().for_each(|step| env.output.note(step));
        }
        Ok((good < states.len()).then_some(Kind::Warnings))
    }
}

pub fn briefly(mut settings: store::Settings) -> store::Settings {
    settings.budget = settings.budget.lasting(settings.budget.total.min(PATIENCE));
    settings
}

/// `2 of 3 copies good`
pub fn headline(states: &[CopyState]) -> String {
    let good = states.iter().filter(|state| state.standing == Standing::Good).count();
    match states.len() {
        1 => "1 copy, the repository itself: name further stores in `copies:` of the main file".to_owned(),
        all => format!("{good} of {all} copies good"),
    }
}

pub fn listing(states: &[CopyState]) -> String {
    let row = |state: &CopyState| {
        let known = !matches!(state.standing, Standing::Absent | Standing::Unreachable);
        vec![
            state.name.clone(),
            word(state.standing).to_owned(),
            if known { state.points.to_string() } else { "?".into() },
            if known { state.missing.to_string() } else { "?".into() },
            state.behind_seconds.map(span).unwrap_or_default(),
            state.location.clone(),
            state.why.as_deref().map(plain).unwrap_or_default(),
        ]
    };
    table(&["COPY", "", "POINTS>", "MISSING>", "BEHIND>", "WHERE", ""], states.iter().map(row))
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Good => "good",
        Standing::Behind => "behind",
        Standing::Damaged => "DAMAGED",
        Standing::Absent => "not made yet",
        Standing::Unreachable => "UNREACHABLE",
    }
}

fn next_steps(states: &[CopyState]) -> Vec<String> {
    let step = |state: &CopyState| match state.standing {
        Standing::Good => None,
        Standing::Behind => Some(format!("bkp copy {}", state.name)),
        Standing::Damaged if state.name == PRIMARY => Some("bkp check".to_owned()),
        Standing::Damaged => Some(format!("bkp copy --repair {0}; bkp check --copy {0}", state.name)),
        Standing::Absent if state.name == PRIMARY => None,
        Standing::Absent => Some(format!("bkp copy --create {}", state.name)),
        Standing::Unreachable => Some(format!("{}: look at the network, the credentials, the mount", state.name)),
    };
    states.iter().filter_map(step).map(|step| format!("→ {step}")).collect()
}

/// The repository and its copies, compared. `primary` is the repository, or why it could not be opened: then the copies are
/// compared with one another.
pub fn look(env: &Environment, primary: Result<Repository>) -> Result<Vec<CopyState>> {
    let copies = &env.configuration()?.copies;
    let mut opened = vec![(PRIMARY, env.store_settings()?.location.to_string(), primary)];
    for copy in copies {
        let settings = briefly(env.copy_settings(copy)?);
        opened.push((&copy.name, settings.location.to_string(), env.open(settings)));
    }
    let Some(any) = opened.iter().find_map(|(_, _, repository)| repository.as_ref().ok()) else {
        return Err(opened.swap_remove(0).2.err().expect("no store could be opened"));
    };
    let (any_id, access) = (any.id().to_owned(), env.listing(any)?);
    let mut looked = Vec::new();
    for (name, location, repository) in opened {
        let shelves = repository.and_then(|repository| {
            if repository.id() != any_id {
                return Err(Failure::new(Kind::Refused, "it holds another repository"));
            }
            let places = env.places(&repository)?;
            let places = if name == PRIMARY { places } else { places.of_copy(name) };
            let (shelves, pins) = points(&repository, &access)?;
            Ok(Seen { shelves, pins, damage: damage::load(&places).len() })
        });
        looked.push((name, location, shelves));
    }
    let (all, pins) = reference(looked.iter().map(|(_, _, seen)| seen.as_ref().ok()));
    let zone = env.zone()?;
    let state = |(name, location, seen): (&str, String, Result<Seen>)| match seen {
        Ok(seen) => {
            let keep = copies.iter().find(|copy| copy.name == name).and_then(|copy| copy.keep.as_ref());
            let kept = keep.map(|keep| Kept { keep, zone });
            let wanted = kept.map(|kept| wanted(&all, &seen.shelves, kept, &pins, env.now));
            compare((name, location), wanted.as_ref().unwrap_or(&all), &seen.shelves, seen.damage, env.now)
        }
        Err(failure) => {
            let absent = failure.kind() == Kind::NoRepository;
            let standing = if absent { Standing::Absent } else { Standing::Unreachable };
            CopyState::unknown(name, location, standing, (!absent).then(|| failure.full()))
        }
    };
    Ok(looked.into_iter().map(state).collect())
}

/// What was seen in one store.
struct Seen {
    shelves: Shelves,
    pins: Pins,
    damage: usize,
}

/// What there should be: what the repository lists, or while that is away, what any copy lists.
fn reference<'s>(mut seen: impl Iterator<Item = Option<&'s Seen>>) -> (Shelves, Pins) {
    if let Some(Some(primary)) = seen.next() {
        return (primary.shelves.clone(), primary.pins.clone());
    }
    let (mut all, mut pins) = (Shelves::new(), Pins::new());
    for seen in seen.flatten() {
        pins.extend(seen.pins.clone());
        for (writer, shelf) in &seen.shelves {
            all.entry(writer.clone()).or_default().extend(shelf.clone());
        }
    }
    (all, pins)
}

/// The points that a store lists: those of this host, or of all writers for who may read them; and the pinned ones.
fn points(repository: &Repository, access: &Access) -> Result<(Shelves, Pins)> {
    let own = access.writer.as_ref().map(Writer::id).filter(|_| access.operator.is_none());
    let writers = match own {
        Some(own) => vec![own.to_owned()],
        None => catalog::writers(repository)?.0.into_iter().map(|info| info.writer).collect(),
    };
    let (mut shelves, mut all_pins) = (Shelves::new(), Pins::new());
    for writer in writers {
        let records = copy::shelf(&*repository.store, &names::pinned_points(&writer))?;
        all_pins.extend(pins(records.keys()));
        let shelf = copy::shelf(&*repository.store, &names::points(&writer, None))?;
        shelves.insert(writer, shelf);
    }
    Ok((shelves, all_pins))
}

/// How each copy was brought up to date.
#[derive(Default)]
pub struct Outcomes {
    copies: Vec<(String, Result<Copied>)>,
    /// Something else did not go as it should.
    warned: bool,
}

impl Outcomes {
    pub fn warned(&self) -> bool {
        self.warned || self.copies.iter().any(|(_, outcome)| !outcome.as_ref().is_ok_and(Copied::is_complete))
    }

    pub fn document(&self) -> serde_json::Value {
        self.copies.iter().map(|(name, outcome)| document(name, outcome)).collect::<Vec<_>>().into()
    }

    pub fn add(&mut self, name: &str, outcome: Result<Copied>) {
        self.copies.push((name.to_owned(), outcome));
    }

    /// What ends the command: the one failure, when there was but one thing to do.
    pub fn ending(mut self) -> Ran {
        if let [(_, outcome)] = &mut self.copies[..] {
            match outcome {
                Ok(copied) if copied.stopped.is_some() => return copied.stopped.take().map_or(Ok(None), Err),
                Ok(_) => {}
                Err(_) => return self.copies.swap_remove(0).1.map(|_| None),
            }
        }
        let damaged = |(_, outcome): &(String, Result<Copied>)| outcome.as_ref().is_ok_and(|c| !c.failed.is_empty());
        match self.copies.iter().any(damaged) {
            true => Ok(Some(Kind::Verification)),
            false => Ok(self.warned().then_some(Kind::Warnings)),
        }
    }
}

fn document(name: &str, outcome: &Result<Copied>) -> serde_json::Value {
    let nothing = Copied::default();
    let copied = outcome.as_ref().unwrap_or(&nothing);
    let stopped = outcome.as_ref().err().or(copied.stopped.as_ref());
    let names: Vec<String> = copied.points.iter().map(crate::repo::check::title).collect();
    let failed = copied.failed.iter();
    let failed: Vec<_> = failed.map(|(point, f)| serde_json::json!({ "point": point, "problem": f.full() })).collect();
    serde_json::json!({
        "copy": name,
        "ok": outcome.as_ref().is_ok_and(Copied::is_complete),
        "points": names,
        "objects": copied.carried.objects,
        "bytes": copied.carried.bytes,
        "failed": failed,
        "forgotten": copied.forgotten,
        "left_out": copied.left_out,
        "problem": stopped.map(Failure::full),
    })
}

/// One line about a copy, and a warning for everything that did not go well.
pub fn tell(env: &Environment, name: &str, outcome: &Result<Copied>) {
    let warn = |failure: &Failure| {
        let hint = failure.next_step().map_or_else(String::new, |hint| format!("\n  {hint}"));
        env.output.warn(&plain_lines(&format!("copy {name}: {}{hint}", failure.full())));
    };
    match outcome {
        Err(failure) => warn(failure),
        Ok(copied) => {
            let (points, bytes) = (count(copied.points.len(), "point"), size(copied.carried.bytes));
            let same = copied.carried.objects == 0 && copied.is_complete();
            let what = if same { "nothing was missing".to_owned() } else { format!("{points}, {bytes}") };
            env.output.note(&format!("copy {name}: {what}"));
            if copied.forgotten > 0 {
                let points = count(copied.forgotten as usize, "point");
                env.output.note(&format!(
                    "copy {name}: {points} that were forgotten there on purpose are left out (bkp restore --from restores them)"
                ));
            }
            for (point, failure) in &copied.failed {
                env.output.warn(&plain(&format!("copy {name}: {point} is not copied: {}", failure.full())));
            }
            copied.left_out.iter().for_each(|why| env.output.warn(&plain(&format!("copy {name}: {why}"))));
            copied.stopped.iter().for_each(warn);
        }
    }
}

fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// After `made` was: raises locks that should last longer now, and brings all copies up to date where that is wanted. The
/// backup exists whatever becomes of them.
pub fn after_backup(
    env: &Environment,
    (repository, writer): (&Repository, &Writer),
    made: &[&Point],
    copy_too: bool,
) -> Result<Outcomes> {
    let mut outcomes = Outcomes::default();
    if made.is_empty() || env.cancel.check().is_err() {
        return Ok(outcomes);
    }
    let configuration = env.configuration()?;
    let access = Access { keys: writer.keyring(), trust: writer.trust(), writer: None, operator: None };
    let lock = configuration.repository.as_ref().and_then(|repository| repository.object_lock.as_ref());
    let series = made.iter().map(|point| (point.writer.as_str(), point.source.as_str())).collect();
    if let Err(failure) = locks::raise(env, repository, (&access.keys, &access.trust), (lock, None), &series) {
        env.output.told(&failure);
        outcomes.warned = true;
    }
    for copy in configuration.copies.iter().filter(|_| copy_too) {
        let outcome = Target::copy(env, copy)
            .and_then(|target| into(env, repository, (&access, Some(writer.id())), (&target, made), None))
            .map_err(|failure| match failure.kind() {
                Kind::TryLater => failure.hint(format!("The next backup catches up, or: bkp copy {}", copy.name)),
                _ => failure,
            });
        tell(env, &copy.name, &outcome);
        outcomes.add(&copy.name, outcome);
    }
    Ok(outcomes)
}

/// Adds to the failure of a command that reads which copy has what it did not get.
pub fn elsewhere(env: &Environment, failure: Failure) -> Failure {
    let reason = matches!(failure.kind(), Kind::TryLater | Kind::NoRepository | Kind::Verification);
    let copies = env.configuration().map_or(&[][..], |configuration| &configuration.copies);
    let from_copy = std::env::args_os().any(|word| word.to_string_lossy().starts_with("--from"));
    if !reason || copies.is_empty() || from_copy {
        return failure;
    }
    let Some(copy) = first_with(env, env.read_point()) else {
        return failure;
    };
    let what = if env.read_point().is_some() { "has this point" } else { "answers" };
    let hint = format!("The copy {0} {what}: {1} --from {0}", copy.name, shell::this_command());
    Failure::new(failure.kind(), failure.full()).hint(hint)
}

/// The same for a command that tells how things are in the repository alone.
pub fn instead(env: &Environment, failure: Failure) -> Failure {
    let reason = matches!(failure.kind(), Kind::TryLater | Kind::NoRepository);
    let Some(copy) = Some(()).filter(|()| reason).and_then(|()| first_with(env, None)) else {
        return failure;
    };
    let hint = format!(
        "The copy {0} answers: bkp points --from {0} lists what it has, bkp restore SOURCE --from {0} restores it",
        copy.name
    );
    Failure::new(failure.kind(), failure.full()).hint(hint)
}

/// The first copy that answers, and has that point.
fn first_with<'e>(env: &'e Environment, point: Option<&store::Key>) -> Option<&'e crate::policy::CopySettings> {
    let copies = env.configuration().map_or(&[][..], |configuration| &configuration.copies);
    copies.iter().find(|copy| {
        let repository = env.copy_settings(copy).and_then(|settings| env.open(briefly(settings)));
        repository.is_ok_and(|found| point.is_none_or(|point| found.store.head(point).is_ok()))
    })
}
