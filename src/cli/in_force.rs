//! Which versions of credentials are in force at a server: written into its points, and applied again after a restore.

use super::environment::Environment;
use super::rotate::{accounts_of, holder, lease, missing, vault};
use crate::backoff::pause;
use crate::durable::Lock;
use crate::engine::{Returning, Settings};
use crate::error::{Failure, Kind, Result};
use crate::job::recorder::Recorder;
use crate::job::rotate::keepsake::Keepsake;
use crate::job::rotate::reapply::{Applied, Reapply};
use crate::job::rotate::targets::Given;
use crate::job::rotate::{published, record, rules};
use crate::journal::{Fact, Rotated, State};
use crate::policy::{self, Policy, Rotation, Source};
use crate::repo::keys::{Recipients, Role};
use crate::secret::Secret;
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a restore waits for somebody who is at the passwords of its server.
const WAITS: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

/// What the journal of this host knows of rotations, in the moment in which it is asked first.
pub struct Known<'e> {
    env: &'e Environment,
    state: OnceCell<State>,
}

impl<'e> Known<'e> {
    pub fn by_journal(env: &'e Environment) -> Self {
        Known { env, state: OnceCell::new() }
    }

    /// Names and fingerprints.
    pub fn of(&self, source: &Source) -> Vec<Value> {
        let Ok(configuration) = self.env.configuration() else { return Vec::new() };
        let rotations = configuration.rotations_at(&source.settings, &policy::is_named_the_same);
        rotations.into_iter().map(|(_, rotation)| self.of_rotation(rotation)).collect()
    }

    fn of_rotation(&self, rotation: &Rotation) -> Value {
        let folded = || self.env.journal().and_then(|journal| journal.state()).unwrap_or_default();
        let known = self.state.get_or_init(folded).rotations.get(&rotation.name);
        let rotated = known.and_then(|known| known.rotated.as_ref());
        // Never rotated, or in the middle of it: what came last.
        let last = known.and_then(|known| known.last.as_ref()).filter(|(_, last)| !last.is_end());
        let version = rotated.and_then(|(_, fact)| fact.to.clone()).or_else(|| last.and_then(|(_, l)| l.from.clone()));
        json!({
            "name": rotation.name, "account": rotation.account, "version": version,
            "since": rotated.map(|(at, _)| at), "pending": last.and_then(|(_, last)| last.to.clone()),
        })
    }
}

/// Whether both are one server: by their names, or by the addresses that lead there from this host. Asks the container engine and
/// the resolver.
pub fn is_same_server(one: &Settings, other: &Settings) -> bool {
    let has_sentinel = |settings: &Settings| matches!(settings, Settings::Redis(redis) if redis.sentinel.is_some());
    if policy::is_named_the_same(one, other) {
        return true;
    }
    if one.kind() != other.kind() || has_sentinel(one) || has_sentinel(other) {
        return false;
    }
    let addresses = |settings: &Settings| Some(settings.server()?.addresses(settings.usual_port()?));
    addresses(one).zip(addresses(other)).is_some_and(|(one, other)| !one.is_disjoint(&other))
}

/// The rotations of accounts at a server that is being restored. Nobody rotates them until this is dropped.
pub struct Restored<'e> {
    env: &'e Environment,
    settings: &'e Settings,
    rotations: Vec<(&'e Policy, &'e Rotation)>,
    _locks: Vec<Lock>,
}

impl<'e> Restored<'e> {
    pub fn hold(env: &'e Environment, settings: &'e Settings) -> Result<Self> {
        let rotations = env.configuration()?.rotations_at(settings, &is_same_server);
        let locks = rotations.iter().map(|(_, rotation)| lock_soon(env, &rotation.name)).collect::<Result<_>>()?;
        Ok(Restored { env, settings, rotations, _locks: locks })
    }

    /// How users come back that the server does not have, and which passwords of bkp's own cannot be read.
    pub fn returning(&self, lock_others: bool) -> Result<(Returning, Vec<String>)> {
        let rotated = self.rotations.iter().flat_map(|(_, rotation)| rotation.users()).map(str::to_owned).collect();
        // Whoever restores is there, or comes from one host more.
        let mut own: BTreeMap<String, Option<Secret>> =
            self.settings.user().map(|user| (user.to_owned(), None)).into_iter().collect();
        let mut unread = Vec::new();
        for mut login in self.env.configuration()?.logins_at(self.settings, &is_same_server) {
            login.read_secrets_with(self.env.secrets()?);
            let (Some(user), Some(server)) = (login.user(), login.server()) else { continue };
            let password = server.password().unwrap_or_else(|failure| {
                unread.push(format!(
                    "where the server has no {user}, it comes back with another password: {}",
                    failure.full()
                ));
                None
            });
            let known = own.entry(user.to_owned()).or_default();
            *known = known.take().or(password);
        }
        Ok((Returning { rotated, own, lock_others }, unread))
    }

