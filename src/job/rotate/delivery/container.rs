//! One container, by its name: restarted, which lets it see a file that was exchanged, or sent a signal.

use super::Reload;
use super::docker::{LIMIT, Restarts, docker, trouble_of_all};
use crate::engine::Credential;
use crate::error::Result;
use crate::event::Cancel;

pub struct Container {
    name: String,
    signal: Option<String>,
}

impl Container {
    pub fn new(name: &str, signal: Option<&str>) -> Self {
        Container { name: name.to_owned(), signal: signal.map(str::to_owned) }
    }

    fn words(&self) -> Vec<&str> {
        match &self.signal {
            Some(signal) => vec!["kill", "--signal", signal, &self.name],
            None => vec!["restart", &self.name],
        }
    }
}

impl Reload for Container {
    fn reload(&self, _: &Credential, cancel: &Cancel) -> Result<()> {
        docker(&self.words(), None, LIMIT, cancel).map(drop)
    }

    fn trouble(&self, cancel: &Cancel) -> Result<Option<String>> {
        let restarts = if self.signal.is_some() { Restarts::Ignore } else { Restarts::Count };
        trouble_of_all(&[self.name.as_str()], restarts, cancel)
    }

    fn describe(&self) -> String {
        format!("docker {}", self.words().join(" "))
    }
}
