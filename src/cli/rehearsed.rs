//! `bkp rehearse --history`: what the rehearsals of this host came to and how long each phase took, from the journal alone.

use super::Ran;
use super::environment::Environment;
use super::format::{instant, size, span, took};
use super::output::{pairs, plain, table};
use super::status::foreseen;
use crate::error::{Failure, Result};
use crate::journal::{Estimate, Fact, Rehearsed, RestoreTime};
use crate::repo::names::short_id;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// In the order in which they come.
const PHASES: [&str; 6] = ["fetch", "decode", "load", "index", "verify", "overhead"];

/// Of a source, a policy or a stack; or of all.
pub fn history(env: &Environment, what: Option<&str>) -> Ran {
    let wanted = what.map(|what| sources(env, what)).transpose()?;
    let mut all: Vec<(Timestamp, Rehearsed)> = Vec::new();
    env.journal()?.cursor(0).advance(&mut |record| match &record.fact {
        Fact::Rehearsed(one) if wanted.as_ref().is_none_or(|wanted| wanted.contains(&one.source)) => {
            all.push((record.at, (**one).clone()));
        }
        _ => {}
    })?;
    if all.is_empty() {
        return Err(Failure::failed("no rehearsal stands in the journal of this host")
            .hint(format!("bkp rehearse {}", what.unwrap_or_default()).trim().to_owned()));
    }
    let estimates = estimates(&all);
    let listed = all.iter().map(|(at, one)| {
        let mut document = serde_json::to_value(one).unwrap_or_default();
        document["at"] = at.to_string().into();
        document["passed"] = one.passed().into();
        document
    });
    let document = serde_json::json!({ "rehearsals": listed.collect::<Vec<_>>(), "estimates": estimates });
    env.output.answer(&document, || text(env, &all, &estimates))?;
    Ok(None)
}

/// A name that the configuration does not know is that of a source which was there once.
fn sources(env: &Environment, what: &str) -> Result<Vec<String>> {
    let policies = &env.configuration()?.policies;
    let meant = policies.iter().filter(|policy| policy.name == what || policy.stack.as_deref() == Some(what));
    let mut names: Vec<String> = meant.flat_map(|policy| &policy.sources).map(|source| source.name.clone()).collect();
    names.push(what.to_owned());
    Ok(names)
}

/// By source, for as much as its last rehearsal restored.
fn estimates(all: &[(Timestamp, Rehearsed)]) -> BTreeMap<String, Estimate> {
    let mut times: BTreeMap<&str, Vec<RestoreTime>> = BTreeMap::new();
    for (at, one) in all {
        times.entry(&one.source).or_default().extend(RestoreTime::of(one, *at));
    }
    let estimate = |(source, times): (&str, Vec<RestoreTime>)| {
        Some((source.to_owned(), Estimate::of(&times, times.last()?.bytes)?))
    };
    times.into_iter().filter_map(estimate).collect()
}

fn text(env: &Environment, all: &[(Timestamp, Rehearsed)], estimates: &BTreeMap<String, Estimate>) -> String {
    let zone = env.zone().cloned().unwrap_or(jiff::tz::TimeZone::UTC);
    let rows = all.iter().map(|(at, one)| {
        let mut row = vec![
            instant(*at, &zone),
            plain(&one.source),
            short_id(&one.point).to_owned(),
            size(one.bytes),
            if one.passed() { "" } else { "FAILED" }.to_owned(),
            one.reached.clone().unwrap_or_else(|| "-".to_owned()),
            one.target.as_ref().map_or_else(|| "-".to_owned(), |target| target.kind.clone()),
        ];
        row.extend(PHASES.map(|name| one.phases.get(name).map_or_else(|| "-".to_owned(), |seconds| took(*seconds))));
        row.push(took(one.rto_seconds));
        row.push(one.rto_objective_seconds.map_or_else(|| "-".to_owned(), |most| span(most as i64)));
        row
    });
    let titles = [
        "WHEN",
        "SOURCE",
        "POINT",
        "SIZE>",
        "",
        "PROVEN",
        "TARGET",
        "FETCH>",
        "DECODE>",
        "LOAD>",
        "INDEX>",
        "VERIFY>",
        "OVERHEAD>",
        "RESTORED IN>",
        "OBJECTIVE>",
    ];
    let mut text = table(&titles, rows);
    let objective = |source: &str| {
        let last = all.iter().rev().find(|(_, one)| one.source == source)?;
        last.1.rto_objective_seconds.map(|most| most as i64)
    };
    let rows: Vec<(&str, String)> =
        estimates.iter().map(|(source, estimate)| (source.as_str(), foreseen(estimate, objective(source)))).collect();
    if !rows.is_empty() {
        text.push_str(&format!("\n\n{}", pairs(&rows)));
    }
    text
}
