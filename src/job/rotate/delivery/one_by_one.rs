//! Workers of a Compose service, replaced one by one: a new one first, and when it is ready an old one is told to end (SIGTERM),
//! and is waited for. So workers that finish what they are at when they are told to end, as Celery's do, lose nothing.
//!
//! Before there is one more, the old one is given a name that says how many there should be: whoever goes on after a crash
//! finishes that first, and in the end there are as many as before. A new one that does not get ready is removed again: the old
//! ones were not touched by then.

use super::compose::Compose;
use super::docker::{LIMIT, Restarts, docker, trouble_of_all};
use super::{LOOK, Reload};
use crate::backoff::pause;
use crate::durable::crash_point;
use crate::engine::Credential;
use crate::error::{Failure, Result};
use crate::event::Cancel;
use jiff::Timestamp;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(500);
const FORMAT: &str = "{{.Id}} {{.Name}} {{.State.Running}} {{.State.StartedAt}} {{.Created}} {{index .Config.Labels \"com.docker.compose.config-hash\"}}";
/// Between the name of an old one and how many there should be.
const MARK: &str = ".bkp-";

pub struct OneByOne {
    pub compose: Compose,
    /// Run in a new container until it ends well.
    pub ready: Option<Vec<String>>,
    /// How long an old one may take to end.
    pub grace: Duration,
    pub patience: Duration,
    pub told: By,
}

/// How a worker that has the secret is told from one that does not.
pub enum By {
    /// The project says something else since.
    Variables,
    /// It was started after this file was exchanged.
    File(PathBuf),
    /// It cannot be seen: all that were there are replaced.
    Nothing,
}

#[derive(Clone, Debug)]
struct Worker {
    id: String,
    name: String,
    runs: bool,
    created: Timestamp,
    is_new: bool,
}

impl Worker {
    /// How many there should be, where this one is being replaced.
    fn mark(&self) -> Option<(&str, usize)> {
        let (name, count) = self.name.rsplit_once(MARK)?;
        Some((name, count.parse().ok()?))
    }
}

impl OneByOne {
    fn ids(&self, cancel: &Cancel) -> Result<Vec<String>> {
        let listed = self.compose.compose(&["ps", "--all", "--quiet", self.compose.service()], LOOK, cancel)?;
        Ok(listed.split_whitespace().map(str::to_owned).collect())
    }

    /// `before`: those that were there when this began.
    fn workers(&self, before: &[String], cancel: &Cancel) -> Result<Vec<Worker>> {
        let ids = self.ids(cancel)?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let told = self.compose.compose(&["config", "--hash", self.compose.service()], LOOK, cancel)?;
        let wanted = told.split_whitespace().last().unwrap_or_default();
        let changed = match &self.told {
            By::File(path) => std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok(),
            By::Variables | By::Nothing => None,
        };
        let changed = changed.and_then(|time| Timestamp::try_from(time).ok());
        let words: Vec<&str> =
            ["inspect", "--format", FORMAT].into_iter().chain(ids.iter().map(String::as_str)).collect();
        let one = |line: &str| {
            let [id, name, runs, started, created, hash] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
            let started = started.parse::<Timestamp>().ok();
            let is_told = match &self.told {
                By::Variables => hash == wanted,
                By::File(_) => started > changed && changed.is_some(),
                By::Nothing => false,
            };
            let is_new = is_told || !before.iter().any(|old| old == id);
            let (id, name) = (id.to_owned(), name.trim_start_matches('/').to_owned());
            Some(Worker { id, name, runs: runs == "true", created: created.parse().ok()?, is_new })
        };
        Ok(docker(&words, None, LOOK, cancel)?.lines().filter_map(one).collect())
    }

    /// There is one more from now on, and one of the old ones says why.
    fn make_one(&self, old: &Worker, wanted: usize, cancel: &Cancel) -> Result<()> {
        if old.mark().is_none() {
            docker(&["rename", &old.id, &format!("{}{MARK}{wanted}", old.name)], None, LIMIT, cancel)?;
        }
        crash_point("rotate-consumer:marked");
        let before = self.ids(cancel)?;
        let service = self.compose.service();
        let scale = format!("{service}={}", wanted + 1);
        let up = ["up", "--detach", "--no-deps", "--no-recreate", "--scale", &scale, service];
        let made = self.compose.compose(&up, LIMIT, cancel);
        crash_point("rotate-consumer:made");
        if made.is_ok() && self.ids(cancel)?.len() > wanted {
            return Ok(());
        }
        for new in self.ids(&Cancel::default())?.iter().filter(|id| !before.contains(id)) {
            docker(&["rm", "--force", new], None, LIMIT, &Cancel::default())?;
        }
        self.unmark(&self.workers(&before, &Cancel::default())?)?;
        made.and_then(|_| Err(Failure::failed(format!("Compose made no new container of {service}"))))
    }

