//! What is rotated and how: the keys `rotate`, validated.
//!
//! An account that this version cannot rotate is refused here, and not in the night when it is due.

use super::Source;
use super::consumers::{self, Consumer};
use super::convert::{not_empty, text_of};
use super::passwords::PasswordRule;
use super::problem::{Place, did_you_mean};
use super::raw;
use super::reading::{Field, Named, Reader};
use super::rotation_times::{self, Freeze};
use super::targets::{self, Target};
use super::timing::{Blackout, Timing};
use super::turns::ChangingName;
use super::values::{self, duration_text};
use crate::engine::{self, Node};
use crate::secret::{SecretRef, VaultPath};
use serde_json::{Value, json};
use std::time::Duration;

/// What rotations of all policies have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotator {
    /// Below which path of Vault bkp keeps what it is at.
    pub vault_path: String,
    /// Between two of them, of different passwords.
    pub apart: Duration,
    /// How long a host that says nothing keeps one to itself.
    pub lease: Duration,
    /// How old the key of somebody who reads the backups may become.
    pub recipients_every: Option<Duration>,
    pub window: Vec<Blackout>,
    pub freeze: Vec<Freeze>,
}

impl Default for Rotator {
    fn default() -> Self {
        Rotator {
            vault_path: "kv/bkp/rot".into(),
            apart: APART,
            lease: LEASE,
            recipients_every: None,
            window: Vec::new(),
            freeze: Vec::new(),
        }
    }
}

/// One secret that is exchanged everywhere it is used: a password, an access key, a key that signs. Its name is unique in the
/// configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    pub name: String,
    pub target: Target,
    /// Of a pair in PostgreSQL, the role that owns; elsewhere both, for people.
    pub account: String,
    /// Where the name changes with the secret.
    pub changing_name: Option<ChangingName>,
    /// One password for one account, and nothing in between: consumers may be refused until they were moved.
    pub accepts_gap: bool,
    /// Who changes it, and that one's password. Absent: the login of the source.
    pub admin: Option<(String, SecretRef)>,
    pub published: VaultPath,
    pub nodes: Vec<Node>,
    pub password: PasswordRule,
    /// The password policy of Vault that makes passwords, which must fit the rule.
    pub vault_policy: Option<String>,
    pub every: Option<Duration>,
    /// Cron. Absent: only by hand.
    pub schedule: Option<String>,
    /// Its own; with those of all: [`super::Configuration::timing_of`].
    pub timing: Timing,
    pub distance: Duration,
    pub consumers: Vec<Consumer>,
    /// What else has the password and need not be moved.
    pub known: Vec<String>,
}

const DISTANCE: Duration = Duration::from_secs(3600);
const APART: Duration = Duration::from_secs(5 * 60);
const LEASE: Duration = Duration::from_secs(15 * 60);
/// Words of `bkp rotate`.
const TAKEN: [&str; 5] = ["status", "resume", "rollback", "reapply", "recipients"];

