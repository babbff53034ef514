//! `bkp pin` and `bkp unpin`: points that stay whatever their policy says.

use super::Ran;
use super::environment::Environment;
use super::output::plain;
use super::points;
use super::show::find;
use crate::error::{Failure, Result};
use crate::repo::pinned;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
A pinned point stays, whatever its policy keeps, until it is unpinned. The pin and its reason are kept in the repository.

Examples:
  bkp pin 1a2b3c4d --reason 'before the migration to 4.0'
  bkp pin mysql-auth --reason 'audit 2026'         the newest point of a source")]
pub struct Pin {
    /// The point, or the source whose newest one is meant
    #[arg(value_name = "POINT|SOURCE")]
    point: String,
    /// Why, for those who find it in a year
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  bkp unpin 1a2b3c4d")]
pub struct Unpin {
    #[arg(value_name = "POINT|SOURCE")]
    point: String,
}

impl Pin {
    pub fn run(self, env: &Environment) -> Ran {
        if self.reason.trim().is_empty() {
            return Err(Failure::usage("a pin needs a reason").hint("bkp pin POINT --reason 'why it must stay'"));
        }
        change(env, &self.point, Some(self.reason.trim()))
    }
}

impl Unpin {
    pub fn run(self, env: &Environment) -> Ran {
        change(env, &self.point, None)
    }
}

fn change(env: &Environment, what: &str, reason: Option<&str>) -> Ran {
    let repository = env.repository()?;
    let writer = env.writer(&repository)?;
    let access = env.listing(&repository)?;
    let catalog = points::read_for(env, &repository, &access, what)?;
    let point = find(&catalog, what, env.now)?;
    let known = pinned::all(&repository, &access.keys, &access.trust)?;
    let before = known.reason(point);
    if reason.is_some() || before.is_some() {
        pinned::write(&repository, &writer, &known, point, reason, env.now)?;
    }
    let title = format!("{} {}", plain(&point.source), point.id());
    let document = serde_json::json!({ "point": point.point, "source": point.source, "pinned": reason });
    let text = || match (reason, &before) {
        (Some(reason), _) => format!("{title} is pinned: {}", plain(reason)),
        (None, Some(before)) => format!("{title} is no longer pinned (it was: {})", plain(before)),
        (None, None) => format!("{title} was not pinned"),
    };
    answer(env, &document, text)
}

fn answer(env: &Environment, document: &serde_json::Value, text: impl FnOnce() -> String) -> Ran {
    let told: Result<()> = env.output.answer(document, text);
    told.map(|()| None)
}
