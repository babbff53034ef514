//! `bkp journal`: what was expected, begun and ended on this host, and whether the record of it is whole.

use super::Ran;
use super::environment::Environment;
use super::format::{count, instant};
use super::output::{plain, table};
use crate::clock;
use crate::error::{Failure, Kind, Result};
use crate::journal::{Fact, Record, RunStarted};
use crate::policy::When;
use crate::watch::tell::{run_of, told};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, VecDeque};

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  bkp journal                                    the last records
  bkp journal --source mysql-auth --last 200     of one source
  bkp journal --since 'yesterday 02:00' --json
  bkp journal verify                             nothing is missing, nothing was changed")]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only of this policy
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Only from this instant on
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// How many, the newest [default: 50, with --since all]
    #[arg(long, value_name = "NUMBER")]
    last: Option<usize>,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Read it all, and tell whether every record follows the one before it unchanged
    #[command(after_help = "\
Ends with exit code 4 when a record is damaged, was changed, or is missing in the middle. That records are missing at the end \
can only be seen by comparing with what others know: the seals in the repository, mails, metrics.

Examples:
  bkp journal verify
  bkp journal verify --json | jq .head")]
    Verify,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let journal = env.journal()?;
        if let Err(failure) = journal.end_what_died(clock::now()) {
            env.output.warn(&format!("runs that were killed cannot be noted as such: {}", failure.full()));
        }
        match self.command {
            Some(Command::Verify) => verify(env),
            None => self.list(env),
        }
    }

    fn list(&self, env: &Environment) -> Ran {
        let zone = env.zone()?;
        let since = self.since.as_deref().map(|text| since(text, env)).transpose()?;
        let most = self.last.unwrap_or(if since.is_some() { usize::MAX } else { 50 });
        let mut shown: VecDeque<Shown> = VecDeque::new();
        let mut runs: BTreeMap<String, RunStarted> = BTreeMap::new();
        let journal = env.journal()?;
        let problems = journal.cursor(0).advance(&mut |record| {
            let run = run_of(record, &mut runs);
            if since.is_none_or(|since| record.at >= since) && self.wants(record, run.as_ref()) {
                shown.push_back(Shown { record: record.clone(), run });
                if shown.len() > most {
                    shown.pop_front();
                }
            }
        })?;
        let document = serde_json::json!({
            "records": shown.iter().map(|one| &one.record).collect::<Vec<_>>(),
            "problems": problems,
        });
        env.output.answer(&document, || text(&shown, zone))?;
        if !problems.is_empty() {
            env.output
                .warn(&format!("the journal is damaged ({}): bkp journal verify", count(problems.len(), "problem")));
        }
        Ok(None)
    }

    fn wants(&self, record: &Record, run: Option<&RunStarted>) -> bool {
        let (source, policy) = match (&record.fact, run) {
            (_, Some(run)) => (run.source.as_deref(), run.policy.as_deref()),
            (Fact::SlotExpected { id, .. } | Fact::SlotEnded { id, .. }, _) => (None, Some(id.policy.as_str())),
            (Fact::HoldPlaced { source, .. } | Fact::HoldReleased { source, .. }, _) => (Some(source.as_str()), None),
            (Fact::PointsDeleted { source, .. } | Fact::CopyEnded { source, .. }, _) => (Some(source.as_str()), None),
            (Fact::RetentionChanged { policy, .. }, _) => (None, Some(policy.as_str())),
            _ => (None, None),
        };
        self.source.as_deref().is_none_or(|wanted| source == Some(wanted))
            && self.policy.as_deref().is_none_or(|wanted| policy == Some(wanted))
    }
}

/// A record, and the run that it belongs to.
struct Shown {
    record: Record,
    run: Option<RunStarted>,
}

fn since(text: &str, env: &Environment) -> Result<Timestamp> {
    match When::parse(text, &env.now.to_zoned(env.zone()?.clone()))? {
        When::Instant(instant) => Ok(instant),
        _ => Err(Failure::usage(format!("`{text}` is no instant")).hint("As in --since '2h ago' or --since yesterday")),
    }
}

fn verify(env: &Environment) -> Ran {
    let mut follower = env.journal()?.follow();
    follower.catch_up(&mut |_| {})?;
    let (state, problems) = (&follower.state, &follower.problems);
    let head = follower.head();
    let document = serde_json::json!({
        "records": state.seq, "head": head.hash, "mended": state.mended, "problems": problems, "ok": problems.is_empty(),
    });
    env.output.answer(&document, || {
        let mut text = format!("{}, the last one with hash {}", count(state.seq as usize, "record"), head.hash);
        if state.mended > 0 {
            text.push_str(&format!("\na torn end was mended {}", times(state.mended)));
        }
        for problem in problems {
            text.push_str(&format!("\nDAMAGED  {} at byte {}: {}", problem.segment, problem.byte, problem.problem));
        }
        text.push_str(if problems.is_empty() { "\nno problem found" } else { "" });
        text
    })?;
    Ok((!problems.is_empty()).then_some(Kind::Verification))
}

fn times(number: u64) -> String {
    if number == 1 { "once".into() } else { format!("{number} times") }
}

fn text(shown: &VecDeque<Shown>, zone: &TimeZone) -> String {
    if shown.is_empty() {
        return "nothing was recorded yet".into();
    }
    let rows = shown.iter().map(|one| {
        let (what, told) = told(&one.record, one.run.as_ref(), zone);
        vec![one.record.seq.to_string(), instant(one.record.at, zone), what, plain(&told)]
    });
    table(&["SEQ>", "WHEN", "WHAT", ""], rows)
}
