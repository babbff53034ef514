//! `bkp ack`: somebody has looked at what was odd about a source; retention goes on.

use super::Ran;
use super::environment::Environment;
use super::output::plain;
use crate::clock;
use crate::error::Failure;
use crate::journal::Fact;
use crate::policy::did_you_mean;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
A backup that is much smaller than the one before, or all new, or much slower, holds its source: nothing old of it is deleted
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
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let journal = env.journal()?;
        let holds = journal.state()?.holds;
        let Some(hold) = holds.get(&self.source) else {
            let known = env.configuration()?.source(&self.source).is_some();
            if known {
                let document = serde_json::json!({ "status": "already_free", "source": self.source });
                env.output.answer(&document, || format!("{} is not held", self.source))?;
                return Ok(None);
            }
            let held: Vec<&str> = holds.keys().map(String::as_str).collect();
            let what =
                format!("no source `{}` is held{}", self.source, did_you_mean(&self.source, held.iter().copied()));
            return Err(Failure::usage(what).hint(match held.as_slice() {
                [] => "Nothing is held".to_owned(),
                held => format!("Held are: {}", held.join(", ")),
            }));
        };
        let by =
            std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "somebody".to_owned());
        let released = Fact::HoldReleased { source: self.source.clone(), by, why: self.reason.clone() };
        journal.append(&[released], clock::now())?;
        let document = serde_json::json!({
            "status": "released", "source": self.source, "since": hold.since, "why": hold.why,
        });
        env.output.answer(&document, || {
            format!("{} is free again; it was held because: {}", self.source, plain(&hold.why))
        })?;
        Ok(None)
    }
}
