//! The act: one step after the other, each noted in the journal when it is done.
//!
//! Whatever ends it, the next run goes on from what it finds. On a gate that fails it goes back by itself, as long as there is
//! a way back. Nothing here decides what comes next.

use super::delivery::Consumer;
use super::keepsake::{Fingerprints, Keepsake};
use super::password;
use super::record::Keeper;
use super::seen::Memory;
use super::state::{Direction, End, Halt, Holds, Kept, Login, Observed, Step, next};
use crate::backoff::pause;
use crate::clock;
use crate::durable::crash_point;
use crate::engine::{Accounts, Pair};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::journal::Rotated;
use crate::policy::Rotation;
use crate::secret::vault::{Vault, Written};
use crate::secret::{Secret, VaultPath};
use std::time::{Duration, Instant};

/// How long is waited for what is not known, before somebody else is left to go on.
const WAITS: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(2);
/// How long old sessions may take to go, at least.
const DRAINS: Duration = Duration::from_secs(30);

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A new secret; or the end of what was begun.
    Rotate,
    /// The end of what was begun, whichever it is.
    Resume,
    RollBack,
}

/// What a rotation needs.
pub struct Rotate<'a> {
    pub rotation: &'a Rotation,
    pub run: String,
    pub accounts: &'a dyn Accounts,
    pub vault: &'a Vault,
    /// Where its document is.
    pub record: VaultPath,
    pub keepsake: &'a Keepsake,
    pub fingerprints: &'a Fingerprints,
    pub consumers: Vec<Consumer>,
    /// The id of this host's journal, and what people call the host.
    pub holder: (String, String),
    pub because: Option<String>,
    /// Old sessions are ended, and an account that neither secret opens is set to the pending one.
    pub emergency: bool,
    /// Something that only the secret in force can do; what it was.
    pub prove: &'a dyn Fn() -> Result<String>,
    pub note: &'a dyn Fn(Rotated),
}

/// What it came to.
#[derive(Debug)]
pub struct Ended {
    pub end: End,
    /// Fingerprints.
    pub from: Option<String>,
    pub to: Option<String>,
    /// Why it went back by itself.
    pub failed: Option<String>,
    pub warnings: Vec<String>,
}

/// While it goes.
struct At<'k> {
    keeper: Keeper<'k>,
    memory: Memory,
    current: Secret,
    pending: Option<Secret>,
    failed: Option<String>,
    warnings: Vec<String>,
    cancel: &'k Cancel,
}

impl At<'_> {
    fn pair(&self) -> Option<Pair<'_>> {
        self.pending.as_ref().map(|pending| Pair { current: &self.current, pending })
    }
}

