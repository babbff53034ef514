//! What a restore takes out of an archive, and what it is called in the server. No I/O.

use crate::durable::random_hex;
use crate::engine::mongo::archive::Namespace;
use crate::engine::mongo::catalog;
use crate::engine::mongo::leftovers::{ASIDE, STAGED};
use crate::engine::{Naming, Part, Target};
use crate::error::{Failure, Result};

#[derive(Debug)]
pub(in crate::engine::mongo) struct Names {
    part: Part,
    way: Way,
}

#[derive(Debug)]
enum Way {
    New(Naming),
    /// Into the databases themselves, under collection names with this in front until the very end.
    Beside {
        id: String,
    },
}

impl Names {
    pub fn new(target: &Target, part: &Part) -> Result<Self> {
        if matches!(part, Part::Path(_)) {
            return Err(Failure::usage("a point of MongoDB has no paths")
                .hint("Name a database, or a database and a collection of it"));
        }
        let way = match target {
            Target::NewDatabases(naming) => Way::New(naming.clone()),
            Target::Live(_) => Way::Beside { id: random_hex(4) },
            Target::New(_) | Target::NewVolume(_) | Target::Command => {
                return Err(Failure::usage("a point of MongoDB is restored into a MongoDB server")
                    .hint("Restore to other names, or in place"));
            }
        };
        Ok(Names { part: part.clone(), way })
    }

    pub fn is_beside(&self) -> bool {
        matches!(self.way, Way::Beside { .. })
    }

    /// Everything, as it was: only then users and roles come along.
    pub fn is_all_the_same(&self) -> bool {
        self.part == Part::Whole && matches!(self.way, Way::New(Naming::Same))
    }

    /// Whether whole databases come, so that these must not be there yet.
    pub fn is_whole_databases(&self) -> bool {
        !matches!(self.part, Part::Table { .. })
    }

    pub fn wants(&self, name: &Namespace) -> bool {
        !catalog::is_account(name)
            && !["", "local", "config"].contains(&name.database.as_str())
            && match &self.part {
                Part::Whole => true,
                Part::Path(_) => false,
                Part::Database(database) => *database == name.database,
                Part::Table { database, table } => *database == name.database && *table == name.collection,
            }
    }

    /// The database that something goes into.
    pub fn database(&self, database: &str) -> String {
        match &self.way {
            Way::New(Naming::Suffix(suffix)) => format!("{database}{suffix}"),
            Way::New(Naming::As(name)) => name.clone(),
            Way::New(Naming::Same) | Way::Beside { .. } => database.to_owned(),
        }
    }

    /// Where a collection goes first. `None` when it is not wanted.
    pub fn target(&self, name: &Namespace) -> Option<Namespace> {
        self.wants(name).then(|| match &self.way {
            Way::New(_) => Namespace::new(self.database(&name.database), &name.collection),
            Way::Beside { id } => Namespace::new(&name.database, format!("{STAGED}{id}_{}", name.collection)),
        })
    }

    /// What is called when it is live.
    pub fn live(&self, name: &Namespace) -> Namespace {
        Namespace::new(self.database(&name.database), &name.collection)
    }

    /// What a collection is called that gives way to a restored one.
    pub fn replaced(&self, live: &Namespace) -> Namespace {
        let id = match &self.way {
            Way::Beside { id } => id.as_str(),
            Way::New(_) => "",
        };
        Namespace::new(&live.database, format!("{ASIDE}{id}_{}", live.collection))
    }

    /// One name for several databases would mix them.
    pub fn check<'a>(&self, databases: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut wanted: Vec<&str> = databases.collect();
        wanted.sort_unstable();
        wanted.dedup();
        match (&self.way, wanted.as_slice(), &self.part) {
            (_, [], Part::Whole) => Ok(()),
            (_, [], Part::Table { database, table }) => {
                Err(Failure::usage(format!("there is no collection {table} of a database {database} in this point")))
            }
            (_, [], Part::Database(database)) => {
                Err(Failure::usage(format!("there is no database {database} in this point")))
            }
            (Way::New(Naming::As(name)), [_, _, ..], _) => Err(Failure::usage(format!(
                "this point holds {} databases, and they cannot all be called {name}",
                wanted.len()
            ))
            .hint(format!("Choose one of them: {}", wanted.join(", ")))),
            _ => Ok(()),
        }
    }
}
