//! `bkp rotate status`: what is under way, and what became of the last rotations.

use super::{missing, vault};
use crate::cli::Ran;
use crate::cli::environment::Environment;
use crate::cli::format::age;
use crate::cli::output::{plain, table};
use crate::error::{Failure, Result};
use crate::job::rotate::readers::NAME;
use crate::job::rotate::record::{self, Glance};
use crate::job::rotate::rules;
use crate::journal::State;
use crate::policy::Rotation;

pub fn show(env: &Environment, name: Option<&str>) -> Ran {
    let configuration = env.configuration()?;
    let chosen: Vec<&Rotation> = match name {
        Some(name) => vec![configuration.rotation(name)?.1],
        None => configuration.rotations().map(|(_, rotation)| rotation).collect(),
    };
    let look = |rotation: &&Rotation| {
        let path = record::path(&configuration.rotator.vault_path, &rotation.name)?;
        let glance = record::glance(vault(env)?, &path);
        if let Some(glance) = glance.as_ref().ok().filter(|glance| !glance.is_open) {
            // Who may not write the journal looks all the same.
            let _ = missing::note(env, rotation, glance);
        }
        Ok(glance)
    };
    let glances = chosen.iter().map(look).collect::<Result<Vec<_>>>()?;
    let state = env.journal()?.state().unwrap_or_default();
    let mut documents = Vec::new();
    let mut rows = Vec::new();
    for (rotation, glance) in chosen.into_iter().zip(glances) {
        let last = state.rotations.get(&rotation.name).and_then(|known| known.last.as_ref());
        let owed = state.rotations.get(&rotation.name).and_then(|known| known.owed.as_ref()).map(|(at, _)| at);
        let name = &rotation.name;
        let waits = glance.as_ref().ok().filter(|glance| glance.is_open && glance.holder.is_none());
        let waits = waits.and_then(|_| rules::waits_for(&state, name));
        let by_hand = waits.is_some() && rules::is_by_hand(&state, name);
        // What was noted then says what to do, too.
        let note = last.and_then(|(_, rotated)| rotated.note.as_deref());
        let note = if by_hand { note } else { waits.or(note) };
        documents.push(serde_json::json!({
            "rotation": rotation.name,
            "waits_for": waits,
            "by_hand": by_hand,
            "owed": owed,
            "open": glance.as_ref().ok(),
            "unknown": glance.as_ref().err().map(Failure::full),
            "last": last.map(|(at, rotated)| serde_json::json!({ "at": at, "fact": rotated })),
        }));
        rows.push(vec![
            rotation.name.clone(),
            now_of(&glance, owed.is_some(), by_hand, name),
            last.map_or_else(|| "-".to_owned(), |(_, rotated)| rotated.state.clone()),
            last.map_or_else(|| "-".to_owned(), |(at, _)| age(env.now.as_second() - at.as_second())),
            note.map_or_else(|| "-".to_owned(), plain),
        ]);
    }
    if let (None, Some((document, row))) = (name, of_recipients(env, &state)) {
        documents.push(document);
        rows.push(row);
    }
    env.output.answer(&serde_json::json!({ "rotations": documents }), || {
        if rows.is_empty() {
            "no rotation is configured".to_owned()
        } else {
            table(&["ROTATION", "NOW", "LAST STATE", "AGO", "NOTE"], rows)
        }
    })?;
    Ok(None)
}

fn now_of(glance: &Result<Glance>, owed: bool, by_hand: bool, name: &str) -> String {
    match owed {
        true => format!("{}; restored: bkp rotate reapply {name}", word_of(glance)),
        false if by_hand => "waits for somebody; then: bkp rotate resume".to_owned(),
        false => word_of(glance),
    }
}

fn word_of(glance: &Result<Glance>) -> String {
    match glance {
        Err(failure) => format!("unknown: {}", plain(&failure.full())),
        Ok(Glance { is_open: false, .. }) => "nothing under way".to_owned(),
        Ok(Glance { holder: Some(holder), back, .. }) => {
            format!("{} by {}", if *back { "taken back" } else { "under way" }, plain(&holder.host))
        }
        Ok(Glance { back: true, .. }) => "to be taken back: bkp rotate resume".to_owned(),
        Ok(_) => "stopped midway: bkp rotate resume".to_owned(),
    }
}

/// The keys that read the backups: where their last rotation got, by the records of this host.
fn of_recipients(env: &Environment, state: &State) -> Option<(serde_json::Value, Vec<String>)> {
    let (at, last) = state.rotations.get(NAME)?.last.as_ref()?;
    let document = serde_json::json!({
        "rotation": NAME, "owed": null, "open": { "is_open": !last.is_end() }, "unknown": null,
        "last": { "at": at, "fact": last },
    });
    let now = match last.is_end() {
        true => "nothing under way",
        false => "not at its end: the same `bkp rotate recipients …` again",
    };
    let note = last.note.as_deref().map_or_else(|| "-".to_owned(), plain);
    let since = age(env.now.as_second() - at.as_second());
    Some((document, vec![NAME.to_owned(), now.to_owned(), last.state.clone(), since, note]))
}
