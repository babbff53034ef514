//! Which versions of credentials are in force at a server: written into its points, and applied again after a restore in place.

use super::environment::Environment;
use super::rotate::{accounts_of, published};
use crate::engine::Credential;
use crate::error::{Failure, Result};
use crate::job::recorder::Recorder;
use crate::job::rotate::keepsake::Fingerprints;
use crate::job::rotate::reapply::{Applied, reapply};
use crate::job::rotate::record;
use crate::job::rotate::targets::Given;
use crate::journal::{Fact, Rotated};
use crate::policy::{Policy, Rotation, Source};
use serde_json::{Value, json};

/// How many versions of what is published are looked through for the one that was in force.
const LOOKED_AT: u64 = 10;

/// By the journal of this host: names and fingerprints.
pub fn of(env: &Environment, source: &Source) -> Vec<Value> {
    let Ok(configuration) = env.configuration() else { return Vec::new() };
    let rotations = configuration.rotations_at(source);
    if rotations.is_empty() {
        return Vec::new();
    }
    let state = env.journal().and_then(|journal| journal.state()).unwrap_or_default();
    let one = |(_, rotation): &(&Policy, &Rotation)| {
        let known = state.rotations.get(&rotation.name);
        let rotated = known.and_then(|known| known.rotated.as_ref());
        // Never rotated, or in the middle of it: what came last.
        let last = known.and_then(|known| known.last.as_ref()).filter(|(_, last)| !last.is_end());
        let version = rotated.and_then(|(_, fact)| fact.to.clone()).or_else(|| last.and_then(|(_, l)| l.from.clone()));
        json!({
            "name": rotation.name, "account": rotation.account, "version": version,
            "since": rotated.map(|(at, _)| at), "pending": last.and_then(|(_, last)| last.to.clone()),
        })
    };
    rotations.iter().map(one).collect()
}

/// What is published is what the accounts of the server take from now on, whatever the point brought back. Gives what people
/// should know; a failure means that the server is not ready.
pub fn apply(
    env: &Environment,
    source: &Source,
    then: &[Value],
    (run, recorder): (&str, &Recorder),
) -> Result<Vec<String>> {
    let mut told = Vec::new();
    let configuration = env.configuration()?;
    for (policy, rotation) in configuration.rotations_at(source) {
        told.extend(apply_one(env, (policy, rotation), then, (run, recorder))?);
    }
    Ok(told)
}

pub fn apply_one(
    env: &Environment,
    (policy, rotation): (&Policy, &Rotation),
    then: &[Value],
    (run, recorder): (&str, &Recorder),
) -> Result<Option<String>> {
    let name = &rotation.name;
    let vault = super::rotate::vault(env)?;
    let path = record::path(&env.configuration()?.rotator.vault_path, name)?;
    if record::glance(vault, &path)?.is_open {
        return Ok(Some(format!(
            "a rotation of {name} is under way, which applies both of its passwords again: bkp rotate resume {name}"
        )));
    }
    let document = vault.document(&rotation.published)?;
    let today = published(env, rotation, None)?;
    let prints = Fingerprints::of(&env.paths()?.state)?;
    let of_point = then.iter().find(|one| one["name"] == *name).and_then(|one| one["version"].as_str());
    let older = (1..document.version).rev().take(usize::try_from(LOOKED_AT).unwrap_or_default());
    // A version that is gone opens nothing that could be tried.
    let older: Vec<Credential> = older.filter_map(|version| published(env, rotation, Some(version)).ok()).collect();
    let older: Vec<Credential> = older.into_iter().filter(|old| old.expose() != today.expose()).collect();
    // One is tried, and no more: servers count refusals, and lock accounts.
    let then = older.iter().find(|old| of_point == Some(prints.fingerprint(old).as_str()));
    let before = then.or(older.first());
    let (accounts, _) = accounts_of(env, policy, rotation, Given::default())?;
    let mut users = rotation.turns.iter().flat_map(|turns| turns.users().map(String::as_str));
    let other = users.find(|user| Some(*user) != today.user.as_deref());
    let applied = reapply(&*accounts, &today, before, other, &env.cancel)?;
    let negative = match before {
        Some(_) => "the old password is refused",
        None => "no older password is known",
    };
    recorder.note(&[Fact::Rotation(Box::new(Rotated {
        run: run.to_owned(),
        rotation: name.clone(),
        source: rotation.target.name().to_owned(),
        account: rotation.account.clone(),
        state: "reapplied".into(),
        from: before.map(|before| prints.fingerprint(before)),
        to: Some(prints.fingerprint(&today)),
        nodes: accounts.nodes()?.iter().map(ToString::to_string).collect(),
        note: Some(negative.into()),
        ..Rotated::default()
    }))]);
    Ok((applied == Applied::Changed).then(|| {
        format!("{} has the password that is published now, not the one of the point; {negative}", accounts.describe())
    }))
}

/// Of a server that was restored, and whose passwords are not those that they should be.
pub fn not_ready(failure: &Failure) -> Failure {
    Failure::new(
        failure.kind(),
        format!(
            "the data are restored, but passwords at the server are not known to be those of today: {}",
            failure.full()
        ),
    )
    .hint("Let nobody in before: bkp rotate reapply NAME")
}
