//! Where else those who are told have the password: in other variables of the file they are told by, and in what a container was
//! given besides. Their own variable is exchanged, and these would not be.

use super::containers::{argument, is_of_consumer};
use super::files::{lines_have, read, variable_has};
use super::{Found, Scan, Search, Thing, real};
use crate::error::Result;
use crate::exec::docker::{Description, Docker, State};
use crate::job::rotate::delivery::env_file::copy_aside;
use crate::job::rotate::delivery::variables::{assignments, meant};
use crate::policy::{Consumer, How, Reload, Rotation, Told};
use crate::secret::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What stands between the path of a file and a variable in it.
const OF: char = '#';

/// Each file of variables, as the configuration names it, with what consumers are told by in it.
type Files<'r> = BTreeMap<PathBuf, (&'r Path, BTreeSet<&'r str>)>;

impl Search<'_> {
    /// Other variables of the files that consumers are told by.
    pub(super) fn beside(&self, scan: &mut Scan) {
        for (real, (path, told)) in files_of(self.rotation) {
            let text = match read(&real) {
                Ok(Some(text)) => text,
                // Who is told by it says what is wrong.
                Ok(None) => continue,
                Err(error) => {
                    scan.warnings.push(format!("{} was not looked into: {error}", path.display()));
                    continue;
                }
            };
            let place = format!("beside {}", told.iter().copied().collect::<Vec<_>>().join(" and "));
            for name in variables_with(&text, &told, self.secret) {
                let name = format!("{}{OF}{name}", path.display());
                scan.unknown.insert(Found { thing: Thing::Variable, name, place: place.clone() });
            }
        }
    }

    /// What would stay in the container of a consumer when it is moved as its consumers say.
    pub(super) fn stays(&self, container: &Description, consumers: &[&Consumer], scan: &mut Scan) {
        let is_made_anew =
            |consumer: &&&Consumer| matches!(consumer.reload, Reload::Compose(_, How::Recreate | How::OneByOne { .. }));
        let mut all = BTreeSet::new();
        if !consumers.iter().any(|consumer| is_made_anew(&consumer)) {
            all.extend(self.given(container));
        }
        let names: Vec<&str> = consumers.iter().map(|consumer| consumer.name.as_str()).collect();
        all.extend(self.mounted(container, &names.join(" and "), scan));
        for consumer in consumers {
            all.extend(by_itself(container, consumer));
        }
        scan.unknown.extend(all);
    }

    /// Variables and arguments: they are fixed as long as there is the container.
    fn given(&self, container: &Description) -> Vec<Found> {
        let told = self.rotation.consumers.iter().filter(|consumer| is_of_consumer(container, consumer));
        let files: Vec<&Path> = told.filter_map(|consumer| consumer.told.env_file()).collect();
        let known = |name: &str| self.rotation.known.iter().any(|known| is_it(known, name, &container.name, &files));
        let variables = container.environment.iter().filter(|(name, _)| !known(name));
        let having = variables.filter(|(name, value)| variable_has(name, value.expose(), self.secret));
        let mut places: Vec<String> = having.map(|(name, _)| format!("variable {name}")).collect();
        places.extend(argument(&container.command, self.secret));
        let found = |place| Found { thing: Thing::Container, name: container.name.clone(), place };
        places.into_iter().map(found).collect()
    }

    /// Files that are mounted, but for those by which consumers are told.
    fn mounted(&self, container: &Description, into: &str, scan: &mut Scan) -> Vec<Found> {
        let mut unreadable = BTreeSet::new();
        let is_ours = |path: &Path| {
            self.is_told_file(path) || self.told_files().any(|told| real(&copy_aside(&real(told))) == real(path))
        };
        let files = self.files(container, &mut unreadable);
        let found = |path: PathBuf| Found {
            thing: Thing::File,
            name: path.display().to_string(),
            place: format!("mounted into {into}"),
        };
        scan.not_read(unreadable);
        files.into_iter().filter(|path| !is_ours(path)).map(found).collect()
    }
}

/// Of the containers of one consumer that run: what of them has this secret, and is not known.
pub fn left(rotation: &Rotation, consumer: &Consumer, secret: &Secret) -> Result<BTreeSet<Found>> {
    if !matches!(consumer.reload, Reload::Compose(..) | Reload::Container { .. } | Reload::Swarm(_)) {
        return Ok(BTreeSet::new());
    }
    let search = Search { secret, rotation, server: None };
    let mut left = BTreeSet::new();
    for container in Docker::if_there()?.map_or(Ok(Vec::new()), |docker| docker.containers())? {
        if container.state == State::Running && is_of_consumer(&container, consumer) {
            left.extend(search.given(&container));
            left.extend(search.mounted(&container, &consumer.name, &mut Scan::default()));
        }
    }
    left.retain(|found| !found.is_known(rotation));
    Ok(left)
}