impl Reader<'_> {
    pub(super) fn rotator(&self, field: &Field<raw::Rotator>) -> Option<Rotator> {
        let raw = field.value.as_ref()?;
        let path = self.text(&raw.vault_path, |text| {
            let sound = format!("{text}/x#/x").parse::<VaultPath>().is_ok() && !text.contains('?');
            if sound {
                Ok(text.to_owned())
            } else {
                Err("expected a mount and a path below it, such as kv/bkp/rot".into())
            }
        });
        let default = Rotator::default();
        Some(Rotator {
            vault_path: path.unwrap_or(default.vault_path),
            apart: self.text(&raw.apart, values::duration).unwrap_or(default.apart),
            lease: self.text(&raw.lease, values::duration).unwrap_or(default.lease),
            recipients_every: self.text(&raw.recipients_every, values::duration),
            window: self.windows(&raw.window),
            freeze: self.freezes(&raw.freeze),
        })
    }

    pub(super) fn rotations(
        &self,
        field: &Field<Named<raw::Rotation>>,
        sources: &[(Source, Place)],
    ) -> Vec<(Rotation, Place)> {
        let Some(Named(entries)) = &field.value else { return Vec::new() };
        let mut all: Vec<(Rotation, Place)> = Vec::new();
        for (key, value) in entries {
            let Some(name) = key.value.as_deref() else { continue };
            if let Err(message) = values::name(name) {
                self.wrong::<()>(key.place, message);
            }
            if TAKEN.contains(&name) {
                self.wrong::<()>(key.place, format!("`{name}` is a word of `bkp rotate`: give it another name"));
            }
            let Some(rotation) = self.rotation(name, value, sources) else { continue };
            let same = |(other, _): &&(Rotation, Place)| {
                other.published == rotation.published
                    || other.target.is_shared_with(&rotation.target)
                        && rotation_times::shared_account(other, &rotation).is_some()
                    || rotation_times::shared_variable(other, &rotation).is_some()
            };
            if let Some((other, _)) = all.iter().find(same) {
                let text = format!("`{}` rotates this already: a password has one owner", other.name);
                self.wrong::<()>(key.place, text);
            }
            all.push((rotation, key.place));
        }
        all
    }

    fn rotation(&self, name: &str, field: &Field<raw::Rotation>, sources: &[(Source, Place)]) -> Option<Rotation> {
        let raw = field.value.as_ref()?;
        let (target, source) = self.target(raw, field.place, sources);
        let is_named = raw.logins.is_some() && source.is_some_and(|source| source.settings.kind() != "postgres");
        let missing = [
            ("account", raw.account.is_none() && !is_named && raw.signing_key.is_none(), "account: NAME"),
            ("published", raw.published.is_none(), "published: ref+vault://kv/shop/database#/password"),
            ("consumers", raw.consumers.is_none(), "consumers: { web: { … } }, those who use the password"),
        ];
        for (key, _, help) in missing.iter().filter(|(_, missing, _)| *missing) {
            self.note_missing(field.place, format!("this rotation has no `{key}`"), format!("add `{help}`"));
        }
        let account = self.text(&raw.account, |text| not_empty(text, "an account"));
        let admin = raw.admin.as_ref().map(|admin| self.admin(admin, account.as_deref()));
        let default_user = source.and_then(|source| source.settings.user()).map(str::to_owned);
        if let (None, Some(account), Some(written)) = (&admin, &account, &raw.account)
            && default_user.as_ref() == Some(account)
        {
            let help = "write `admin: { user: NAME, password_file: … }`, an account that may change this one";
            self.wrong_with_help::<()>(written.place, "an account does not change its own password here", help);
        }
        let consumers = raw.consumers.as_ref().map(|consumers| self.consumers(consumers));
        let published = raw.published.as_ref().and_then(|written| self.published(written));
        let changing_name = match raw.minio.is_some() || raw.signing_key.is_some() {
            false => self.changing_name(raw, field.place, published.as_ref(), source),
            true => self.names(raw, field.place, published.as_ref()),
        };
        let accepts_gap = self.gap(raw, field.place, source);
        let account = account.or_else(|| called(name, raw, changing_name.as_ref()));
        self.signing_key_is_kept(target.as_ref(), published.as_ref(), consumers.as_deref(), field.place);
        if let (Some(source), Some(path), Some(written)) = (source, &published, &raw.account)
            && default_user.is_some()
            && default_user == account
            && source.settings.secrets().first() != Some(&&SecretRef::Vault(path.clone()))
        {
            let text = format!("backups of `{}` use this account, and read its password elsewhere", source.name);
            let help = format!("write `password: ref+vault://{path}` into the source");
            self.wrong_with_help::<()>(written.place, text, help);
        }
        let (schedule, timing) = self.rotation_times(raw);
        Some(Rotation {
            name: name.to_owned(),
            target: target?,
            account: account?,
            changing_name,
            accepts_gap,
            admin: admin.flatten(),
            published: published?,
            nodes: raw.nodes.as_ref().map(|nodes| self.nodes(nodes)).unwrap_or_default(),
            password: raw.password.as_ref().and_then(|rule| self.password_rule(rule)).unwrap_or_default(),
            vault_policy: raw.password.as_ref().and_then(|rule| self.vault_policy(rule)),
            every: self.text(&raw.every, values::duration),
            schedule,
            timing,
            distance: self.text(&raw.distance, values::duration).unwrap_or(DISTANCE),
            consumers: consumers?,
            known: self.known(&raw.known),
        })
    }

    pub(super) fn rotated_source<'s>(
        &self,
        field: &Field<String>,
        sources: &'s [(Source, Place)],
    ) -> Option<&'s Source> {
        let name = text_of(self, field, |text| not_empty(text, "a source"))?;
        let Some((source, _)) = sources.iter().find(|(source, _)| source.name == name) else {
            let near = did_you_mean(&name, sources.iter().map(|(source, _)| source.name.as_str()));
            return self.wrong(field.place, format!("this policy has no source `{name}`{near}"));
        };
        if !engine::has_accounts(&source.settings) {
            let text = format!("passwords of a {} source cannot be rotated by this version", source.settings.kind());
            return self.wrong_with_help(
                field.place,
                text,
                "it can rotate those of mysql (MySQL and MariaDB), postgres, mongo, and redis (Redis and Valkey)",
            );
        }
        Some(source)
    }

    fn admin(&self, field: &Field<raw::Admin>, account: Option<&str>) -> Option<(String, SecretRef)> {
        let raw = field.value.as_ref()?;
        let user = self.text(&raw.user, |text| not_empty(text, "a user"));
        let password = self.secret("password", &raw.password, &raw.password_file);
        if raw.user.is_none() || raw.password.is_none() && raw.password_file.is_none() {
            self.note_missing(
                field.place,
                "`admin` needs a user and its password",
                "admin: { user: NAME, password_file: … }",
            );
        }
        if let (Some(user), Some(written)) = (&user, &raw.user)
            && Some(user.as_str()) == account
        {
            return self.wrong(written.place, "an account does not change its own password here: name another one");
        }
        user.zip(password)
    }

    pub(super) fn published(&self, field: &Field<String>) -> Option<VaultPath> {
        let help = "write where those who use it read it, as in ref+vault://kv/shop/database#/password";
        match field.value.as_deref()?.parse() {
            Ok(SecretRef::Vault(VaultPath { version: Some(_), .. })) => {
                self.wrong(field.place, "what is rotated has no fixed version: leave out ?version=")
            }
            Ok(SecretRef::Vault(path)) => {
                self.wants_vault.borrow_mut().get_or_insert(field.place);
                Some(path)
            }
            _ => self.wrong_with_help(field.place, "what is rotated is published in Vault", help),
        }
    }

    fn nodes(&self, field: &Field<Vec<Field<String>>>) -> Vec<Node> {
        let node = |text: &str| {
            let wrong = || "expected HOST:PORT, such as db1.example:3306".to_owned();
            let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
            if host.is_empty() { Err(wrong()) } else { Ok(Node { host: host.to_owned(), port }) }
        };
        field.value.iter().flatten().filter_map(|written| text_of(self, written, node)).collect()
    }

    fn known(&self, field: &Option<Field<Vec<Field<String>>>>) -> Vec<String> {
        let names = field.iter().filter_map(|field| field.value.as_ref()).flatten();
        names.filter_map(|written| text_of(self, written, |text| not_empty(text, "a name or a path"))).collect()
    }
}

