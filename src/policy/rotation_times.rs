//! When passwords are rotated: schedule, window, freeze and distances of `rotate`, validated; and that each account has one owner.
//!
//! What follows from it at an instant is the affair of `schedule`.

use super::convert::text_of;
use super::raw;
use super::reading::{Field, Reader};
use super::timing::{self, Blackout, Overlap, Timing, Written};
use super::values;
use super::{Configuration, Consumer, Policy, Rotation, Source, StoreSettings, Told};
use crate::engine::{Settings, redis};
use crate::secret::SecretRef;
use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::{Value, json};
use std::fmt;

/// Days on which nothing is rotated, both ends included, in the zone of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    Once {
        from: Date,
        to: Date,
    },
    /// Month and day; past the turn of the year when it ends before it begins.
    Yearly {
        from: (i8, i8),
        to: (i8, i8),
    },
}

impl Freeze {
    /// `2026-12-15..2027-01-07`, `2026-12-24`, `12-15..01-07`, `12-24`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected days, such as 2026-12-15..2027-01-07, or 12-15..01-07 for every year".to_owned();
        let (from, to) = text.trim().split_once("..").unwrap_or((text.trim(), text.trim()));
        if let (Ok(from), Ok(to)) = (from.trim().parse::<Date>(), to.trim().parse::<Date>()) {
            return if from <= to { Ok(Freeze::Once { from, to }) } else { Err("it ends before it begins".into()) };
        }
        let day = |text: &str| {
            // A year that has a 29th of February.
            let date = format!("2024-{}", text.trim()).parse::<Date>().map_err(|_| wrong())?;
            Ok::<_, String>((date.month(), date.day()))
        };
        let (from, to) = (day(from)?, day(to)?);
        let frozen = Freeze::Yearly { from, to };
        let mut year = std::iter::successors(Some(jiff::civil::date(2024, 1, 1)), |day| day.tomorrow().ok());
        match year.by_ref().take(366).all(|day| frozen.holds(day)) {
            true => Err("then nothing would ever be rotated".into()),
            false => Ok(frozen),
        }
    }

    pub fn holds(&self, day: Date) -> bool {
        match *self {
            Freeze::Once { from, to } => (from..=to).contains(&day),
            Freeze::Yearly { from, to } => {
                let day = (day.month(), day.day());
                if from <= to { (from..=to).contains(&day) } else { day >= from || day <= to }
            }
        }
    }

    /// The first day after it, for a day that it holds on.
    pub fn end(&self, day: Date) -> Option<Date> {
        match *self {
            Freeze::Once { to, .. } => to.tomorrow().ok(),
            Freeze::Yearly { .. } => (1..=366).find_map(|days| {
                day.checked_add(i32::from(days as i16).days()).ok().filter(|later| !self.holds(*later))
            }),
        }
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Freeze::Once { from, to } => write!(f, "{from}..{to}"),
            Freeze::Yearly { from, to } => write!(f, "{:02}-{:02}..{:02}-{:02}", from.0, from.1, to.0, to.1),
        }
    }
}

impl Reader<'_> {
    pub(super) fn windows(&self, field: &Option<Field<Vec<Field<String>>>>) -> Vec<Blackout> {
        let window = |text: &str| {
            let wrong = "expected hours in which it may begin, such as 02:00-05:00 or sat,sun 02:00-05:00";
            Blackout::parse(text).map_err(|_| wrong.to_owned())
        };
        self.all_of(field, window)
    }

    pub(super) fn freezes(&self, field: &Option<Field<Vec<Field<String>>>>) -> Vec<Freeze> {
        self.all_of(field, Freeze::parse)
    }

    fn all_of<T>(
        &self,
        field: &Option<Field<Vec<Field<String>>>>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let all = field.as_ref().and_then(|field| field.value.as_ref()).into_iter().flatten();
        all.filter_map(|written| text_of(self, written, &parse)).collect()
    }

    /// With its schedule, where it has one.
    pub(super) fn rotation_times(&self, raw: &raw::Rotation) -> (Option<String>, Timing) {
        let written = Written {
            missed: &raw.missed,
            jitter: &raw.jitter,
            deadline: &raw.deadline,
            overlap: &None,
            blackout: &raw.blackout,
        };
        let timing = Timing {
            // Who holds the account now lets go of it again.
            overlap: Overlap::Queue,
            window: self.windows(&raw.window),
            freeze: self.freezes(&raw.freeze),
            ..self.timing(&written, raw.schedule.is_some())
        };
        (self.text(&raw.schedule, |text| values::schedule(text).map(|()| text.to_owned())), timing)
    }
}