    /// What has to be read when the data are there, and cannot be now. People may have it mended by then.
    pub fn unread(&self) -> Vec<String> {
        let unread = |(_, rotation): &(&Policy, &Rotation)| {
            let failure = vault(self.env).and_then(|vault| published::now(vault, rotation)).err()?;
            Some(format!(
                "the password of {} has to be read when the data are restored, and cannot be now: {}",
                rotation.name,
                failure.full()
            ))
        };
        self.rotations.iter().filter_map(unread).collect()
    }

    /// From now on somebody has to see that the server takes what is published: whoever dies before, the daemon does it.
    pub fn owe(&self, (run, recorder): (&str, &Recorder)) {
        let note = "the server is being restored: what is published is to be applied again";
        let owed = |(_, rotation): &(&Policy, &Rotation)| {
            Fact::Rotation(Box::new(Rotated {
                state: Rotated::OWED.into(),
                note: Some(note.into()),
                ..of_rotation(rotation, run)
            }))
        };
        recorder.note(&self.rotations.iter().map(owed).collect::<Vec<_>>());
    }

    /// What is published is what the accounts of the server take from now on, whatever the point brought back. Gives what people
    /// should know; a failure means that the server is not ready. All of them are tried.
    pub fn apply(&self, then: &[Value], (run, recorder): (&str, &Recorder)) -> Result<Vec<String>> {
        let mut told = Vec::new();
        let mut failed = Vec::new();
        for rotation in &self.rotations {
            match apply_one(self.env, *rotation, then, (run, recorder)) {
                Ok(text) => told.extend(text),
                Err(failure) => {
                    let by = rotation.1.changing(rotation.0).and_then(|login| login.user().map(str::to_owned));
                    failed.push(Unready { name: &rotation.1.name, by, failure });
                }
            }
        }
        not_ready(&failed).map_or(Ok(told), Err)
    }
}

/// Nobody of this host rotates it until this is dropped.
pub fn lock(env: &Environment, name: &str) -> Result<Lock> {
    // Nothing is sealed with this.
    Keepsake::of(&env.paths()?.state, Recipients::new(std::iter::empty()))?.lock(name)
}

/// The daemon may be at what a restore before this one owes: that takes a moment, again and again.
fn lock_soon(env: &Environment, name: &str) -> Result<Lock> {
    let is_owed = rules::owed(&env.journal()?.state().unwrap_or_default(), name).is_some();
    let begun = Instant::now();
    loop {
        match lock(env, name) {
            Err(failure) if is_owed && failure.kind() == Kind::Locked && begun.elapsed() < WAITS => {
                pause(PAUSE, &|| env.cancel.check().is_err());
                env.cancel.check()?;
            }
            locked => return locked,
        }
    }
}

/// `then` is what was in force when the point was made.
pub fn apply_one(
    env: &Environment,
    (policy, rotation): (&Policy, &Rotation),
    then: &[Value],
    (run, recorder): (&str, &Recorder),
) -> Result<Option<String>> {
    let name = &rotation.name;
    let path = record::path(&env.configuration()?.rotator.vault_path, name)?;
    let glance = record::glance(vault(env)?, &path)?;
    missing::forget_what_is_over(env, name, &glance)?;
    if !glance.is_open {
        // What follows is an end, too, and would hide that one.
        missing::note(env, rotation, &glance)?;
    }
    let known = env.journal()?.state().unwrap_or_default().rotations.remove(name).unwrap_or_default();
    let (accounts, _) = accounts_of(env, policy, rotation, Given::default())?;
    let of_point = then.iter().find(|one| one["name"] == *name).and_then(|one| one["version"].as_str());
    let reapply = Reapply {
        rotation,
        accounts: &*accounts,
        vault: vault(env)?,
        record: path,
        state: &env.paths()?.state,
        keepsake: sealing(env).map_err(|failure| failure.full()),
        run: known.owed.as_ref().map_or(run, |(_, owed)| &owed.run),
        holder: holder(env)?,
        lease: lease(env)?,
        of_point,
        is_retired: known.retired,
    };
    let applied = reapply.run(&env.cancel)?;
    let state = applied.state().to_owned();
    let Applied { changed, is_open, is_both, from, to, negative, nodes, uncopied } = applied;
    recorder.note(&[Fact::Rotation(Box::new(Rotated {
        state,
        from,
        to: Some(to),
        nodes,
        note: Some(negative.clone()),
        ..of_rotation(rotation, run)
    }))]);
    let account = accounts.describe();
    let uncopied = uncopied.map_or_else(String::new, |why| format!("; no copy of what it had before is kept: {why}"));
    let has = match (is_open, is_both, changed) {
        (true, true, _) => "both passwords of the rotation that is under way",
        (true, false, _) => "the password that is published now, and no other of the rotation that is under way",
        (false, _, true) => "the password that is published now, not the one of the point",
        (false, _, false) => return Ok(None),
    };
    let next = if is_open { format!(". Bring it to its end: bkp rotate resume {name}") } else { String::new() };
    Ok(Some(format!("{account} has {has}; {negative}{uncopied}{next}")))
}

