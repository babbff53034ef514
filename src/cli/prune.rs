//! `bkp prune`: which points go and why, and then what nothing needs any more is deleted.

use super::Ran;
use super::copies;
use super::environment::{Access, Environment};
use super::format::{count, instant, size};
use super::output::{plain, table};
use crate::durable::Lock;
use crate::error::{Failure, Kind, Result};
use crate::job::Places;
use crate::job::prune::plan::{Holds, Plan, SeriesPlan, SourceRules, Wishes};
use crate::job::prune::{self, Outcome, Prune};
use crate::job::recorder::{Recorder, What};
use crate::journal::Job;
use crate::policy::{Configuration, CopySettings};
use crate::repo::writer::{Writer, WriterInfo};
use crate::repo::{Repository, catalog};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
A point that no rule of its policy keeps is forgotten at once. What it alone needed is deleted later: when it is older than
7 days and two runs at least 24 hours apart found that nothing needs it. docs/RETENTION.md says why, and what never goes.

Ends with exit code 4 when something is missing or cannot be read: then nothing was deleted; and with 13 when a policy keeps
less than it did and nobody has confirmed that.

Examples:
  bkp prune --dry-run                            every point, whether it stays, and why
  bkp prune                                      do it
  bkp prune --plan 1f6b0c52a9de                  only if it is still that plan
  bkp prune shop --confirm-shrink shop           after `keep` of policy shop was made shorter
  bkp prune --copy madrid                        a copy, by its own `keep`
  bkp prune --writer 4f1c… --identity key.txt    for a host that must not delete its own backups")]
pub struct Arguments {
    /// Only these policies or sources [default: all]
    #[arg(value_name = "POLICY|SOURCE")]
    what: Vec<String>,
    /// Show the plan and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do it only when it is the plan with this hash (see --dry-run)
    #[arg(long, value_name = "HASH", conflicts_with = "dry_run")]
    plan: Option<String>,
    /// The part of all bytes that one run may delete
    #[arg(long, value_name = "PERCENT", value_parser = super::check::percent, default_value = "25%")]
    max_delete: f64,
    /// This policy keeps less than it did, and that is meant; may be repeated
    #[arg(long, value_name = "POLICY")]
    confirm_shrink: Vec<String>,
    /// Forget this point whatever the policy says, such as a damaged one; may be repeated
    #[arg(long, value_name = "POINT")]
    forget: Vec<String>,
    /// Points that are missing were lost, and that is known: go on without them
    #[arg(long)]
    accept_missing: bool,
    /// Whose points, where it is another host that made them (see: bkp keys list)
    #[arg(long, value_name = "WRITER")]
    writer: Option<String>,
    /// Nobody looks on: leave alone what would lose more than half of its points at once
    #[arg(long)]
    unattended: bool,
    /// Prune this copy, by its own `keep`, instead of the repository
    #[arg(long, value_name = "COPY", conflicts_with = "unattended")]
    copy: Option<String>,
}

