//! What the document of a rotation remembers of its consumers: whoever goes on does not begin with all of them again.

use super::scan::Found;
use crate::policy::Consumer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// What had the old one when it began and is not moved: somebody wants it locked out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Found>,
    /// Who took up the one of the direction that is gone, and was seen to work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    passed: Vec<String>,
}

impl Standing {
    pub fn begun(taken: &[Found]) -> Self {
        Standing { taken: taken.to_vec(), passed: Vec::new() }
    }

    pub fn has_passed(&self, consumer: &Consumer) -> bool {
        self.passed.contains(&mark_of(consumer))
    }

    pub fn pass(&mut self, consumer: &Consumer) {
        if !self.has_passed(consumer) {
            self.passed.push(mark_of(consumer));
        }
    }

    /// It is to begin anew.
    pub fn forget(&mut self, consumer: &Consumer) {
        self.passed.retain(|mark| *mark != mark_of(consumer));
    }

    /// All of them are.
    pub fn forget_all(&mut self) {
        self.passed.clear();
    }
}

/// One that the configuration describes otherwise since may be another one.
fn mark_of(consumer: &Consumer) -> String {
    let digest = hex::encode(Sha256::digest(format!("{consumer:?}")));
    format!("{} {}", consumer.name, &digest[..12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Reload, Told};
    use std::time::Duration;

    fn web(command: &str) -> Consumer {
        let (name, reload) = ("web".into(), Reload::Command(vec![command.into()]));
        Consumer { name, told: Told::Published, reload, check: None, patience: Duration::from_secs(1) }
    }

    #[test]
    fn who_is_described_otherwise_has_not_passed() {
        let mut standing = Standing::default();
        standing.pass(&web("reload"));
        assert!(standing.has_passed(&web("reload")) && !standing.has_passed(&web("restart")));
        let read: Standing = serde_json::from_value(serde_json::to_value(&standing).unwrap()).unwrap();
        assert_eq!(read, standing);
        standing.forget(&web("reload"));
        assert_eq!(standing, Standing::default());
    }
}
