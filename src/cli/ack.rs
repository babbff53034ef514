//! `bkp ack`: somebody has looked at what was odd about a source; retention goes on.

use super::Ran;
use super::environment::Environment;
use super::output::plain;
use super::prune::whose;
use crate::clock;
use crate::error::Failure;
use crate::journal::Fact;
use crate::policy::did_you_mean;
use crate::repo::held;
use std::collections::{BTreeMap, BTreeSet};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
A backup that is much smaller than the one before, or all new, or much slower, holds its source: nothing old of it is deleted \
until somebody has looked. Look first: bkp points --source NAME, bkp show NAME.

Examples:
  bkp ack mysql-auth
  bkp ack mysql-auth --reason 'old orders were archived'")]
pub struct Arguments {
    /// The source that is held
    #[arg(value_name = "SOURCE")]
    source: String,
    /// What was found
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Whose source, where it is another host that made its points (see: bkp keys list)
    #[arg(long, value_name = "WRITER")]
    writer: Option<String>,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let repository = env.repository()?;
        let (by, access) = (env.writer(&repository)?, env.listing(&repository)?);
        let whose = &whose(&repository, &by, self.writer.as_deref())?.writer;
        let journal = env.journal()?;
        let noted = if *whose == by.id() { journal.state()?.holds } else { BTreeMap::new() };
        let known = held::of(&repository, &access.keys, &access.trust, whose)?;
        let why = noted.get(&self.source).map(|hold| hold.why.as_str()).or(known.why(&self.source));
        let Some(why) = why else {
            return self.is_free(env, noted.into_keys().chain(known.all().into_keys()).collect());
        };
        if known.why(&self.source).is_some() {
            let released = (false, self.reason.as_str());
            held::write(&repository, &by, &known, (whose, &self.source), released, clock::now())?;
        }
        if *whose == by.id() {
            let by = env.asker().unwrap_or_else(|| "somebody".to_owned());
            let released = Fact::HoldReleased { source: self.source.clone(), by, why: self.reason.clone() };
            journal.append(&[released], clock::now())?;
        }
        let document = serde_json::json!({
            "status": "released",
            "source": self.source,
            "since": noted.get(&self.source).map(|hold| hold.since),
            "why": why,
        });
        env.output
            .answer(&document, || format!("{} is free again; it was held because: {}", self.source, plain(why)))?;
        Ok(None)
    }

    fn is_free(&self, env: &Environment, held: BTreeSet<String>) -> Ran {
        if env.configuration()?.source(&self.source).is_some() {
            let document = serde_json::json!({ "status": "already_free", "source": self.source });
            env.output.answer(&document, || format!("{} is not held", self.source))?;
            return Ok(None);
        }
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        let what = format!("no source `{}` is held{}", self.source, did_you_mean(&self.source, held.iter().copied()));
        Err(Failure::usage(what).hint(match held.as_slice() {
            [] => "Nothing is held".to_owned(),
            held => format!("Held are: {}", held.join(", ")),
        }))
    }
}