impl Rotate<'_> {
    pub fn run(&self, wish: Wish, cancel: &Cancel) -> Result<Ended> {
        let (journal, host) = &self.holder;
        let keeper = Keeper::take(self.vault, self.record.clone(), journal, host, clock::now())?;
        let (pending, previous) = (keeper.pending(), keeper.previous());
        let is_open = pending.is_some();
        let current = match previous.filter(|_| is_open) {
            Some(previous) => previous,
            None => self.read_published()?,
        };
        let memory = Memory::new(self.consumers.len());
        let mut at = At { keeper, memory, current, pending, failed: None, warnings: Vec::new(), cancel };
        let worked = self.go(wish, is_open, &mut at);
        match (worked, at.keeper.release()) {
            (Ok(mut ended), Err(failure)) => {
                let text = format!("Vault still says that this host is at it, for some minutes: {}", failure.full());
                ended.warnings.push(text);
                Ok(ended)
            }
            // Where Vault is away, the time does it.
            (worked, _) => worked,
        }
    }

    fn go(&self, wish: Wish, is_open: bool, at: &mut At<'_>) -> Result<Ended> {
        if !is_open && wish != Wish::Rotate {
            return Ok(self.ended(End::Nothing, at));
        }
        if wish == Wish::RollBack && at.keeper.direction() == Direction::Forward {
            at.keeper.turn(Direction::Back, clock::now())?;
        }
        let (direction, published) = (at.keeper.direction(), at.keeper.mark().is_some());
        at.memory.turn(direction, published, |_| true);
        if !is_open {
            at.warnings.extend(self.accounts.preflight(&at.current, at.cancel)?);
        }
        let mut waiting: Option<Instant> = None;
        loop {
            at.cancel.check()?;
            let observed = self.look(at)?;
            match next(&observed) {
                Step::Wait(why) => {
                    let since = *waiting.get_or_insert_with(Instant::now);
                    if since.elapsed() > WAITS || !pause(PAUSE, &|| at.cancel.check().is_err()) {
                        at.cancel.check()?;
                        return Err(self.later(&why));
                    }
                    at.memory.try_again();
                }
                Step::Stop(halt) => return Err(self.stopped(&halt, at)),
                Step::Close(end) => return self.close(end, at),
                step => {
                    waiting = None;
                    self.take(step, at, &observed)?;
                }
            }
        }
    }

    fn look(&self, at: &mut At<'_>) -> Result<Observed> {
        let kept = Kept { recorded: at.pending.is_some(), escrowed: self.keepsake.is_escrowed(&self.rotation.name) };
        let direction = at.keeper.direction();
        let pair = at.pending.as_ref().map(|pending| Pair { current: &at.current, pending });
        self.observe(&mut at.memory, direction, kept, pair, &at.current)
    }

    fn take(&self, step: Step, at: &mut At<'_>, observed: &Observed) -> Result<()> {
        match step {
            Step::Save => self.save(at),
            Step::Record => self.make(at),
            Step::Escrow => self.escrow(at),
            Step::AcceptBoth => self.accept_both(at),
            Step::Test => self.test(at),
            Step::Publish => self.publish(at, Direction::Forward),
            Step::Unpublish => self.publish(at, Direction::Back),
            Step::Deliver(number) => self.deliver(at, number),
            Step::Reload(number) => self.reload(at, number),
            Step::Gate(number) => self.gate(at, number),
            Step::SeeUnused => self.see_unused(at),
            Step::Retire => self.retire(at),
            Step::Undo => self.undo(at),
            Step::Persist => {
                self.accounts.persist(at.cancel)?;
                crash_point("rotate:persisted");
                at.memory.persisted = true;
                self.noted(at, "persisted", None, None);
                Ok(())
            }
            Step::Prove => {
                let what = (self.prove)()?;
                crash_point("rotate:proven");
                at.memory.proven = true;
                self.noted(at, "proven", None, Some(what));
                Ok(())
            }
            Step::TurnBack => self.turn(at, Direction::Back, observed.failed.clone()),
            Step::TurnForward => self.turn(at, Direction::Forward, None),
            Step::Wait(_) | Step::Stop(_) | Step::Close(_) => Ok(()),
        }
    }

    fn save(&self, at: &mut At<'_>) -> Result<()> {
        let definition = self.accounts.save(at.cancel)?;
        self.keepsake.seal(&self.keepsake.account(&self.rotation.name), &definition)?;
        crash_point("rotate:saved");
        at.memory.saved = true;
        self.noted(at, "planned", None, None);
        Ok(())
    }

    fn make(&self, at: &mut At<'_>) -> Result<()> {
        // What an earlier rotation may have left is of another secret.
        self.keepsake.remove(&self.keepsake.escrow(&self.rotation.name))?;
        let pending = password::generate(self.rotation.password)?;
        at.keeper.record(&self.run, &pending, &at.current, clock::now())?;
        crash_point("rotate:recorded");
        at.memory.is_first = true;
        // It was just made: nobody can know it.
        at.memory.pending = Some(Login::Refused);
        at.pending = Some(pending);
        self.noted(at, "pending", None, None);
        Ok(())
    }

    fn escrow(&self, at: &mut At<'_>) -> Result<()> {
        if let Some(pending) = &at.pending {
            self.keepsake.seal(&self.keepsake.escrow(&self.rotation.name), pending)?;
        }
        crash_point("rotate:escrowed");
        Ok(())
    }

    fn accept_both(&self, at: &mut At<'_>) -> Result<()> {
        if at.memory.accepted {
            let what = format!("{} took the new password and does not accept it", self.accounts.describe());
            return Err(Failure::failed(what).hint(format!("Roll back: bkp rotate rollback {}", self.rotation.name)));
        }
        at.keeper.renew(clock::now())?;
        let Some(pair) = at.pair() else { return Ok(()) };
        self.accounts.accept_both(pair, at.cancel)?;
        crash_point("rotate:accepted");
        let pending = self.probe_until(pair.pending, &Login::Accepted, at.cancel)?;
        (at.memory.accepted, at.memory.tested, at.memory.pending) = (true, false, Some(pending));
        self.noted(at, "accepted", None, None);
        Ok(())
    }

    fn test(&self, at: &mut At<'_>) -> Result<()> {
        let Some(pair) = at.pair() else { return Ok(()) };
        let pending = self.probe_until(pair.pending, &Login::Accepted, at.cancel)?;
        let current = self.probe_until(pair.current, &Login::Accepted, at.cancel)?;
        crash_point("rotate:tested");
        at.memory.tested = pending == Login::Accepted && current == Login::Accepted;
        (at.memory.pending, at.memory.current) = (Some(pending), Some(current));
        if at.memory.tested {
            self.noted(at, "tested", None, None);
        }
        Ok(())
    }

    /// Consumers read the other one from now on. What is beside it in the secret stays.
    fn publish(&self, at: &mut At<'_>, direction: Direction) -> Result<()> {
        if direction == Direction::Forward && at.keeper.mark().is_none() {
            let mark = self.accounts.mark(at.cancel)?;
            at.keeper.set_mark(mark, clock::now())?;
            crash_point("rotate:marked");
        }
        at.keeper.renew(clock::now())?;
        let Some(pair) = at.pair() else { return Ok(()) };
        let (from, to) = match direction {
            Direction::Forward => (pair.current, pair.pending),
            Direction::Back => (pair.pending, pair.current),
        };
        let path = &self.rotation.published;
        let document = self.vault.document(path)?;
        let there = document.text(&path.field);
        let is_expected = there.is_some_and(|there| there.expose() == from.expose());
        // What was written in between is seen by the next look.
        if !is_expected || self.vault.write(path, &document.with(&path.field, to))? == Written::Outdated {
            return Ok(());
        }
        let (point, state) = match direction {
            Direction::Forward => ("rotate:published", "published"),
            Direction::Back => ("rotate:unpublished", "unpublished"),
        };
        crash_point(point);
        self.noted(at, state, None, None);
        Ok(())
    }

    fn deliver(&self, at: &mut At<'_>, number: usize) -> Result<()> {
        let consumer = &self.consumers[number];
        let to = if at.keeper.direction() == Direction::Forward { Holds::Pending } else { Holds::Current };
        at.memory.moved[number].touched = true;
        let Some(pair) = at.pair() else { return Ok(()) };
        let delivered = consumer.delivery.deliver(pair, to);
        crash_point("rotate:delivered");
        match delivered {
            Ok(()) => self.noted(at, "delivered", Some(&consumer.name), None),
            Err(failure) => self.failed(at, &consumer.name, &failure)?,
        }
        Ok(())
    }

    fn reload(&self, at: &mut At<'_>, number: usize) -> Result<()> {
        let consumer = &self.consumers[number];
        at.memory.moved[number].touched = true;
        let Some(pair) = at.pair() else { return Ok(()) };
        let secret = if at.keeper.direction() == Direction::Forward { pair.pending } else { pair.current };
        let reloaded = consumer.reload(secret, at.cancel);
        crash_point("rotate:reloaded");
        match reloaded {
            Ok(()) => {
                at.memory.moved[number].reloaded = true;
                self.noted(at, "reloaded", Some(&consumer.name), None);
            }
            Err(failure) => self.failed(at, &consumer.name, &failure)?,
        }
        Ok(())
    }

    fn gate(&self, at: &mut At<'_>, number: usize) -> Result<()> {
        let consumer = &self.consumers[number];
        match consumer.gate(at.cancel) {
            Ok(()) => {
                crash_point("rotate:moved");
                at.memory.moved[number].passed = true;
                at.keeper.renew(clock::now())?;
                self.noted(at, "moved", Some(&consumer.name), None);
            }
            Err(failure) => self.failed(at, &consumer.name, &failure)?,
        }
        Ok(())
    }

    /// A signal is no failure of the consumer.
    fn failed(&self, at: &mut At<'_>, consumer: &str, failure: &Failure) -> Result<()> {
        at.cancel.check()?;
        let why = scrubbed(&format!("{consumer}: {}", failure.full()), at);
        at.memory.failed = Some(why.clone());
        self.noted(at, "stopped", Some(consumer), Some(why));
        Ok(())
    }

    fn see_unused(&self, at: &mut At<'_>) -> Result<()> {
        let begun = Instant::now();
        let patience = self.consumers.iter().map(|consumer| consumer.patience).max().unwrap_or(DRAINS).max(DRAINS);
        let mark = match at.keeper.mark() {
            Some(mark) => mark.to_owned(),
            None => self.accounts.mark(at.cancel)?,
        };
        loop {
            let old = self.accounts.sessions_before(&mark, at.cancel)?;
            if old.is_empty() {
                crash_point("rotate:unused");
                at.memory.unused = true;
                self.noted(at, "unused", None, Some("no session is older than the publishing".into()));
                return Ok(());
            }
            if self.emergency {
                for session in &old {
                    self.accounts.end_session(session, at.cancel)?;
                }
            }
            if begun.elapsed() > patience {
                let clients: Vec<&str> = old.iter().map(|session| session.client.as_str()).collect();
                let why = format!("sessions with the old password are still open, from {}", clients.join(", "));
                at.memory.failed = Some(why.clone());
                self.noted(at, "stopped", None, Some(why));
                return Ok(());
            }
            pause(PAUSE.min(Duration::from_millis(500)), &|| at.cancel.check().is_err());
            at.cancel.check()?;
        }
    }

    fn retire(&self, at: &mut At<'_>) -> Result<()> {
        at.keeper.renew(clock::now())?;
        let Some(pair) = at.pair() else { return Ok(()) };
        // Once more, for there is no way back from here.
        let pending = self.probe(pair.pending)?;
        if pending != Login::Accepted {
            at.memory.pending = Some(pending);
            return Ok(());
        }
        self.accounts.retire(pair, at.cancel)?;
        crash_point("rotate:retired");
        let pending = self.probe_until(pair.pending, &Login::Accepted, at.cancel)?;
        let current = self.probe_until(pair.current, &Login::Refused, at.cancel)?;
        if current == Login::Accepted {
            let what = format!("{} still accepts the old password", self.accounts.describe());
            return Err(
                Failure::failed(what).hint(format!("Look why; then go on: bkp rotate resume {}", self.rotation.name))
            );
        }
        (at.memory.pending, at.memory.current) = (Some(pending), Some(current));
        self.noted(at, "retired", None, Some("the old password is refused".into()));
        Ok(())
    }

    fn undo(&self, at: &mut At<'_>) -> Result<()> {
        at.keeper.renew(clock::now())?;
        let Some(pair) = at.pair() else { return Ok(()) };
        self.accounts.undo(pair, at.cancel)?;
        crash_point("rotate:undone");
        let pending = self.probe_until(pair.pending, &Login::Refused, at.cancel)?;
        let current = self.probe_until(pair.current, &Login::Accepted, at.cancel)?;
        at.memory.undone = pending == Login::Refused && current == Login::Accepted;
        (at.memory.pending, at.memory.current) = (Some(pending), Some(current));
        if at.memory.undone {
            self.noted(at, "undone", None, Some("the new password is refused".into()));
            return Ok(());
        }
        let what = format!("{} does not take back the new password", self.accounts.describe());
        Err(Failure::failed(what).hint(format!("Look why; then go on: bkp rotate resume {}", self.rotation.name)))
    }

    fn turn(&self, at: &mut At<'_>, direction: Direction, why: Option<String>) -> Result<()> {
        at.keeper.turn(direction, clock::now())?;
        crash_point("rotate:turned-back");
        let published = at.keeper.mark().is_some();
        let reads = |number: usize| self.rotation.consumers[number].told == crate::policy::Told::Published;
        at.memory.turn(direction, published, reads);
        if direction == Direction::Back {
            at.failed.clone_from(&why);
            self.noted(at, "turned_back", None, why);
        }
        Ok(())
    }

    fn close(&self, end: End, at: &mut At<'_>) -> Result<Ended> {
        for consumer in &self.consumers {
            consumer.delivery.settle()?;
        }
        self.keepsake.remove(&self.keepsake.escrow(&self.rotation.name))?;
        crash_point("rotate:unescrowed");
        let ended = self.ended(end, at);
        at.keeper.close()?;
        crash_point("rotate:closed");
        match end {
            End::Rotated => self.noted(at, "rotated", None, None),
            End::RolledBack => self.noted(at, "rolled_back", None, at.failed.clone()),
            End::Nothing => {}
        }
        Ok(ended)
    }

    fn ended(&self, end: End, at: &At<'_>) -> Ended {
        let print = |secret: &Secret| self.fingerprints.fingerprint(secret);
        Ended {
            end,
            from: at.pending.is_some().then(|| print(&at.current)),
            to: at.pending.as_ref().map(print),
            failed: at.failed.clone(),
            warnings: at.warnings.clone(),
        }
    }

    pub(super) fn read_published(&self) -> Result<Secret> {
        let path = &self.rotation.published;
        let document = self.vault.document(path)?;
        document.text(&path.field).filter(|secret| !secret.expose().is_empty()).ok_or_else(|| {
            Failure::new(Kind::Key, format!("no password is published at ref+vault://{path} yet"))
                .hint("Put the one that is in force there first, as docs/ROTATION.md shows: vault kv put … -")
        })
    }

    fn noted(&self, at: &At<'_>, state: &str, consumer: Option<&str>, note: Option<String>) {
        let print = |secret: &Secret| self.fingerprints.fingerprint(secret);
        let nodes = match state {
            "accepted" | "tested" | "retired" | "undone" => self.accounts.nodes().unwrap_or_default(),
            _ => Vec::new(),
        };
        (self.note)(Rotated {
            run: self.run.clone(),
            rotation: self.rotation.name.clone(),
            source: self.rotation.source.clone(),
            account: self.rotation.account.clone(),
            state: state.to_owned(),
            because: self.because.clone(),
            from: Some(print(&at.current)),
            to: at.pending.as_ref().map(print),
            nodes: nodes.iter().map(ToString::to_string).collect(),
            consumer: consumer.map(str::to_owned),
            note,
        });
    }

    fn later(&self, why: &str) -> Failure {
        let name = &self.rotation.name;
        Failure::new(Kind::TryLater, format!("the rotation of {name} waits: {why}")).hint(format!(
            "Nothing was taken away from anybody, and nothing will be while it waits. Go on with: bkp rotate resume {name}"
        ))
    }

    fn stopped(&self, halt: &Halt, at: &At<'_>) -> Failure {
        let (name, account) = (&self.rotation.name, self.accounts.describe());
        let published = format!("ref+vault://{}", self.rotation.published);
        let failure = match halt {
            Halt::CurrentRefused => Failure::new(Kind::Key, format!("{account} refuses the password that is published"))
                .hint(format!("Correct {published}, or the account; see that it may log in from this host. Nothing was changed")),
            Halt::Drift => Failure::new(Kind::Key, format!("{account} accepts neither the old nor the new password"))
                .hint(format!(
                    "Somebody changed it: publish the one that works and roll back; or set the account to the new one: bkp rotate resume {name} --emergency"
                )),
            Halt::ForeignPublished => Failure::new(Kind::Refused, format!("{published} is neither the old nor the new password"))
                .hint("Somebody else wrote there: put the old one back (vault kv rollback), then: bkp rotate resume"),
            Halt::ForeignDelivered(number) => {
                let consumer = &self.consumers[*number];
                Failure::new(Kind::Refused, format!("{} holds neither the old nor the new password", consumer.name))
                    .hint(format!("Correct what is there ({}), then: bkp rotate resume {name}", consumer.delivery.describe()))
            }
            Halt::GateFailed(why) => Failure::failed(why.clone())
                .hint(format!("Both passwords are valid. Mend it, then go on: bkp rotate resume {name}")),
        };
        self.noted(at, "stopped", None, Some(scrubbed(&failure.full(), at)));
        failure
    }
}

/// What programs of the user said may hold what they were told.
fn scrubbed(text: &str, at: &At<'_>) -> String {
    let secrets = [Some(&at.current), at.pending.as_ref()];
    secrets.into_iter().flatten().fold(text.to_owned(), |text, secret| match secret.expose().len() {
        0..4 => text,
        _ => text.replace(secret.expose(), "…"),
    })
}
