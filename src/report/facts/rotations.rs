//! Rotations of the period, each put together from its records: a run that was killed and the one that went on are one.

use super::{Facts, Mark};
use crate::journal::{Reason, Rotated};
use serde::Serialize;
use std::collections::BTreeMap;

/// One state of one rotation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RotationState {
    #[serde(flatten)]
    pub mark: Mark,
    pub rotated: Box<Rotated>,
}

/// A rotation from its first record to its last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rotation<'a> {
    pub name: &'a str,
    pub account: &'a str,
    pub source: &'a str,
    pub because: Option<&'a str>,
    /// Who began it: a schedule, or somebody. Absent where its first run is not in the period.
    pub reason: Option<Reason>,
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
    /// Where both passwords were tried.
    pub nodes: Vec<&'a str>,
    pub moved: Vec<&'a str>,
    /// Where the old password was seen to be refused.
    pub refused: Option<Mark>,
    /// How it ended; nothing where it had not.
    pub end: Option<(Mark, &'a str)>,
    /// Why it stopped or went back, or what there is to say of its end.
    pub note: Option<&'a str>,
    pub records: Vec<Mark>,
}

impl Facts {
    pub fn rotated(&self) -> Vec<Rotation<'_>> {
        let mut open: BTreeMap<&str, Rotation<'_>> = BTreeMap::new();
        let mut all = Vec::new();
        for RotationState { mark, rotated } in &self.rotations {
            // What came of it has a record of its own.
            if rotated.state == Rotated::OWED {
                continue;
            }
            // It stands by itself, also in the middle of nothing.
            let mut one = match rotated.state.as_str() {
                "reapplied" => Rotation::default(),
                _ => open.remove(rotated.rotation.as_str()).unwrap_or_default(),
            };
            if one.records.is_empty() {
                one.reason = self.runs.iter().find(|run| *run.run == *rotated.run).map(|run| run.reason);
            }
            one.take_in(*mark, rotated);
            match rotated.is_end() {
                true => all.push(one),
                false => drop(open.insert(&rotated.rotation, one)),
            }
        }
        all.extend(open.into_values());
        all.sort_by_key(|one| one.records.first().copied());
        all
    }
}

impl<'a> Rotation<'a> {
    fn take_in(&mut self, mark: Mark, rotated: &'a Rotated) {
        (self.name, self.account, self.source) = (&rotated.rotation, &rotated.account, &rotated.source);
        self.because = self.because.or(rotated.because.as_deref());
        self.from = self.from.or(rotated.from.as_deref());
        self.to = rotated.to.as_deref().or(self.to);
        self.records.push(mark);
        let add = |to: &mut Vec<&'a str>, what: &'a str| {
            if !to.contains(&what) {
                to.push(what);
            }
        };
        match rotated.state.as_str() {
            "tested" => rotated.nodes.iter().for_each(|node| add(&mut self.nodes, node)),
            "moved" => rotated.consumer.iter().for_each(|consumer| add(&mut self.moved, consumer)),
            "retired" => self.refused = Some(mark),
            "reapplied" => {
                rotated.nodes.iter().for_each(|node| add(&mut self.nodes, node));
                self.refused = rotated.from.as_ref().map(|_| mark);
            }
            "turned_back" => self.moved.clear(),
            _ => {}
        }
        if let Some(note) = rotated.note.as_deref().filter(|_| matches!(&*rotated.state, "stopped" | "turned_back")) {
            self.note = Some(note);
        }
        if rotated.is_end() {
            self.end = Some((mark, &rotated.state));
            self.note = rotated.note.as_deref().or(self.note).filter(|_| rotated.state != "reapplied");
        }
    }

    pub fn is_done(&self) -> bool {
        self.end.is_some_and(|(_, state)| state == "rotated")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(record: u64, state: &str, edit: impl FnOnce(&mut Rotated)) -> RotationState {
        let mut rotated = Rotated { rotation: "shop-db".into(), account: "app".into(), ..Rotated::default() };
        rotated.state = state.into();
        edit(&mut rotated);
        let mark = Mark { record, at: jiff::Timestamp::from_second(record as i64).unwrap() };
        RotationState { mark, rotated: Box::new(rotated) }
    }

    #[test]
    fn what_was_killed_and_gone_on_with_is_one() {
        let facts = Facts {
            rotations: vec![
                state(1, "planned", |one| (one.from, one.because) = (Some("aa".into()), Some("INC-42".into()))),
                state(2, "tested", |one| (one.to, one.nodes) = (Some("bb".into()), vec!["db:3306".into()])),
                state(4, "moved", |one| (one.run, one.consumer) = ("second".into(), Some("web".into()))),
                state(5, "retired", |_| {}),
                state(6, "rotated", |_| {}),
                state(8, "planned", |_| {}),
                state(9, "turned_back", |one| one.note = Some("web does not work".into())),
                state(10, "rolled_back", |_| {}),
                state(12, "reapplied", |one| one.from = Some("aa".into())),
                state(13, "planned", |_| {}),
            ],
            ..Facts::default()
        };
        let all = facts.rotated();
        assert_eq!(all.len(), 4);
        assert!(all[0].is_done() && all[0].refused.unwrap().record == 5 && all[0].records.len() == 5);
        assert_eq!((all[0].from, all[0].to, all[0].because), (Some("aa"), Some("bb"), Some("INC-42")));
        assert_eq!((&all[0].nodes[..], &all[0].moved[..]), (&["db:3306"][..], &["web"][..]));
        assert_eq!((all[1].note, all[1].is_done()), (Some("web does not work"), false));
        assert_eq!(all[2].refused.unwrap().record, 12);
        assert_eq!(all[3].end, None);
    }
}