/// With the recipients of what is sealed.
fn sealing(env: &Environment) -> Result<Keepsake> {
    let repository = env.repository()?;
    let operators = env.writer(&repository)?.recipients.into_iter().filter(|one| one.role == Role::Operator);
    Keepsake::of(&env.paths()?.state, Recipients::new(operators.map(|operator| operator.recipient)))
}

fn of_rotation(rotation: &Rotation, run: &str) -> Rotated {
    Rotated {
        run: run.to_owned(),
        rotation: rotation.name.clone(),
        source: rotation.target.place(),
        account: rotation.account.clone(),
        ..Rotated::default()
    }
}

/// A rotation whose account does not have what is published, who was to give it that, and why he did not.
struct Unready<'r> {
    name: &'r str,
    by: Option<String>,
    failure: Failure,
}

/// Of a server that was restored, and whose passwords are not those that they should be.
fn not_ready(failed: &[Unready<'_>]) -> Option<Failure> {
    let kinds: Vec<Kind> = failed.iter().map(|one| one.failure.kind()).collect();
    let waits = |kind: &Kind| matches!(kind, Kind::TryLater | Kind::Locked);
    // Who is told to try later would restore once more.
    let kind = kinds.iter().copied().find(|kind| !waits(kind)).or(kinds.first().map(|_| Kind::Failed))?;
    let told = |one: &Unready<'_>| {
        let by = one.by.as_ref().map_or_else(String::new, |by| format!(" (changed by {by})"));
        format!("{}{by}: {}", one.name, one.failure.full())
    };
    let each: Vec<String> = failed.iter().map(told).collect();
    let commands: Vec<String> = failed.iter().map(|one| format!("bkp rotate reapply {}", one.name)).collect();
    let by: BTreeSet<&str> = failed.iter().filter_map(|one| one.by.as_deref()).collect();
    let by: Vec<&str> = by.into_iter().collect();
    let first = match by.as_slice() {
        [] => String::new(),
        by => format!("; where {} itself is refused, give it the password that bkp has for it first", by.join(" or ")),
    };
    let text = format!(
        "the data are restored, but passwords at the server are not known to be those of today: {}",
        each.join("; ")
    );
    let hint =
        format!("Let nobody in before: {}; the daemon tries it again by itself, too{first}", commands.join(" && "));
    Some(Failure::new(kind, text).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_account_that_is_not_ready_is_named() {
        assert!(not_ready(&[]).is_none());
        let unready = |name, kind| Unready {
            name,
            by: Some("bkp_rot".into()),
            failure: Failure::new(kind, format!("why of {name}")),
        };
        let failed = ["shop-db", "crm"].map(|name| unready(name, Kind::Key));
        let told = not_ready(&failed).unwrap();
        for word in ["shop-db (changed by bkp_rot): why of shop-db", "crm (changed by bkp_rot): why of crm"] {
            assert!(told.full().contains(word), "{}", told.full());
        }
        assert!(told.next_step().unwrap().contains("bkp rotate reapply shop-db && bkp rotate reapply crm"));
        assert!(told.next_step().unwrap().contains("where bkp_rot itself is refused"));
        let kind = |kinds: &[Kind]| {
            let failed: Vec<_> = kinds.iter().map(|kind| unready("db", *kind)).collect();
            not_ready(&failed).unwrap().kind()
        };
        assert_eq!(
            kind(&[Kind::TryLater, Kind::Locked]),
            Kind::Failed,
            "the data were replaced: not to be done once more"
        );
        assert_eq!(kind(&[Kind::TryLater, Kind::Key]), Kind::Key);
    }
}
