//! `bkp status`: one screen: what is protected, how old, how well proven, and what is missing.

use super::Ran;
use super::copies;
use super::environment::Environment;
use super::format::{age, count, size, span};
use super::output::{pairs, plain, table};
use super::points;
use crate::error::{Kind, Result};
use crate::job::copy::state::{CopyState, Standing};
use crate::job::damage::{self, Found};
use crate::job::status::{self, Expected, SourceState, Storage, Verdict};
use crate::repo::catalog::{self, Wanted};
use crate::repo::point::Cost;
use crate::repo::proof;
use jiff::{SignedDuration, Timestamp};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Ends with exit code 4 when the newest point of a source is damaged, as far as checks on this host have found, and with 5
when a configured source has no point, or when its newest one is older than its objective (RPO); else with 3 when a copy is not
good (bkp copies), or when the last anchor of the journal failed or is overdue (bkp evidence anchor).

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
        let anchor = super::anchored::concern(env)?;
        let copies = match env.configuration()?.copies.is_empty() {
            true => Vec::new(),
            false => copies::look(env, Ok(repository.clone()))?,
        };
        let mut states = status::fold(&catalog, &proofs, &expected, &known, env.now);
        match env.journal()?.state() {
            Ok(journal) => status::note_failures(&mut states, &journal),
            Err(failure) => env.output.warn(&format!("what failed last is not known: {}", failure.full())),
        }
        let missed = states.iter().filter(|s| matches!(s.verdict, Verdict::Missing | Verdict::Late)).count();
        let damaged = states.iter().any(|s| s.verdict == Verdict::Damaged);
        let document = serde_json::json!({
            "repository": repository.store.describe(),
            "repository_id": repository.id(),
            "at": env.now,
            "ok": missed == 0 && !damaged && catalog.broken.is_empty(),
            "sources": states,
            "damage": known,
            "copies": copies,
            "anchor": anchor,
            "broken_points": catalog.broken.iter().map(|(key, f)| serde_json::json!({ "point": key, "problem": f.full() })).collect::<Vec<_>>(),
        });
        env.output.answer(&document, || {
            screen(&repository.store.describe(), &states)
                + &failures(&states, env.now)
                + &storage(&states)
                + &of_copies(&copies)
                + &remembered(&known, env.now)
                + &super::anchored::text(anchor.as_ref())
        })?;
        Ok(match (catalog.broken.is_empty() && !damaged, missed) {
            (false, _) => Some(Kind::Verification),
            (true, 0) => {
                let copied = copies.iter().all(|copy| copy.standing == Standing::Good);
                (!copied || anchor.is_some()).then_some(Kind::Warnings)
            }
            (true, _) => Some(Kind::Objective),
        })
    }
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
    let configuration = match env.live() {
        Ok(live) => &live.configuration,
        Err(failure) => {
            env.output.warn(&format!("what labels bring is left out: {}", failure.full()));
            env.configuration()?
        }
    };
    for policy in &configuration.policies {
        let rpo = policy.objectives.rpo.and_then(|d| SignedDuration::try_from(d).ok());
        let of_policy = |source: &crate::policy::Source| Expected {
            source: source.name.clone(),
            policy: Some(policy.name.clone()),
            rpo,
        };
        all.extend(policy.sources.iter().map(of_policy));
    }
    Ok(all)
}

fn screen(location: &str, states: &[SourceState]) -> String {
    let number = |verdict| states.iter().filter(|s| s.verdict == verdict).count();
    let (missing, late, damaged) = (number(Verdict::Missing), number(Verdict::Late), number(Verdict::Damaged));
    let verdict = match (states.len(), missing + late + damaged) {
        (0, _) => "Nothing is protected yet: bkp backup".to_owned(),
        (all, 0) => format!("All is well: {} protected", count(all, "source")),
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

/// Why there is nothing newer.
fn failures(states: &[SourceState], now: Timestamp) -> String {
    let line = |state: &SourceState| {
        let failure = state.last_failure.as_ref()?;
        let since = age(now.duration_since(failure.at).as_secs());
        let message = failure.message.as_deref().unwrap_or("see: bkp journal");
        let times = if failure.failures_in_a_row > 1 {
            format!(", {} times in a row", failure.failures_in_a_row)
        } else {
            String::new()
        };
        Some(format!("\nFAILED  {} ({since}{times}): {}", state.source, plain(message)))
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
