//! What a prune says to people.

use crate::cli::environment::Environment;
use crate::cli::format::{count, instant, size};
use crate::cli::output::{plain, table};
use crate::error::Failure;
use crate::job::prune::Outcome;
use crate::job::prune::plan::{Plan, SeriesPlan};

/// How much of a plan people are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Each point, also those that stay.
    Points,
    /// Each series, and the points that go.
    Series,
    /// Series that something happens to, or is kept from happening.
    Changes,
}

/// Whether something of it goes, or would go if nothing were in the way.
pub fn is_worth_telling(series: &SeriesPlan) -> bool {
    series.points.iter().any(|point| !point.keep) || series.held.is_some() || series.shrink.is_some()
}

pub fn described(env: &Environment, plan: &Plan, detail: Detail) -> String {
    let zone = env.zone().cloned().unwrap_or(jiff::tz::TimeZone::UTC);
    let told = plan.series.iter().filter(|series| detail != Detail::Changes || is_worth_telling(series));
    let mut text: Vec<String> = told.map(summary).collect();
    let mut rows = Vec::new();
    for series in &plan.series {
        rows.extend(series.points.iter().filter(|point| detail == Detail::Points || !point.keep).map(|point| {
            vec![
                if point.keep { "keep" } else { "forget" }.to_owned(),
                plain(&series.source),
                point.id.clone(),
                instant(point.consistent_at, &zone),
                size(point.bytes),
                plain(&point.reason),
            ]
        }));
    }
    if !rows.is_empty() {
        text.push(String::new());
        text.push(table(&["", "SOURCE", "POINT", "INSTANT", "SIZE>", "WHY"], rows));
    }
    text.join("\n")
}

fn summary(series: &SeriesPlan) -> String {
    let kept = series.points.iter().filter(|p| p.keep).count();
    let (source, forgotten) = (plain(&series.source), series.points.len() - kept);
    let rules = series.keep.map_or_else(String::new, |keep| format!("  ({keep})"));
    let mut text = format!("{source}: {kept} to keep, {forgotten} to forget{rules}");
    if let Some(held) = &series.held {
        text.push_str(&format!("\n  nothing is deleted: {}", plain(held)));
    }
    let shrink = series.shrink.as_ref().filter(|shrink| !shrink.confirmed);
    if let (Some(shrink), Some(policy)) = (shrink, &series.policy) {
        text.push_str(&format!(
            "\n  `keep` is shorter than it was ({}): {} more would go; to let them go: --confirm-shrink {policy}",
            shrink.before,
            count(shrink.newly.len(), "point"),
        ));
    }
    text
}

/// What is wrong, and what waits for somebody.
pub fn warn(env: &Environment, plan: &Plan, outcome: &Outcome) {
    for note in &outcome.notes {
        env.output.warn(&plain(note));
    }
    for problem in &outcome.problems {
        let mut text = format!("{}: {}", plain(&problem.object), plain(&problem.problem));
        text.extend(problem.points.iter().map(|point| format!("\n         affects {}", plain(point))));
        env.output.warn(&text);
    }
    for series in plan.series.iter().filter(|series| series.too_much) {
        let (source, why) = (plain(&series.source), series.held.as_deref().unwrap_or_default());
        env.output.warn(&format!("nothing of {source} is deleted: {}; look at it: bkp prune --dry-run", plain(why)));
    }
    if !outcome.problems.is_empty() {
        let copies = env.configuration().map_or(&[][..], |configuration| &configuration.copies);
        let mend = copies.first().map_or_else(String::new, |copy| {
            format!(" What a copy still has comes back with: bkp copy --from {} --repair repository.", copy.name)
        });
        env.output.note(&format!(
            "Nothing was deleted. Find out what happened to the store (bkp check names what cannot be restored).{mend} What is \
             lost for good: forget the damaged points with --forget POINT; say --accept-missing when points themselves are gone.",
        ));
    }
}

pub fn told(outcome: &Outcome) -> String {
    let swept = &outcome.swept;
    let amount = |of: &crate::repo::collect::survey::Amount| {
        format!("{} in {}", size(of.bytes), count(of.number as usize, "object"))
    };
    if !outcome.problems.is_empty() {
        return format!("stopped: {}", count(outcome.problems.len(), "problem"));
    }
    let mut lines = vec![
        format!("{} forgotten", count(outcome.forgotten.len(), "point")),
        format!("{} deleted", amount(&swept.deleted)),
    ];
    let mut also = |of: &crate::repo::collect::survey::Amount, what: &str| {
        if of.number > 0 {
            lines.push(format!("{} {what}", amount(of)));
        }
    };
    also(&swept.waiting, "not needed any more: deleted by a run 24 hours from now or later");
    also(&swept.left, "left for the next run (--max-delete allows more)");
    also(&swept.locked, "not needed any more, and locked by the store: tried again when the lock has ended");
    if !outcome.locked_points.is_empty() {
        lines.push(format!("{} kept by a lock of the store for now", count(outcome.locked_points.len(), "point")));
    }
    if !outcome.fenced.is_empty() {
        lines.push(format!("{} given up: silent for three days", count(outcome.fenced.len(), "unfinished backup")));
    }
    lines.join("\n")
}

/// What was found in a copy, told among what was found elsewhere.
pub fn of_copy(name: &str, found: &Failure) -> Failure {
    let told = Failure::new(found.kind(), format!("copy {name}: {}", found.full()));
    match found.next_step() {
        Some(hint) => told.hint(hint.replace("bkp prune", &format!("bkp prune --copy {name}"))),
        None => told,
    }
}
