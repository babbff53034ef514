//! `bkp status`: one screen: what is protected, how old, how well proven, and what is missing.

use super::Ran;
use super::concerns;
use super::copies;
use super::environment::Environment;
use super::format::{age, count, size, span, took};
use super::metrics;
use super::output::{pairs, plain, table};
use super::points;
use crate::error::{Kind, Result};
use crate::job::copy::state::{CopyState, Standing};
use crate::job::damage::{self, Found};
use crate::job::status::{self, Expected, LastFailure, SourceState, Storage, Verdict};
use crate::journal::Estimate;
use crate::repo::catalog::{self, Wanted};
use crate::repo::point::Cost;
use crate::repo::{held, proof};
use crate::watch::{Concern, Stated};
use jiff::{SignedDuration, Timestamp};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Ends with exit code 4 when the newest point of a source is damaged, as far as checks on this host have found, or when the last \
rehearsal of a restore on this host failed, and with 5 \
when a configured source has no point, or when its newest one is older than its objective (RPO); else with 3 when a copy is not \
good (bkp copies), or a source is held after an odd backup (bkp ack).
What the journal of this host knows is told below, as on the page of the daemon, with what to do: a journal that is damaged and a \
rehearsal that failed end with 4, what is overdue with 5, what else wants a look with 3.

Examples:
  bkp status
  bkp status --json | jq '.sources[] | select(.verdict != \"protected\")'")]
pub struct Arguments {}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let expected = expected(env)?;
        let repository = env.repository()?;
        let access = env.listing(&repository)?;
        let newest = Wanted { newest_until: Some(catalog::horizon(env.now)), and_later: true, ..Wanted::default() };
        let known = damage::load(&env.places(&repository)?);
        let catalog = points::read(env, &repository, &access, newest)?;
        // Of these points alone: a long history has many proofs.
        let points = catalog.points.iter().map(|point| point.point.as_str()).collect();
        let of = proof::Of { points: Some(&points), ..proof::Of::default() };
        let proofs = proof::highest_of(&repository, &access.keys, &access.trust, of)?;
        let copies = match env.configuration()?.copies.is_empty() {
            true => Vec::new(),
            false => copies::look(env, Ok(repository.clone()))?,
        };
        let mut states = status::fold(&catalog, &proofs, &expected, &known, env.now);
        let held = access.writer.as_ref().map(|by| held::of(&repository, &access.keys, &access.trust, by.id()));
        let mut holds = held.transpose()?.unwrap_or_default().all();
        let mut concerns = Vec::new();
        match metrics::watch(env) {
            Ok((watched, journal)) => {
                concerns = concerns::of(watched);
                status::note_restore_times(&mut states, &journal);
                status::note_failures(&mut states, &journal);
                holds.extend(journal.holds.into_iter().map(|(source, hold)| (source, hold.why)));
            }
            Err(failure) => {
                env.output.warn(&format!("what failed and what wants a look is not known: {}", failure.full()))
            }
        }
        status::note_holds(&mut states, |source| holds.get(source).cloned());
        let missed = states.iter().filter(|s| matches!(s.verdict, Verdict::Missing | Verdict::Late)).count();
        let damaged = states.iter().any(|s| s.verdict == Verdict::Damaged);
        let document = serde_json::json!({
            "repository": repository.store.describe(),
            "repository_id": repository.id(),
            "at": env.now,
            "ok": missed == 0 && !damaged && catalog.broken.is_empty() && !concerns.iter().any(|one| one.grave),
            "concerns": concerns,
            "sources": states,
            "damage": known,
            "copies": copies,
            "broken_points": catalog.broken.iter().map(|(key, f)| serde_json::json!({ "point": key, "problem": f.full() })).collect::<Vec<_>>(),
        });
        env.output.answer(&document, || {
            screen(&repository.store.describe(), &states, &concerns)
                + &failures(&states, &concerns, env.now)
                + &holds_of(&states)
                + &concerns::listing(&others(&concerns))
                + &storage(&states)
                + &restores(&states)
                + &of_copies(&copies)
                + &remembered(&known, env.now)
        })?;
        let odd = states.iter().any(|state| state.held.is_some())
            || copies.iter().any(|copy| copy.standing != Standing::Good);
        let broken = damaged || !catalog.broken.is_empty();
        Ok(ending(broken, missed > 0, odd, concerns::kind(&concerns)))
    }
}

