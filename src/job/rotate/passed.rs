//! Who of a rotation was moved and seen to work, for the next process of this host: a restart of all consumers at each try would
//! be an outage of its own.
//!
//! It is kept here and not in Vault. A Vault that was put back would tell of consumers that were moved back since, and those of
//! another host are not these. It is written after a gate, and what it says of a consumer is taken back before that is told
//! anything else, so whoever is in it has the secret of that direction. Where it is not readable, nobody has passed.

use super::state::Direction;
use crate::durable;
use crate::error::{Context, Result};
use crate::policy::Consumer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub struct Passed {
    path: PathBuf,
    content: Content,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Content {
    run: String,
    back: bool,
    /// By name; and as it was described, for one that is described otherwise since may be another one.
    consumers: BTreeMap<String, String>,
}

impl Passed {
    pub fn read(path: PathBuf) -> Self {
        let text = std::fs::read(&path).unwrap_or_default();
        Passed { path, content: serde_json::from_slice(&text).unwrap_or_default() }
    }

    pub fn has(&self, run: &str, direction: Direction, consumer: &Consumer) -> bool {
        let is_of = self.content.run == run && self.content.back == (direction == Direction::Back);
        is_of && self.content.consumers.get(&consumer.name) == Some(&described(consumer))
    }

    pub fn add(mut self, run: &str, direction: Direction, consumer: &Consumer) -> Result<()> {
        let back = direction == Direction::Back;
        if self.content.run != run || self.content.back != back {
            self.content = Content { run: run.to_owned(), back, consumers: BTreeMap::new() };
        }
        self.content.consumers.insert(consumer.name.clone(), described(consumer));
        self.write()
    }

    /// Of whatever run and direction.
    pub fn forget<'c>(mut self, consumers: impl Iterator<Item = &'c Consumer>) -> Result<()> {
        let before = self.content.consumers.len();
        consumers.for_each(|consumer| drop(self.content.consumers.remove(&consumer.name)));
        if self.content.consumers.len() == before { Ok(()) } else { self.write() }
    }

    fn write(&self) -> Result<()> {
        let text = serde_json::to_vec(&self.content).expect("strings are JSON");
        durable::write(&self.path, &text, 0o600).context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Where it is, in the directory of rotations.
pub fn file(directory: &Path, rotation: &str) -> PathBuf {
    directory.join(format!("{rotation}.passed"))
}

fn described(consumer: &Consumer) -> String {
    hex::encode(&Sha256::digest(format!("{consumer:?}"))[..6])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Reload, Told};
    use std::time::Duration;

    fn consumer(name: &str, command: &str) -> Consumer {
        let (name, reload) = (name.into(), Reload::Command(vec![command.into()]));
        Consumer { name, told: Told::Published, reload, check: None, patience: Duration::from_secs(1) }
    }

    #[test]
    fn who_passed_did_so_in_one_run_and_direction_and_as_described() {
        use Direction::{Back, Forward};
        let directory = tempfile::tempdir().unwrap();
        let passed = || Passed::read(file(directory.path(), "db"));
        let (web, worker) = (consumer("web", "reload"), consumer("worker", "reload"));
        assert!(!passed().has("", Forward, &web), "nothing is known");
        passed().add("r1", Forward, &web).unwrap();
        passed().add("r1", Forward, &worker).unwrap();
        assert!(passed().has("r1", Forward, &web) && passed().has("r1", Forward, &worker));
        assert!(!passed().has("r2", Forward, &web) && !passed().has("r1", Back, &web));
        assert!(!passed().has("r1", Forward, &consumer("web", "restart")));
        passed().forget([&web].into_iter()).unwrap();
        assert!(!passed().has("r1", Forward, &web) && passed().has("r1", Forward, &worker));
        passed().add("r1", Back, &web).unwrap();
        assert!(passed().has("r1", Back, &web) && !passed().has("r1", Forward, &worker), "it turned");
        std::fs::write(file(directory.path(), "db"), "{").unwrap();
        assert!(!passed().has("r1", Back, &web));
    }
}
