//! The end of a rotation that the journal does not have, although Vault has it: the process died between the two.

use crate::journal::Rotated;

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
