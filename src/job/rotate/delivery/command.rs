//! A command of the user that lets a consumer take up the secret: it finds it on standard input, and need not read it. The user,
//! where that changes, is in `BKP_USER`.

use super::{Reload, run};
use crate::engine::Credential;
use crate::error::Result;
use crate::event::Cancel;
use crate::secret::Secret;
use std::time::Duration;

pub struct Hook {
    words: Vec<String>,
    environment: [(&'static str, String); 2],
    limit: Duration,
}

impl Hook {
    pub fn new(rotation: &str, consumer: &str, words: &[String], limit: Duration) -> Self {
        let environment = [("BKP_ROTATION", rotation.to_owned()), ("BKP_CONSUMER", consumer.to_owned())];
        Hook { words: words.to_vec(), environment, limit }
    }
}

impl Reload for Hook {
    fn reload(&self, credential: &Credential, cancel: &Cancel) -> Result<()> {
        let input = Secret::new(format!("{}\n", credential.expose()));
        let user = credential.user.iter().map(|user| ("BKP_USER", user.clone()));
        let environment: Vec<_> = self.environment.iter().cloned().chain(user).collect();
        run(&self.words, Some(input), &environment, self.limit, cancel).map(drop)
    }

    /// That it ended well was all.
    fn trouble(&self, _: &Cancel) -> Result<Option<String>> {
        Ok(None)
    }

    fn describe(&self) -> String {
        format!("run its command ({})", self.words[0])
    }
}
