//! `bkp rehearse`: restores into a scratch target, compares, measures, and says how far each point is proven.

use super::Ran;
use super::anchor;
use super::environment::{Access, Environment};
use super::format::{count, instant, size, span, took};
use super::globals::FromCopy;
use super::output::{pairs, plain, table};
use super::points;
use super::rehearsed;
use crate::clock;
use crate::error::{Failure, Kind, Result};
use crate::exec::scratch;
use crate::job::recorder::What;
use crate::job::rehearse::{self, Findings, Plan, Rehearse, Wanted, turn};
use crate::journal::{Job, Reason, RunEnded, State};
use crate::policy::{Assertion, Policy, When};
use crate::repo::Repository;
use crate::repo::catalog::{self, Catalog};
use crate::repo::names::CONFIGURATION;
use crate::repo::point::Point;
use crate::repo::proof::Level;
use std::collections::BTreeSet;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
A rehearsal never touches its source: it restores into a file, a directory or a server of its own, without a network, and removes \
it afterwards. It needs a private key that opens backups: --identity, or `rehearse: { identity_file: … }` in the main file.

Levels:
  readable   everything is decrypted and decoded to its end
  loaded     a scratch target takes it
  equal      what came back is what the source held when it was dumped; assertions of the policy hold, where it has any
  checked    the same, where there are assertions

Ends with exit code 4 when a rehearsal fails, and with 5 when a restore took longer than its objective (RTO).

Examples:
  bkp rehearse                                   the latest point of every source
  bkp rehearse mysql-auth --identity recovery-key.txt
  bkp rehearse pontificia --random               a stack or policy; one of all points that there are
  bkp rehearse app --at '2026-11-22 14:30'
  bkp rehearse app --dry-run
  bkp rehearse app --keep                        leave the scratch target, to look at it
  bkp rehearse app --history                     what rehearsals came to, and how long a restore would take")]
pub struct Arguments {
    /// A source, a stack, a policy or a point [default: every source]
    #[arg(value_name = "SOURCE|STACK|POLICY|POINT")]
    what: Option<String>,
    /// The point that stands for this instant [default: latest]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "random")]
    at: Option<String>,
    /// One of all points that could still be restored
    #[arg(long)]
    random: bool,
    /// How far to go [default: that of the policy, else equal]
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Option<LevelArgument>,
    /// Leave the scratch target for some days, and say how to look at it and how to remove it
    #[arg(long)]
    keep: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Rehearse nothing: show what rehearsals of this host came to, phase by phase
    #[arg(long, conflicts_with_all = ["at", "random", "level", "keep", "dry_run", "from"])]
    history: bool,
    #[command(flatten)]
    from: FromCopy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LevelArgument {
    Readable,
    Loaded,
    Equal,
    Checked,
}

impl LevelArgument {
    fn level(self) -> Level {
        match self {
            LevelArgument::Readable => Level::Readable,
            LevelArgument::Loaded => Level::Loaded,
            LevelArgument::Equal => Level::Equal,
            LevelArgument::Checked => Level::Checked,
        }
    }
}

/// A source that is to be rehearsed.
struct Chosen<'a> {
    source: String,
    policy: Option<&'a Policy>,
    /// Named on the command line.
    point: Option<String>,
}

