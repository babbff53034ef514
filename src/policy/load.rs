//! Finds and reads the files, and puts together what they say.
//!
//! All files are read and checked before anything is reported. No file at all is an empty configuration, unless somebody
//! named the file.

use super::problem::{Document, Origin, Place, Problem, Problems};
use super::reading::{Field, Reader};
use super::tree::{Kind, Node};
use super::variables::Lookup;
use super::{Configuration, Paths, Policy, raw, tree};
use crate::engine::Settings;
use crate::error::Failure;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The configuration of this host, or everything that is wrong with it. Variables come from the environment.
pub fn load(paths: &Paths) -> Result<Configuration, Problems> {
    load_with(paths, &|name| std::env::var(name).ok())
}

/// The same with variables from elsewhere.
pub fn load_with(paths: &Paths, variable: &dyn Fn(&str) -> Option<String>) -> Result<Configuration, Problems> {
    load_with_files(paths, variable).map(|(configuration, _)| configuration)
}

/// A file, as it was when it was read.
pub type FileRead = (PathBuf, Vec<u8>);

/// The same with the files that it was made of: who reads them once more may find others.
pub fn load_files(paths: &Paths) -> Result<(Configuration, Vec<FileRead>), Problems> {
    load_with_files(paths, &|name| std::env::var(name).ok())
}

fn load_with_files(
    paths: &Paths,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Configuration, Vec<FileRead>), Problems> {
    let mut loading = Loading {
        lookup: variable,
        configuration: Configuration::default(),
        has_vault: false,
        files: Vec::new(),
        problems: Vec::new(),
        seen: Vec::new(),
    };
    loading.main_file(paths);
    for path in loading.policy_files(&paths.policies()) {
        loading.policy_file(&path);
    }
    match Problems::from_found(loading.problems) {
        Some(problems) => Err(problems),
        None => Ok((loading.configuration, loading.files)),
    }
}

/// The settings of the one source in a policy that was written for the command line; its first problem is the failure.
pub fn one_source(text: &str) -> crate::error::Result<Settings> {
    let document = Document { path: "the command line".into(), text: text.into() };
    let mut problems = Vec::new();
    let node = tree::parse(&document, &|_| None, &mut problems);
    let reader = Reader::new(&document);
    let parts = node.and_then(|node| reader.policy(&reader.read::<raw::Policy>(&node)));
    problems.append(&mut reader.problems.borrow_mut());
    if let Some(problem) = problems.into_iter().next() {
        let failure = Failure::usage(problem.message);
        return Err(match problem.help {
            Some(help) => failure.hint(help),
            None => failure,
        });
    }
    let source = parts.and_then(|parts| parts.sources.into_iter().next());
    source.map(|(source, _)| source.settings).ok_or_else(|| Failure::usage("this names no source"))
}

struct Loading<'a> {
    lookup: Lookup<'a>,
    configuration: Configuration,
    /// Perhaps with problems.
    has_vault: bool,
    files: Vec<FileRead>,
    problems: Vec<Problem>,
    /// Names of policies and sources that are taken, and where.
    seen: Vec<(&'static str, String, Origin)>,
}