impl Configuration {
    /// The rules of a rotation, with what the main file says for all of them.
    pub fn timing_of(&self, rotation: &Rotation) -> Timing {
        let mut timing = rotation.timing.clone();
        if timing.window.is_empty() {
            timing.window.clone_from(&self.rotator.window);
        }
        timing.freeze.extend(&self.rotator.freeze);
        timing
    }

    /// The sources that are backed up with the account of a rotation, by name.
    pub fn users_of(&self, policy: &Policy, rotation: &Rotation, is_same: Sameness<'_>) -> Vec<&str> {
        let Some(server) = settings_of(policy, rotation) else { return self.users_of_key(rotation) };
        let accounts = accounts(rotation);
        let uses = |source: &&Source| {
            source.settings.user().is_some_and(|user| accounts.contains(&user)) && is_same(server, &source.settings)
        };
        let mut names: Vec<&str> =
            self.policies.iter().flat_map(|policy| &policy.sources).filter(uses).map(|s| s.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// A source that is backed up with the account of a rotation, and does not read its password where that is published: it would
    /// be locked out. Each with what is to be done.
    pub(super) fn locked_out(&self, policy: &Policy, rotation: &Rotation) -> Vec<(&str, String)> {
        let published = SecretRef::Vault(rotation.published.clone());
        if settings_of(policy, rotation).is_none() {
            return Vec::new();
        }
        let users = self.users_of(policy, rotation, &is_named_the_same);
        let reads_it =
            |source: &Source| !rotation.changes_name() && source.settings.secrets().first() == Some(&&published);
        let sources = self.policies.iter().flat_map(|policy| &policy.sources);
        // That of its own source is told where that is written.
        let other = sources.filter(|source| {
            users.contains(&source.name.as_str()) && Some(source.name.as_str()) != rotation.target.source()
        });
        let help = match rotation.changes_name() {
            true => "its user changes: give these backups an account of their own".to_owned(),
            false => format!("write `password: {published}` into that source, or give it an account of its own"),
        };
        other.filter(|source| !reads_it(source)).map(|source| (source.name.as_str(), help.clone())).collect()
    }

    /// The copies of the repository that are opened with the key of a rotation.
    pub fn copies_opened_with(&self, rotation: &Rotation) -> Vec<&str> {
        let opened = self.copies.iter().filter(|copy| is_opened_with(&copy.store, rotation));
        opened.map(|copy| copy.name.as_str()).collect()
    }

    /// Where the repository is opened with it: all sources. No backup goes into a copy.
    fn users_of_key(&self, rotation: &Rotation) -> Vec<&str> {
        if !self.repository.as_ref().is_some_and(|store| is_opened_with(store, rotation)) {
            return Vec::new();
        }
        let mut names: Vec<&str> =
            self.policies.iter().flat_map(|policy| &policy.sources).map(|source| source.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The rotation of another policy that has the same password in its hands, and what they share.
    pub(super) fn other_owner(&self, policy: &Policy, rotation: &Rotation) -> Option<(&str, String)> {
        let server = settings_of(policy, rotation);
        self.rotations().filter(|(_, other)| other.name != rotation.name).find_map(|(of, other)| {
            let same_server =
                server.zip(settings_of(of, other)).is_some_and(|(one, other)| is_named_the_same(one, other));
            let same =
                same_server || rotation.target.source().is_none() && rotation.target.is_shared_with(&other.target);
            let account = shared_account(rotation, other).filter(|_| same);
            let shared = if let Some(account) = account {
                format!("the account {account}")
            } else if other.published == rotation.published {
                format!("what is published at {}", SecretRef::Vault(rotation.published.clone()))
            } else {
                shared_variable(rotation, other)?
            };
            Some((other.name.as_str(), shared))
        })
    }
}

fn is_opened_with(store: &StoreSettings, rotation: &Rotation) -> bool {
    store.secret_key == Some(SecretRef::Vault(rotation.published.clone()))
}

/// Whether two settings are of one server.
pub type Sameness<'a> = &'a dyn Fn(&Settings, &Settings) -> bool;

/// By the words of the configuration alone: another name of the same server is another server.
pub fn is_named_the_same(one: &Settings, other: &Settings) -> bool {
    server_of(one).is_some_and(|server| server_of(other) == Some(server))
}

/// How its server is reached.
pub(super) fn settings_of<'p>(policy: &'p Policy, rotation: &Rotation) -> Option<&'p Settings> {
    policy
        .sources
        .iter()
        .find(|source| Some(source.name.as_str()) == rotation.target.source())
        .map(|source| &source.settings)
}

/// Where the server is, as far as the configuration tells.
fn server_of(settings: &Settings) -> Option<String> {
    if let Settings::Redis(redis::Settings { sentinel: Some(group), .. }) = settings {
        let mut sentinels: Vec<String> = group.addresses.iter().map(|address| format!("{address:?}")).collect();
        sentinels.sort();
        return Some(format!("redis {} of {}", group.master, sentinels.join(" ")));
    }
    let (kind, server) = (settings.kind(), settings.server()?);
    // It need not be written.
    let usual = settings.usual_port().map_or_else(String::new, |port| format!(":{port}"));
    let location = server.location().to_lowercase().replace("localhost", "127.0.0.1");
    let location = location.strip_suffix(&usual).unwrap_or(&location);
    Some(format!("{kind} {location}"))
}

/// Everybody whose password it changes, or who owns for them.
fn accounts(rotation: &Rotation) -> Vec<&str> {
    let users = rotation.turns().into_iter().flatten().map(String::as_str);
    users.chain([rotation.account.as_str()]).collect()
}

pub(super) fn shared_account<'r>(one: &'r Rotation, other: &Rotation) -> Option<&'r str> {
    let others = accounts(other);
    accounts(one).into_iter().find(|account| others.contains(account))
}