/// The gravest first.
fn ending(broken: bool, missed: bool, odd: bool, concerns: Option<Kind>) -> Option<Kind> {
    match concerns {
        _ if broken => Some(Kind::Verification),
        Some(Kind::Verification) => concerns,
        _ if missed => Some(Kind::Objective),
        _ => concerns.or(odd.then_some(Kind::Warnings)),
    }
}

/// Holds have lines of their own: the repository knows more of them.
fn others(concerns: &[Stated]) -> Vec<&Stated> {
    concerns.iter().filter(|one| !matches!(one.concern, Concern::Held { .. })).collect()
}

/// Where there are copies: how many are good, and which are not.
fn of_copies(copies: &[CopyState]) -> String {
    if copies.is_empty() {
        return String::new();
    }
    let bad: Vec<CopyState> = copies.iter().filter(|copy| copy.standing != Standing::Good).cloned().collect();
    let listed = if bad.is_empty() { String::new() } else { format!("\n{}", copies::listing(&bad)) };
    format!("\n\n{}{listed}", copies::headline(copies))
}

/// What the configuration promises.
fn expected(env: &Environment) -> Result<Vec<Expected>> {
    let mut all = Vec::new();
    let mut configuration = env.configuration()?;
    match env.live() {
        Ok(live) => configuration = &live.configuration,
        Err(failure) => env.output.warn(&format!("what labels bring is left out: {}", failure.full())),
    }
    for policy in &configuration.policies {
        let seconds = |d: Option<std::time::Duration>| d.and_then(|d| SignedDuration::try_from(d).ok());
        let (rpo, rto) = (seconds(policy.objectives.rpo), seconds(policy.objectives.rto));
        let of_policy = |source: &crate::policy::Source| Expected {
            source: source.name.clone(),
            policy: Some(policy.name.clone()),
            rpo,
            rto,
        };
        all.extend(policy.sources.iter().map(of_policy));
    }
    Ok(all)
}

fn screen(location: &str, states: &[SourceState], concerns: &[Stated]) -> String {
    let number = |verdict| states.iter().filter(|s| s.verdict == verdict).count();
    let (missing, late, damaged) = (number(Verdict::Missing), number(Verdict::Late), number(Verdict::Damaged));
    let verdict = match (states.len(), missing + late + damaged) {
        (0, _) => "Nothing is protected yet: bkp backup".to_owned(),
        (all, 0) => {
            let held = match states.iter().filter(|state| state.held.is_some()).count() {
                0 => String::new(),
                held => format!(", {held} held after an odd backup"),
            };
            let more = match others(concerns).len() {
                0 => String::new(),
                more => format!(", and {} to look at", count(more, "thing")),
            };
            let word = if held.is_empty() && more.is_empty() { "All is well" } else { "Attention" };
            format!("{word}: {} protected{held}{more}", count(all, "source"))
        }
        (all, bad) => {
            let damaged = if damaged > 0 { format!(", {damaged} damaged") } else { String::new() };
            format!(
                "Attention: {bad} of {} ({missing} without a backup, {late} too old{damaged})",
                count(all, "source")
            )
        }
    };
    if states.is_empty() {
        return format!("{verdict}\n{location}");
    }
    let rows = states.iter().map(|state| {
        let newest = state.newest.as_ref();
        let of = |text: &dyn Fn(&status::Newest) -> String| newest.map_or_else(|| "-".to_owned(), text);
        vec![
            mark(state.verdict).to_owned(),
            state.source.clone(),
            state.policy.clone().unwrap_or_else(|| "-".into()),
            of(&|n| age(n.age_seconds)),
            state.rpo_seconds.map_or_else(|| "-".into(), span),
            of(&|n| n.id.clone()),
            of(&|n| size(n.bytes)),
            of(&|n| n.level.map_or("written", |l| l.name()).to_owned()),
            said(state),
        ]
    });
    let titles = ["", "SOURCE", "POLICY", "NEWEST>", "RPO>", "POINT", "SIZE>", "PROOF", ""];
    format!("{verdict}\n{location}\n\n{}", table(&titles, rows))
}