/// What the command line asks for, understood with the configuration.
struct Asked<'c> {
    copy: Option<&'c CopySettings>,
    policies: Vec<SourceRules>,
    wishes: Wishes,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        // A slip of the pen is no prune that failed; everything after this is an attempt.
        let asked = self.asked(env)?;
        if self.dry_run {
            return self.show(env, asked);
        }
        let recorder = env.recorder()?;
        recorder.command(What::of(Job::Prune), || self.act(env, asked, &recorder))
    }

    fn asked<'e>(&self, env: &'e Environment) -> Result<Asked<'e>> {
        let configuration = env.configuration()?;
        let copy = self.copy.as_deref().map(|name| configuration.copy(name)).transpose()?;
        let mut policies = rules(env)?;
        if let Some(copy) = copy {
            policies = rules_of_copy(copy, policies, env)?;
        }
        let wishes = self.wishes(configuration, &policies)?;
        Ok(Asked { copy, policies, wishes })
    }

    fn ground(&self, env: &Environment, copy: Option<&CopySettings>, policies: Vec<SourceRules>) -> Result<Ground> {
        let mut ground = Ground::of(env, env.repository_or(self.copy.as_deref())?, policies)?;
        if let Some(copy) = copy {
            // Nobody brings anything into it meanwhile.
            ground.lock = Some(ground.places.lock_copy(&copy.name)?);
            ground.places = ground.places.of_copy(&copy.name);
        }
        ground.whose = self.whose(&ground.repository, &ground.by)?;
        Ok(ground)
    }

    fn show(&self, env: &Environment, asked: Asked<'_>) -> Ran {
        let ground = self.ground(env, asked.copy, asked.policies)?;
        let prune = ground.prune(asked.wishes);
        let progress = env.progress();
        let plan = prune.plan(&prune.look(env.context(&progress))?, env.now)?;
        drop(progress);
        env.output.answer(&plan, || format!("{}\n\nplan {}", described(env, &plan, Detail::Points), plan.hash))?;
        env.output.note(&format!(
            "\nNothing was done. To do it: the same command with --plan {} instead of --dry-run",
            plan.hash
        ));
        Ok(ending(&plan, None))
    }

    fn act(&self, env: &Environment, asked: Asked<'_>, recorder: &Recorder) -> Ran {
        let is_copy = asked.copy.is_some();
        let ground = self.ground(env, asked.copy, asked.policies)?;
        let (max_delete, accept_missing) = (self.max_delete, self.accept_missing);
        let prune = Prune { max_delete, accept_missing, ..ground.prune(asked.wishes) };
        let progress = env.progress();
        let looked = prune.look(env.context(&progress))?;
        let plan = prune.plan(&looked, env.now)?;
        self.must_be(&plan)?;
        if !env.output.json {
            env.output.note(&format!("{}\n\nplan {}", described(env, &plan, Detail::Series), plan.hash));
        }
        let outcome = prune.apply(&looked, &plan, env.context(&progress))?;
        drop(progress);
        let is_own = !is_copy && ground.whose.writer == ground.by.id();
        let seen = prune::seen(&plan, &outcome).filter(|_| is_own);
        recorder.note(&prune::facts(&looked, &plan, &outcome).into_iter().chain(seen).collect::<Vec<_>>());
        report(env, &plan, &outcome)?;
        Ok(ending(&plan, Some(&outcome)))
    }

    fn whose(&self, repository: &Repository, by: &Writer) -> Result<WriterInfo> {
        let Some(id) = self.writer.as_ref().filter(|id| *id != by.id()) else { return Ok(by.info.clone()) };
        let fits = |info: &&WriterInfo| info.writer == *id || info.name == *id;
        let (writers, _) = catalog::writers(repository)?;
        let found: Vec<&WriterInfo> = writers.iter().filter(fits).collect();
        match found[..] {
            [info] => Ok(info.clone()),
            [] => Err(Failure::usage(format!("there is no writer {id}")).hint("See who writes with: bkp keys list")),
            _ => Err(Failure::usage(format!("{id} is the name of {} writers", found.len()))
                .hint("Give its id: bkp keys list")),
        }
    }

    fn wishes(&self, configuration: &Configuration, policies: &[SourceRules]) -> Result<Wishes> {
        let known = |name: &&String| policies.iter().any(|p| p.policy == **name);
        if let Some(unknown) = self.confirm_shrink.iter().find(|name| !known(name)) {
            return Err(Failure::usage(format!("there is no policy {unknown}")).hint("bkp config show"));
        }
        let mut sources = BTreeSet::new();
        for name in &self.what {
            let of_policy: Vec<&SourceRules> = policies.iter().filter(|p| p.policy == *name).collect();
            match of_policy.is_empty() {
                false => sources.extend(of_policy.into_iter().map(|p| p.source.clone())),
                true if policies.iter().any(|p| p.source == *name) => drop(sources.insert(name.clone())),
                // Says what may have been meant.
                true => drop(configuration.select(std::slice::from_ref(name))?),
            }
        }
        Ok(Wishes {
            sources,
            confirmed: self.confirm_shrink.iter().cloned().collect(),
            forget: self.forget.iter().cloned().collect(),
            unattended: self.unattended,
        })
    }

    fn must_be(&self, plan: &Plan) -> Result<()> {
        match &self.plan {
            Some(hash) if *hash != plan.hash => {
                Err(Failure::new(Kind::Refused, format!("this would be plan {}, not {hash}", plan.hash))
                    .hint("Look at it again with --dry-run: points or rules have changed meanwhile"))
            }
            _ => Ok(()),
        }
    }
}

/// What a prune stands on.
struct Ground {
    repository: Repository,
    places: Places,
    by: Writer,
    whose: WriterInfo,
    access: Access,
    policies: Vec<SourceRules>,
    holds: Holds,
    passed: BTreeMap<String, (String, String)>,
    lock: Option<Lock>,
}