/// Two that write the same variable of the same file would undo each other.
pub(super) fn shared_variable(one: &Rotation, other: &Rotation) -> Option<String> {
    let written = |rotation: &Rotation| -> Vec<String> {
        let of = |consumer: &Consumer| -> Vec<String> {
            match &consumer.told {
                Told::EnvFile { path, variables, user_variables } => {
                    let variables = variables.iter().chain(user_variables);
                    variables.map(|variable| format!("the variable {variable} of {}", path.display())).collect()
                }
                Told::SecretFile(path) => vec![format!("the file {}", path.display())],
                Told::Swarm(service) => {
                    service.secret.iter().map(|secret| format!("the Swarm secret {secret}")).collect()
                }
                Told::Kubernetes(workload) => {
                    let of = |(secret, key): &(_, _)| {
                        format!("the key {key} of the Secret {secret} in namespace {}", workload.namespace)
                    };
                    workload.secret.iter().map(of).collect()
                }
                Told::Published => Vec::new(),
            }
        };
        rotation.consumers.iter().flat_map(of).collect()
    };
    let others = written(other);
    written(one).into_iter().find(|variable| others.contains(variable))
}

/// For showing: what is not said counts too, where there is a schedule.
pub fn shown(schedule: Option<&str>, timing: &Timing) -> Vec<(&'static str, Value)> {
    let mut all: Vec<(&'static str, Value)> = Vec::new();
    if let Some(schedule) = schedule {
        all.push(("schedule", json!(schedule)));
        all.extend(timing::shown(timing).into_iter().filter(|(key, _)| *key != "overlap"));
    }
    all.extend(shown_hours(&timing.window, &timing.freeze));
    all
}

pub fn shown_hours(window: &[Blackout], freeze: &[Freeze]) -> Vec<(&'static str, Value)> {
    let texts = |all: Vec<String>| if all.is_empty() { None } else { Some(json!(all)) };
    let window = texts(window.iter().map(ToString::to_string).collect()).map(|window| ("window", window));
    let freeze = texts(freeze.iter().map(ToString::to_string).collect()).map(|freeze| ("freeze", freeze));
    window.into_iter().chain(freeze).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn days_are_frozen_once_or_every_year() {
        let once = Freeze::parse("2026-12-15..2027-01-07").unwrap();
        assert!(once.holds(date(2026, 12, 15)) && once.holds(date(2027, 1, 7)));
        assert!(!once.holds(date(2026, 12, 14)) && !once.holds(date(2027, 1, 8)) && !once.holds(date(2027, 12, 20)));
        assert_eq!(once.end(date(2026, 12, 20)), Some(date(2027, 1, 8)));
        let yearly = Freeze::parse("12-15 .. 01-07").unwrap();
        assert!(yearly.holds(date(2030, 12, 31)) && yearly.holds(date(2031, 1, 7)) && !yearly.holds(date(2031, 1, 8)));
        assert_eq!(yearly.end(date(2030, 12, 31)), Some(date(2031, 1, 8)));
        assert_eq!(yearly.to_string(), "12-15..01-07");
        assert_eq!(Freeze::parse("02-29").unwrap().end(date(2028, 2, 29)), Some(date(2028, 3, 1)));
        assert_eq!(Freeze::parse("2026-12-24").unwrap().to_string(), "2026-12-24..2026-12-24");
    }

    #[test]
    fn backups_use_the_key_of_the_repository_and_not_that_of_a_copy() {
        let directory = tempfile::tempdir().unwrap();
        let [config, state, cache, run] = ["bkp.yaml", "state", "cache", "run"].map(|name| directory.path().join(name));
        let store = |key: &str| {
            format!(
                "url: 's3://{key}/backups', endpoint: 'https://s3', access_key: 'ref+vault://kv/{key}#/id', secret_key: 'ref+vault://kv/{key}#/secret'"
            )
        };
        let main = format!(
            "repository: {{ {} }}\ncopies:\n  - {{ name: away, {} }}\ntimezone: UTC\nvault: {{ address: 'https://vault', token_file: /t }}\n",
            store("own"),
            store("away")
        );
        std::fs::write(&config, main).unwrap();
        std::fs::create_dir(directory.path().join("policies.d")).unwrap();
        let rotation = |name: &str| {
            format!(
                "  {name}:\n    minio: {{ endpoint: 'https://s3', bucket: backups }}\n    account: {name}\n    admin: {{ user: root, password_file: /root }}\n    published: ref+vault://kv/{name}#/secret\n    published_user: ref+vault://kv/{name}#/id\n    consumers: {{ bkp: {{ command: [reload] }} }}\n"
            )
        };
        let policy = format!(
            "policy: shop\nsources:\n  db: {{ mysql: {{ host: db, user: backup, password_file: /backup }} }}\nrotate:\n{}{}",
            rotation("own"),
            rotation("away")
        );
        std::fs::write(directory.path().join("policies.d/shop.yaml"), policy).unwrap();
        let paths = crate::policy::Paths { config, config_given: true, state, cache, run };
        let loaded = crate::policy::load_with(&paths, &|_| None).unwrap_or_else(|problems| panic!("{problems:?}"));
        let of = |name: &str| {
            let (policy, rotation) = loaded.rotation(name).unwrap();
            (loaded.users_of(policy, rotation, &is_named_the_same), loaded.copies_opened_with(rotation))
        };
        assert_eq!(of("own"), (vec!["db"], vec![]));
        assert_eq!(of("away"), (vec![], vec!["away"]));
    }

    #[test]
    fn what_is_no_freeze_is_refused() {
        for text in ["", "december", "13-01", "2026-12-15..01-07", "2027-01-07..2026-12-15", "01-01..12-31", "02-30"] {
            assert!(Freeze::parse(text).is_err(), "{text}");
        }
    }
}