/// Why there is nothing newer, of sources that are not configured; of the others the concerns tell.
fn failures(states: &[SourceState], concerns: &[Stated], now: Timestamp) -> String {
    let line = |what: &str, failure: &LastFailure| {
        let since = age(now.duration_since(failure.at).as_secs());
        let message = failure.message.as_deref().unwrap_or("see: bkp journal");
        let times = if failure.failures_in_a_row > 1 {
            format!(", {} times in a row", failure.failures_in_a_row)
        } else {
            String::new()
        };
        format!("\nFAILED  {what} ({since}{times}): {}", plain(message))
    };
    let is_told = |name: &str| {
        concerns.iter().any(|one| matches!(&one.concern, Concern::Failing { source, .. } if source == name))
    };
    let untold = states.iter().filter(|state| !is_told(&state.source));
    let text: String = untold.filter_map(|state| Some(line(&state.source, state.last_failure.as_ref()?))).collect();
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// What somebody should look at before anything old goes.
fn holds_of(states: &[SourceState]) -> String {
    let line = |state: &SourceState| {
        let (source, why) = (&state.source, plain(state.held.as_ref()?));
        Some(format!(
            "\nHELD    {source}: {why}\n        Nothing old of it is pruned until somebody has looked; then: bkp ack {source}"
        ))
    };
    let text: String = states.iter().filter_map(line).collect();
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// What the layouts cost, for the sources whose dumps could be compared.
fn storage(states: &[SourceState]) -> String {
    let rows = states.iter().filter_map(|state| Some((state.source.as_str(), said_of(state.storage.as_ref()?))));
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() { String::new() } else { format!("\n\n{}", pairs(&rows)) }
}

/// How long a restore would take, where one was rehearsed.
fn restores(states: &[SourceState]) -> String {
    let rows: Vec<_> = states
        .iter()
        .filter_map(|state| Some((state.source.as_str(), foreseen(state.restore.as_ref()?, state.rto_seconds))))
        .collect();
    if rows.is_empty() { String::new() } else { format!("\n\n{}", pairs(&rows)) }
}

/// `restore of 1.2 GiB: about 4m 10s, of 30m (from 3 rehearsals into a container)`
pub fn foreseen(estimate: &Estimate, objective: Option<i64>) -> String {
    let promised = objective.map(|most| format!(", of {}", span(most))).unwrap_or_default();
    let mut text = format!(
        "restore of {}: about {}{promised} (from {} into a {}",
        size(estimate.bytes),
        took(estimate.seconds),
        count(estimate.rehearsals, "rehearsal"),
        estimate.target
    );
    if estimate.is_far_fetched() {
        text.push_str(&format!(", of no more than {}: hardly more than a guess", size(estimate.largest_bytes)));
    }
    text.push(')');
    if objective.is_some_and(|most| estimate.seconds > most as f64) {
        text.push_str("  TOO LONG");
    }
    text
}

/// `layout stream: 1.2 GiB a point; dedup would add about 90 MiB`
pub fn said_of(storage: &Storage) -> String {
    let cost = Cost { stream: storage.stream_bytes, dedup: storage.dedup_bytes };
    let (own, other) = (storage.layout, storage.layout.other());
    let mut text = format!(
        "layout {}: {} a point; {} would add about {}",
        own.name(),
        size(cost.of(own)),
        other.name(),
        size(cost.of(other))
    );
    if let Some(better) = storage.better {
        text.push_str(&format!("  -> set `layout: {}`", better.name()));
    }
    text
}

fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Protected => "ok",
        Verdict::Late => "LATE",
        Verdict::Damaged => "DAMAGED",
        Verdict::Missing => "MISSING",
        Verdict::NotConfigured => "-",
    }
}

/// What checks found and have not seen sound since.
fn remembered(known: &[Found], now: Timestamp) -> String {
    let mut text = String::new();
    for found in known {
        let since = age(now.duration_since(found.at).as_secs());
        text.push_str(&format!("\nDAMAGED  {}: {}  (bkp check, {since})", plain(&found.object), plain(&found.problem)));
        text.extend(found.points.iter().map(|point| format!("\n         affects {}", plain(point))));
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// What to do or to know about a source.
fn said(state: &SourceState) -> String {
    match (state.verdict, &state.newest) {
        (Verdict::Missing | Verdict::Late, _) => format!("bkp backup {}", state.source),
        (Verdict::Damaged, _) => format!("bkp backup {0}; bkp check {0}", state.source),
        (Verdict::NotConfigured, _) => "not configured (any more)".into(),
        (_, Some(n)) if n.warnings > 0 => format!("{}: bkp show {}", count(n.warnings as usize, "warning"), n.id),
        _ => String::new(),
    }
}
