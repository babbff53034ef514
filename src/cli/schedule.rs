//! `bkp plan`: what runs next, when, and why then; and what the next prune would delete, and why.

use super::Ran;
use super::daemon::of_this_host;
use super::environment::Environment;
use super::format::{age, instant, utc};
use super::output::{plain, table};
use super::prune::{self, Detail};
use crate::daemon::host;
use crate::error::{Failure, Kind, Result};
use crate::job::prune::plan::Plan;
use crate::journal::{EVERY_POLICY, Job, PolicyState, State};
use crate::policy::{Configuration, did_you_mean, duration_text};
use crate::schedule::{Due, Schedule};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
What the next prune would delete is told as the repository is now, and as if nobody looked on. Ends with exit code 3 when that \
cannot be told, because the store is away for example: then the runs are shown all the same.

Examples:
  bkp plan                                       the next run of each policy, and the next prune
  bkp plan pontificia --next 7                   the next seven of one
  bkp plan --json | jq '.upcoming[0]'")]
pub struct Arguments {
    /// Only of these policies
    #[arg(value_name = "POLICY")]
    policies: Vec<String>,
    /// How many of each
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    next: usize,
}

#[derive(Serialize)]
struct Planned {
    job: Job,
    policy: String,
    schedule: String,
    slot: Timestamp,
    due: Timestamp,
    deadline: Timestamp,
    due_local: String,
    /// Why it is due then.
    why: Vec<String>,
    /// It came, and has not ended.
    open: bool,
}

/// What the next prune would do with nobody looking on, were it made of what is there now.
#[derive(Serialize)]
struct NextPrune {
    /// Nothing where no schedule is written for it.
    due: Option<Timestamp>,
    /// Nothing where no policy has a `keep`.
    plan: Option<Plan>,
    /// Of copies that have rules of their own.
    copies: BTreeMap<String, OfCopy>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum OfCopy {
    Plan(Plan),
    /// Why it cannot be told.
    Problem(String),
}

impl NextPrune {
    fn text(&self, env: &Environment) -> String {
        let when = match self.due {
            Some(due) => format!("The next prune ({})", age(env.now.duration_since(due).as_secs())),
            None => "No prune is scheduled (`prune:` in the main file); one by hand".to_owned(),
        };
        let own = match self.plan.as_ref().filter(|plan| plan.series.iter().any(prune::is_worth_telling)) {
            None => format!("{when} would delete nothing. Why each point stays: bkp prune --dry-run"),
            Some(plan) => format!("{when}, as things are now:\n{}", prune::described(env, plan, Detail::Changes)),
        };
        let of_copy = |(name, of): (&String, &OfCopy)| match of {
            OfCopy::Problem(why) => Some(format!("\n\nIn copy {name}, that cannot be told: {}", plain(why))),
            OfCopy::Plan(plan) if plan.series.iter().any(prune::is_worth_telling) => {
                Some(format!("\n\nIn copy {name}:\n{}", prune::described(env, plan, Detail::Changes)))
            }
            OfCopy::Plan(_) => None,
        };
        own + &self.copies.iter().filter_map(of_copy).collect::<String>()
    }
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let schedules = self.schedules(env)?;
        let state = env.journal()?.state()?;
        let daemon = of_this_host(env)?;
        let mut upcoming: Vec<Planned> = schedules
            .iter()
            .filter(|(schedule, _)| self.wants(policy_of(schedule, env.configuration().ok())))
            .flat_map(|(schedule, cron)| planned(schedule, cron, &state, env.now, self.next))
            .collect();
        upcoming.sort_by(|a, b| (a.due, &a.policy).cmp(&(b.due, &b.policy)));
        let (prune, failure) = match self.next_prune(env, &schedules, &state) {
            Ok(prune) => (prune, None),
            Err(failure) => (None, Some(failure)),
        };
        let problem = failure.as_ref().map(Failure::full);
        let document = serde_json::json!({
            "at": env.now, "daemon": daemon, "upcoming": upcoming, "prune": prune, "prune_problem": problem,
        });
        let pruned = || prune.as_ref().map_or_else(String::new, |prune| format!("\n\n{}", prune.text(env)));
        env.output.answer(&document, || text(&upcoming, env.now) + &pruned())?;
        if daemon.is_none() && !upcoming.is_empty() && !env.output.json {
            env.output.warn("no daemon runs here, so nothing of this happens by itself: bkp daemon, or `bkp backup POLICY --if-due` from a timer");
        }
        if let Some(failure) = &failure {
            env.output.warn("what the next prune would delete cannot be told:");
            env.output.told(failure);
        }
        Ok(failure.map(|_| Kind::Warnings))
    }

    fn wants(&self, policy: &str) -> bool {
        self.policies.is_empty() || self.policies.iter().any(|wanted| wanted == policy)
    }

    /// Nothing where nothing is ever pruned.
    fn next_prune(
        &self,
        env: &Environment,
        schedules: &[(Schedule, String)],
        state: &State,
    ) -> Result<Option<NextPrune>> {
        let schedule = schedules.iter().find(|(schedule, _)| schedule.job == Job::Prune);
        let due =
            schedule.and_then(|(schedule, cron)| planned(schedule, cron, state, env.now, 1).first().map(|p| p.due));
        let at = due.unwrap_or(env.now).max(env.now);
        let mut plan = prune::foreseen(env, at)?;
        if let Some(plan) = &mut plan {
            let wanted = |policy: Option<&str>| policy.map_or(self.policies.is_empty(), |name| self.wants(name));
            plan.series.retain(|series| wanted(series.policy.as_deref()));
        }
        let of_copy = |(name, plan): (&str, Result<Plan>)| {
            (name.to_owned(), plan.map_or_else(|failure| OfCopy::Problem(failure.full()), OfCopy::Plan))
        };
        let copies = if self.policies.is_empty() { prune::foreseen_in_copies(env, at)? } else { Vec::new() };
        let copies: BTreeMap<String, OfCopy> = copies.into_iter().map(of_copy).collect();
        Ok((plan.is_some() || !copies.is_empty()).then_some(NextPrune { due, plan, copies }))
    }

