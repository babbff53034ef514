//! `bkp discover`: what is on this host, what protects it, and what protects it not.

use super::Ran;
use super::environment::Environment;
use super::output::{plain, table};
use crate::durable;
use crate::error::{Context, Failure, Kind, Result};
use crate::job::discover::labels::{self, Remark};
use crate::job::discover::look::Around;
use crate::job::discover::{self, Coverage, Found, SECRETS, Suggestion, Thing, quoted, source_name};
use crate::policy::{self, Configuration, Paths};
use crate::secret::Secret;
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
            env.output.note(&advice(&open, &secrets(env)?, configuration));
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

/// A policy to be written.
struct Draft<'a> {
    name: String,
    yaml: String,
    /// Files that it refers to, and what is to be in them.
    secrets: Vec<(PathBuf, &'a Secret)>,
}

/// The policies, one for each project. Names are free in the whole configuration: one name is for one thing.
fn drafts<'a>(open: &[&'a Found], secrets: &Path, configuration: &Configuration) -> Vec<Draft<'a>> {
    let mut by_project: BTreeMap<Option<&str>, Vec<&Suggestion>> = BTreeMap::new();
    for one in open {
        by_project.entry(one.project.as_deref()).or_default().extend(&one.suggestions);
    }
    let sources = configuration.policies.iter().flat_map(|policy| &policy.sources);
    let mut taken: Vec<String> = sources.map(|source| source.name.clone()).collect();
    let mut drafts: Vec<Draft<'a>> = Vec::new();
    for (project, suggestions) in by_project {
        let names: Vec<String> = drafts.iter().map(|draft| draft.name.clone()).collect();
        let name = free_name(&project.map_or("containers".into(), source_name), &names);
        let mut draft = Draft { yaml: format!("policy: {name}\n"), name, secrets: Vec::new() };
        if let Some(project) = project {
            let _ = writeln!(draft.yaml, "stack: {}", quoted(project));
        }
        draft.yaml.push_str("schedule: \"@daily\"\nobjectives: { rpo: 24h }\nkeep: { last: 3, daily: 14, weekly: 8, monthly: 12 }\nsources:\n");
        for suggestion in suggestions {
            let name = free_name(&suggestion.source, &taken);
            if let Some(remark) = &suggestion.remark {
                let _ = writeln!(draft.yaml, "  # {}", plain(remark));
            }
            let file = secrets.join(&name);
            let yaml =
                suggestion.yaml.replace(&format!("{SECRETS}/{}", suggestion.source), &file.display().to_string());
            let _ = writeln!(draft.yaml, "  {name}: {{ {yaml} }}");
            draft.secrets.extend(suggestion.secret.as_ref().map(|secret| (file, secret)));
            taken.push(name);
        }
        drafts.push(draft);
    }
    drafts
}

fn free_name(wanted: &str, taken: &[String]) -> String {
    let candidates = std::iter::once(wanted.to_owned()).chain((2..).map(|n| format!("{wanted}-{n}")));
    candidates.into_iter().find(|name| !taken.contains(name)).unwrap_or_default()
}

fn advice(open: &[&Found], secrets: &Path, configuration: &Configuration) -> String {
    let mut text = format!(
        "\n{} not protected. To protect {}, write into policies.d, or let `bkp discover --write` do it:\n",
        super::format::count(open.len(), "thing"),
        if open.len() == 1 { "it" } else { "them" }
    );
    for draft in drafts(open, secrets, configuration) {
        let _ = write!(text, "\n{}", draft.yaml);
    }
    text
}

/// Nothing that is there is changed: a policy of that name, or a secret that is another one, is a refusal. What would make
/// the configuration invalid is not written.
fn write(env: &Environment, open: &[&Found], secrets: &Path) -> Result<()> {
    if open.is_empty() {
        env.output.note("everything that was found is protected; nothing was written");
        return Ok(());
    }
    let (paths, configuration) = (env.paths()?, env.configuration()?);
    let directory = paths.policies();
    let drafts = drafts(open, secrets, configuration);
    for draft in &drafts {
        let path = directory.join(format!("{}.yaml", draft.name));
        let taken = configuration.policies.iter().any(|policy| policy.name == draft.name);
        if path.exists() || taken {
            let what = if path.exists() { path.display().to_string() } else { format!("the policy {}", draft.name) };
            return Err(Failure::new(Kind::Refused, format!("{what} is there already"))
                .hint("Add to it by hand what `bkp discover` shows"));
        }
        draft.secrets.iter().try_for_each(|(path, secret)| must_be_free(path, secret))?;
    }
    must_be_valid(paths, &drafts)?;
    std::fs::create_dir_all(&directory).context(|| format!("cannot create {}", directory.display()))?;
    durable::create_private_directory(secrets).context(|| format!("cannot create {}", secrets.display()))?;
    for (path, secret) in drafts.iter().flat_map(|draft| &draft.secrets) {
        match durable::write_new(path, secret.expose().as_bytes(), 0o600) {
            // The same one: see above.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.context(|| format!("cannot write {}", path.display()))?,
        }
    }
    for draft in &drafts {
        let path = directory.join(format!("{}.yaml", draft.name));
        let written = durable::write_new(&path, draft.yaml.as_bytes(), 0o640);
        written.context(|| format!("cannot write {}", path.display()))?;
        env.output.data(&path.display().to_string())?;
    }
    env.output.note("Look at what was written, then try it: bkp config check, bkp backup");
    Ok(())
}

/// A password that is there already would be sent to another server.
fn must_be_free(path: &Path, secret: &Secret) -> Result<()> {
    match std::fs::read(path) {
        Ok(there) if there != secret.expose().as_bytes() => {
            Err(Failure::new(Kind::Refused, format!("{} is there already, with another content", path.display()))
                .hint("Move it away if nothing refers to it, or write the policy by hand; nothing was written"))
        }
        _ => Ok(()),
    }
}

/// Reads the configuration as it would be, in a directory of its own.
fn must_be_valid(paths: &Paths, drafts: &[Draft<'_>]) -> Result<()> {
    let cannot = || "cannot try the new policies".to_owned();
    let trial = tempfile::tempdir().context(cannot)?;
    let as_if = Paths { config: trial.path().join("bkp.yaml"), config_given: false, ..paths.clone() };
    std::fs::create_dir(as_if.policies()).context(cannot)?;
    if paths.config.exists() {
        std::fs::copy(&paths.config, &as_if.config).context(cannot)?;
    }
    for file in std::fs::read_dir(paths.policies()).into_iter().flatten().flatten() {
        if file.path().extension().is_some_and(|extension| extension == "yaml") {
            std::fs::copy(file.path(), as_if.policies().join(file.file_name())).context(cannot)?;
        }
    }
    for draft in drafts {
        let file = as_if.policies().join(format!("{}.yaml", draft.name));
        durable::write_new(&file, draft.yaml.as_bytes(), 0o640).context(cannot)?;
    }
    match policy::load(&as_if).map_err(Failure::from) {
        Ok(_) => Ok(()),
        Err(failure) => Err(Failure::usage("what was found makes no valid configuration; nothing was written")
            .hint("Write the policy by hand, as `bkp discover` shows it")
            .because(failure)),
    }
}