impl Chosen<'_> {
    fn assertions(&self) -> Vec<Assertion> {
        let rehearsals = self.policy.and_then(|policy| policy.rehearsals.as_ref());
        rehearsals.map(|rehearsals| rehearsals.assertions_of(&self.source)).unwrap_or_default()
    }
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        if self.history {
            return rehearsed::history(env, self.what.as_deref());
        }
        let repository = env.repository_or(self.from.from.as_deref())?;
        let access = env.rehearsing(&repository)?;
        let catalog = points::read(env, &repository, &access, catalog::Wanted::default())?;
        let chosen = self.chosen(env, &catalog)?;
        if chosen.is_empty() {
            return Err(Failure::failed("there is nothing to rehearse").hint("Make a backup first: bkp backup"));
        }
        let state = env.journal()?.state().unwrap_or_default();
        reap(env);
        if self.dry_run {
            let plan = |one: &Chosen<'_>| self.plan(env, &catalog, &access, one, &state).map(|(_, plan)| plan);
            let plans = chosen.iter().map(plan).collect::<Result<Vec<_>>>()?;
            env.output.answer(&serde_json::json!({ "plans": plans }), || described(env, &plans))?;
            env.output.note("\nNothing was done. To do it: the same command without --dry-run");
            return Ok(None);
        }
        let mut ended = Vec::new();
        for one in chosen {
            if is_done(env, &one.source, &state) || self.is_another_s_turn(env, &one, &state) {
                continue;
            }
            let result = self.rehearse(env, (&repository, &access), &catalog, &one, &state);
            env.cancel.check()?;
            ended.push((one.source, result));
        }
        if let Some(writer) = access.writer.as_ref().filter(|_| !self.from.is_copy() && !ended.is_empty()) {
            anchor::put_away(env, &repository, writer, &env.places(&repository)?);
        }
        report(env, &ended)
    }

    /// In a slot only a part of the sources may be rehearsed.
    fn is_another_s_turn(&self, env: &Environment, one: &Chosen<'_>, state: &State) -> bool {
        let (Some(slot), Some(policy)) = (&env.slot, one.policy) else { return false };
        let sample = policy.rehearsals.as_ref().map_or(1.0, |rehearsals| rehearsals.sample);
        let live = env.live().map_or(policy, |live| {
            live.configuration.policies.iter().find(|live| live.name == policy.name).unwrap_or(policy)
        });
        let names: Vec<&str> = live.sources.iter().map(|source| source.name.as_str()).collect();
        !turn::is_due(&one.source, &names, sample, slot.id.slot, state)
    }

    fn rehearse(
        &self,
        env: &Environment,
        (repository, access): (&Repository, &Access),
        catalog: &Catalog,
        one: &Chosen<'_>,
        state: &State,
    ) -> Result<Findings> {
        let recorder = env.recorder()?;
        let policy = one.policy.map(|policy| policy.name.as_str());
        let (point, plan) = match self.plan(env, catalog, access, one, state) {
            Ok(planned) => planned,
            Err(failure) => {
                let what = What::source(Job::Rehearse, &one.source, policy);
                let reason = env.slot.as_ref().map_or(Reason::Manual, |slot| slot.reason);
                return recorder.run(what, reason, || Err(failure), |_: &Findings, run| RunEnded::well(run, false));
            }
        };
        env.reads(point);
        let unseal_keys = match point.engine.kind.as_str() {
            "vault" => {
                let keys = &env.configuration()?.rehearser.unseal_keys;
                keys.iter().map(|key| env.secrets()?.read(key)).collect::<Result<Vec<_>>>()?
            }
            _ => Vec::new(),
        };
        let (keys, places, assertions) = (access.keys_for(point), env.places(repository)?, one.assertions());
        let job = Rehearse {
            repository,
            keys: &keys,
            places: &places,
            // A proof stands in the repository, and not in its copies.
            writer: access.writer.as_ref().filter(|_| !self.from.is_copy()),
            assertions: &assertions,
            unseal_keys: &unseal_keys,
            rehearser: &env.configuration()?.rehearser,
            keep: self.keep,
        };
        let progress = env.progress();
        recorder.rehearsal(&one.source, policy, || job.run(&plan, point, env.context(&progress), clock::now()))
    }

    fn plan<'c>(
        &self,
        env: &Environment,
        catalog: &'c Catalog,
        access: &Access,
        one: &Chosen<'_>,
        state: &State,
    ) -> Result<(&'c Point, Plan)> {
        let rehearsals = one.policy.and_then(|policy| policy.rehearsals.as_ref());
        let by_policy = env.slot.is_some();
        let random = self.random || by_policy && rehearsals.is_some_and(|rehearsals| rehearsals.random);
        let wanted = match (&one.point, &self.at) {
            (Some(point), _) => Wanted::Point(point.clone()),
            (None, Some(text)) => {
                let zone = one.policy.map_or_else(|| env.zone(), |policy| Ok(&policy.timezone))?;
                match When::parse(text, &env.now.to_zoned(zone.clone()))? {
                    When::Instant(at) => Wanted::At(at),
                    When::Latest => Wanted::Latest(env.now),
                    When::Point(id) => Wanted::Point(id),
                }
            }
            (None, None) if random => Wanted::Random { now: env.now, seed: seed()? },
            (None, None) => Wanted::Latest(env.now),
        };
        let own = access.writer.as_ref().map(|writer| writer.id());
        let point = rehearse::choose(catalog, &one.source, own, &wanted)?;
        let level = match (self.level, rehearsals) {
            (Some(level), _) => level.level(),
            (None, Some(rehearsals)) if by_policy => {
                turn::level(rehearsals.level, &rehearsals.frequency, state.rehearsals.get(&one.source), env.now)
            }
            (None, Some(rehearsals)) => rehearsals.level.max(Level::Equal),
            (None, None) => Level::Equal,
        };
        let rto = one.policy.and_then(|policy| policy.objectives.rto);
        Ok((point, rehearse::plan(point, wanted.chosen(), level, &one.assertions(), rto)?))
    }

    /// Names of the configuration go before those of the repository, which a host that only rehearses knows nothing else of.
    fn chosen<'e>(&self, env: &'e Environment, catalog: &Catalog) -> Result<Vec<Chosen<'e>>> {
        let configuration = match env.live() {
            Ok(live) => &live.configuration,
            Err(failure) => {
                env.output.warn(&format!("what labels bring is left out: {}", failure.full()));
                env.configuration()?
            }
        };
        let configured = |wanted: &dyn Fn(&Policy, &str) -> bool| -> Vec<Chosen<'e>> {
            let all = configuration.policies.iter().flat_map(|policy| policy.sources.iter().map(move |s| (policy, s)));
            let wanted = all.filter(|(policy, source)| wanted(policy, &source.name));
            wanted
                .map(|(policy, source)| Chosen { source: source.name.clone(), policy: Some(policy), point: None })
                .collect()
        };
        let stored: BTreeSet<&str> =
            catalog.points.iter().map(|p| p.source.as_str()).filter(|source| *source != CONFIGURATION).collect();
        let alone = |source: &str| Chosen { source: source.to_owned(), policy: None, point: None };
        let Some(what) = &self.what else {
            let all = configured(&|_, _| true);
            return Ok(if all.is_empty() { stored.into_iter().map(alone).collect() } else { all });
        };
        // A slot is of its policy alone.
        let scheduled = env.slot.is_some();
        let of_policy =
            configured(&|policy, _| policy.name == *what || !scheduled && policy.stack.as_ref() == Some(what));
        let found = if of_policy.is_empty() { configured(&|_, source| source == what) } else { of_policy };
        if !found.is_empty() {
            return Ok(found);
        }
        if stored.contains(what.as_str()) {
            return Ok(vec![alone(what)]);
        }
        let point = super::show::find(catalog, what, env.now)?;
        let policy = configuration.source(&point.source).map(|(policy, _)| policy);
        Ok(vec![Chosen { source: point.source.clone(), policy, point: Some(point.point.clone()) }])
    }
}

