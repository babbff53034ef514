//! The act: one step after the other, each noted in the journal when it is done.
//!
//! Whatever ends it, the next run goes on from what it finds. On a gate that fails it goes back by itself, as long as there is
//! a way back. Nothing here decides what comes next.

use super::delivery::Consumer;
use super::keepsake::{Fingerprints, Keepsake};
use super::lease::Lease;
use super::record::Keeper;
use super::scan::Found;
use super::seen::Memory;
use super::state::{Direction, End, Observed, Published, Step, next};
use super::told::scrubbed;
use crate::backoff::pause;
use crate::clock;
use crate::durable::crash_point;
use crate::engine::{Accounts, Credential, Pair};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::journal::Rotated;
use crate::policy::{Rotation, Target};
use crate::repo::keys::Keyring;
use crate::secret::VaultPath;
use crate::secret::vault::{Vault, Written};
use jiff::SignedDuration;
use std::time::{Duration, Instant};

/// How long is waited for what is not known, before somebody else is left to go on.
const WAITS: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(2);

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
    /// Opens what is sealed to the operators; somebody gave the recovery key.
    pub recovery: Option<Keyring>,
    /// The id of this host's journal, and what people call the host.
    pub holder: (String, String),
    /// How long nobody else takes over after it has said nothing.
    pub lease: SignedDuration,
    /// Who asked for it, where that was no schedule.
    pub by: Option<String>,
    pub because: Option<String>,
    /// The run of the last rotation that had come to its end when it was decided to begin one.
    pub last_closed: Option<String>,
    /// Sessions are ended, and an account that neither secret opens is set to the pending one.
    pub emergency: bool,
    /// What has the old one and is not moved is locked out: somebody wants that.
    pub taken: Vec<Found>,
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
pub(super) struct At<'k> {
    pub(super) keeper: &'k Lease<'k>,
    pub(super) memory: Memory,
    pub(super) current: Credential,
    pub(super) pending: Option<Credential>,
    pub(super) failed: Option<String>,
    pub(super) warnings: Vec<String>,
    pub(super) cancel: &'k Cancel,
    /// The same, and nobody else can have taken over: for what an engine or a consumer is told.
    pub(super) leased: Cancel,
    /// When consumers began to be moved back, in the engine's own counting.
    pub(super) went_back: Option<String>,
}

impl At<'_> {
    pub(super) fn pair(&self) -> Option<Pair<'_>> {
        self.pending.as_ref().map(|pending| Pair { current: &self.current, pending })
    }
}

