//! The end of a rotation that the journal does not have, although Vault has it: the process died between the two, or it was
//! another host that rotated.

use super::record::{Closed, Glance};
use crate::journal::{Rotated, State};
use crate::policy::Rotation;

/// What is to be noted, where nothing is pending in Vault any more. `last` is the newest record of the rotation, `published` the
/// fingerprint of what is published now.
pub fn missing_end(last: &Rotated, published: &str) -> Rotated {
    let is = |print: &Option<String>| print.as_deref() == Some(published);
    let (state, note) = match (is(&last.to), is(&last.from), &last.to) {
        (true, ..) => ("rotated", "noted afterwards: it was closed, and its process died before it noted that"),
        (_, true, Some(_)) => {
            ("rolled_back", "noted afterwards: it was taken back, and its process died before it noted that")
        }
        (_, true, None) => ("rolled_back", "noted afterwards: its process died before it changed anything"),
        (false, false, _) => ("overtaken", "noted afterwards: neither of its passwords is published now"),
    };
    Rotated { state: state.into(), note: Some(note.into()), nodes: Vec::new(), consumer: None, ..last.clone() }
}

/// The last exchange of the password, where another host made it and the journal `own` does not know of it.
pub fn elsewhere<'g>(state: &State, rotation: &Rotation, glance: &'g Glance, own: &str) -> Option<&'g Closed> {
    let known = state.rotations.get(&rotation.name).and_then(|known| known.rotated.as_ref());
    let is_known = |closed: &Closed| known.is_some_and(|(at, rotated)| *at >= closed.at || rotated.run == closed.run);
    glance.rotated().filter(|closed| closed.journal != own && !is_known(closed))
}

/// Fingerprints of other hosts tell nothing here: that of what is published now is left to whoever has read it.
pub fn elsewhere_record(rotation: &Rotation, closed: &Closed) -> Rotated {
    Rotated {
        run: closed.run.clone(),
        rotation: rotation.name.clone(),
        source: rotation.target.place(),
        account: rotation.account.clone(),
        state: "elsewhere".into(),
        when: Some(closed.at),
        note: Some(format!("{} rotated it", closed.host)),
        ..Rotated::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_tells_how_it_ended() {
        let last = |to: Option<&str>| Rotated {
            run: "r".into(),
            state: "persisted".into(),
            from: Some("old".into()),
            to: to.map(str::to_owned),
            nodes: vec!["db:3306".into()],
            ..Rotated::default()
        };
        for (to, published, state) in [
            (Some("new"), "new", "rotated"),
            (Some("new"), "old", "rolled_back"),
            (None, "old", "rolled_back"),
            (Some("new"), "other", "overtaken"),
            (None, "other", "overtaken"),
        ] {
            let end = missing_end(&last(to), published);
            assert_eq!((end.state.as_str(), end.is_end()), (state, true));
            assert!(end.note.is_some() && end.nodes.is_empty() && end.run == "r");
        }
    }
}