/// For people, where no account was named.
fn called(name: &str, raw: &raw::Rotation, changing: Option<&ChangingName>) -> Option<String> {
    match &raw.signing_key {
        Some(_) => Some(name.to_owned()),
        None => changing?.turns.as_ref().map(|users| users.join("/")),
    }
}

/// For showing: what is not said counts too.
pub fn shown(rotation: &Rotation) -> Vec<(Vec<&str>, Value)> {
    let mut all: Vec<(Vec<&str>, Value)> = targets::shown(&rotation.target);
    all.extend([
        (vec!["account"], json!(rotation.account)),
        (vec!["published"], json!(SecretRef::Vault(rotation.published.clone()).to_string())),
        (vec!["distance"], json!(duration_text(rotation.distance))),
    ]);
    // A key has a form of its own, and a password of others is theirs.
    if rotation.target.source().is_some() {
        all.push(match &rotation.vault_policy {
            Some(policy) => (vec!["password", "vault_policy"], json!(policy)),
            None => (vec!["password", "length"], json!(rotation.password.length)),
        });
        all.push((vec!["password", "alphabet"], json!(rotation.password.alphabet.name())));
    }
    if let Some(name) = &rotation.changing_name {
        all.extend(name.turns.as_ref().map(|users| (vec!["logins"], json!(users))));
        all.push((vec!["published_user"], json!(SecretRef::Vault(name.published.clone()).to_string())));
    }
    if rotation.accepts_gap {
        all.push((vec!["accept_gap"], json!(true)));
    }
    all.extend(rotation.every.map(|every| (vec!["every"], json!(duration_text(every)))));
    let times = rotation_times::shown(rotation.schedule.as_deref(), &rotation.timing);
    all.extend(times.into_iter().map(|(key, value)| (vec![key], value)));
    if let Some((user, password)) = &rotation.admin {
        all.push((vec!["admin", "user"], json!(user)));
        all.push((vec!["admin", "password"], json!(password.to_string())));
    }
    if !rotation.nodes.is_empty() {
        let nodes: Vec<String> = rotation.nodes.iter().map(ToString::to_string).collect();
        all.push((vec!["nodes"], json!(nodes)));
    }
    if !rotation.known.is_empty() {
        all.push((vec!["known"], json!(rotation.known)));
    }
    for consumer in &rotation.consumers {
        let keys = |(key, value)| (vec!["consumers", consumer.name.as_str(), key], value);
        all.extend(consumers::shown(consumer).into_iter().map(keys));
    }
    all
}
