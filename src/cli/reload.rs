//! `bkp reload`: lets the daemon read its configuration again, and tells what it made of it.

use super::Ran;
use super::daemon::of_this_host;
use super::environment::Environment;
use crate::backoff;
use crate::daemon;
use crate::error::{Failure, Kind};
use crate::journal::Fact;
use std::time::{Duration, Instant};

/// The daemon reads some files, and writes one record.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args, Debug)]
#[command(after_help = "\
The configuration is checked first, here; the daemon checks it again. When it is wrong, the one before stays in force, and this \
ends with exit code 2. Runs that are at work end as they began.

Examples:
  bkp reload")]
pub struct Arguments {}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        env.configuration()?;
        let pid = of_this_host(env)?.ok_or_else(daemon::nobody)?;
        let mut answers = env.journal()?.cursor(0);
        answers.advance(&mut |_| {})?;
        daemon::ask_to_reload(pid)?;
        let begun = Instant::now();
        let mut answer = None;
        while answer.is_none() && begun.elapsed() < PATIENCE {
            env.cancel.check()?;
            answers.advance(&mut |record| {
                if let Fact::ConfigLoaded { ok, error, digest } = &record.fact {
                    answer = Some((*ok, error.clone(), digest.clone()));
                }
            })?;
            backoff::pause(Duration::from_millis(20), &|| answer.is_some());
        }
        match answer {
            Some((true, _, digest)) => {
                let document = serde_json::json!({ "status": "reloaded", "daemon": pid, "digest": digest });
                env.output.answer(&document, || format!("the daemon (process {pid}) has the configuration of now"))?;
                Ok(None)
            }
            Some((false, error, _)) => {
                let what = "the daemon refused the configuration; the one before stays in force";
                Err(Failure::usage(what).because(error.unwrap_or_default()).hint("bkp config check"))
            }
            None => {
                let what = format!(
                    "the daemon (process {pid}) did not say within {} s what it made of it",
                    PATIENCE.as_secs()
                );
                Err(Failure::new(Kind::Failed, what).hint("Look at its log; perhaps it cannot write the journal"))
            }
        }
    }
}
