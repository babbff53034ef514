//! Sessions that were opened with what is about to be taken away, or was: waited for, told of, or ended.
//!
//! Where the name changes with the secret, a session tells whose it is. Elsewhere only its age is known: forward, one that is older than the
//! publishing; on the way back, one that was opened while the new secret could be read and that no consumer's restart ended.

use super::act::{At, Rotate};
use super::state::Direction;
use crate::backoff::pause;
use crate::durable::crash_point;
use crate::engine::{Pair, Session, Sight};
use crate::error::{Kind, Result};
use crate::policy::Rotation;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// So many times in all, so far apart, it is tried to end sessions where that fails.
const TRIES: u32 = 3;
const AGAIN: Duration = Duration::from_secs(1);
/// How long sessions may take to go, at least.
const DRAINS: Duration = Duration::from_secs(30);

impl Rotate<'_> {
    pub(super) fn see_unused(&self, at: &mut At<'_>) -> Result<()> {
        match at.keeper.direction() {
            Direction::Forward => self.see_old_unused(at),
            Direction::Back => self.see_new_unused(at),
        }
    }

    fn see_old_unused(&self, at: &mut At<'_>) -> Result<()> {
        let mark = match at.keeper.mark() {
            Some(mark) => mark,
            None => self.accounts.mark(at.cancel)?,
        };
        let Some(pair) = at.pair() else { return Ok(()) };
        self.accounts.drain_before_retiring(pair, at.cancel)?;
        let left = self.wait_until_gone(at, &|| self.accounts.sessions_before(pair, &mark, at.cancel))?;
        if left.is_empty() {
            return self.saw_none(at, "no session is older than the publishing".into());
        }
        let why = format!("sessions with the old password are still open, from {}", clients(&left));
        at.memory.failed = Some(why.clone());
        self.noted(at, "stopped", None, Some(why));
        Ok(())
    }

    /// `seen` is only told where the server shows who is there.
    fn saw_none(&self, at: &mut At<'_>, seen: String) -> Result<()> {
        let note = match self.accounts.sight(at.cancel)? {
            Sight::Shown => seen,
            Sight::Passed(how) => how,
            Sight::Hidden(why) => {
                let note = format!("whether sessions are left that began with it could not be seen: {why}");
                at.warnings.push(note.clone());
                note
            }
        };
        crash_point("rotate:unused");
        at.memory.unused = true;
        self.noted(at, "unused", None, Some(note));
        Ok(())
    }

    /// Of the way back. Where the name stays the same, nobody can tell which of the two a session began with: then it is waited for,
    /// and told of.
    fn see_new_unused(&self, at: &mut At<'_>) -> Result<()> {
        self.mark_way_back(at)?;
        let (Some(pair), Some(published), Some(until)) = (at.pair(), at.keeper.mark(), at.went_back.clone()) else {
            at.memory.unused = true;
            return Ok(());
        };
        let name_changes = self.rotation.changes_name();
        self.accounts.drain_before_retiring(pair.turned(), at.cancel)?;
        let left = self.wait_until_gone(at, &|| match name_changes {
            true => self.accounts.sessions_before(pair.turned(), &published, at.cancel),
            false => {
                let older = self.accounts.sessions_before(pair, &published, at.cancel)?;
                let mut all = self.accounts.sessions_before(pair, &until, at.cancel)?;
                all.retain(|session| !older.contains(session));
                Ok(all)
            }
        })?;
        let note = match (left.is_empty(), name_changes) {
            (true, true) => return self.saw_none(at, "no session of the new user is open".to_owned()),
            (true, false) => {
                let seen = "no session is left from while the new password was published";
                return self.saw_none(at, seen.to_owned());
            }
            (false, true) => {
                let why = format!("sessions of the new user are still open, from {}", clients(&left));
                at.memory.failed = Some(why.clone());
                self.noted(at, "stopped", None, Some(why));
                return Ok(());
            }
            (false, false) => {
                let who = clients(&left);
                let note = format!("sessions from while the new password was published are still open, from {who}");
                at.warnings
                    .push(format!("{note}: what began with that one is refused when it logs in anew; restart it"));
                note
            }
        };
        crash_point("rotate:unused");
        at.memory.unused = true;
        self.noted(at, "unused", None, Some(note));
        Ok(())
    }

    /// Before the first consumer is moved back: what each opens from now on is its own affair.
    pub(super) fn mark_way_back(&self, at: &mut At<'_>) -> Result<()> {
        if at.went_back.is_none() && at.keeper.direction() == Direction::Back && at.keeper.mark().is_some() {
            at.went_back = Some(self.accounts.mark(at.cancel)?);
        }
        Ok(())
    }

    /// The old one is refused, and a session that was opened with it would live on for ever. All of the account are ended, for
    /// nobody knows which those are; consumers come back with the new one. Who had the old one may have given the account another
    /// one, so that it is refused now for that reason: whatever it is, it goes before.
    pub(super) fn end_sessions(&self, at: &mut At<'_>) -> Result<()> {
        at.keeper.renew()?;
        let Some(pair) = at.pair() else { return Ok(()) };
        self.accounts.only(pair.pending, &at.leased)?;
        let now = self.accounts.mark(at.cancel)?;
        if let Err(failure) = self.end_those_of_others(at, pair, &now) {
            at.cancel.check()?;
            at.warnings.push(format!(
                "somebody may still be logged in as the new user, with a password that he set himself: {}: end that at the server",
                failure.full()
            ));
        }
        let Some(pair) = at.pair() else { return Ok(()) };
        let left = self.until_ended(at, &|| {
            let open = self.accounts.sessions_to_end(pair, &now, at.cancel)?;
            // One that cannot be ended keeps no other one.
            let ended: Vec<Result<()>> =
                open.iter().map(|session| self.accounts.end_session(session, &at.leased)).collect();
            ended.into_iter().collect::<Result<()>>().map(|()| open)
        })?;
        crash_point("rotate:ended");
        at.memory.ended = true;
        let sight = if left.is_ok() { self.accounts.sight(at.cancel)? } else { Sight::Shown };
        let (note, is_over) = match (left, sight) {
            (Err(why), _) => (format!("sessions could not be ended: {why}"), false),
            (Ok(left), _) if !left.is_empty() => {
                (format!("sessions could not be ended, from {}", clients(&left)), false)
            }
            (Ok(_), Sight::Shown) => {
                ("every session from before the old password was refused is ended".to_owned(), true)
            }
            (Ok(_), Sight::Passed(how)) => (how, true),
            (Ok(_), Sight::Hidden(why)) => (format!("sessions could not be seen, and none was ended: {why}"), false),
        };
        if !is_over {
            at.warnings.push(format!("{note}: end them at the server"));
        }
        self.noted(at, "ended", None, Some(note));
        Ok(())
    }

    /// Where neither was accepted, somebody else had taken the account: also the user whose turn it is now.
    fn end_those_of_others(&self, at: &At<'_>, pair: Pair<'_>, now: &str) -> Result<()> {
        if !at.keeper.is_forced() {
            return Ok(());
        }
        let open = self.accounts.sessions_of(pair.pending, now, at.cancel)?;
        open.iter().try_for_each(|session| self.accounts.end_session(session, &at.leased))
    }

    /// Those that are left; or why they cannot be ended, where time does not mend that: the old one is gone, and somebody has to know.
    fn until_ended(
        &self,
        at: &At<'_>,
        look: &dyn Fn() -> Result<Vec<Session>>,
    ) -> Result<std::result::Result<Vec<Session>, String>> {
        for _ in 1..TRIES {
            match self.wait_until_gone(at, look) {
                Err(failure) if !passes(failure.kind()) => pause(AGAIN, &|| at.cancel.check().is_err()),
                left => return left.map(Ok),
            };
            at.cancel.check()?;
        }
        match self.wait_until_gone(at, look) {
            Err(failure) if !passes(failure.kind()) => Ok(Err(failure.full())),
            left => left.map(Ok),
        }
    }

    /// Those that are left when the patience of all consumers is over.
    fn wait_until_gone(&self, at: &At<'_>, look: &dyn Fn() -> Result<Vec<Session>>) -> Result<Vec<Session>> {
        let begun = Instant::now();
        let patience = patience_of(self.rotation);
        loop {
            let left = look()?;
            if left.is_empty() || begun.elapsed() > patience {
                return Ok(left);
            }
            pause(PAUSE, &|| at.cancel.check().is_err());
            at.cancel.check()?;
        }
    }
}

/// How long sessions may be there before they are in the way.
pub(super) fn patience_of(rotation: &Rotation) -> Duration {
    rotation.consumers.iter().map(|consumer| consumer.patience).max().unwrap_or(DRAINS).max(DRAINS)
}

fn passes(kind: Kind) -> bool {
    matches!(kind, Kind::TryLater | Kind::Locked | Kind::Interrupted | Kind::Terminated)
}

fn clients(sessions: &[Session]) -> String {
    let clients: Vec<&str> = sessions.iter().map(|session| session.client.as_str()).collect();
    clients.join(", ")
}
