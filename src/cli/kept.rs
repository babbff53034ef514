//! bkp's own configuration, kept at the end of a backup of what is configured.

use super::backup::summarize;
use super::environment::Environment;
use super::points::view;
use crate::clock;
use crate::error::{Failure, Result};
use crate::job::backup::Done;
use crate::job::configuration::Keeping;
use crate::job::status::Proofs;
use crate::policy::Paths;
use crate::repo::Repository;
use crate::repo::point::{Layout, Point};
use crate::repo::writer::Writer;
use std::time::Instant;

/// What became of it.
pub enum Kept {
    Done(Box<Done>),
    /// There is a point of it that is fresh and the same, or nothing was to be kept.
    Before,
    /// It was told; the sources are backed up all the same.
    Failed,
}

impl Kept {
    /// The point of it that was made.
    pub fn point(&self) -> Option<&Point> {
        match self {
            Kept::Done(done) => Some(&done.point),
            Kept::Before | Kept::Failed => None,
        }
    }

    /// After a run of configured sources that made something.
    pub fn after(wanted: bool, env: &Environment, repository: &Repository, writer: &Writer) -> Self {
        if !wanted {
            return Kept::Before;
        }
        let keep = || {
            let (paths, configuration) = (&origin(env.paths()?)?, env.configuration()?);
            let options = env.write_options(Layout::default(), None)?;
            let progress = env.progress();
            let places = &env.places(repository)?;
            let read_from = &env.paths()?.config;
            let recorder = &env.recorder()?;
            let keeping = Keeping { repository, writer, places, options, paths, read_from, configuration, recorder };
            keeping.keep(env.context(&progress), clock::now())
        };
        // Whoever wants bkp to end wants that now.
        if env.cancel.check().is_err() {
            return Kept::Before;
        }
        let started = Instant::now();
        match keep() {
            Ok(Some(done)) => {
                summarize(env, &done, started.elapsed().as_secs_f64());
                Kept::Done(Box::new(done))
            }
            Ok(None) => Kept::Before,
            Err(failure) => {
                env.output.warn(&format!("bkp's own configuration could not be kept: {}", failure.full()));
                Kept::Failed
            }
        }
    }

    pub fn failed(&self) -> bool {
        matches!(self, Kept::Failed)
    }

    /// For `--json`: the point, or null.
    pub fn view(&self, env: &Environment) -> Result<serde_json::Value> {
        let Kept::Done(done) = self else { return Ok(serde_json::Value::Null) };
        serde_json::to_value(view(&done.point, &Proofs::new(), env.zone()?, env.now))
            .map_err(|e| Failure::failed("cannot write JSON").because(e))
    }
}

/// Runs of the daemon read a copy of the configuration; people want to know where it is.
fn origin(paths: &Paths) -> Result<Paths> {
    match paths.config.starts_with(&paths.state) {
        true => Ok(Paths { config: Paths::of_this_process(None)?.config, ..paths.clone() }),
        false => Ok(paths.clone()),
    }
}