/// Whether `known` names this variable of a container: as one of the container, or of a file of variables that it was given.
fn is_it(known: &str, name: &str, container: &str, files: &[&Path]) -> bool {
    known.rsplit_once(OF).is_some_and(|(place, variable)| {
        variable == name && (place == container || files.iter().any(|file| real(file) == real(place.as_ref())))
    })
}

/// A file that is mounted by itself is the one that it was when the container was started, whatever takes its name later.
fn by_itself(container: &Description, consumer: &Consumer) -> Option<Found> {
    let signal = match &consumer.reload {
        Reload::Compose(_, How::Signal(signal)) | Reload::Container { signal: Some(signal), .. } => signal,
        _ => return None,
    };
    let Told::SecretFile(path) = &consumer.told else { return None };
    let mount = container.mounts.iter().find(|mount| real(&mount.source) == real(path))?;
    let place = format!(
        "has {} itself mounted and would not see another one by {signal}: leave out `signal`, or mount the directory",
        mount.source.display()
    );
    Some(Found { thing: Thing::Container, name: container.name.clone(), place })
}

fn files_of(rotation: &Rotation) -> Files<'_> {
    let mut files = Files::new();
    for consumer in &rotation.consumers {
        if let Told::EnvFile { path, variables, user_variable } = &consumer.told {
            let (_, told) = files.entry(real(path)).or_insert_with(|| (path, BTreeSet::new()));
            told.extend(variables.iter().chain(user_variable).map(String::as_str));
        }
    }
    files
}

/// Names of variables, or numbers of lines, that have the secret.
fn variables_with(text: &str, told: &BTreeSet<&str>, secret: &Secret) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match assignments(line).first() {
            Some(one) if told.contains(one.name) => {}
            Some(one) => {
                let value = one.value.clone().map_or(line, |value| &line[value]);
                if variable_has(one.name, &meant(value), secret) {
                    found.push(one.name.to_owned());
                }
            }
            None if lines_have(line, secret) => found.push((number + 1).to_string()),
            None => {}
        }
    }
    found
}

/// What the configuration would say so that variables that were found beside others are exchanged with them.
pub(super) fn advice(unknown: &BTreeSet<Found>, rotation: &Rotation) -> Vec<String> {
    let mut said = BTreeSet::new();
    let mut all = Vec::new();
    for consumer in &rotation.consumers {
        let Told::EnvFile { path, variables, .. } = &consumer.told else { continue };
        let of_file = format!("{}{OF}", path.display());
        let others = unknown.iter().filter(|found| found.thing == Thing::Variable);
        let others: Vec<&str> = others.filter_map(|found| found.name.strip_prefix(&of_file)).collect();
        if !others.is_empty() && said.insert(path) {
            let names: Vec<&str> = variables.iter().map(String::as_str).chain(others).collect();
            all.push(format!("in {}: `variable: [{}]`", consumer.name, names.join(", ")));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_known_where_it_was_said_and_nowhere_else() {
        let known = |known: &str| is_it(known, "DB_PASSWORD", "shop-web-1", &[Path::new("/srv/shop/.env")]);
        assert!(known("/srv/shop/.env#DB_PASSWORD") && known("shop-web-1#DB_PASSWORD"));
        for other in ["/srv/old/.env#DB_PASSWORD", "shop-db#DB_PASSWORD", "/srv/shop/.env#OTHER", "DB_PASSWORD"] {
            assert!(!known(other), "{other}");
        }
    }

    #[test]
    fn other_variables_with_the_password_are_found() {
        let secret = Secret::new("pa$s-word!".into());
        let text = "DB_PASSWORD='pa$s-word!'\n# OLD=pa$s-word!\nexport URL=\"mysql://app:pa%24s-word%21@db\"\nSAME=pa$$s-word!\nMADE=mysql://app:${DB_PASSWORD}@db\nX: pa$s-word!\nOTHER=pa$s-words\n";
        assert_eq!(variables_with(text, &BTreeSet::from(["DB_PASSWORD"]), &secret), ["URL", "SAME", "6"]);
        let short = Secret::new("app".into());
        assert_eq!(variables_with("U=app\nPW=x\nP_PASS=app\n", &BTreeSet::new(), &short), ["P_PASS"]);
    }
}
