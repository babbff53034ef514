//! What stands beside the documents of a load: the collections it made, the indexes and views that are still to come.

use crate::engine::mongo::archive::Namespace;
use crate::engine::mongo::catalog::{Collection, Kind as CollectionKind};
use crate::engine::mongo::session::{Session, code};
use crate::error::{Failure, Kind, Result};
use bson::{Bson, Document, doc};
use std::collections::{BTreeMap, BTreeSet};

/// Options that servers tell and do not take.
const ONLY_TOLD: [&str; 4] = ["autoIndexId", "idIndex", "uuid", "temp"];

#[derive(Default)]
pub(in crate::engine::mongo) struct Definitions {
    /// By the names they have now.
    pub made: BTreeSet<Namespace>,
    /// Where each collection goes in the end.
    pub live: BTreeMap<Namespace, Namespace>,
    pub indexes: BTreeMap<Namespace, Vec<Document>>,
    pub views: BTreeMap<Namespace, Document>,
}

impl Definitions {
    pub fn add(&mut self, collection: &Collection, target: &Namespace, live: &Namespace) {
        if collection.kind == CollectionKind::View {
            self.views.insert(live.clone(), collection.options.clone());
        } else {
            self.live.insert(target.clone(), live.clone());
            self.indexes.insert(target.clone(), collection.indexes.clone());
        }
    }

    pub fn create(&mut self, session: &Session<'_>, name: &Namespace, options: &Document) -> Result<()> {
        let mut command = doc! { "create": &name.collection };
        let told = options.iter().filter(|(key, _)| !ONLY_TOLD.contains(&key.as_str()));
        command.extend(told.map(|(key, value)| (key.clone(), value.clone())));
        match session.attempt(&name.database, command)? {
            Ok(_) => {
                self.made.insert(name.clone());
                Ok(())
            }
            Err(refused) if refused.code == code::NAMESPACE_EXISTS => {
                let text = format!("{name} appeared in the server during the restore");
                Err(Failure::new(Kind::Refused, text).hint("Stop what creates it, or choose another name"))
            }
            Err(refused) => Err(session.refusal(&format!("create {name}"), &refused)),
        }
    }

    /// After the documents: it is faster, and the oplog may have passed through states that a unique index refuses.
    pub fn create_indexes(&self, session: &Session<'_>) -> Result<()> {
        for (name, indexes) in &self.indexes {
            let indexes: Vec<Bson> = indexes.iter().filter(|index| !is_of_id(index)).map(as_wanted).collect();
            if !indexes.is_empty() {
                session.command(&name.database, doc! { "createIndexes": &name.collection, "indexes": indexes })?;
            }
        }
        Ok(())
    }

    pub fn create_views(&mut self, session: &Session<'_>) -> Result<()> {
        for (name, options) in std::mem::take(&mut self.views) {
            self.create(session, &name, &options)?;
        }
        Ok(())
    }
}

fn is_of_id(index: &Document) -> bool {
    index.get_document("key").is_ok_and(|key| key.len() == 1 && key.contains_key("_id"))
}

/// The name of the collection in an index is of old servers, and would be wrong under another name.
fn as_wanted(index: &Document) -> Bson {
    let mut index = index.clone();
    index.remove("ns");
    Bson::Document(index)
}