    /// There is one too many: the new ones have to be ready, then one of the old ones is told to end.
    fn end_one(&self, all: &[Worker], cancel: &Cancel) -> Result<()> {
        let youngest = all.iter().filter(|worker| worker.is_new).max_by_key(|worker| worker.created);
        let new: Vec<&str> = all.iter().filter(|worker| worker.is_new).map(|worker| worker.id.as_str()).collect();
        if let Err(failure) = self.wait(&new, cancel) {
            if let Some(youngest) = youngest {
                docker(&["rm", "--force", &youngest.id], None, LIMIT, &Cancel::default())?;
            }
            self.unmark(all)?;
            return Err(failure);
        }
        let old = all.iter().filter(|worker| !worker.is_new).min_by_key(|old| (old.runs, old.mark().is_none()));
        let Some(old) = old.or(youngest) else { return Ok(()) };
        let seconds = self.grace.as_secs().to_string();
        docker(&["stop", "-t", &seconds, &old.id], None, self.grace + LIMIT, cancel)?;
        crash_point("rotate-consumer:ended");
        docker(&["rm", &old.id], None, LIMIT, cancel).map(drop)
    }

    /// Those that stay have their names back.
    fn unmark<'w>(&self, workers: impl IntoIterator<Item = &'w Worker>) -> Result<()> {
        for worker in workers {
            if let Some((name, _)) = worker.mark() {
                docker(&["rename", &worker.id, name], None, LIMIT, &Cancel::default())?;
            }
        }
        Ok(())
    }

    fn wait(&self, new: &[&str], cancel: &Cancel) -> Result<()> {
        let begun = Instant::now();
        while let Some(why) = self.trouble_of(new, cancel)? {
            if begun.elapsed() >= self.patience {
                return Err(Failure::failed(format!(
                    "a new container of {} is not ready: {why}",
                    self.compose.service()
                ))
                .hint("It was removed again, and the old ones go on"));
            }
            pause(PAUSE, &|| cancel.check().is_err());
            cancel.check()?;
        }
        Ok(())
    }

    fn trouble_of(&self, ids: &[&str], cancel: &Cancel) -> Result<Option<String>> {
        if ids.is_empty() {
            return Ok(None);
        }
        if let Some(why) = trouble_of_all(ids, Restarts::Count, cancel)? {
            return Ok(Some(why));
        }
        for id in ids {
            let Some(ready) = &self.ready else { continue };
            let words: Vec<&str> = ["exec", id].into_iter().chain(ready.iter().map(String::as_str)).collect();
            if let Err(failure) = docker(&words, None, LOOK, cancel) {
                return cancel.check().map(|()| Some(failure.full()));
            }
        }
        Ok(None)
    }
}

impl Reload for OneByOne {
    fn preflight(&self, cancel: &Cancel) -> Result<Vec<String>> {
        self.compose.preflight(cancel)
    }

    fn reload(&self, _: &Credential, cancel: &Cancel) -> Result<()> {
        let before = self.ids(cancel)?;
        let all = self.workers(&before, cancel)?;
        let noted = all.iter().find_map(|worker| Some(worker.mark()?.1));
        // One that stands for another number is from long ago.
        let wanted = noted.filter(|count| [*count, count + 1].contains(&all.len())).unwrap_or(all.len());
        loop {
            cancel.check()?;
            let all = self.workers(&before, cancel)?;
            if all.len() > wanted {
                self.end_one(&all, cancel)?;
                continue;
            }
            self.unmark(all.iter().filter(|worker| worker.is_new))?;
            let old = all.iter().filter(|worker| !worker.is_new).min_by_key(|old| old.mark().is_none());
            let Some(old) = old else { return Ok(()) };
            self.make_one(old, wanted, cancel)?;
        }
    }

    fn trouble(&self, cancel: &Cancel) -> Result<Option<String>> {
        let all = self.ids(cancel)?;
        let ids: Vec<&str> = all.iter().map(String::as_str).collect();
        match ids.is_empty() {
            true => Ok(Some(format!("the service {} has no container", self.compose.service()))),
            false => self.trouble_of(&ids, cancel),
        }
    }

    fn describe(&self) -> String {
        let service = self.compose.service();
        format!("one by one, a new container of {service} first, then an old one is told to end")
    }
}
