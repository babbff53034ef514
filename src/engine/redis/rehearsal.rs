//! What a rehearsal asks of Redis and Valkey: a server that begins with the restored data, and whether every key and every user
//! is there again; and the user's own questions.
//!
//! The server believes to be a replica of nobody, so that it drops no key whose time has passed since the backup. It has no password:
//! nobody else reaches it.

use super::client::{Answer, Client};
use super::load::plain_name;
use super::{Method, Settings, dump, facts, load};
use crate::engine::Settings as AnySettings;
use crate::engine::rehearsal::{
    Comparison, ContainerRecipe, Entrance, Ground, ProcessRecipe, Question, Reach, Rehearsable, Scratch, Site, Subject,
    counted,
};
use crate::engine::{Origin, Server};
use crate::error::{Failure, Result};
use crate::event::{Cancel, Context};
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::ffi::OsString;

const DATA: &str = "/data";

pub struct Rehearsal;

impl Rehearsable for Rehearsal {
    fn ground(&self, _: &Subject<'_>) -> Result<Ground> {
        Ok(Ground::ServerOnData)
    }

    fn container(&self, subject: &Subject<'_>, _: &Secret) -> Result<ContainerRecipe> {
        Ok(ContainerRecipe {
            arguments: [arguments(subject.origin), vec!["--dir".into(), DATA.into()]].concat(),
            data: DATA.into(),
            room: subject.bytes.saturating_mul(3),
            ..ContainerRecipe::default()
        })
    }

    fn process(&self, subject: &Subject<'_>, site: &Site<'_>, _: &Secret) -> Result<Option<ProcessRecipe>> {
        let is_valkey = subject.origin.details()["flavour"] == "valkey";
        let mut all: Vec<OsString> = ["--port", "0", "--unixsocket"].map(OsString::from).to_vec();
        all.extend([site.socket.into(), "--dir".into(), site.directory.join("data").into()]);
        all.extend(arguments(subject.origin).into_iter().map(OsString::from));
        Ok(Some(ProcessRecipe {
            programs: vec![if is_valkey { "valkey-server" } else { "redis-server" }],
            directories: Vec::new(),
            before: Vec::new(),
            arguments: all,
            files: Vec::new(),
            by_socket: true,
            alone: false,
        }))
    }

    fn settings(&self, _: &Subject<'_>, reach: Option<&Reach>) -> AnySettings {
        let server = reach.map(|reach| Server {
            place: reach.place.clone(),
            host: reach.host.clone(),
            port: reach.port,
            socket: reach.socket.clone(),
            ..Server::default()
        });
        // A replica without its master feeds nobody.
        let (server, method) = (server.unwrap_or_default(), Method::Snapshot);
        AnySettings::Redis(Settings { server, method, sentinel: None })
    }

    fn ready(&self, settings: &AnySettings, cancel: &Cancel) -> Result<()> {
        dump::preflight(of(settings)?, cancel)
    }

    fn compare(&self, subject: &Subject<'_>, scratch: &Scratch, context: Context<'_>) -> Result<Comparison> {
        let settings = of(scratch.settings())?;
        let was = subject.origin.fingerprint();
        let is = super::fingerprint(settings, context)?;
        let mut comparison = match Comparison::of(was, &is) {
            Ok(comparison) => comparison,
            Err(unbound) => return Ok(unbound),
        };
        comparison.all(&was.parts, &is.parts, |was, is| counted(was, is, "keys"));
        // They are no part of the fingerprint: most restores leave users as they are.
        let told_users = subject.origin.details()["users"].clone();
        let Ok(told_users) = serde_json::from_value::<BTreeMap<String, String>>(told_users) else {
            return Ok(comparison);
        };
        dump::with_client(settings, context.cancel, |client| {
            let users = load::stored(subject.origin)?.users;
            let back = bring_back(client, &users, &mut comparison)?;
            let now = facts::user_objects(&back);
            comparison.all(&told_users, &now, |_, _| "other rules".to_owned());
            Ok(())
        })?;
        Ok(comparison)
    }

    fn entrance(&self) -> Option<Entrance> {
        Some(Entrance { port: 6379, user: None })
    }

    fn ask(&self, scratch: &Scratch, question: &Question, cancel: &Cancel) -> Result<String> {
        let Question::Redis { database, command } = question else {
            return Err(question.is_not_for("Redis"));
        };
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        dump::with_client(of(scratch.settings())?, cancel, |client| {
            let lines = client.ask_in(*database, &words)?;
            match lines {
                Answer::Lines(lines) => Ok(lines.first().cloned().unwrap_or_default()),
                Answer::Refused(text) => Err(Failure::failed("the server refused the question").because(text)),
            }
        })
    }
}

/// The settings that a server needs for this data, wherever it runs.
fn arguments(origin: &dyn Origin) -> Vec<String> {
    let databases = load::stored(origin).ok().and_then(|stored| stored.databases).unwrap_or_else(|| "16".into());
    let name = plain_name(origin, "dbfilename", dump::DATA);
    let options: [&[&str]; 5] = [
        &["--dbfilename", name],
        &["--appendonly", "no"],
        &["--save", ""],
        &["--databases", &databases],
        &["--replicaof", "127.0.0.1", "1"],
    ];
    options.concat().into_iter().map(str::to_owned).collect()
}

/// Makes the users anew, and gives what the server then says of them. What stands for `default` gets another name meanwhile: bkp
/// itself comes in as that one.
fn bring_back(client: &mut dyn Client, users: &[String], comparison: &mut Comparison) -> Result<Vec<String>> {
    const STAND_IN: &str = "bkp-rehearsed-default";
    let mut back = Vec::new();
    for user in users {
        let words = rules(user);
        let [_, name, rules @ ..] = &words[..] else { continue };
        let own = if name == "default" { STAND_IN } else { name.as_str() };
        let command: Vec<&str> = ["ACL", "SETUSER", own].into_iter().chain(rules.iter().map(String::as_str)).collect();
        if let Answer::Refused(text) = client.ask(&command)? {
            comparison.differs(format!("user {name}: the server refuses its rules: {text}"));
        }
    }
    for line in client.demand(&["ACL", "LIST"], "+acl|list")? {
        let mut words = line.split(' ');
        match words.nth(1) {
            Some(STAND_IN) => back.push(line.replacen(STAND_IN, "default", 1)),
            Some("default") | None => {}
            Some(_) => back.push(line),
        }
    }
    Ok(back)
}

/// The words of a line of `ACL LIST`; a selector in parentheses is one.
fn rules(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut inside = false;
    for word in line.split_whitespace() {
        match words.last_mut() {
            Some(last) if inside => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
        inside = (inside || word.starts_with('(')) && !word.ends_with(')');
    }
    words
}

fn of(settings: &AnySettings) -> Result<&Settings> {
    match settings {
        AnySettings::Redis(settings) => Ok(settings),
        _ => Err(Failure::failed("these settings are not of Redis")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_one_word() {
        let line = "user app on #ab ~app:* +@read (~other:* +get) (%R~x +@all)";
        let words = rules(line);
        assert_eq!(words[5..], ["+@read", "(~other:* +get)", "(%R~x +@all)"]);
    }
}
