//! `bkp daemon`: runs what is scheduled until it is told to stop, and says on standard error what happens.

use super::Ran;
use super::environment::Environment;
use super::journal::{Shown, told};
use super::notify::Serving;
use super::output::{Output, plain};
use super::signals;
use crate::clock;
use crate::daemon::{Daemon, Options};
use crate::error::{Context, Failure, Result};
use crate::job::recorder::ForSlot;
use crate::journal::{Fact, Record, RunStarted, SlotEnd, State};
use crate::schedule::{Notice, Observer, Weight};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Runs the schedules of all policies, each run as a process of its own. SIGHUP (bkp reload) reads the configuration again;
SIGTERM and SIGINT end it when what is at work has ended (`daemon.drain`), a second one sooner.

Examples:
  bkp daemon
  bkp plan                                       what it will do
  bkp journal --since today                      what it did")]
pub struct Arguments {}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let log = Log { output: env.output, zone: env.zone()?.clone(), runs: BTreeMap::new() };
        let options = Options {
            paths: env.paths()?.clone(),
            arguments: env.globals.for_children(),
            observers: vec![Box::new(log)],
        };
        let daemon = Daemon::new(options)?;
        let (stop, reload) = (daemon.handle(), daemon.handle());
        signals::serve(move || stop.stop(), move || reload.reload())?;
        let serving = Serving::begin(env, daemon.outlook())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context(|| "cannot start the daemon".into())?;
        let ran = runtime.block_on(daemon.run());
        serving.end();
        ran.map(|()| None)
    }
}

/// What happens, as lines for people.
struct Log {
    output: Output,
    zone: TimeZone,
    runs: BTreeMap<String, RunStarted>,
}

impl Log {
    fn line(&self, text: &str) {
        let at = clock::now().to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        self.output.log(&format!("{at}  {}", plain(text)));
    }
}

impl Observer for Log {
    fn recorded(&mut self, record: &Record, _: &State) {
        let run = match &record.fact {
            Fact::RunStarted(run) => {
                self.runs.insert(run.run.clone(), run.clone());
                Some(run.clone())
            }
            Fact::RunEnded(ended) => self.runs.remove(&ended.run),
            _ => None,
        };
        let is_news = !matches!(&record.fact, Fact::SlotExpected { .. } | Fact::SlotEnded { end: SlotEnd::Done, .. });
        if is_news && !(self.output.quiet && matches!(&record.fact, Fact::RunStarted(_))) {
            let (subject, text) = told(&Shown { record: record.clone(), run }, &self.zone);
            self.line(&format!("{subject}: {text}"));
        }
    }

    fn noticed(&mut self, notice: &Notice) {
        let subject = notice.source.as_ref().or(notice.policy.as_ref());
        let subject = subject.map(|name| format!("{name}: ")).unwrap_or_default();
        let weight = match notice.weight {
            Weight::Note => "",
            Weight::Warning | Weight::Error if notice.event == "run_said" => "",
            Weight::Warning => "warning: ",
            Weight::Error => "error: ",
        };
        for line in notice.text.lines() {
            self.line(&format!("{subject}{weight}{line}"));
        }
    }
}

/// Which sources a policy has now, as a list of names.
pub fn list_sources(policy: &str, env: &Environment) -> Ran {
    let live = env.live()?;
    let found = live.configuration.policies.iter().find(|known| known.name == policy);
    let policy = found.ok_or_else(|| Failure::usage(format!("there is no policy `{policy}`")))?;
    let names: Vec<&str> = policy.sources.iter().map(|source| source.name.as_str()).collect();
    env.output.document(&names)?;
    Ok(None)
}

/// A process that the daemon started lets others go first. What cannot be had is done without.
pub fn stand_back() {
    let Some(slot) = ForSlot::of_this_process() else { return };
    let _ = rustix::process::setpriority_process(None, i32::from(slot.nice));
    if slot.idle {
        let own = std::process::id().to_string();
        let mut ionice = Command::new("ionice");
        ionice.args(["-c", "3", "-p", &own]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = ionice.status();
    }
}

/// Whether a daemon runs the schedules of this host; then nobody else does.
pub fn of_this_host(env: &Environment) -> Result<Option<u32>> {
    crate::daemon::running(&env.paths()?.state)
}
