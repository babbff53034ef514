//! How the plan of a restore is shown, and what is told when it was carried out.

use super::backup::summarize;
use super::environment::Environment;
use super::format::{self, instant, size, span, took};
use super::output::{pairs, plain};
use crate::engine::Naming;
use crate::error::Result;
use crate::job::restore::{Destination, Plan, Restored};

pub fn describe(env: &Environment, plan: &Plan) -> String {
    let zone = env.zone().cloned().unwrap_or(jiff::tz::TimeZone::UTC);
    let both = |at| format!("{}  ({})", instant(at, &zone), format::utc(at));
    let mut rows = vec![("plan", plan.hash.clone()), ("source", plan.act.source.clone())];
    if let Some(requested) = plan.requested_at {
        rows.push(("asked for", both(requested)));
    }
    rows.push(("point", format!("{}  {}", plan.id, size(plan.bytes))));
    rows.push(("written by", format!("{}  (writer {})", plain(&plan.host), plan.writer)));
    rows.push(("stands for", both(plan.resolved_at)));
    rows.push((
        "lost",
        match plan.loss_seconds {
            _ if plan.requested_at.is_none() => "everything that was written after that instant".to_owned(),
            0 => "nothing".to_owned(),
            seconds => format!("what was written in the {} between", span(seconds)),
        },
    ));
    if plan.safety_point {
        rows.push(("", "a safety backup: the source as it was just before a restore replaced it".to_owned()));
    }
    if plan.warnings > 0 {
        rows.push(("warnings", format!("the backup ended with {}; see: bkp show {}", plan.warnings, plan.id)));
    }
    rows.push((
        "target",
        match &plan.act.target {
            Destination::New(path) => format!("{}  (new)", path.display()),
            Destination::NewVolume(name) => format!("volume {name}  (new)"),
            Destination::NewDatabases { server, naming } => format!("{server}  ({})", naming_text(naming)),
            Destination::InPlace(location) => format!("{location}  (REPLACED)"),
            Destination::Command => "the restore command of the source".to_owned(),
        },
    ));
    for (number, step) in plan.steps.iter().enumerate() {
        rows.push((if number == 0 { "steps" } else { "" }, format!("{}. {step}", number + 1)));
    }
    pairs(&rows)
}

/// Where the data is afterwards, in one line.
pub fn target_text(plan: &Plan) -> String {
    match &plan.act.target {
        Destination::New(path) => path.display().to_string(),
        Destination::NewVolume(name) => name.clone(),
        Destination::NewDatabases { server, naming } => format!("{server}: {}", naming_text(naming)),
        Destination::InPlace(location) => location.clone(),
        Destination::Command => plan.act.source.clone(),
    }
}

fn naming_text(naming: &Naming) -> String {
    match naming {
        Naming::Same => "new databases, under their own names".to_owned(),
        Naming::Suffix(suffix) => format!("new databases, NAME{suffix}"),
        Naming::As(name) => format!("new database {name}"),
    }
}

pub fn report(env: &Environment, plan: &Plan, restored: &Restored, seconds: f64) -> Result<()> {
    if let Some(safety) = &restored.safety {
        summarize(env, safety, seconds);
    }
    let document = serde_json::json!({
        "plan": plan,
        "bytes": restored.loaded.bytes,
        "items": restored.loaded.items,
        "warning_texts": restored.warnings,
        "safety_point": restored.safety.as_ref().map(|s| &s.point.point),
        "seconds": seconds,
    });
    if env.output.json {
        return env.output.document(&document);
    }
    env.output.data(&target_text(plan))?;
    env.output.note(&format!(
        "{} restored from {}: {}, {}",
        plan.act.source,
        plan.id,
        size(restored.loaded.bytes),
        took(seconds)
    ));
    Ok(())
}