impl Loading<'_> {
    fn main_file(&mut self, paths: &Paths) {
        let Some(document) = self.read(&paths.config, !paths.config_given) else { return };
        let Some(node) = tree::parse(&document, self.lookup, &mut self.problems) else { return };
        if matches!(node.kind, Kind::Nothing) {
            return;
        }
        let reader = Reader::new(&document);
        if let Field { value: Some(main), .. } = reader.read::<raw::Main>(&node) {
            if let Some(timezone) = reader.timezone(&main.timezone) {
                self.configuration.timezone = timezone;
            }
            if let Some(memory) = reader.memory(&main.memory) {
                self.configuration.memory = memory;
            }
            self.configuration.repository =
                main.repository.as_ref().and_then(|repository| reader.repository(repository));
            self.configuration.copies = main.copies.as_ref().map_or_else(Vec::new, |copies| reader.copies(copies));
            self.configuration.vault = main.vault.as_ref().and_then(|vault| reader.vault(vault));
            self.has_vault = main.vault.is_some();
            self.configuration.daemon =
                main.daemon.as_ref().and_then(|daemon| reader.daemon(daemon)).unwrap_or_default();
            self.configuration.prune = main.prune.as_ref().and_then(|prune| reader.prune(prune));
            self.configuration.check = main.check.as_ref().and_then(|check| reader.check(check));
            self.configuration.rehearser =
                main.rehearse.as_ref().and_then(|field| reader.rehearser(field)).unwrap_or_default();
            self.configuration.rotator =
                main.rotate.as_ref().and_then(|field| reader.rotator(field)).unwrap_or_default();
            self.configuration.evidence = main
                .evidence
                .as_ref()
                .and_then(|evidence| reader.evidence(evidence, &self.configuration.copies))
                .unwrap_or_default();
            self.configuration.audit = main.audit.as_ref().and_then(|audit| reader.audit(audit)).unwrap_or_default();
            self.configuration.http = main.http.as_ref().and_then(|http| reader.http(http)).unwrap_or_default();
            self.configuration.log = main.log.as_ref().and_then(|log| reader.log(log));
            self.configuration.notify = main.notify.as_ref().map(|list| reader.channels(list)).unwrap_or_default();
        }
        self.miss_vault(&reader);
        self.problems.append(&mut reader.problems.borrow_mut());
        self.remember_origins(&document, &node, &mut Vec::new());
    }

    fn policy_file(&mut self, path: &Path) {
        let Some(document) = self.read(path, false) else { return };
        let Some(node) = tree::parse(&document, self.lookup, &mut self.problems) else { return };
        if matches!(node.kind, Kind::Nothing) {
            let problem = Problem::of_file(path, "the file is empty");
            self.problems.push(
                problem.help("write a policy into it, remove it, or give it a name that does not end with .yaml"),
            );
            return;
        }
        let reader = Reader::new(&document);
        let parts = reader.policy(&reader.read::<raw::Policy>(&node));
        self.miss_vault(&reader);
        self.problems.append(&mut reader.problems.borrow_mut());
        let Some(parts) = parts else { return };
        if let Some((name, place)) = &parts.name {
            self.take_name(&document, "policy", name, *place);
            self.remember_origins(&document, &node, &mut vec!["policies".into(), name.clone()]);
        }
        for (source, place) in &parts.sources {
            self.take_name(&document, "source", &source.name, *place);
        }
        for (rotation, place) in &parts.rotations {
            self.take_name(&document, "rotation", &rotation.name, *place);
        }
        let places: Vec<Place> = parts.rotations.iter().map(|(_, place)| *place).collect();
        let source_places: Vec<Place> = parts.sources.iter().map(|(_, place)| *place).collect();
        let policy = Policy {
            name: parts.name.map(|(name, _)| name).unwrap_or_default(),
            stack: parts.stack,
            schedule: parts.schedule,
            timezone: parts.timezone.unwrap_or_else(|| self.configuration.timezone.clone()),
            timing: parts.timing,
            objectives: parts.objectives,
            keep: parts.keep,
            labels: parts.labels,
            rehearsals: parts.rehearsals,
            rotations: parts.rotations.into_iter().map(|(rotation, _)| rotation).collect(),
            sources: parts.sources.into_iter().map(|(source, _)| source).collect(),
        };
        for (rotation, place) in policy.rotations.iter().zip(&places) {
            if let Some((other, shared)) = self.configuration.other_owner(&policy, rotation) {
                let text = format!("`{other}` of another policy rotates {shared} already: a password has one owner");
                let problem = document.problem(*place, text).help("remove one of the two");
                self.problems.push(problem);
            }
        }
        self.configuration.policies.push(policy);
        self.lock_nobody_out(&document, &places, &source_places);
    }

    /// Backups that log in as an account that is rotated read its password where it is published. The newest policy may have
    /// either of the two.
    fn lock_nobody_out(&mut self, document: &Document, rotations: &[Place], sources: &[Place]) {
        let Some(newest) = self.configuration.policies.last() else { return };
        let mut found = Vec::new();
        for (policy, rotation) in self.configuration.rotations() {
            for (name, help) in self.configuration.locked_out(policy, rotation) {
                let of_rotation = newest.rotations.iter().position(|own| own.name == rotation.name);
                let of_source = newest.sources.iter().position(|own| own.name == name);
                let place = of_source.map(|at| sources[at]).or(of_rotation.map(|at| rotations[at]));
                let text = format!(
                    "backups of `{name}` use an account that `{}` rotates, and would be locked out by it",
                    rotation.name
                );
                found.extend(place.map(|place| document.problem(place, text).help(help)));
            }
        }
        self.problems.extend(found);
    }

    /// Notes the first reference of a file to a Vault that nobody named.
    fn miss_vault(&self, reader: &Reader<'_>) {
        if let Some(place) = reader.wants_vault.take().filter(|_| !self.has_vault) {
            let help =
                "write `vault: { address: https://vault.example:8200, … }` into the main file; see docs/VAULT.md";
            reader.wrong_with_help::<()>(place, "nothing says where Vault is", help);
        }
    }

    /// Notes a name that somebody else has already: points are found by it.
    fn take_name(&mut self, document: &Document, what: &'static str, name: &str, place: Place) {
        match self.seen.iter().find(|(kind, taken, _)| *kind == what && taken == name) {
            Some((_, _, first)) => {
                let problem = document.problem(place, format!("there are two {} `{name}`", plural(what)));
                let kept = if what == "rotation" { "passwords are found" } else { "points are kept" };
                self.problems
                    .push(problem.help(format!("the first one is in {first}; {kept} by this name, so change one")));
            }
            None => self.seen.push((what, name.into(), document.origin(place))),
        }
    }

    /// The files of `policies.d` that count, in the order of their names.
    fn policy_files(&mut self, directory: &Path) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
            Err(error) => Err(error),
        };
        let mut files: Vec<PathBuf> = match entries {
            Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
            Err(error) => {
                self.problems.push(Problem::of_file(directory, format!("cannot list the directory: {error}")));
                return Vec::new();
            }
        };
        files.sort();
        files.retain(|path| {
            let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            let extension = path.extension().and_then(|extension| extension.to_str());
            if !hidden && extension == Some("yml") {
                let warning = format!("{} is not read: its name must end with .yaml", path.display());
                self.configuration.warnings.push(warning);
            }
            !hidden && extension == Some("yaml")
        });
        files
    }

    fn read(&mut self, path: &Path, may_be_absent: bool) -> Option<Document> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound && may_be_absent => return None,
            Err(error) => {
                self.problems.push(Problem::of_file(path, format!("cannot read the file: {error}")));
                return None;
            }
        };
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0) {
            self.configuration.warnings.push(format!(
                "{} may be changed by every user of this host, and bkp runs what is in it: chmod o-w {0}",
                path.display()
            ));
        }
        match String::from_utf8(bytes) {
            Ok(text) => {
                self.configuration.files.push(path.into());
                self.files.push((path.into(), text.clone().into_bytes()));
                // A byte order mark would move every column of the first line.
                let text = text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text);
                Some(Document { path: path.into(), text })
            }
            Err(error) => {
                let line =
                    1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
                let problem = Problem::of_file(path, format!("line {line} is not UTF-8"));
                self.problems.push(problem.help("save the file as UTF-8"));
                None
            }
        }
    }

    /// Remembers where each value stands, by its path of keys.
    fn remember_origins(&mut self, document: &Document, node: &Node, path: &mut Vec<String>) {
        // Entries of a list are known by their names.
        if let Kind::List(items) = &node.kind {
            for item in items {
                let Some(name) = item.named() else { continue };
                path.push(name.to_owned());
                self.remember_origins(document, item, path);
                path.pop();
            }
        }
        if let Kind::Map(entries) = &node.kind {
            for (key, value) in entries {
                path.push(key.text.clone());
                self.configuration.origins.push((path.clone(), document.origin(key.place)));
                self.remember_origins(document, value, path);
                path.pop();
            }
        }
    }
}

fn plural(what: &str) -> &'static str {
    match what {
        "policy" => "policies",
        "rotation" => "rotations",
        _ => "sources",
    }
}
