//! Who has a password and was not told of: found before it is rotated, because whoever is not moved is locked out in the end.
//!
//! Looked at are the containers of this host, the small files that are mounted into them, and the files of Compose projects. What
//! is found is named by container, variable and path; a value is compared and never shown. Programs that are neither in a
//! container nor in such a file are not seen.

mod advice;
mod containers;
mod files;
mod projects;
mod told;

use crate::engine::{Credential, Server};
use crate::error::{Failure, Kind};
use crate::exec::docker::{Description, Docker};
use crate::job::rotate::delivery::file::real;
use crate::policy::{ComposeService, Rotation};
use crate::secret::Secret;
use files::User;
pub use files::{lines_have, variable_has};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
pub use told::left;

/// Something that has the password.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Found {
    pub thing: Thing,
    /// The name of a container, a path, `PATH#VARIABLE`, or the name of a service: what `known` of the rotation would name.
    pub name: String,
    /// Where it has it.
    pub place: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    Container,
    Service,
    /// Of Kubernetes.
    Workload,
    File,
    /// In a file that consumers are told by.
    Variable,
    /// The user that changes with the password: in such a file, or in a container.
    User,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let thing = match self.thing {
            Thing::Container => "container ",
            Thing::Service => "service ",
            Thing::Workload => "workload ",
            Thing::File | Thing::Variable | Thing::User => "",
        };
        write!(f, "{thing}{} ({})", self.name, self.place)
    }
}

impl Found {
    /// Whether it is what was found later, after a container was made anew.
    fn is_where(&self, later: &Found) -> bool {
        let same = self.thing == later.thing && self.name == later.name;
        same && (self.thing != Thing::Container || self.place.split(", ").next() == later.place.split(", ").next())
    }

    pub fn is_known(&self, rotation: &Rotation) -> bool {
        rotation.known.iter().any(|known| match known.strip_suffix('*') {
            Some(beginning) => self.name.starts_with(beginning),
            None => self.name == *known,
        })
    }
}

/// What a look at this host came to.
#[derive(Debug, Default)]
pub struct Scan {
    pub unknown: BTreeSet<Found>,
    /// What could not be looked at.
    pub warnings: Vec<String>,
}

/// Why a rotation does not begin while these are not told of.
pub fn refusal(unknown: &BTreeSet<Found>, rotation: &Rotation) -> Option<Failure> {
    if unknown.is_empty() {
        return None;
    }
    let all: Vec<String> = unknown.iter().map(Found::to_string).collect();
    let name = &rotation.name;
    let text = format!("{name} is used by what is not among its consumers: {}", all.join(", "));
    let variables = advice::of(unknown, rotation);
    Some(Failure::new(Kind::Refused, text).hint(format!(
        "{variables}Add each to `consumers`, or to `known` where it need not be moved. To lock them out: bkp rotate {name} --despite-unknown"
    )))
}

/// What is looked for, and by whom it may be had.
struct Search<'a> {
    secret: &'a Secret,
    /// Whose it is, where that changes with it.
    user: Option<User<'a>>,
    rotation: &'a Rotation,
    /// What somebody wants to be locked out.
    taken: &'a [Found],
    /// The server whose account it is.
    server: Option<&'a Server>,
}

/// Looks for the secret everywhere but at the consumers of the rotation, at its server and at what is `known`.
pub fn scan(rotation: &Rotation, server: Option<&Server>, current: &Credential) -> Scan {
    let search = Search { secret: current, user: user_of(rotation, current), rotation, taken: &[], server };
    let mut scan = Scan::default();
    let containers = match Docker::if_there().and_then(|docker| docker.map_or(Ok(Vec::new()), |d| d.containers())) {
        Ok(containers) => containers,
        Err(failure) => {
            scan.warnings.push(format!("containers were not looked at for consumers: {}", failure.full()));
            Vec::new()
        }
    };
    search.beside(&mut scan);
    search.containers(&containers, &mut scan);
    search.projects(&containers, &mut scan);
    scan.unknown.retain(|found| !found.is_known(rotation));
    scan
}

fn user_of<'a>(rotation: &Rotation, credential: &'a Credential) -> Option<User<'a>> {
    let name = credential.user.as_deref()?;
    Some(User { name, is_chosen: rotation.turns().is_some(), is_owner: rotation.account == name })
}

impl Search<'_> {
    /// Files that consumers are told by.
    fn told_files(&self) -> impl Iterator<Item = &Path> {
        self.rotation.consumers.iter().filter_map(|consumer| consumer.told.file())
    }

    fn is_told_file(&self, path: &Path) -> bool {
        self.told_files().any(|told| real(told) == real(path))
    }

    /// Compose services that are moved.
    fn told_services(&self) -> impl Iterator<Item = &ComposeService> {
        self.rotation.consumers.iter().filter_map(|consumer| consumer.reload.service())
    }

    /// It is the server itself: what it was told when its data were made, it does not read again.
    fn is_server(&self, container: &Description) -> bool {
        self.server.is_some_and(|server| containers::is_of(container, server))
    }
}
