//! `bkp check`: reads the repository again, and says which points can be believed to what level.

use super::Ran;
use super::environment::{Access, Environment};
use super::format::{count, size, took};
use super::output::plain;
use super::points;
use super::show::find;
use crate::clock;
use crate::error::{Failure, Kind, Result};
use crate::event::{Event, Events};
use crate::job::check::{self, Check, Checked};
use crate::job::recorder::{Recorder, What};
use crate::journal::{Fact, Job};
use crate::policy;
use crate::repo::catalog::{Catalog, Wanted};
use crate::repo::chain;
use crate::repo::check::{Problem, Report, parts};
use crate::repo::point::Point;
use crate::repo::proof::Level;
use crate::store::Key;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Instant;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Levels:
  stored     every byte is read again and is what was written; the keys of this host suffice
  readable   all of it is decrypted and decoded as well, which takes a private key (--identity)

Examples:
  bkp check                                      everything, to level stored
  bkp check mysql-auth                           the points of one source
  bkp check --sample 5%                          another twentieth of the objects each time: all of them in twenty
  bkp check --level readable --identity recovery-key.txt
  bkp check --copy madrid --sample 5%            a copy instead of the repository")]
pub struct Arguments {
    /// Only these sources or points [default: all]
    #[arg(value_name = "SOURCE|POINT")]
    what: Vec<String>,
    /// How far to go
    #[arg(long, value_enum, default_value = "stored", value_name = "LEVEL")]
    level: LevelArgument,
    /// Read only a part of the objects, such as 5%; a sample proves nothing about single points
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "100%")]
    sample: f64,
    /// Check this copy instead of the repository
    #[arg(long, value_name = "COPY", visible_alias = "from")]
    copy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LevelArgument {
    Stored,
    Readable,
}

/// `5%` or `5` → 0.05.
pub fn percent(text: &str) -> std::result::Result<f64, String> {
    let number: f64 =
        text.trim_end_matches('%').trim().parse().map_err(|_| "give a percentage such as 5%".to_owned())?;
    if number > 0.0 && number <= 100.0 {
        Ok(number / 100.0)
    } else {
        Err("a sample is more than 0% and at most 100%".into())
    }
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let recorder = env.recorder()?;
        recorder.finding(What::of(Job::Check), || {
            let (kind, said) = self.check(env, &recorder)?;
            Ok((kind.map(|kind| Failure::new(kind, "it ended with findings")), said))
        })
    }

    fn check(&self, env: &Environment, recorder: &Recorder) -> Result<(Option<Kind>, Option<String>)> {
        let repository = env.repository_or(self.copy.as_deref())?;
        let copy = self.copy.as_deref().filter(|name| *name != policy::PRIMARY);
        let (level, access) = match self.level {
            LevelArgument::Stored => (Level::Stored, env.listing(&repository)?),
            LevelArgument::Readable => (Level::Readable, env.reading(&repository)?),
        };
        // Before the listing: a point that is committed meanwhile is not missing.
        let seen = access.writer.as_ref().map_or_else(Vec::new, |writer| chain::remembered(&writer.series_memory()));
        let catalog = points::read(env, &repository, &access, Wanted::default())?;
        let points = self.chosen(&catalog, env.now)?;
        let places = env.places(&repository)?;
        let places = copy.map_or(places.clone(), |copy| places.of_copy(copy));
        let started = Instant::now();
        let progress = env.progress();
        progress.emit(&Event::Phase { source: count(points.len(), "point"), phase: "check" });
        let (turn, parts) = (check::turn(&places), parts(self.sample));
        let check = Check {
            repository: &repository,
            catalog: &catalog,
            seen: &seen,
            places: &places,
            points: &points,
            keys: &access.keys,
            trust: &access.trust,
            writer: access.writer.as_ref(),
            is_copy: copy.is_some(),
            level,
            sample: self.sample,
            turn,
        };
        let Checked { report, forgotten } = check.run(env.context(&progress), clock::now())?;
        drop(progress);
        let part = (parts > 1).then(|| format!("part {} of {parts} was read", turn % parts + 1));
        // What was read of single points is no part of all.
        if part.is_some() && self.what.is_empty() {
            check::next_turn(&places, turn)?;
        }
        if self.what.is_empty() && copy.is_none() {
            recorder.note(repository_seen(&access, &catalog, &report).as_slice());
        }
        if let Some(failure) = forgotten {
            env.output.warn(&format!("`bkp status` will not know of what this check found: {}", failure.full()));
        }
        let seconds = started.elapsed().as_secs_f64();
        let broken = |(key, failure): &(Key, Failure)| serde_json::json!({ "point": key, "problem": failure.full() });
        let broken: Vec<_> = catalog.broken.iter().map(broken).collect();
        let document = serde_json::json!({
            "level": level, "sample": self.sample, "part": part, "report": report, "broken_points": broken, "seconds": seconds,
        });
        let damaged = !report.problems.is_empty() || !catalog.broken.is_empty();
        answer(env, &document, &report, || text(&report, level, part.as_deref(), seconds))?;
        if access.writer.is_none() {
            env.output.note("This host is no writer of the repository, so no proof of this was recorded.");
        }
        Ok((verdict(env, copy, damaged)?, part))
    }

    fn chosen(&self, catalog: &Catalog, now: Timestamp) -> Result<Vec<Point>> {
        if self.what.is_empty() {
            return Ok(catalog.points.clone());
        }
        let mut chosen: Vec<Point> = Vec::new();
        for what in &self.what {
            let of_source: Vec<&Point> = catalog.points.iter().filter(|p| p.source == *what).collect();
            let found = if of_source.is_empty() { vec![find(catalog, what, now)?] } else { of_source };
            for point in found {
                if !chosen.iter().any(|c| c.point == point.point) {
                    chosen.push(point.clone());
                }
            }
        }
        if chosen.is_empty() {
            return Err(Failure::usage("there is no such point"));
        }
        Ok(chosen)
    }
}