/// A slot that was begun before goes on where it was.
fn is_done(env: &Environment, source: &str, state: &State) -> bool {
    let Some(slot) = &env.slot else { return false };
    let open = state.policy(Job::Rehearse, &slot.id.policy).and_then(|known| known.open.get(&slot.id.slot));
    open.and_then(|open| open.runs.get(source)).is_some_and(|(_, ended)| ended.is_some())
}

/// What killed rehearsals left goes before more is made.
fn reap(env: &Environment) {
    let reaped = env.paths().and_then(|paths| scratch::reap(&paths.state, env.now));
    match reaped {
        Ok(reaped) => {
            for left in reaped.iter().filter_map(|reaped| Some((&reaped.what, reaped.failed.as_ref()?))) {
                env.output.warn(&format!("{} is left of a rehearsal that was killed: {}", left.0, left.1));
            }
        }
        Err(failure) => env.output.warn(&format!("what killed rehearsals left is not known: {}", failure.full())),
    }
}

/// Chance, and not the clock: whoever makes backups must not know which point will be taken.
fn seed() -> Result<u64> {
    u64::from_str_radix(&crate::durable::random_hex(8), 16)
        .map_err(|e| Failure::failed("cannot choose a point").because(e))
}

fn described(env: &Environment, plans: &[Plan]) -> String {
    let one = |plan: &Plan| {
        let zone = env.zone().cloned().unwrap_or(jiff::tz::TimeZone::UTC);
        let mut rows = vec![
            ("source", plan.source.clone()),
            ("point", format!("{}  {}", plan.id, size(plan.bytes))),
            ("stands for", instant(plan.consistent_at, &zone)),
            ("level", plan.level.name().to_owned()),
        ];
        for (number, step) in plan.steps.iter().enumerate() {
            rows.push((if number == 0 { "steps" } else { "" }, format!("{}. {step}", number + 1)));
        }
        pairs(&rows)
    };
    plans.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

fn report(env: &Environment, ended: &[(String, Result<Findings>)]) -> Ran {
    let documents: Vec<serde_json::Value> = ended.iter().map(|(source, result)| document(source, result)).collect();
    let failures = || ended.iter().filter_map(|(source, result)| failure(result).map(|failure| (source, failure)));
    let ok = failures().next().is_none();
    env.output.answer(&serde_json::json!({ "ok": ok, "rehearsals": documents }), || text(env, ended))?;
    for (source, failure) in failures() {
        let told = Failure::new(failure.kind(), format!("{source}: {}", failure.full()));
        env.output.told(&match failure.next_step() {
            Some(hint) => told.hint(hint),
            None => told,
        });
    }
    let kinds: Vec<Kind> = failures().map(|(_, failure)| failure.kind()).collect();
    let findings = || ended.iter().filter_map(|(_, result)| result.as_ref().ok());
    Ok(match kinds.first() {
        Some(_) if kinds.contains(&Kind::Verification) => Some(Kind::Verification),
        Some(kind) => Some(*kind),
        None if findings().any(Findings::missed_rto) => Some(Kind::Objective),
        None => findings().any(|findings| !findings.warnings.is_empty()).then_some(Kind::Warnings),
    })
}

fn failure(result: &Result<Findings>) -> Option<&Failure> {
    match result {
        Ok(findings) => findings.failure.as_ref(),
        Err(failure) => Some(failure),
    }
}

fn document(source: &str, result: &Result<Findings>) -> serde_json::Value {
    let failure = failure(result);
    let mut document = match result {
        Ok(findings) => serde_json::to_value(&findings.record).unwrap_or_default(),
        Err(_) => serde_json::json!({ "source": source }),
    };
    if let Some(object) = document.as_object_mut() {
        object.remove("run");
        object.insert("ok".into(), failure.is_none().into());
        object.insert("message".into(), failure.map(Failure::full).into());
        object.insert("hint".into(), failure.and_then(Failure::next_step).into());
        object.insert("warnings".into(), result.as_ref().map_or(Vec::new(), |f| f.warnings.clone()).into());
        object.insert("notes".into(), result.as_ref().map_or(Vec::new(), |f| f.notes.clone()).into());
    }
    document
}

fn text(env: &Environment, ended: &[(String, Result<Findings>)]) -> String {
    let zone = env.zone().cloned().unwrap_or(jiff::tz::TimeZone::UTC);
    let rows = ended.iter().map(|(source, result)| {
        let Ok(findings) = result else { return vec!["FAILED".to_owned(), source.clone()] };
        let record = &findings.record;
        let restored = match record.rto_objective_seconds {
            _ if findings.reached < Some(Level::Loaded) => "-".to_owned(),
            Some(most) => format!("{} of {}", took(record.rto_seconds), span(most as i64)),
            None => took(record.rto_seconds),
        };
        vec![
            if findings.failure.is_some() { "FAILED" } else { "ok" }.to_owned(),
            source.clone(),
            crate::repo::names::short_id(&record.point).to_owned(),
            instant(record.consistent_at, &zone),
            record.reached.clone().unwrap_or_else(|| "-".to_owned()),
            record.compared.to_string(),
            restored,
            record.target.as_ref().map_or_else(|| "-".to_owned(), |target| target.kind.clone()),
        ]
    });
    let titles = ["", "SOURCE", "POINT", "INSTANT", "PROVEN", "COMPARED>", "RESTORED IN", "TARGET"];
    let mut lines = vec![table(&titles, rows)];
    for (source, findings) in ended.iter().filter_map(|(source, result)| Some((source, result.as_ref().ok()?))) {
        lines.extend(details(source, findings));
    }
    lines.join("\n")
}

fn details(source: &str, findings: &Findings) -> Vec<String> {
    let record = &findings.record;
    let mut lines = Vec::new();
    if record.differing > 0 {
        lines.push(format!("\n{source}: {}", count(record.differing as usize, "difference")));
        lines.extend(record.differences.iter().map(|difference| format!("  {}", plain(difference))));
        let listed = record.differences.len() as u64;
        lines.extend((record.differing > listed).then(|| format!("  … and {} more", record.differing - listed)));
    }
    for assertion in &record.assertions {
        let word = if assertion.holds { "holds" } else { "DOES NOT HOLD" };
        lines.push(format!("{source}: {word}: {} ({})", plain(&assertion.name), plain(&assertion.found)));
    }
    lines.extend(record.kept.as_ref().map(|kept| format!("{source}: kept: {}", plain(kept))));
    lines
}
