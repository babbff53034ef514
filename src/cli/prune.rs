//! `bkp prune`: which points go and why, and then what nothing needs any more is deleted.

mod told;

pub use told::{Detail, described, is_worth_telling};

use super::Ran;
use super::copies;
use super::environment::{Access, Environment};
use super::format::count;
use super::output::plain;
use crate::durable::Lock;
use crate::error::{Failure, Kind, Result};
use crate::job::Places;
use crate::job::prune::plan::{Holds, Plan, SourceRules, Wishes};
use crate::job::prune::{self, Outcome, Prune};
use crate::job::recorder::{Recorder, What};
use crate::journal::Job;
use crate::policy::{Configuration, CopySettings};
use crate::repo::names::CONFIGURATION;
use crate::repo::retention::Rules;
use crate::repo::writer::{Writer, WriterInfo};
use crate::repo::{Repository, catalog};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
A point that no rule of its policy keeps is forgotten at once. What it alone needed is deleted later: when it is older than \
7 days and two runs at least 24 hours apart found that nothing needs it. docs/RETENTION.md says why, and what never goes.

Ends with exit code 4 when something is missing or cannot be read: then nothing was deleted; and with 13 when a policy keeps \
less than it did and nobody has confirmed that, or when --unattended left a source alone.

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
    /// Nobody looks on: leave alone what would lose more than half of its points at once; prune copies that have a `keep` too
    #[arg(long)]
    unattended: bool,
    /// Prune this copy, by its own `keep`, instead of the repository
    #[arg(long, value_name = "COPY")]
    copy: Option<String>,
}

/// What the command line asks for, understood with the configuration.
struct Asked<'c> {
    copy: Option<&'c CopySettings>,
    policies: Vec<SourceRules>,
    wishes: Wishes,
}

/// What was done to one store.
struct Pruned {
    plan: Plan,
    outcome: Outcome,
}

impl Pruned {
    fn found(&self) -> Option<Failure> {
        found(&self.plan, Some(&self.outcome))
    }
}

