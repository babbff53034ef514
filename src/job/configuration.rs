//! bkp's own configuration, kept beside what it protects: whoever has lost the host finds there what was backed up, and how.
//!
//! The files as they were read, and a page about the host: where things were, who can read, the lines that let others believe
//! this writer, which secrets are to be put back. **Never a secret itself**: only the references that stand in the files.
//! It is a source like any other, of the kind `volume`, under a name that nobody else can take. Nothing is stored while
//! nothing has changed, but at least once a week.

use super::backup::{Backup, Done};
use super::recorder::Recorder;
use super::{Places, private, remove_all};
use crate::durable;
use crate::engine::volume::{self, Volume};
use crate::engine::{DumpRun, Dumped, Engine, LoadRun, Loaded, Origin, Target};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Context;
use crate::policy::{Configuration, Paths};
use crate::repo::Repository;
use crate::repo::names::{self, CONFIGURATION};
use crate::repo::write::Options;
use crate::repo::writer::Writer;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The page about the host.
pub const PAGE: &str = "HOST.txt";
const MAIN_FILE: &str = "bkp.yaml";
const AT_LEAST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is kept, and where to.
pub struct Keeping<'a> {
    pub repository: &'a Repository,
    pub writer: &'a Writer,
    pub places: &'a Places,
    pub options: Options,
    /// Where bkp has things on this host.
    pub paths: &'a Paths,
    /// The main file that was read, which may be a copy.
    pub read_from: &'a Path,
    pub configuration: &'a Configuration,
    pub recorder: &'a Recorder,
}

/// What is remembered of the newest point, in the state directory.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// SHA-256 over names and contents.
    digest: String,
    at: Timestamp,
}

/// Names below the configuration directory, with contents.
type Files = Vec<(String, Vec<u8>)>;

impl Keeping<'_> {
    /// A point, unless there is a fresh one with the same content, or another run makes one just now.
    pub fn keep(&self, context: Context<'_>, now: Timestamp) -> Result<Option<Done>> {
        if self.configuration.files.is_empty() {
            return Ok(None);
        }
        let files = self.files();
        let kept = files.as_ref().ok().map(|files| Kept { digest: digest(files), at: now });
        if kept.as_ref().is_some_and(|kept| !is_due(self.remembered().as_ref(), &kept.digest, now)) {
            return Ok(None);
        }
        let _lock = match self.places.lock(CONFIGURATION) {
            Err(failure) if failure.kind() == Kind::Locked => return Ok(None),
            other => other?,
        };
        let done = self.recorder.configuration(|| self.back_up(&files?, context, now))?;
        let kept = serde_json::to_vec(&kept).expect("plain data");
        let memory = self.memory();
        durable::write(&memory, &kept, 0o600).context(|| format!("cannot write {}", memory.display()))?;
        Ok(Some(done))
    }

    fn back_up(&self, files: &Files, context: Context<'_>, now: Timestamp) -> Result<Done> {
        let staged = self.stage(files)?;
        let engine = Own { location: self.directory(), staged: Volume::new(volume::Settings::of(staged)) };
        let backup = Backup {
            repository: self.repository,
            writer: self.writer,
            places: self.places,
            source: CONFIGURATION,
            engine: &engine,
            options: self.options,
            credentials: Vec::new(),
            reread: true,
            purpose: None,
            together: None,
        };
        backup.run_locked(context, now)
    }

    fn files(&self) -> Result<Files> {
        let mut files = vec![(PAGE.to_owned(), self.page().into_bytes())];
        for path in &self.configuration.files {
            let name = match path.file_name().and_then(|name| name.to_str()) {
                _ if path == self.read_from => MAIN_FILE.to_owned(),
                Some(name) => format!("policies.d/{name}"),
                None => continue,
            };
            let content = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
            files.push((name, content));
        }
        Ok(files)
    }

    /// For a person who has nothing but this. Without the time, so that it stays the same while nothing changes.
    fn page(&self) -> String {
        let (paths, writer) = (self.paths, self.writer);
        let mut page = format!(
            "What bkp {} was on the host {}, kept with the backups of its policies. No secret is in here.\n\n",
            env!("CARGO_PKG_VERSION"),
            // Not what the kernel calls it now: a container has another name each time.
            writer.info.name
        );
        let places = [
            ("configuration", paths.config.display().to_string()),
            ("policies", paths.policies().display().to_string()),
            ("state", paths.state.display().to_string()),
            ("cache", paths.cache.display().to_string()),
            ("repository", format!("{} (id {})", self.repository.store.describe(), self.repository.id())),
            ("writer", writer.id().to_owned()),
        ];
        let mut line = |text: String| writeln!(page, "{text}").expect("a string takes all text");
        places.iter().for_each(|(what, place)| line(format!("{what:<14} {place}")));
        line("\nA line for the identity files of those who restore, so that they believe this host:".into());
        line(writer.trust_line());
        line("\nWho can read the backups:".into());
        writer.recipients.iter().for_each(|known| line(format!("{:<14} {}", known.name, known.recipient)));
        let secrets = self.configuration.secrets();
        if !secrets.is_empty() {
            line("\nSecrets that the configuration refers to; they are not in here, put them back by hand:".into());
            secrets.iter().for_each(|(reference, users)| line(format!("{reference}  for {users}")));
        }
        page
    }

    /// Writes the files where the engine of directories finds them; only what changed is new.
    fn stage(&self, files: &Files) -> Result<PathBuf> {
        let staged = self.places.cache.join(self.repository.id()).join("configuration");
        remove_all(&staged)?;
        private(&staged.join("policies.d"))?;
        for (name, content) in files {
            let path = staged.join(name);
            durable::write(&path, content, 0o600).context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(staged)
    }

    /// Where the configuration is on this host.
    fn directory(&self) -> PathBuf {
        let file = std::path::absolute(&self.paths.config).unwrap_or_else(|_| self.paths.config.clone());
        durable::parent_of(&file).to_owned()
    }

    fn memory(&self) -> PathBuf {
        self.places.state.join("repositories").join(self.repository.id()).join("configuration.json")
    }

    /// What cannot be read is nothing: then there is one point more.
    fn remembered(&self) -> Option<Kept> {
        serde_json::from_slice(&std::fs::read(self.memory()).ok()?).ok()
    }
}

