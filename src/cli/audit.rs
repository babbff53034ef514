//! `bkp audit`: whether what should hold for every source holds now, control by control.

use super::Ran;
use super::environment::Environment;
use super::format::count;
use super::output::{plain, table};
use super::report;
use crate::error::Kind;
use crate::report::Period;
use crate::report::controls::{self, Audited, Control, Standing};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
What is measured by stands in `audit:` of the main file (docs/REPORTS.md). Ends with exit code 5 when a control fails, else with 3 \
when of one it is not known whether it passes.

Examples:
  bkp audit
  bkp audit --json | jq '.controls[] | select(.standing == \"failed\") | .failing'")]
pub struct Arguments {}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let settings = &env.configuration()?.audit;
        let days = i64::try_from(settings.rehearsed.as_secs() / (24 * 60 * 60)).unwrap_or(i64::MAX).clamp(1, 3660);
        let period = Period::last_days(days + 1, env.now, env.zone()?)?;
        let basis = report::basis(env, period, false)?;
        let configuration = env.live().map(|live| &live.configuration).or_else(|_| env.configuration())?;
        let controls = controls::judge(&Audited { basis: &basis, configuration, settings });
        let number = |standing| controls.iter().filter(|control| control.standing == standing).count();
        let (failed, unknown) = (number(Standing::Failed), number(Standing::NotKnown));
        let document = serde_json::json!({
            "at": env.now, "ok": failed == 0 && unknown == 0, "failed": failed, "not_known": unknown, "controls": controls,
        });
        env.output.answer(&document, || listing(&controls) + &findings(&controls))?;
        Ok(match (failed, unknown) {
            (0, 0) => None,
            (0, _) => Some(Kind::Warnings),
            (_, _) => Some(Kind::Objective),
        })
    }
}

fn listing(controls: &[Control]) -> String {
    let row = |control: &Control| {
        let of = match control.standing {
            Standing::Passed => format!("{} judged", control.judged),
            Standing::Failed => {
                format!("{} of {}", control.failing.len(), control.judged.max(control.failing.len() as u64))
            }
            Standing::NotKnown => count(control.unknown.len(), "thing"),
            Standing::NothingToJudge => String::new(),
        };
        vec![
            word(control.standing).to_owned(),
            control.control.to_owned(),
            of,
            control.title.to_owned(),
            control.wanted.clone(),
        ]
    };
    table(&["", "CONTROL", "", "WHAT", "WANTED"], controls.iter().map(row))
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Passed => "passed",
        Standing::Failed => "FAILED",
        Standing::NotKnown => "not known",
        Standing::NothingToJudge => "-",
    }
}

fn findings(controls: &[Control]) -> String {
    let mut text = String::new();
    for control in controls {
        for (word, finding) in
            control.failing.iter().map(|f| ("FAILED", f)).chain(control.unknown.iter().map(|f| ("not known", f)))
        {
            let (what, why, next) = (plain(&finding.what), plain(&finding.why), plain(&finding.next));
            text.push_str(&format!("\n{word}  {}: {what}: {why}\n  → {next}", control.control));
        }
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}
