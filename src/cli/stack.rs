//! `bkp restore --stack`: all sources of a stack, planned and shown as one, restored one after the other.

use super::Ran;
use super::format::{self, instant, size, span, took};
use super::output::{plain, table};
use super::plan::target_text;
use super::restore::{Arguments, Opened, Prepared, refuse_what_exists};
use crate::engine::Confirmed;
use crate::error::{Failure, Kind, Result};
use crate::exec::Place;
use crate::exec::docker::{Docker, Quiet, State, WritingContainer};
use crate::job::stack::{self, Advance, StackPlan};
use std::time::Instant;

pub fn restore(arguments: &Arguments, opened: &Opened<'_>, stack: &str) -> Ran {
    let env = opened.env;
    let mut prepared = prepare(arguments, opened, stack)?;
    let programs = if arguments.in_place { programs(stack, &prepared)? } else { Vec::new() };
    let names = programs.iter().map(|container| container.name.clone()).collect();
    let plan = stack::plan(stack, prepared.iter().map(|one| one.plan.clone()).collect(), names);
    // In the order of the plan.
    prepared.sort_by_key(|one| plan.members.iter().position(|member| member.act.source == one.point.source));
    plan.must_be(arguments.plan.as_deref())?;
    let places = env.places(opened.repository)?;
    if arguments.dry_run {
        env.output.answer(&plan, || describe(opened, &plan))?;
        if !env.output.json {
            let next = format!("the same command with --plan {} instead of --dry-run", plan.hash);
            env.output.note(&format!("\nNothing was done. To do it: {next}"));
        }
        return Ok(None);
    }
    confirm(arguments, stack)?;
    let mut advance = Advance::of(&plan, &places)?;
    for one in prepared.iter().filter(|one| advance.finished(&one.point.source).is_none()) {
        refuse_what_exists(&one.plan.act.target)?;
    }
    if !env.output.json {
        env.output.note(&describe(opened, &plan));
    }
    let started = Instant::now();
    let held = if programs.is_empty() { None } else { Some(places.hold(Quiet::Stop, &programs)?) };
    let mut warned = false;
    for one in &prepared {
        warned |= run(arguments, opened, one, &mut advance).map_err(|failure| interrupted(failure, &plan, one))?;
    }
    let unreleased = held.map(|held| held.release().warnings).unwrap_or_default();
    unreleased.iter().for_each(|warning| env.output.warn(warning));
    warned |= !unreleased.is_empty();
    advance.close();
    let seconds = started.elapsed().as_secs_f64();
    let document = serde_json::json!({ "plan": plan, "seconds": seconds });
    env.output.answer(&document, || plan.members.iter().map(target_text).collect::<Vec<_>>().join("\n"))?;
    if !env.output.json {
        env.output.note(&format!(
            "{stack} restored: {}, {}",
            format::count(plan.members.len(), "source"),
            took(seconds)
        ));
    }
    Ok(warned.then_some(Kind::Warnings))
}

/// Running containers of the Compose project, except the servers that are restored through themselves.
fn programs(stack: &str, prepared: &[Prepared]) -> Result<Vec<WritingContainer>> {
    let Some(docker) = Docker::if_there()? else { return Ok(Vec::new()) };
    let selector = |one: &Prepared| match &one.settings.server()?.place {
        Place::Container(selector) => Some(selector.clone()),
        Place::Host => None,
    };
    let mut servers = Vec::new();
    for selector in prepared.iter().filter_map(selector) {
        servers.push(docker.find(&selector)?.id);
    }
    let mut running = docker.programs_of(stack, &servers)?;
    running.retain(|c| matches!(c.state, State::Running | State::Restarting));
    let programs: Vec<WritingContainer> = stack::dependents_first(running).into_iter().map(Into::into).collect();
    programs.iter().try_for_each(|container| container.may_be(Quiet::Stop))?;
    Ok(programs)
}