fn digest(files: &Files) -> String {
    let mut all = Vec::new();
    for (name, content) in files {
        for part in [name.as_bytes(), content] {
            all.extend((part.len() as u64).to_le_bytes());
            all.extend(part);
        }
    }
    hex::encode(names::sha256(&all))
}

fn is_due(kept: Option<&Kept>, digest: &str, now: Timestamp) -> bool {
    // A point from the future was made by a clock that was wrong.
    kept.is_none_or(|kept| kept.digest != digest || kept.at > now || now.duration_since(kept.at) >= AT_LEAST)
}

/// The staged files, under the name of the place that they are from.
struct Own {
    location: PathBuf,
    staged: Volume,
}

impl Engine for Own {
    fn kind(&self) -> &'static str {
        self.staged.kind()
    }

    fn location(&self) -> String {
        self.location.display().to_string()
    }

    fn preflight(&self) -> Result<()> {
        self.staged.preflight()
    }

    fn dump(&self, sink: &mut dyn crate::engine::Sink, run: &DumpRun<'_>) -> Result<Dumped> {
        self.staged.dump(sink, run)
    }

    fn load(&self, _: &dyn Origin, _: &Target, _: &LoadRun<'_>) -> Result<Loaded> {
        Err(Failure::usage(format!("{CONFIGURATION} is restored as any directory is, to a new place")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_when_it_changed_and_once_a_week() {
        let at: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let kept = Kept { digest: "a".into(), at };
        let after = |hours| at + SignedDuration::from_hours(hours);
        assert!(is_due(None, "a", at));
        assert!(is_due(Some(&kept), "b", after(1)));
        assert!(!is_due(Some(&kept), "a", after(1)));
        assert!(!is_due(Some(&kept), "a", after(7 * 24 - 1)));
        assert!(is_due(Some(&kept), "a", after(7 * 24)));
        assert!(is_due(Some(&kept), "a", after(-1)), "the clock was wrong then");
    }

    #[test]
    fn what_moves_from_one_file_to_another_is_a_change() {
        let files = |one: &str, two: &str| digest(&vec![("a".into(), one.into()), ("b".into(), two.into())]);
        assert_ne!(files("xy", ""), files("x", "y"));
        assert_eq!(files("x", "y"), files("x", "y"));
    }
}
