//! Whether a rotation may begin now. Pure. What was begun before may always be brought to its end.

use crate::error::{Failure, Kind, Result};
use crate::journal::State;
use crate::policy::{Rotation, duration_text};
use jiff::{SignedDuration, Timestamp};

pub fn may_begin(rotation: &Rotation, state: &State, now: Timestamp, emergency: bool) -> Result<()> {
    if emergency {
        return Ok(());
    }
    let name = &rotation.name;
    let last = state.rotations.get(name).and_then(|known| known.rotated.as_ref());
    let distance = SignedDuration::try_from(rotation.distance).unwrap_or(SignedDuration::MAX);
    if let Some((at, _)) = last.filter(|(at, _)| at.checked_add(distance).is_ok_and(|until| until > now)) {
        let what = format!("{name} was rotated at {at}, less than {} ago", duration_text(rotation.distance));
        return Err(Failure::new(Kind::Refused, what)
            .hint(format!("Wait, lower `distance`, or say that it must be: bkp rotate {name} --emergency")));
    }
    let rehearsed = state.rehearsals.get(&rotation.source);
    if rehearsed.is_some_and(|known| known.failures_in_a_row > 0) {
        let what =
            format!("the last rehearsal of {} failed: what is changed now could not be restored", rotation.source);
        return Err(Failure::new(Kind::Refused, what).hint(format!(
            "Look into it first: bkp rehearse {}; or say that it must be: bkp rotate {name} --emergency",
            rotation.source
        )));
    }
    Ok(())
}

/// Until when the next rotation ought to have been; `None` where nobody said how old a password may get. A password that bkp
/// never rotated is due.
pub fn due(rotation: &Rotation, state: &State) -> Option<Option<Timestamp>> {
    let every = SignedDuration::try_from(rotation.every?).unwrap_or(SignedDuration::MAX);
    let last = state.rotations.get(&rotation.name).and_then(|known| known.rotated.as_ref());
    Some(last.and_then(|(at, _)| at.checked_add(every).ok()))
}
