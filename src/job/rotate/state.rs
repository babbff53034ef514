//! What is done next in a rotation: a pure function of what was observed, and nothing else.
//!
//! The law: the engine accepts a secret before anybody can read it, and loses the old one only after every consumer was seen on
//! the new one. Backwards the same holds with the two exchanged. What became of a login is the ground for everything; only a
//! definite refusal counts as one, and where something is not known, nothing is done.

pub use crate::engine::Login;
use crate::engine::Pair;

impl Direction {
    /// What consumers hold when they were moved.
    pub fn holds(self) -> Holds {
        match self {
            Direction::Forward => Holds::Pending,
            Direction::Back => Holds::Current,
        }
    }
}

/// What consumers would read now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Published {
    Current,
    Pending,
    /// Somebody else's.
    Other,
    Unknown(String),
}

/// Where a rotation is going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    #[default]
    Forward,
    Back,
}

/// What a consumer would be told when it starts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holds {
    Current,
    Pending,
    /// Of several places some have the one, and some the other.
    Partly,
    /// Neither: somebody changed it.
    Other,
    /// It reads what is published.
    Published,
}

impl Holds {
    /// Of what holds the one, the other, or neither.
    pub fn of(has_pending: bool, has_current: bool) -> Holds {
        match (has_pending, has_current) {
            (true, _) => Holds::Pending,
            (false, true) => Holds::Current,
            (false, false) => Holds::Other,
        }
    }

    /// The pair as it is exchanged when this is to be held: what goes, and what comes.
    pub fn exchange(self, pair: Pair<'_>) -> Pair<'_> {
        if self == Holds::Pending { pair } else { pair.turned() }
    }
}

/// How far one consumer is on its way to the secret of this direction. Only `holds` outlives the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Progress {
    pub holds: Holds,
    pub reloaded: bool,
    /// Its gate, after it was reloaded.
    pub passed: bool,
}

/// The pending secret is durable in these places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kept {
    pub recorded: bool,
    pub escrowed: bool,
}

/// Everything that decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Observed {
    pub direction: Direction,
    pub kept: Kept,
    /// The account's grants and verifiers as they were.
    pub saved: bool,
    pub pending: Login,
    pub current: Login,
    pub published: Published,
    /// Both were tried on every node, anew and from outside, since the engine took the pending one.
    pub tested: bool,
    pub consumers: Vec<Progress>,
    /// No session is left that may still need the secret which is about to be taken away.
    pub unused: bool,
    /// The engine will still know what it accepts after a restart.
    pub persisted: bool,
    /// What the engine knew of the pending one is gone.
    pub undone: bool,
    /// A backup or a query with the new secret went well.
    pub proven: bool,
    /// A gate that failed, in words.
    pub failed: Option<String>,
    /// Somebody who knows what it means wants the account set to the pending secret although neither is accepted.
    pub forced: bool,
    /// The old one may be known to others: no session is waited for, and all of them are ended when it is refused.
    pub urgent: bool,
    /// They were.
    pub ended: bool,
}

/// One effect, or the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// S0: keep grants and verifiers.
    Save,
    /// S1: make a secret and record it in Vault.
    Record,
    /// S1: seal it to the operators.
    Escrow,
    /// S2.
    AcceptBoth,
    /// S2 where neither is accepted: the pending one alone, whatever is there.
    Force,
    /// S3.
    Test,
    /// S4.
    Publish,
    /// S5 of one consumer.
    Deliver(usize),
    /// S6 of one consumer.
    Reload(usize),
    /// S6 of one consumer.
    Gate(usize),
    /// S7.
    SeeUnused,
    /// S8.
    Retire,
    /// S8 where the old one may be known to others.
    EndSessions,
    /// S8.
    Persist,
    /// S9.
    Prove,
    /// S9: evidence is sealed, escrow and pending go.
    Close(End),
    /// From now on back: recorded before anything else is done.
    TurnBack,
    /// From now on forward again: the old one is gone.
    TurnForward,
    /// Consumers read the old one again.
    Unpublish,
    /// The engine forgets the pending one.
    Undo,
    /// Nothing may be done before more is known.
    Wait(String),
    /// Somebody has to decide.
    Stop(Halt),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    Rotated,
    RolledBack,
    /// There was nothing to roll back.
    Nothing,
}

/// Why nobody but a person can go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Halt {
    /// Before anything was changed.
    CurrentRefused,
    /// Neither is accepted.
    Drift,
    /// What is published is neither.
    ForeignPublished,
    /// A consumer holds neither.
    ForeignDelivered(usize),
    /// A gate failed on the way back, or where there is no way back.
    GateFailed(String),
    /// A gate failed, and the way back leads to a secret that may be known to others.
    NotBackByItself(String),
}