fn answer(
    env: &Environment,
    document: &serde_json::Value,
    report: &Report,
    text: impl FnOnce() -> String,
) -> Result<()> {
    if !env.output.quiet || env.output.json {
        return env.output.answer(document, text);
    }
    // Nothing when all is well; what is not belongs to the warnings.
    findings(report).iter().for_each(|line| env.output.warn(line));
    Ok(())
}

fn verdict(env: &Environment, copy: Option<&str>, damaged: bool) -> Ran {
    if damaged && !env.output.json {
        env.output.note(&next_step(env, copy)?);
    }
    Ok(damaged.then_some(Kind::Verification))
}

/// Nothing where it is not exactly what this host keeps, and all of it.
fn repository_seen(access: &Access, catalog: &Catalog, report: &Report) -> Option<Fact> {
    if access.writer.is_none() || access.operator.is_some() || !catalog.broken.is_empty() {
        return None;
    }
    let mut oldest = BTreeMap::new();
    for point in &catalog.points {
        let of_source = oldest.entry(point.source.clone()).or_insert(point.consistent_at);
        *of_source = point.consistent_at.min(*of_source);
    }
    Some(Fact::RepositorySeen { objects: report.objects, bytes: report.bytes, oldest })
}

/// What to do about damage. Where there are copies, they are what it is mended from.
fn next_step(env: &Environment, copy: Option<&str>) -> Result<String> {
    let copies = &env.configuration()?.copies;
    Ok(match (copy, copies.first()) {
        (Some(copy), _) => format!("Find out what happened to that store; then bring the damaged objects again: bkp copy --repair {copy}"),
        (None, Some(first)) => format!(
            "Find out what happened to the store; the copies may have it whole: bkp copy --from {} --repair {}; until then, restore with --from {0}",
            first.name,
            policy::PRIMARY
        ),
        (None, None) => "Restore what you need from another point, then find out what happened to the store; a new backup stores missing data again.".into(),
    })
}

/// Each problem, with the points it affects below it.
fn findings(report: &Report) -> Vec<String> {
    let one = |problem: &Problem| {
        let mut text = format!("DAMAGED  {}: {}", plain(&problem.object), plain(&problem.problem));
        text.extend(problem.points.iter().map(|point| format!("\n         affects {}", plain(point))));
        text
    };
    report.problems.iter().map(one).collect()
}

fn text(report: &Report, level: Level, part: Option<&str>, seconds: f64) -> String {
    let mut lines = vec![format!(
        "{}, {}; {} read ({}) in {}",
        count(report.points as usize, "point"),
        count(report.objects as usize, "object"),
        report.objects_read,
        size(report.bytes_read),
        took(seconds)
    )];
    lines.extend(findings(report));
    lines.push(match (report.problems.is_empty(), part) {
        (true, None) => format!(
            "no problem found; {} {}",
            count(report.proven.len(), "point"),
            if report.proven.len() == 1 { format!("is {}", level.name()) } else { format!("are {}", level.name()) }
        ),
        (true, Some(part)) => format!("no problem found; {part}"),
        (false, _) => format!("{} found", count(report.problems.len(), "problem")),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_percentages() {
        assert_eq!(percent("5%"), Ok(0.05));
        assert_eq!(percent("100"), Ok(1.0));
        for bad in ["0", "101%", "x", "-5%", "NaN"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }
}
