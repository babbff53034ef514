//! The act of `bkp restore`: what a plan says, with the safety backup before it and the passwords of today after it.

use super::{Agreed, Prepared};
use crate::cli::environment::{Access, Environment};
use crate::cli::in_force;
use crate::clock;
use crate::engine::{Confirmed, Part, Returning};
use crate::error::Result;
use crate::job::backup::Backup;
use crate::job::recorder::What;
use crate::job::restore::{Restore, Restored};
use crate::journal::{Job, Reason, RunEnded};
use crate::repo::Repository;
use crate::repo::point::{Layout, Point, SAFETY};
use crate::repo::read::PointReader;
use serde_json::Value;

/// What an act takes place in.
pub struct Opened<'a> {
    pub env: &'a Environment,
    pub repository: &'a Repository,
    pub access: &'a Access,
    /// What is read is a copy of the repository.
    pub copy: bool,
}

impl Opened<'_> {
    pub fn act(&self, prepared: &Prepared, confirmed: Option<Confirmed>, agreed: Agreed) -> Result<Restored> {
        let Prepared { point, plan, settings, engine } = prepared;
        let engine = &**engine;
        let Opened { env, repository, access, copy } = *self;
        let places = env.places(repository)?;
        let recorder = env.recorder()?;
        let keys = access.keys_for(point);
        let configured = env.configuration()?.source(&point.source);
        let layout = configured.map_or_else(Layout::default, |(_, source)| source.layout);
        let options = env.write_options(layout, configured.map(|(policy, _)| policy))?;
        // Not into the copy that is read: a safety backup belongs to its series, in the repository.
        let own = (copy && plan.act.safety_backup).then(|| env.repository());
        let into = match &own {
            None => Some(repository),
            Some(Ok(own)) => Some(own),
            Some(Err(failure)) => {
                env.output.warn(&format!("the repository takes no safety backup: {}", failure.full()));
                None
            }
        };
        let safety = into.zip(access.writer.as_ref()).map(|(repository, writer)| Backup {
            repository,
            writer,
            places: &places,
            source: &point.source,
            engine,
            options,
            credentials: configured.map_or_else(Vec::new, |(_, source)| in_force::Known::by_journal(env).of(source)),
            reread: false,
            together: None,
            purpose: Some(SAFETY),
        });
        let brings_accounts = plan.act.part == Part::Whole && plan.act.target.takes_accounts();
        let accounts = brings_accounts.then(|| in_force::Restored::hold(env, settings)).transpose()?;
        let ready = accounts.as_ref().map(|accounts| self.make_ready(accounts, point, agreed)).transpose()?;
        let (returning, then) = ready.unzip();
        let progress = env.progress();
        let policy = configured.map(|(policy, _)| policy.name.as_str());
        let run = |run: &str| {
            let job = Restore {
                repository,
                keys: &keys,
                places: &places,
                engine,
                recorder: &recorder,
                safety,
                without_safety: agreed.no_safety_backup,
                returning,
                begins: &|| accounts.iter().for_each(|accounts| accounts.owe((run, &recorder))),
            };
            let mut restored = job.run(plan, point, confirmed, env.context(&progress), clock::now())?;
            if let (Some(accounts), Some(then)) = (&accounts, &then) {
                let told = accounts.apply(then, (run, &recorder))?;
                told.iter().for_each(|text| env.output.warn(text));
                restored.warnings.extend(told);
            }
            Ok(restored)
        };
        let what = What::source(Job::Restore, &point.source, policy);
        recorder.run_named(what, Reason::Manual, run, |restored, run| ended(point, restored, run))
    }

    /// How users come back, and what was in force when the point was made: everything that is needed when the data are there is read
    /// while nothing is changed yet.
    fn make_ready(
        &self,
        accounts: &in_force::Restored<'_>,
        point: &Point,
        agreed: Agreed,
    ) -> Result<(Returning, Vec<Value>)> {
        let keys = self.access.keys_for(point);
        let then = PointReader::open(self.repository, point, &keys, &self.env.cancel)?.body.credentials;
        let (returning, unread) = accounts.returning(agreed.lock_accounts)?;
        unread.into_iter().chain(accounts.unread()).for_each(|text| self.env.output.warn(&text));
        Ok((returning, then))
    }
}

fn ended(point: &Point, restored: &Restored, run: &str) -> RunEnded {
    RunEnded {
        point: Some(point.point.clone()),
        bytes: restored.loaded.bytes,
        consistent_at: Some(point.consistent_at),
        ..RunEnded::well(run, !restored.warnings.is_empty())
    }
}
