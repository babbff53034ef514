//! `bkp metrics`: the metrics without a daemon, for node_exporter and for whoever runs bkp by cron.

use super::Ran;
use super::environment::Environment;
use crate::clock;
use crate::durable;
use crate::error::{Context, Result};
use crate::job::damage;
use crate::journal::State;
use crate::repo::writer;
use crate::watch::metrics::{self, Format};
use crate::watch::{Status, Watcher};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
The file is written beside its place and moved there, so that nobody reads half of it. docs/MONITORING.md lists the names.

Examples:
  bkp metrics
  bkp metrics --textfile /var/lib/node_exporter/textfile/bkp.prom
  bkp backup; bkp metrics --textfile /var/lib/node_exporter/textfile/bkp.prom")]
pub struct Arguments {
    /// Write them into this file instead of to standard output; readable by everybody
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let text = metrics::render(&Arc::new(look(env)?), Format::Prometheus);
        match &self.textfile {
            None => env.output.data(&text)?,
            Some(path) => {
                durable::write(path, text.as_bytes(), 0o644).context(|| format!("cannot write {}", path.display()))?
            }
        }
        Ok(None)
    }
}

/// Everything that is known without asking the repository.
pub fn look(env: &Environment) -> Result<Status> {
    Ok(watch(env)?.0)
}

/// The same, and the fold of the journal that it was made of.
pub fn watch(env: &Environment) -> Result<(Status, State)> {
    let state = &env.paths()?.state;
    let journal = env.journal()?;
    if let Err(failure) = journal.end_what_died(clock::now()) {
        env.output.warn(&format!("runs that were killed cannot be noted as such: {}", failure.full()));
    }
    let mut watcher = Watcher::of(&journal, &crate::daemon::host());
    let (damage, readers) = (damage::load_all(state), writer::readers(state));
    let status = watcher.status(env.configuration()?, (&damage, &readers), clock::now())?;
    Ok((status, watcher.into_state()))
}