fn view(pruned: &Result<Pruned>) -> serde_json::Value {
    match pruned {
        Ok(pruned) => serde_json::json!({ "plan": pruned.plan, "outcome": pruned.outcome }),
        Err(failure) => serde_json::json!({ "problem": failure.full() }),
    }
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        // A slip of the pen is no prune that failed; everything after this is an attempt.
        let asked = self.asked(env)?;
        if self.dry_run {
            return self.show(env, asked);
        }
        let recorder = env.recorder()?;
        recorder.finding(What::of(Job::Prune), || Ok((self.act(env, asked, &recorder)?, None)))
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
        let mut ground = Ground::of(env, env.repository_or(copy.map(|copy| copy.name.as_str()))?, policies)?;
        if let Some(copy) = copy {
            // Nobody brings anything into it meanwhile.
            ground.lock = Some(ground.places.lock_copy(&copy.name)?);
            ground.places = ground.places.of_copy(&copy.name);
        }
        ground.whose = whose(&ground.repository, &ground.by, self.writer.as_deref())?;
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
        Ok(found(&plan, None).map(|found| found.kind()))
    }

    /// The repository; and with nobody looking on, every copy that has rules of its own.
    fn act(&self, env: &Environment, asked: Asked<'_>, recorder: &Recorder) -> Result<Option<Failure>> {
        let alone = !self.unattended || asked.copy.is_some() || self.writer.is_some() || self.plan.is_some();
        let copies = if alone { Vec::new() } else { of_copies(env, &asked)? };
        let own = self.prune(env, asked, recorder);
        let mut others: Vec<(&str, Result<Pruned>)> = Vec::new();
        for asked in copies {
            let name = asked.copy.map_or("", |copy| copy.name.as_str());
            env.cancel.check()?;
            env.output.note(&format!("\ncopy {name}:"));
            others.push((name, self.prune(env, asked, recorder)));
        }
        let own = own?;
        let copies: BTreeMap<&str, serde_json::Value> = others.iter().map(|(name, one)| (*name, view(one))).collect();
        let document = serde_json::json!({ "plan": own.plan, "outcome": own.outcome, "copies": copies });
        env.output.answer(&document, || {
            let of_copy = |(name, one): &(&str, Result<Pruned>)| {
                Some(format!("\n\ncopy {name}:\n{}", told::told(&one.as_ref().ok()?.outcome)))
            };
            told::told(&own.outcome) + &others.iter().filter_map(of_copy).collect::<String>()
        })?;
        let mut all = vec![own.found()];
        for (name, other) in others {
            all.push(match other {
                Ok(pruned) => pruned.found().map(|found| told::of_copy(name, &found)),
                Err(failure) => {
                    let told = format!("copy {name} is not pruned: {}", failure.full());
                    env.output.warn(&plain(&told));
                    Some(Failure::new(Kind::Warnings, told))
                }
            });
        }
        Ok(all.into_iter().flatten().max_by_key(|found| grave(found.kind())))
    }

    fn prune(&self, env: &Environment, asked: Asked<'_>, recorder: &Recorder) -> Result<Pruned> {
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
        told::warn(env, &plan, &outcome);
        Ok(Pruned { plan, outcome })
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

/// This host, or the writer of this id or name.
pub fn whose(repository: &Repository, by: &Writer, named: Option<&str>) -> Result<WriterInfo> {
    let Some(id) = named.filter(|id| *id != by.id()) else { return Ok(by.info.clone()) };
    let fits = |info: &&WriterInfo| info.writer == id || info.name == id;
    let (writers, _) = catalog::writers(repository)?;
    let found: Vec<&WriterInfo> = writers.iter().filter(fits).collect();
    match found[..] {
        [info] => Ok(info.clone()),
        [] => Err(Failure::usage(format!("there is no writer {id}")).hint("See who writes with: bkp keys list")),
        _ => {
            Err(Failure::usage(format!("{id} is the name of {} writers", found.len()))
                .hint("Give its id: bkp keys list"))
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

    fn foreseen(&self, env: &Environment, at: Timestamp) -> Result<Plan> {
        let prune = self.prune(Wishes { unattended: true, ..Wishes::default() });
        let progress = env.progress();
        let looked = prune.look(env.context(&progress))?;
        prune.plan(&looked, at)
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
    if policies.iter().all(|policy| policy.rules.is_none() || policy.source == CONFIGURATION) {
        return Ok(None);
    }
    let ground = Ground::of(env, env.open(copies::briefly(env.store_settings()?))?, policies)?;
    ground.foreseen(env, at).map(Some)
}

/// The same of each copy that has rules of its own.
pub fn foreseen_in_copies(env: &Environment, at: Timestamp) -> Result<Vec<(&str, Result<Plan>)>> {
    let nothing = Asked { copy: None, policies: Vec::new(), wishes: Wishes::default() };
    let of_copy = |asked: Asked<'_>, copy: &CopySettings| {
        let repository = env.open(copies::briefly(env.copy_settings(copy)?))?;
        let mut ground = Ground::of(env, repository, asked.policies)?;
        ground.places = ground.places.of_copy(&copy.name);
        ground.foreseen(env, at)
    };
    let all = of_copies(env, &nothing)?.into_iter();
    Ok(all.filter_map(|asked| asked.copy.map(|copy| (copy.name.as_str(), of_copy(asked, copy)))).collect())
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
    let own = Rules { last: Some(10), monthly: Some(12), yearly: Some(3), ..Rules::default() };
    let (source, policy) = (CONFIGURATION.to_owned(), CONFIGURATION.to_owned());
    all.push(SourceRules { source, policy, rules: Some(own), zone: env.zone()?.clone() });
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
    let of_copy = |rules: SourceRules| match rules.source == CONFIGURATION {
        true => rules,
        false => SourceRules { policy: copy.name.clone(), rules: Some(keep), zone: zone.clone(), ..rules },
    };
    Ok(sources.into_iter().map(of_copy).collect())
}

/// The same sources in each copy that has rules.
fn of_copies<'c>(env: &'c Environment, asked: &Asked<'_>) -> Result<Vec<Asked<'c>>> {
    let copies = env.configuration()?.copies.iter().filter(|copy| copy.keep.is_some());
    let of_copy = |copy: &'c CopySettings| {
        let wishes = Wishes { sources: asked.wishes.sources.clone(), unattended: true, ..Wishes::default() };
        Ok(Asked { copy: Some(copy), policies: rules_of_copy(copy, rules(env)?, env)?, wishes })
    };
    copies.map(of_copy).collect()
}

/// What a prune ends with: what is wrong counts more than what waits.
fn found(plan: &Plan, outcome: Option<&Outcome>) -> Option<Failure> {
    let problems = outcome.map_or(&[][..], |outcome| &outcome.problems);
    if let Some(first) = problems.first() {
        let what =
            format!("{}; nothing was deleted: {}: {}", count(problems.len(), "problem"), first.object, first.problem);
        return Some(Failure::new(Kind::Verification, what).hint("Find out what happened to the store: bkp check"));
    }
    if let Some(policy) = plan.unconfirmed().first() {
        let what = format!("`keep` of {policy} is shorter than it was, and nobody has confirmed it");
        let hint = format!("bkp prune --dry-run; when that is meant: bkp prune --confirm-shrink {policy}");
        return Some(Failure::new(Kind::Refused, what).hint(hint));
    }
    if let Some(series) = plan.series.iter().find(|series| series.too_much) {
        let what = format!("nothing of {} is deleted: {}", series.source, series.held.as_deref().unwrap_or_default());
        return Some(Failure::new(Kind::Refused, what).hint("bkp prune --dry-run; when that is meant: bkp prune"));
    }
    let note = outcome.and_then(|outcome| outcome.notes.first())?;
    Some(Failure::new(Kind::Warnings, note.clone()))
}

fn grave(kind: Kind) -> u8 {
    match kind {
        Kind::Warnings => 0,
        Kind::Refused => 1,
        _ => 2,
    }
}
