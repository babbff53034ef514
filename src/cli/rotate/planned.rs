//! `bkp rotate NAME --dry-run`: what a rotation would do, what it is given, and what is in its way.

use super::{Ground, Said};
use crate::cli::Ran;
use crate::cli::environment::Environment;
use crate::cli::output::{pairs, plain};
use crate::error::Failure;
use crate::job::rotate::plan::Plan;
use crate::job::rotate::scan;

pub fn show(env: &Environment, name: &str, said: &Said) -> Ran {
    let ground = Ground::of(env, name, said.given()?)?;
    let rotate = ground.rotate(env, said, "", &|| Ok(String::new()), &|_| {})?;
    let plan = rotate.plan(ground.server(), &env.cancel)?;
    if plan.open.is_some() {
        said.fits_what_is_open(name)?;
    }
    let may = ground.may_begin(env, &env.journal()?.state()?, said)?;
    let hindered = may.err().map(|hindrance| hindrance.failure(ground.rotation, false));
    let unknown = scan::refusal(&plan.unknown, ground.rotation).filter(|_| !said.takes_unknown());
    let refused = hindered.or(unknown).filter(|_| plan.open.is_none());
    let mut document = serde_json::to_value(&plan).unwrap_or_default();
    document["refused"] = refused.as_ref().map(Failure::full).into();
    env.output.answer(&document, || described(&plan))?;
    if let Some(refused) = refused {
        return Err(refused);
    }
    env.output.note("\nNothing was done. To do it: the same command without --dry-run");
    Ok(None)
}

fn described(plan: &Plan) -> String {
    let mut rows = vec![
        ("rotation", plan.rotation.clone()),
        ("account", plain(&plan.account)),
        ("published", plan.published.clone()),
        ("logs in at", plan.nodes.join(", ")),
        ("gap", gap(plan.gap_seconds)),
    ];
    if let Some(open) = &plan.open {
        let way = if open.back { "is being taken back" } else { "is under way" };
        rows.push(("open", format!("one {way}; it is brought to its end first")));
    }
    for (number, granted) in plan.granted.iter().enumerate() {
        rows.push((if number == 0 { "in Vault" } else { "" }, format!("may {}", plain(granted))));
    }
    for (number, step) in plan.steps.iter().enumerate() {
        rows.push((if number == 0 { "steps" } else { "" }, format!("{}. {}", number + 1, plain(step))));
    }
    for (number, found) in plan.unknown.iter().enumerate() {
        rows.push((if number == 0 { "not told of" } else { "" }, plain(&found.to_string())));
    }
    for (number, warning) in plan.warnings.iter().enumerate() {
        rows.push((if number == 0 { "note" } else { "" }, plain(warning)));
    }
    pairs(&rows)
}

fn gap(seconds: f64) -> String {
    match seconds > 0.0 {
        true => format!(
            "up to {seconds:.0} s (the `patience` of all consumers), in which those are refused that log in anew before they were moved; and there is no way back"
        ),
        false => "none".to_owned(),
    }
}