impl Ground {
    /// For the points of this host.
    fn of(env: &Environment, repository: Repository, policies: Vec<SourceRules>) -> Result<Self> {
        let state = env.journal()?.state()?;
        let passed = state.rehearsals.iter().filter_map(|(source, known)| {
            let (point, why) = known.held()?;
            Some((source.clone(), (point.to_owned(), why)))
        });
        let passed = passed.collect();
        let held = state.holds;
        let by = env.writer(&repository)?;
        Ok(Ground {
            places: env.places(&repository)?,
            whose: by.info.clone(),
            by,
            access: env.listing(&repository)?,
            holds: held.into_iter().map(|(source, hold)| (source, hold.why)).collect(),
            passed,
            repository,
            policies,
            lock: None,
        })
    }

    fn prune(&self, wishes: Wishes) -> Prune<'_> {
        Prune {
            repository: &self.repository,
            places: &self.places,
            by: &self.by,
            whose: &self.whose,
            keys: &self.access.keys,
            trust: &self.access.trust,
            policies: &self.policies,
            holds: &self.holds,
            passed: &self.passed,
            wishes,
            max_delete: 1.0,
            accept_missing: false,
        }
    }
}

/// What a prune of this host at `at` would do with nobody looking on, as things are now. Reads, and does not wait long for a
/// store that is away. Nothing where no policy has a `keep`.
pub fn foreseen(env: &Environment, at: Timestamp) -> Result<Option<Plan>> {
    let policies = rules(env)?;
    if policies.iter().all(|policy| policy.rules.is_none()) {
        return Ok(None);
    }
    let ground = Ground::of(env, env.open(copies::briefly(env.store_settings()?))?, policies)?;
    let prune = ground.prune(Wishes { unattended: true, ..Wishes::default() });
    let progress = env.progress();
    let looked = prune.look(env.context(&progress))?;
    prune.plan(&looked, at).map(Some)
}

/// What the configuration says of each source, those that labels bring included.
fn rules(env: &Environment) -> Result<Vec<SourceRules>> {
    let configuration = match env.live() {
        Ok(live) => &live.configuration,
        Err(failure) => {
            env.output.warn(&format!("what labels bring is left out, and stays: {}", failure.full()));
            env.configuration()?
        }
    };
    let mut all = Vec::new();
    for policy in &configuration.policies {
        all.extend(policy.sources.iter().map(|source| SourceRules {
            source: source.name.clone(),
            policy: policy.name.clone(),
            rules: policy.keep,
            zone: policy.timezone.clone(),
        }));
    }
    Ok(all)
}

/// What a copy keeps of its own, of every source. It is confirmed under the name of the copy.
fn rules_of_copy(copy: &CopySettings, sources: Vec<SourceRules>, env: &Environment) -> Result<Vec<SourceRules>> {
    let Some(keep) = copy.keep else {
        return Err(Failure::usage(format!(
            "copy {} has no `keep`: it keeps everything that was brought there",
            copy.name
        ))
        .hint("Write `keep:` into it, in the main file"));
    };
    let zone = env.zone()?;
    let of_copy =
        |rules: SourceRules| SourceRules { policy: copy.name.clone(), rules: Some(keep), zone: zone.clone(), ..rules };
    Ok(sources.into_iter().map(of_copy).collect())
}

/// What a prune ends with: what was found counts more than what waits.
fn ending(plan: &Plan, outcome: Option<&Outcome>) -> Option<Kind> {
    match outcome {
        Some(outcome) if !outcome.problems.is_empty() => Some(Kind::Verification),
        _ if !plan.unconfirmed().is_empty() => Some(Kind::Refused),
        Some(outcome) if !outcome.notes.is_empty() => Some(Kind::Warnings),
        _ => None,
    }
}

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

fn report(env: &Environment, plan: &Plan, outcome: &Outcome) -> Result<()> {
    for note in &outcome.notes {
        env.output.warn(&plain(note));
    }
    for problem in &outcome.problems {
        let mut text = format!("{}: {}", plain(&problem.object), plain(&problem.problem));
        text.extend(problem.points.iter().map(|point| format!("\n         affects {}", plain(point))));
        env.output.warn(&text);
    }
    env.output.answer(&serde_json::json!({ "plan": plan, "outcome": outcome }), || told(outcome))?;
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
    Ok(())
}

fn told(outcome: &Outcome) -> String {
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
