//! `bkp config`: is it right, what is in effect, and what could be written.

use super::Ran;
use super::environment::Environment;
use super::format::count;
use crate::error::{Failure, Kind};
use crate::policy;

#[derive(clap::Subcommand, Debug)]
#[command(after_help = "Examples:\n  bkp config check\n  bkp config show\n  bkp config schema > bkp.schema.json")]
pub enum Command {
    /// Tell everything that is wrong with the configuration, at once
    #[command(after_help = "Examples:\n  bkp config check\n  bkp config check --config ./bkp.yaml --json")]
    Check,
    /// Show every value in effect, and where it comes from
    #[command(after_help = "Examples:\n  bkp config show\n  bkp config show --json")]
    Show,
    /// Print the JSON schema, for editors
    #[command(after_help = "Examples:\n  bkp config schema > bkp.schema.json")]
    Schema,
}

impl Command {
    pub fn run(self, env: &Environment) -> Ran {
        match self {
            Command::Check => return check(env),
            Command::Show => {
                let shown = policy::show(env.configuration()?);
                env.output.answer(&shown, || shown.to_string())?;
            }
            Command::Schema => env.output.document(&policy::schema())?,
        }
        Ok(None)
    }
}

fn check(env: &Environment) -> Ran {
    let paths = env.paths()?;
    match policy::load(paths) {
        Err(problems) if env.output.json => {
            env.output.document(&serde_json::json!({ "ok": false, "problems": problems.0, "warnings": [] }))?;
            Ok(Some(Kind::Usage))
        }
        Err(problems) => Err(Failure::from(problems)),
        Ok(configuration) => {
            let sources: usize = configuration.policies.iter().map(|p| p.sources.len()).sum();
            let document = serde_json::json!({
                "ok": true, "problems": [], "warnings": configuration.warnings, "files": configuration.files.iter().map(|f| policy::path_text(f)).collect::<Vec<_>>(),
                "policies": configuration.policies.len(), "sources": sources,
            });
            for warning in configuration.warnings.iter().filter(|_| !env.output.json) {
                env.output.warn(warning);
            }
            env.output.answer(&document, || match configuration.files.len() {
                0 => format!("there is no configuration; it would be in {}", paths.config.display()),
                files => format!(
                    "no problem in {}: {}, {}",
                    count(files, "file"),
                    if configuration.policies.len() == 1 {
                        "1 policy".to_owned()
                    } else {
                        format!("{} policies", configuration.policies.len())
                    },
                    count(sources, "source")
                ),
            })?;
            Ok((!configuration.warnings.is_empty()).then_some(Kind::Warnings))
        }
    }
}