    /// With their cron lines.
    fn schedules(&self, env: &Environment) -> Result<Vec<(Schedule, String)>> {
        let configuration = env.configuration()?;
        let names = || configuration.policies.iter().map(|policy| policy.name.as_str());
        for name in &self.policies {
            if !names().any(|known| known == name) {
                let what = format!("there is no policy `{name}`{}", did_you_mean(name, names()));
                return Err(Failure::usage(what).hint("bkp config show"));
            }
        }
        let cron = |schedule: &Schedule| match schedule.job {
            Job::Prune => configuration.prune.as_ref().map(|routine| routine.schedule.clone()),
            Job::Check => configuration.check.as_ref().map(|routine| routine.schedule.clone()),
            Job::Anchor => configuration.evidence.anchor.as_ref().map(|routine| routine.schedule.clone()),
            Job::Rehearse => {
                let policy = configuration.policies.iter().find(|policy| policy.name == schedule.policy);
                policy.and_then(|policy| policy.rehearsals.as_ref()?.schedule.clone())
            }
            Job::Rotate => configuration.rotation(&schedule.policy).ok().and_then(|(_, r)| r.schedule.clone()),
            _ => {
                let policy = configuration.policies.iter().find(|policy| policy.name == schedule.policy);
                policy.and_then(|policy| policy.schedule.clone())
            }
        };
        let state = env.journal()?.state().unwrap_or_default();
        let rotations = Schedule::of_rotations(configuration, &host(), &state).into_iter();
        let rotations = rotations.filter(|schedule| schedule.calendar.is_ever());
        let all = Schedule::all(configuration, &host()).into_iter().chain(rotations);
        Ok(all.map(|schedule| (cron(&schedule).unwrap_or_default(), schedule)).map(|(cron, one)| (one, cron)).collect())
    }
}

/// A rotation stands under its own name.
fn policy_of<'s>(schedule: &'s Schedule, configuration: Option<&'s Configuration>) -> &'s str {
    let rotation = configuration.filter(|_| schedule.job == Job::Rotate);
    rotation.and_then(|all| all.rotation(&schedule.policy).ok()).map_or(&schedule.policy, |(policy, _)| &policy.name)
}

fn planned(schedule: &Schedule, cron: &str, state: &State, now: Timestamp, number: usize) -> Vec<Planned> {
    let nothing = PolicyState::default();
    let known = state.policy(schedule.job, &schedule.policy).unwrap_or(&nothing);
    let came = known.open.iter().filter(|(slot, _)| **slot <= now).map(|(slot, open)| {
        let at = Due { slot: *slot, due: open.due, deadline: open.deadline };
        let begun = if open.runs.is_empty() { "it has not begun" } else { "it is at work" };
        (at, true, vec![format!("it came {}; {begun}", age(now.duration_since(*slot).as_secs()))])
    });
    let next = schedule.upcoming(now).take(number).map(|at| (at, false, reasons(schedule, cron, &at)));
    let one = |(at, open, why): (Due, bool, Vec<String>)| Planned {
        job: schedule.job,
        policy: schedule.policy.clone(),
        schedule: cron.to_owned(),
        slot: at.slot,
        due: at.due,
        deadline: at.deadline,
        due_local: instant(at.due, schedule.zone()),
        why,
        open,
    };
    came.chain(next).map(one).collect()
}

/// `30 2 * * * in America/Bogota`, `jitter 12m`, `after a blackout`.
fn reasons(schedule: &Schedule, cron: &str, at: &Due) -> Vec<String> {
    let zone = schedule.zone().iana_name().unwrap_or("the zone of the host");
    let mut why = vec![format!("{cron} in {zone}")];
    if !schedule.jitter.is_zero() {
        let whole = std::time::Duration::from_secs(schedule.jitter.as_secs().max(1));
        why.push(format!("jitter {}", duration_text(whole)));
    }
    let local = at.slot.to_zoned(schedule.zone().clone());
    if local.time_zone().to_ambiguous_zoned(local.datetime()).is_ambiguous() {
        why.push("a time that comes twice that day (daylight saving)".into());
    }
    let put_off = at.due.duration_since(at.slot) - jiff::SignedDuration::try_from(schedule.jitter).unwrap_or_default();
    if put_off.as_secs() > 0 {
        why.push(if schedule.job == Job::Rotate { "put off to its hours" } else { "put off by a blackout" }.into());
    }
    why
}

fn text(upcoming: &[Planned], now: Timestamp) -> String {
    if upcoming.is_empty() {
        return "nothing is scheduled: write `schedule: \"30 2 * * *\"` into a policy".into();
    }
    let rows = upcoming.iter().map(|next| {
        let job = serde_json::to_value(next.job).ok().and_then(|job| job.as_str().map(str::to_owned));
        let policy = if next.policy == EVERY_POLICY { "-" } else { &next.policy };
        vec![
            age(now.duration_since(next.due).as_secs()),
            next.due_local.clone(),
            utc(next.due),
            job.unwrap_or_default(),
            policy.to_owned(),
            next.why.join(", "),
        ]
    });
    table(&["NEXT", "DUE", "UTC", "JOB", "POLICY", "WHY"], rows)
}
