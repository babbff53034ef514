//! `bkp discover`: what is on this host, what protects it, and what protects it not.

use super::Ran;
use super::environment::Environment;
use super::output::{plain, table};
use crate::durable;
use crate::error::{Context, Failure, Kind, Result};
use crate::job::discover::labels::{self, Remark};
use crate::job::discover::look::Around;
use crate::job::discover::{self, Coverage, Found, Suggestion, Thing};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Ends with exit code 5 when something is not protected, and with 3 when a label has no effect.

Examples:
  bkp discover
  bkp discover --project pontificia
  bkp discover --write                     a policy for each project, with what is not protected yet")]
pub struct Arguments {
    /// Only this Compose project or Swarm stack
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Write policies for what is not protected, and the secrets they refer to into files that only you can read
    #[arg(long)]
    write: bool,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let configuration = env.configuration()?;
        let (found, mut remarks) = Around::look()?.show(|host| {
            let taken = labels::take_in(host, configuration);
            let configuration = configuration.with_sources(taken.sources);
            (discover::fold(host, &configuration, self.project.as_deref()), taken.remarks)
        });
        remarks.retain(|remark| found.iter().any(|one| one.thing == remark.thing && one.name == remark.name));
        let open: Vec<&Found> = found.iter().filter(|one| one.coverage == Coverage::NotProtected).collect();
        if self.write {
            let secrets = secrets(env)?;
            return write(env, &open, &secrets).map(|()| None);
        }
        let document = serde_json::json!({ "found": found, "not_protected": open.len(), "label_remarks": remarks });
        env.output.answer(&document, || listing(&found))?;
        remarks.iter().for_each(|remark| env.output.warn(&told(remark)));
        if !env.output.json && !open.is_empty() {
            env.output.note(&advice(&open, &secrets(env)?));
        }
        Ok(match (open.is_empty(), remarks.is_empty()) {
            (false, _) => Some(Kind::Objective),
            (true, false) => Some(Kind::Warnings),
            (true, true) => None,
        })
    }
}

/// A remark on a label, for people.
pub fn told(remark: &Remark) -> String {
    plain(&format!("{} {}: {}", word(remark.thing), shortened(&remark.name), remark.text))
}

fn word(thing: Thing) -> &'static str {
    match thing {
        Thing::Container => "container",
        Thing::Volume => "volume",
        Thing::Directory => "directory",
    }
}

fn secrets(env: &Environment) -> Result<PathBuf> {
    let policies = env.paths()?.policies();
    Ok(policies.parent().unwrap_or(&policies).join("secrets"))
}

fn listing(found: &[Found]) -> String {
    let rows = found.iter().map(|one| {
        vec![
            one.project.clone().unwrap_or_else(|| "-".into()),
            word(one.thing).to_owned(),
            shortened(&plain(&one.name)),
            one.engine.unwrap_or("-").to_owned(),
            protection(&one.coverage),
            plain(&one.evidence.join("; ")),
        ]
    });
    table(&["PROJECT", "WHAT", "NAME", "ENGINE", "PROTECTED BY", "EVIDENCE"], rows)
}

/// Names that Docker made up are 64 digits long.
fn shortened(name: &str) -> String {
    match name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => format!("{}…", &name[..12]),
        false => name.to_owned(),
    }
}

fn protection(coverage: &Coverage) -> String {
    match coverage {
        Coverage::Protected { source, policy } => format!("{source} (policy {policy})"),
        Coverage::PartOf { what } => format!("see {what}"),
        Coverage::NothingToKeep { why } => format!("nothing to keep: {why}"),
        Coverage::LeftOut => "left out by its label bkp.ignore".to_owned(),
        Coverage::NotProtected => "NOT PROTECTED".to_owned(),
    }
}

/// The policies, by project.
fn policies(open: &[&Found], secrets: &Path) -> BTreeMap<String, String> {
    let mut by_project: BTreeMap<Option<&str>, Vec<&Suggestion>> = BTreeMap::new();
    for one in open {
        by_project.entry(one.project.as_deref()).or_default().extend(&one.suggestions);
    }
    let mut policies = BTreeMap::new();
    for (project, suggestions) in by_project {
        let name = project.unwrap_or("containers");
        let mut yaml = format!("policy: {name}\n");
        if let Some(project) = project {
            let _ = writeln!(yaml, "stack: {project}");
        }
        yaml.push_str("schedule: \"@daily\"\nobjectives: { rpo: 24h }\nkeep: { last: 3, daily: 14, weekly: 8, monthly: 12 }\nsources:\n");
        let mut taken: Vec<String> = Vec::new();
        for suggestion in suggestions {
            let name = free_name(&suggestion.source, &taken);
            if let Some(remark) = &suggestion.remark {
                let _ = writeln!(yaml, "  # {remark}");
            }
            let _ = writeln!(
                yaml,
                "  {name}: {{ {} }}",
                suggestion.yaml.replace("SECRETS/", &format!("{}/", secrets.display()))
            );
            taken.push(name);
        }
        policies.insert(name.to_owned(), yaml);
    }
    policies
}

fn free_name(wanted: &str, taken: &[String]) -> String {
    let candidates = std::iter::once(wanted.to_owned()).chain((2..).map(|n| format!("{wanted}-{n}")));
    candidates.into_iter().find(|name| !taken.contains(name)).unwrap_or_default()
}

fn advice(open: &[&Found], secrets: &Path) -> String {
    let mut text = format!(
        "\n{} not protected. To protect it, write into policies.d, or let `bkp discover --write` do it:\n",
        super::format::count(open.len(), "thing")
    );
    for yaml in policies(open, secrets).values() {
        let _ = write!(text, "\n{yaml}");
    }
    text
}

/// Nothing that is there is changed: a policy or a secret of that name is a refusal.
fn write(env: &Environment, open: &[&Found], secrets: &Path) -> Result<()> {
    if open.is_empty() {
        env.output.note("everything that was found is protected; nothing was written");
        return Ok(());
    }
    let directory = env.paths()?.policies();
    let policies = policies(open, secrets);
    for name in policies.keys() {
        let path = directory.join(format!("{name}.yaml"));
        if path.exists() {
            return Err(Failure::new(Kind::Refused, format!("{} is there already", path.display()))
                .hint("Add to it by hand what `bkp discover` shows"));
        }
    }
    std::fs::create_dir_all(&directory).context(|| format!("cannot create {}", directory.display()))?;
    durable::create_private_directory(secrets).context(|| format!("cannot create {}", secrets.display()))?;
    for suggestion in open.iter().flat_map(|one| &one.suggestions) {
        let Some(secret) = &suggestion.secret else { continue };
        let path = secrets.join(&suggestion.source);
        match durable::write_new(&path, secret.expose().as_bytes(), 0o600) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.context(|| format!("cannot write {}", path.display()))?,
        }
    }
    for (name, yaml) in &policies {
        let path = directory.join(format!("{name}.yaml"));
        durable::write_new(&path, yaml.as_bytes(), 0o640).context(|| format!("cannot write {}", path.display()))?;
        env.output.data(&path.display().to_string())?;
    }
    env.output.note("Look at what was written, then try it: bkp config check, bkp backup");
    Ok(())
}
