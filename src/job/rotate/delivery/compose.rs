//! A service of a Compose project: made again, which alone lets it read its variables anew; restarted, which lets it see a file
//! that was exchanged; or sent a signal.
//!
//! Compose makes a container again only when something changed, so doing it twice is harmless. What depends on the service is
//! left alone.

use super::docker::{LIMIT, Restarts, docker, trouble_of_all};
use super::{LOOK, Reload};
use crate::engine::Credential;
use crate::error::Result;
use crate::event::Cancel;
use crate::policy::{ComposeService, How};
use std::time::Duration;

pub struct Compose {
    service: ComposeService,
    how: How,
}

impl Compose {
    pub fn new(service: &ComposeService, how: &How) -> Self {
        Compose { service: service.clone(), how: how.clone() }
    }

    pub fn service(&self) -> &str {
        &self.service.service
    }

    pub fn compose(&self, arguments: &[&str], limit: Duration, cancel: &Cancel) -> Result<String> {
        let directory = self.service.directory.display().to_string();
        let file = self.service.file.as_ref().map(|file| file.display().to_string());
        let mut words = vec!["compose", "--project-directory", &directory];
        let given = [("--project-name", self.service.project.as_deref()), ("--file", file.as_deref())];
        words.extend(given.into_iter().filter_map(|(option, value)| Some([option, value?])).flatten());
        docker(&[&words[..], arguments].concat(), None, limit, cancel)
    }

    fn words(&self) -> Vec<&str> {
        let mut words = match &self.how {
            How::Recreate | How::OneByOne { .. } => vec!["up", "--detach", "--no-deps"],
            How::Restart => vec!["restart", "--no-deps"],
            How::Signal(signal) => vec!["kill", "--signal", signal],
        };
        words.push(&self.service.service);
        words
    }
}

impl Reload for Compose {
    fn reload(&self, _: &Credential, cancel: &Cancel) -> Result<()> {
        self.compose(&self.words(), LIMIT, cancel).map(drop)
    }

    fn trouble(&self, cancel: &Cancel) -> Result<Option<String>> {
        let listed = self.compose(&["ps", "--all", "--quiet", &self.service.service], LOOK, cancel)?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Some(format!("the service {} has no container", self.service.service)));
        }
        let restarts = if matches!(self.how, How::Signal(_)) { Restarts::Ignore } else { Restarts::Count };
        trouble_of_all(&ids, restarts, cancel)
    }

    fn describe(&self) -> String {
        format!("docker compose {} in {}", self.words().join(" "), self.service.directory.display())
    }
}
