//! What a rehearsal asks of MongoDB: a server of its own, and whether every document, definition, index and user is there again;
//! and the user's own questions.
//!
//! The driver reaches a container without network through a port of loopback that is carried into it. A server without an oplog gave
//! its collections one after the other: unless it stood still then, nothing is called equal, however equal it looks. As a process a server has no
//! users of its own and listens on loopback; users are not compared there when it does not know them.

use super::session::Session;
use super::{Settings, accounts, catalog, dump};
use crate::engine::Settings as AnySettings;
use crate::engine::rehearsal::{
    Comparison, ContainerRecipe, Entrance, Ground, ProcessRecipe, Question, Reach, Rehearsable, Scratch, Site, Subject,
    counted, must_be_fresh,
};
use crate::engine::{FingerprintPart, Server};
use crate::error::{Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::exec::{Command, Place};
use crate::secret::Secret;
use bson::{Bson, Document, doc};
use std::ffi::OsString;

const USER: &str = "root";
const DATA: &str = "/data/db";
const PORT: u16 = 27017;

pub struct Rehearsal;

impl Rehearsable for Rehearsal {
    fn ground(&self, _: &Subject<'_>) -> Result<Ground> {
        Ok(Ground::Server)
    }

    fn container(&self, subject: &Subject<'_>, password: &Secret) -> Result<ContainerRecipe> {
        Ok(ContainerRecipe {
            environment: vec![("MONGO_INITDB_ROOT_USERNAME".into(), USER.into())],
            secrets: vec![("MONGO_INITDB_ROOT_PASSWORD".into(), password.clone())],
            data: DATA.into(),
            room: subject.bytes.saturating_mul(3).saturating_add(512 << 20),
            port: Some(PORT),
            ..ContainerRecipe::default()
        })
    }

    fn process(&self, _: &Subject<'_>, site: &Site<'_>, _: &Secret) -> Result<Option<ProcessRecipe>> {
        let data = site.directory.join("data");
        let make = Command {
            program: "mkdir".into(),
            arguments: vec!["-p".into(), data.clone().into()],
            ..Command::default()
        };
        let words = ["--bind_ip", "127.0.0.1", "--port"].map(OsString::from);
        let port = OsString::from(site.port.to_string());
        let arguments = [OsString::from("--dbpath"), data.into()].into_iter().chain(words).chain([port]);
        Ok(Some(ProcessRecipe {
            programs: vec!["mongod"],
            directories: Vec::new(),
            before: vec![make],
            arguments: arguments.collect(),
            files: Vec::new(),
            by_socket: false,
            alone: false,
        }))
    }

    fn settings(&self, _: &Subject<'_>, reach: Option<&Reach>) -> AnySettings {
        let server = reach.map(|reach| {
            let has_users = reach.place != Place::Host;
            Server {
                host: reach.host.clone(),
                port: reach.port,
                user: has_users.then(|| USER.to_owned()),
                password: has_users.then(|| reach.password.clone()),
                ..Server::default()
            }
        });
        AnySettings::Mongo(Settings {
            server: server.unwrap_or_default(),
            auth_database: None,
            databases: Vec::new(),
            exclude: Vec::new(),
            mongodump: false,
        })
    }

    fn ready(&self, settings: &AnySettings, cancel: &Cancel) -> Result<()> {
        let session = Session::open(of(settings)?, cancel)?;
        // Official images first start one that forks, to make its user.
        let options = session.attempt("admin", doc! { "getCmdLineOpts": 1 })?.unwrap_or_default();
        let forks = options.get_document("parsed").and_then(|parsed| parsed.get_document("processManagement"));
        match forks.is_ok_and(|management| management.get_bool("fork").unwrap_or(false)) {
            true => Err(Failure::new(Kind::TryLater, "the image is still setting the server up")),
            false => Ok(()),
        }
    }

    fn must_be_empty(&self, settings: &AnySettings, cancel: &Cancel) -> Result<()> {
        let settings = of(settings)?;
        let there = catalog::read(&Session::open(settings, cancel)?, settings)?;
        let found = there.iter().find(|collection| !catalog::is_account(&collection.name));
        must_be_fresh(found.map(|collection| format!("a collection {}", collection.name)))
    }

    fn compare(&self, subject: &Subject<'_>, scratch: &Scratch, context: Context<'_>) -> Result<Comparison> {
        let settings = of(scratch.settings())?;
        let (was, is) = (subject.origin.fingerprint(), super::fingerprint(settings, context)?);
        let mut comparison = match Comparison::of(was, &is) {
            Ok(comparison) => comparison,
            Err(unbound) => return Ok(unbound),
        };
        if subject.origin.details()["bound"] != true {
            comparison.unbound.push(dump::UNBOUND.into());
        }
        // What changed during the window of the oplog has no word in the point.
        for (name, part) in &was.parts {
            comparison.part(name, Some(part), is.parts.get(name), |was, is| told(name, was, is));
        }
        let session = Session::open(settings, context.cancel)?;
        let users = accounts::objects(&session)?;
        for (name, definition) in &accounts::objects_of(&subject.origin.details()["accounts"]) {
            match &users {
                Some(users) => {
                    comparison.part(name, Some(definition), users.get(name), |_, _| "other roles".to_owned())
                }
                None => comparison.unbound.push(format!("{name}: the scratch server knows no users")),
            }
        }
        Ok(comparison)
    }

    fn entrance(&self) -> Option<Entrance> {
        Some(Entrance { port: PORT, user: Some(USER) })
    }

    fn ask(&self, scratch: &Scratch, question: &Question, cancel: &Cancel) -> Result<String> {
        let Question::Mongo { database, command, value } = question else {
            return Err(question.is_not_for("MongoDB"));
        };
        let command: Document = serde_json::from_value(command.clone())
            .map_err(|error| Failure::usage("the command is no document").because(error))?;
        let answer = Session::open(of(scratch.settings())?, cancel)?.command(database, command)?;
        let path = value.as_deref().unwrap_or("n");
        let found = path.split('.').try_fold(Bson::Document(answer), |at, step| match at {
            Bson::Document(document) => document.get(step).cloned(),
            Bson::Array(all) => all.get(step.parse::<usize>().ok()?).cloned(),
            _ => None,
        });
        match found {
            None => Err(Failure::failed(format!("the answer has no `{path}`"))),
            Some(Bson::String(text)) => Ok(text),
            Some(Bson::Double(number)) => Ok(number.to_string()),
            Some(other) => Ok(other.to_string()),
        }
    }
}

fn of(settings: &AnySettings) -> Result<&Settings> {
    match settings {
        AnySettings::Mongo(settings) => Ok(settings),
        _ => Err(Failure::failed("these settings are not of MongoDB")),
    }
}

fn told(name: &str, was: &FingerprintPart, is: &FingerprintPart) -> String {
    counted(was, is, if name.starts_with("definition of ") { "indexes" } else { "documents" })
}