fn prepare(arguments: &Arguments, opened: &Opened<'_>, stack: &str) -> Result<Vec<Prepared>> {
    let sources = opened.env.live()?.configuration.stack(stack)?;
    if let Some(unknown) = arguments.skip.iter().find(|skip| sources.iter().all(|(_, s)| s.name != **skip)) {
        return Err(Failure::usage(format!("stack {stack} has no source {unknown}")));
    }
    let wanted = sources.iter().filter(|(_, source)| !arguments.skip.contains(&source.name));
    let mut prepared = Vec::new();
    let mut impossible = Vec::new();
    for (_, source) in wanted {
        let of_source = arguments.of_source(&source.name);
        match of_source.prepare(opened) {
            Ok(one) => prepared.push(one),
            Err(failure) if failure.kind() == Kind::Failed => impossible.push((source.name.clone(), failure)),
            Err(failure) => return Err(failure),
        }
    }
    match impossible.into_iter().next() {
        None if prepared.is_empty() => Err(Failure::usage("nothing is left to restore")),
        None => Ok(prepared),
        Some((source, failure)) => Err(Failure::new(failure.kind(), format!("{source} cannot be restored"))
            .because(failure.full())
            .hint(format!("Take another instant, or go on without it: --skip {source}"))),
    }
}

fn confirm(arguments: &Arguments, stack: &str) -> Result<()> {
    match arguments.confirm.as_deref() {
        _ if !arguments.in_place => Ok(()),
        Some(typed) if typed == stack => Ok(()),
        Some(typed) => {
            Err(Failure::new(Kind::Refused, format!("--confirm {typed} is not the name of the stack, {stack}")))
        }
        None => Err(Failure::new(Kind::Refused, format!("this replaces everything that {stack} is now"))
            .hint(format!("Say so with --confirm {stack}; a safety backup of each source is made first"))),
    }
}

/// Restores one source, unless an earlier run of the same plan did. Gives whether there were warnings.
fn run(arguments: &Arguments, opened: &Opened<'_>, one: &Prepared, advance: &mut Advance) -> Result<bool> {
    let (source, output) = (&one.point.source, &opened.env.output);
    if let Some(target) = advance.finished(source) {
        output.note(&format!("{source}: was restored before, to {target}"));
        return Ok(false);
    }
    let confirmed = arguments.in_place.then(|| Confirmed::by_name(source, source)).flatten();
    let started = Instant::now();
    let restored = opened.act(one, confirmed, arguments.agreed)?;
    let target = target_text(&one.plan);
    advance.note(source, &target)?;
    let seconds = took(started.elapsed().as_secs_f64());
    output.note(&format!("{source}: {} to {target}, {seconds}", size(restored.loaded.bytes)));
    Ok(!restored.warnings.is_empty())
}

fn interrupted(failure: Failure, plan: &StackPlan, one: &Prepared) -> Failure {
    let mut text = Failure::new(failure.kind(), format!("{}: {}", one.point.source, failure.full()));
    let again = format!("the same command again goes on where this one stopped (plan {})", plan.hash);
    text = match failure.next_step() {
        Some(hint) => text.hint(format!("{hint}. Then {again}")),
        None => text.hint(format!("When that is mended, {again}")),
    };
    text
}

/// One table: which instant each source comes back to, and how far that is from what was asked for and from the others.
fn describe(opened: &Opened<'_>, plan: &StackPlan) -> String {
    let zone = opened.env.zone().cloned().unwrap_or(jiff::tz::TimeZone::UTC);
    let latest = plan.members.iter().map(|member| member.resolved_at).max();
    let rows = plan.members.iter().map(|member| {
        let behind = latest.map_or(0, |latest| latest.duration_since(member.resolved_at).as_secs());
        vec![
            member.act.source.clone(),
            member.id.clone(),
            instant(member.resolved_at, &zone),
            if member.requested_at.is_some() { span(member.loss_seconds) } else { "-".into() },
            span(behind),
            size(member.bytes),
            plain(&target_text(member)).to_string() + if member.overwrites { "  (REPLACED)" } else { "  (new)" },
        ]
    });
    let titles = ["SOURCE", "POINT", "INSTANT", "LOST>", "BEHIND>", "SIZE>", "TARGET"];
    let mut text = format!("plan {} of stack {}\n\n{}", plan.hash, plan.stack, table(&titles, rows));
    text.push_str(&format!("\n\nThe instants lie {} apart.", took(plan.skew_seconds)));
    // Also containers of other projects that write into a volume of this one.
    let mut stopped: Vec<&str> = Vec::new();
    for name in plan.stopped.iter().chain(plan.members.iter().flat_map(|member| &member.act.stopped)) {
        if !stopped.contains(&name.as_str()) {
            stopped.push(name);
        }
    }
    if !stopped.is_empty() {
        text.push_str(&format!("\nStopped meanwhile: {}", stopped.join(", ")));
    }
    text
}
