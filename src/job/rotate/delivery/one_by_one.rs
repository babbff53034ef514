//! Workers of a Compose service, replaced one by one: a new one first, and when it is ready an old one is told to end (SIGTERM),
//! and is waited for. So workers that finish what they are at when they are told to end, as Celery's do, lose nothing.
//!
//! A new one that does not get ready is removed again: the old ones were not touched by then. Done twice, it replaces only what
//! is not as the project says; where that cannot be seen (a secret file), all of them once more.

use super::compose::Compose;
use super::docker::{LIMIT, Restarts, docker, trouble_of_all};
use super::{LOOK, Reload};
use crate::backoff::pause;
use crate::engine::Credential;
use crate::error::{Failure, Result};
use crate::event::Cancel;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(500);
const HASH: &str = "{{.Id}} {{index .Config.Labels \"com.docker.compose.config-hash\"}}";

pub struct OneByOne {
    pub compose: Compose,
    /// Run in a new container until it ends well.
    pub ready: Option<Vec<String>>,
    /// How long an old one may take to end.
    pub grace: Duration,
    pub patience: Duration,
    /// Whether another secret makes the project say something else.
    pub by_variable: bool,
}

impl OneByOne {
    fn containers(&self, cancel: &Cancel) -> Result<Vec<String>> {
        let listed = self.compose.compose(&["ps", "--all", "--quiet", self.compose.service()], LOOK, cancel)?;
        Ok(listed.split_whitespace().map(str::to_owned).collect())
    }

    /// Those to be replaced.
    fn old(&self, cancel: &Cancel) -> Result<Vec<String>> {
        let all = self.containers(cancel)?;
        if !self.by_variable || all.is_empty() {
            return Ok(all);
        }
        let told = self.compose.compose(&["config", "--hash", self.compose.service()], LOOK, cancel)?;
        let wanted = told.split_whitespace().last().unwrap_or_default().to_owned();
        let ids: Vec<&str> = all.iter().map(String::as_str).collect();
        let hashes = docker(&[&["inspect", "--format", HASH], &ids[..]].concat(), None, LOOK, cancel)?;
        let differs = |line: &&str| line.split_whitespace().nth(1) != Some(&wanted);
        Ok(hashes.lines().filter(differs).filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect())
    }

    fn replace(&self, old: &str, cancel: &Cancel) -> Result<()> {
        let before = self.containers(cancel)?;
        let service = self.compose.service();
        let scale = format!("{service}={}", before.len() + 1);
        let up = ["up", "--detach", "--no-deps", "--no-recreate", "--scale", &scale, service];
        self.compose.compose(&up, LIMIT, cancel)?;
        let new: Vec<String> = self.containers(cancel)?.into_iter().filter(|id| !before.contains(id)).collect();
        let [new] = new.as_slice() else {
            return Err(Failure::failed(format!(
                "Compose made {} new containers of {service}, and not one",
                new.len()
            )));
        };
        if let Err(failure) = self.wait(new, cancel) {
            docker(&["rm", "--force", new], None, LIMIT, &Cancel::default())?;
            return Err(failure);
        }
        let seconds = self.grace.as_secs().to_string();
        docker(&["stop", "-t", &seconds, old], None, self.grace + LIMIT, cancel)?;
        docker(&["rm", old], None, LIMIT, cancel).map(drop)
    }

    fn wait(&self, new: &str, cancel: &Cancel) -> Result<()> {
        let begun = Instant::now();
        while let Some(why) = self.trouble_of(&[new], cancel)? {
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
    fn reload(&self, _: &Credential, cancel: &Cancel) -> Result<()> {
        for old in self.old(cancel)? {
            self.replace(&old, cancel)?;
        }
        Ok(())
    }

    fn trouble(&self, cancel: &Cancel) -> Result<Option<String>> {
        let all = self.containers(cancel)?;
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