/// What is to be done next. Each step can be done twice.
pub fn next(seen: &Observed) -> Step {
    if let Published::Unknown(why) = &seen.published {
        return Step::Wait(why.clone());
    }
    if !seen.kept.recorded {
        return begin(seen);
    }
    if !seen.kept.escrowed && seen.direction == Direction::Forward {
        return Step::Escrow;
    }
    if seen.published == Published::Other {
        // What is published leads elsewhere, and the pending one opens nothing: there is nothing to take back.
        if seen.direction == Direction::Back && seen.pending == Login::Refused {
            return Step::Close(End::RolledBack);
        }
        return Step::Stop(Halt::ForeignPublished);
    }
    for login in [&seen.pending, &seen.current] {
        if let Login::Unknown(why) = login {
            return Step::Wait(why.clone());
        }
    }
    // Stopped between two nodes: until they agree again, somebody is refused at one of them. What is to be taken away need not.
    let is_going = seen.direction == Direction::Back;
    if seen.current == Login::Partly || seen.pending == Login::Partly && !is_going {
        // On the way back, too, for whom the other host may have sealed it: it may be the only one that lets in afterwards.
        return if seen.kept.escrowed { Step::AcceptBoth } else { Step::Escrow };
    }
    match seen.direction {
        Direction::Forward => forward(seen),
        Direction::Back => back(seen),
    }
}

/// Nothing was changed yet.
fn begin(seen: &Observed) -> Step {
    if seen.direction == Direction::Back {
        return Step::Close(End::Nothing);
    }
    match &seen.current {
        Login::Unknown(why) => Step::Wait(why.clone()),
        Login::Partly => Step::Wait(Login::NODES_DIFFER.into()),
        Login::Refused => Step::Stop(Halt::CurrentRefused),
        Login::Accepted if !seen.saved => Step::Save,
        Login::Accepted => Step::Record,
    }
}

fn forward(seen: &Observed) -> Step {
    let accepted = |login: &Login| *login == Login::Accepted;
    let is_pending = seen.published == Published::Pending;
    match (accepted(&seen.pending), accepted(&seen.current)) {
        // Not by itself to what may be known to others.
        (pending, true) if (pending || !is_pending) && seen.failed.is_some() => match (seen.urgent, &seen.failed) {
            (true, Some(why)) => Step::Stop(Halt::NotBackByItself(why.clone())),
            _ => Step::TurnBack,
        },
        // S1; or the engine was put back to before the rotation.
        (false, true) => Step::AcceptBoth,
        (false, false) if seen.forced => Step::Force,
        (false, false) => Step::Stop(Halt::Drift),
        (true, true) if !seen.tested => Step::Test,
        // Where the old one is refused already, nobody can be kept waiting by a test.
        (true, _) if !is_pending => Step::Publish,
        (true, both) => match move_on(seen, Holds::Pending) {
            Some(step) => step,
            // Whoever may not have it could otherwise keep it, by using it.
            None if both && !seen.unused && !seen.urgent => Step::SeeUnused,
            None if both => Step::Retire,
            None if seen.urgent && !seen.ended => Step::EndSessions,
            None if !seen.persisted => Step::Persist,
            None if !seen.proven => Step::Prove,
            None => Step::Close(End::Rotated),
        },
    }
}

fn back(seen: &Observed) -> Step {
    let accepted = |login: &Login| *login == Login::Accepted;
    match (accepted(&seen.pending), accepted(&seen.current)) {
        // There is no old one to go back to.
        (true, false) => Step::TurnForward,
        (false, false) if seen.forced => Step::TurnForward,
        (false, false) => Step::Stop(Halt::Drift),
        // The engine was put back to before the rotation: what is published leads nowhere, so that goes first, too.
        (_, true) if seen.published == Published::Pending => Step::Unpublish,
        (_, true) => match (move_on(seen, Holds::Current), &seen.failed) {
            (Some(step), _) => step,
            (None, Some(why)) => Step::Stop(Halt::GateFailed(why.clone())),
            (None, _) if seen.undone && seen.persisted => Step::Close(End::RolledBack),
            (None, _) if seen.undone => Step::Persist,
            (None, _) if !seen.unused && !seen.urgent && seen.pending != Login::Refused => Step::SeeUnused,
            (None, _) => Step::Undo,
        },
    }
}

/// Consumers one by one: the next is not touched before the one before has passed its gate.
fn move_on(seen: &Observed, to: Holds) -> Option<Step> {
    // What would begin with what is about to be taken away was not moved, whatever is known of it.
    let goes = |holds: Holds| seen.direction == Direction::Back && matches!(holds, Holds::Pending | Holds::Partly);
    let at = seen.consumers.iter().position(|consumer| !consumer.passed || goes(consumer.holds))?;
    let consumer = &seen.consumers[at];
    Some(match (consumer.holds, &seen.failed) {
        (_, Some(why)) => Step::Stop(Halt::GateFailed(why.clone())),
        (Holds::Other, None) => Step::Stop(Halt::ForeignDelivered(at)),
        (holds, None) if holds != to && holds != Holds::Published => Step::Deliver(at),
        (_, None) if !consumer.reloaded => Step::Reload(at),
        (_, None) => Step::Gate(at),
    })
}