impl Rotate<'_> {
    pub fn run(&self, wish: Wish, cancel: &Cancel) -> Result<Ended> {
        if wish == Wish::Rotate {
            self.permitted()?;
        }
        let lost = self.lost()?;
        let (journal, host) = &self.holder;
        let mut keeper = Keeper::take(self.vault, self.record.clone(), (journal, host), self.lease, clock::now())?;
        if let Some(sealed) = lost {
            let recorded = self.record_anew(&mut keeper, &sealed, cancel);
            recorded.inspect_err(|_| drop(keeper.release()))?;
        }
        self.accounts.lock_with(keeper.locks());
        if wish == Wish::Rotate && keeper.last_closed() != self.last_closed.as_deref() {
            keeper.release()?;
            let text = format!("{} was brought to an end by another host in this moment", self.rotation.name);
            return Err(Failure::new(Kind::Locked, text).hint("See what it came to: bkp rotate status"));
        }
        let (pending, previous) = (keeper.pending(), keeper.previous());
        let is_open = pending.is_some();
        let current = previous.filter(|_| is_open).map_or_else(|| self.read_published(), Ok);
        let current = current.inspect_err(|_| drop(keeper.release()))?;
        if is_open {
            self.must_be_the_same(wish, pending.as_ref()).inspect_err(|_| drop(keeper.release()))?;
            self.take_up(&mut keeper).inspect_err(|_| drop(keeper.release()))?;
        }
        let memory = Memory::new(self.consumers.len());
        let lease = Lease::of(keeper);
        let keeper = &lease;
        let leased = cancel.on_condition(keeper.condition());
        let (failed, warnings, went_back) = (None, Vec::new(), None);
        let mut at = At { keeper, memory, current, pending, failed, warnings, cancel, leased, went_back };
        let worked = lease.kept(|| {
            let worked = self.go(wish, is_open, &mut at).inspect_err(|failure| self.note_by_hand(failure, &at));
            worked.map_err(|failure| failure.reworded(|text| scrubbed(text, &at)))
        });
        match (worked, lease.release()) {
            (Ok(mut ended), Err(failure)) => {
                let text = format!("Vault still says that this host is at it, for some minutes: {}", failure.full());
                ended.warnings.push(text);
                Ok(ended)
            }
            // Where Vault is away, the time does it.
            (worked, _) => worked,
        }
    }

    /// Where a person makes it, and gives another one than what was begun with: it would be passed over, and set at the provider.
    fn must_be_the_same(&self, wish: Wish, pending: Option<&Credential>) -> Result<()> {
        let may_be_given = wish == Wish::Rotate && matches!(self.rotation.target, Target::Smtp(_));
        let given = if may_be_given { self.accounts.mint().ok().flatten() } else { None };
        match given.zip(pending) {
            Some((given, pending)) if !given.is(pending) => {
                let name = &self.rotation.name;
                let what = format!("a rotation of {name} with another new password is under way");
                Err(Failure::new(Kind::ByHand, what).hint(format!(
                    "Go on with that one: bkp rotate resume {name}; or give it up first: bkp rotate rollback {name}"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Before what was begun is gone on with.
    fn take_up(&self, keeper: &mut Keeper<'_>) -> Result<()> {
        if keeper.is_unfenced() {
            self.fence()?;
            keeper.fenced(clock::now())?;
        }
        if self.emergency && !keeper.is_urgent() {
            keeper.urge(clock::now())?;
        }
        Ok(())
    }

    /// After somebody else: what that one may still be about to write is refused from now on.
    fn fence(&self) -> Result<()> {
        loop {
            let document = self.vault.document(&self.rotation.published)?;
            if document.version == 0 || self.vault.write(&self.rotation.published, &document)? != Written::Outdated {
                return Ok(());
            }
        }
    }

    fn go(&self, wish: Wish, is_open: bool, at: &mut At<'_>) -> Result<Ended> {
        if !is_open && wish != Wish::Rotate {
            return Ok(self.ended(End::Nothing, at));
        }
        if wish == Wish::RollBack && at.keeper.direction() == Direction::Forward {
            at.keeper.turn(Direction::Back, None)?;
        }
        if wish != Wish::RollBack && at.keeper.direction() == Direction::Back {
            at.failed = at.keeper.why_back();
        }
        self.one_stays(at)?;
        self.publish_again(at)?;
        let (direction, published) = (at.keeper.direction(), at.keeper.mark().is_some());
        at.memory.turn(direction, published, |_| true);
        self.take_over_passed(at);
        if !is_open {
            at.warnings.extend(self.preflight(&at.current, at.cancel)?);
            let notes = self.check_consumers(&at.current, at.cancel)?;
            at.warnings.extend(notes);
        }
        let mut waiting: Option<Instant> = None;
        loop {
            at.cancel.check()?;
            let observed = self.look(at)?;
            match next(&observed) {
                Step::Wait(why) => {
                    let since = *waiting.get_or_insert_with(Instant::now);
                    // Vault was waited for already, as long as somebody has patience.
                    let is_over = matches!(observed.published, Published::Unknown(_)) || since.elapsed() > WAITS;
                    if is_over || !pause(PAUSE, &|| at.cancel.check().is_err()) {
                        at.cancel.check()?;
                        return Err(self.later(&why, at));
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

    fn take(&self, step: Step, at: &mut At<'_>, observed: &Observed) -> Result<()> {
        at.keeper.hold()?;
        match step {
            Step::Save => self.save(at),
            Step::Record => self.make(at),
            Step::Escrow => self.escrow(at),
            Step::AcceptBoth => self.accept_both(at),
            Step::Force => self.force(at),
            Step::Test => self.test(at),
            Step::Publish => self.publish(at, Direction::Forward),
            Step::Unpublish => self.publish(at, Direction::Back),
            Step::Deliver(number) => self.deliver(at, number),
            Step::Reload(number) => self.reload(at, number),
            Step::Gate(number) => self.gate(at, number),
            Step::SeeUnused => self.see_unused(at),
            Step::Retire => self.retire(at),
            Step::EndSessions => self.end_sessions(at),
            Step::Undo => self.undo(at),
            Step::Persist => self.persist(at),
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

    fn turn(&self, at: &mut At<'_>, direction: Direction, why: Option<String>) -> Result<()> {
        at.keeper.turn(direction, why.clone())?;
        crash_point("rotate:turned-back");
        self.one_stays(at)?;
        let published = at.keeper.mark().is_some();
        let reads = |number: usize| self.rotation.consumers[number].told == crate::policy::Told::Published;
        at.memory.turn(direction, published, reads);
        at.failed = why.clone();
        if direction == Direction::Back {
            self.noted(at, "turned_back", None, why);
        }
        Ok(())
    }

    /// Which of the two goes was said for the other direction, in this run or before.
    fn one_stays(&self, at: &At<'_>) -> Result<()> {
        let Some(pair) = at.pair() else { return Ok(()) };
        match at.keeper.direction() {
            Direction::Forward => self.accounts.stays(pair.pending, pair.current, &at.leased),
            Direction::Back => self.accounts.stays(pair.current, pair.pending, &at.leased),
        }
    }

    fn close(&self, end: End, at: &mut At<'_>) -> Result<Ended> {
        // What is kept for the way back is not removed under somebody who goes it.
        at.keeper.renew()?;
        for consumer in &self.consumers {
            consumer.delivery.settle(&at.leased)?;
        }
        let own = at.keeper.run();
        let is_over = |run: &str| own.as_deref() == Some(run) || at.keeper.is_closed(run);
        self.keepsake.clear(&self.rotation.name, is_over, clock::now())?;
        crash_point("rotate:unescrowed");
        let ended = self.ended(end, at);
        at.keeper.close(end == End::Rotated)?;
        crash_point("rotate:closed");
        match end {
            End::Rotated => self.noted(at, "rotated", None, None),
            End::RolledBack => self.noted(at, "rolled_back", None, at.failed.clone()),
            End::Nothing => {}
        }
        Ok(ended)
    }

    fn ended(&self, end: End, at: &At<'_>) -> Ended {
        let print = |credential: &Credential| self.fingerprints.fingerprint(credential);
        Ended {
            end,
            from: at.pending.is_some().then(|| print(&at.current)),
            to: at.pending.as_ref().map(print),
            failed: at.failed.clone(),
            warnings: at.warnings.clone(),
        }
    }
}
