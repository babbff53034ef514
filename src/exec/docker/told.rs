//! Passwords that a container was told when it was made, and what runs in it now.
//!
//! A file that a variable names is read inside the container: there it cannot lead out of it, and what the engine mounts into
//! a task (`/run/secrets`) is nowhere else.

use super::connect::ask;
use super::{Container, Description, Docker};
use crate::error::{Context, Failure, Kind, Result};
use crate::event::Cancel;
use crate::exec::{Command, Exec};
use crate::secret::Secret;
use bollard::query_parameters::TopOptionsBuilder;
use std::io::Read;

/// No password is longer.
const LONGEST: u64 = 64 << 10;
/// What is shorter may stand in a longer word by chance.
const TELLING: usize = 8;

/// What a container's own set-up says of a secret.
#[derive(Clone, Debug)]
pub enum Told {
    /// A file inside the container holds it.
    File(String),
    Value(Secret),
}

impl Description {
    /// The first of `names` that is told: a variable, or one with `_FILE` behind it; an option of the command where the name
    /// begins with `--`.
    pub fn told(&self, names: &[&str]) -> Option<Told> {
        names.iter().find_map(|name| {
            if name.starts_with("--") {
                return self.option(name).map(|value| Told::Value(Secret::new(value.to_owned())));
            }
            let file = self.environment.get(&format!("{name}_FILE")).map(|path| Told::File(path.expose().to_owned()));
            file.or_else(|| self.environment.get(*name).cloned().map(Told::Value))
        })
    }

    /// Where this container was told the secret when it was made, for people: its command, and variables.
    pub fn told_as(&self, secret: &Secret) -> Vec<String> {
        let ends = |c: char| c.is_whitespace() || "\"'>=".contains(c);
        let has = |text: &str| {
            let is_long = secret.expose().len() >= TELLING;
            text.split(ends).any(|word| word == secret.expose()) || is_long && text.contains(secret.expose())
        };
        let command = self.command.iter().any(|word| has(word)).then(|| "its command".to_owned());
        let variables = self.environment.iter().filter(|(_, value)| has(value.expose()));
        command.into_iter().chain(variables.map(|(name, _)| format!("its variable {name}"))).collect()
    }

    /// The word after `name` in what was to run; one that a shell would still replace is none.
    fn option(&self, name: &str) -> Option<&str> {
        let words: Vec<&str> = self.command.iter().flat_map(|text| text.split_whitespace()).collect();
        let value = words.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].trim_matches(['"', '\'']))?;
        (!value.contains('$')).then_some(value)
    }
}

impl Container {
    /// The secret under the first of `names` that this container was told; see [`Description::told`].
    pub fn secret(&self, names: &[&str]) -> Result<Option<Secret>> {
        match self.docker.set_up(&self.id)?.told(names) {
            None => Ok(None),
            Some(Told::Value(secret)) => Ok(Some(secret)),
            Some(Told::File(path)) => self.secret_file(&path).map(Some),
        }
    }

    fn secret_file(&self, path: &str) -> Result<Secret> {
        let what = || format!("cannot read the secret {path} in {}", self.title());
        let command =
            Command { program: "cat".into(), arguments: vec!["--".into(), path.into()], ..Command::default() };
        let cancel = Cancel::default();
        let mut text = zeroize::Zeroizing::new(String::new());
        let mut output = self.start(&command, &cancel)?.take(LONGEST + 1);
        output.read_to_string(&mut text).context(what).map_err(|e| Failure::new(Kind::Key, e.full()))?;
        if text.len() as u64 > LONGEST {
            return Err(Failure::new(Kind::Key, what()).because("it is too long to be a password"));
        }
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(Secret::new(std::mem::take(&mut *text)))
    }
}

impl Docker {
    /// Names of the programs that run in a container, as `ps` has them: at most 15 bytes each. `None` when that cannot be found
    /// out, as where it does not run.
    pub fn programs(&self, id: &str) -> Option<Vec<String>> {
        let options = TopOptionsBuilder::new().ps_args("-eo pid,comm").build();
        let request = self.client.top_processes(id, Some(options));
        let table = ask(|| format!("cannot list the processes of container {id}"), request).ok()?;
        let column = table.titles?.iter().position(|title| ["COMMAND", "COMM", "CMD"].contains(&title.as_str()))?;
        let cells = table.processes?.into_iter().filter_map(|row| row.into_iter().nth(column));
        let name = |cell: String| Some(cell.split_whitespace().next()?.rsplit('/').next()?.to_owned());
        Some(cells.filter_map(name).collect())
    }
}
