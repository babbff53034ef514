//! Who reads the backups since when, and keys from before with what they still open: for `bkp secrets`.

use super::environment::{Access, Environment};
use super::format::{age, count};
use super::output::{plain, table};
use super::points;
use crate::error::Result;
use crate::job::dependence::{self, Dependence, Depending, Ends};
use crate::job::lock::Kept;
use crate::policy::duration_text;
use crate::repo::catalog::Wanted;
use crate::repo::former::{self, fingerprint};
use crate::repo::keys::{NamedRecipient, Role};
use crate::repo::{Repository, recipients};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// How long the points of a source are kept.
pub fn kept<'e>(env: &'e Environment, source: &str) -> Option<Kept<'e>> {
    env.policy_of(source).ok().flatten().and_then(Kept::by)
}

/// Keys from before, and what they open of the points of this host, whatever identity was given.
pub fn look(env: &Environment, repository: &Repository) -> Result<Vec<Dependence>> {
    let writer = env.writer(repository)?;
    let (keys, trust) = (writer.keyring(), writer.trust());
    look_with(env, repository, &Access { keys, trust, writer: Some(writer), operator: None })
}

fn look_with(env: &Environment, repository: &Repository, access: &Access) -> Result<Vec<Dependence>> {
    // To open every point takes a while, and mostly nobody's key was ever replaced.
    if former::all(repository, &access.trust)?.is_empty() {
        return Ok(Vec::new());
    }
    let catalog = points::read(env, repository, access, Wanted::default())?;
    dependence::look(repository, (&access.keys, &access.trust), &catalog, &|source| kept(env, source), env.now)
}

pub struct Readers {
    readers: Vec<NamedRecipient>,
    epoch: Option<u32>,
    former: Vec<Dependence>,
    every: Option<SignedDuration>,
}

impl Readers {
    /// Only points that this host may list: its own, unless an identity is given.
    pub fn look(env: &Environment, repository: &Repository) -> Result<Self> {
        let access = env.listing(repository)?;
        let former = look_with(env, repository, &access)?;
        let readers = match &access.writer {
            Some(writer) => writer.recipients.clone(),
            None => recipients::claimed(&*repository.store)?.1,
        };
        let every = env.configuration()?.rotator.recipients_every.and_then(|every| every.try_into().ok());
        Ok(Readers { readers, epoch: access.writer.map(|writer| writer.epoch.number), former, every })
    }

    fn due(&self, reader: &NamedRecipient) -> Option<Timestamp> {
        self.every.map(|every| reader.added.checked_add(every).unwrap_or(Timestamp::MAX))
    }

    pub fn document(&self, now: Timestamp) -> Value {
        let reader = |reader: &NamedRecipient| {
            let due = self.due(reader);
            json!({
                "name": reader.name, "role": reader.role, "recipient": reader.recipient,
                "fingerprint": fingerprint(&reader.recipient), "since": reader.added, "due": due,
                "overdue": due.is_some_and(|due| due <= now),
            })
        };
        json!({
            "every": self.every.and_then(|every| every.try_into().ok()).map(duration_text), "epoch": self.epoch,
            "readers": self.readers.iter().map(reader).collect::<Vec<_>>(), "former": self.former,
        })
    }

    pub fn text(&self, now: Timestamp) -> String {
        let since = |at: Timestamp| age(now.as_second() - at.as_second());
        let readers = self.readers.iter().map(|reader| {
            let due = match self.due(reader) {
                None => "-".to_owned(),
                Some(due) if due <= now => "now".to_owned(),
                Some(due) => day(due),
            };
            vec![plain(&reader.name), role(reader.role), fingerprint(&reader.recipient), since(reader.added), due]
        });
        let readers = table(&["READS BACKUPS", "ROLE", "KEY", "SINCE", "DUE"], readers);
        if self.former.is_empty() {
            return readers;
        }
        let former = self.former.iter().flat_map(|one| {
            let row = |what: [String; 4]| {
                let key = [plain(&one.name), one.fingerprint.clone(), since(one.removed)];
                key.into_iter().chain(what).collect::<Vec<_>>()
            };
            let none = || row(["-".into(), "nothing here".into(), "-".into(), "-".into()]);
            let of = |depending: &Depending| {
                let source = format!("{} ({})", plain(&depending.source), plain(&depending.host));
                row([source, opens(depending), since(depending.newest), ends(&depending.ends)])
            };
            if one.series.is_empty() { vec![none()] } else { one.series.iter().map(of).collect() }
        });
        let titles = ["READ ONCE", "KEY", "TAKEN OFF", "SOURCE", "STILL OPENS", "NEWEST", "UNTIL"];
        format!("{readers}\n\n{}", table(&titles, former))
    }
}

fn role(role: Role) -> String {
    match role {
        Role::Operator => "operator",
        Role::Rehearser => "rehearser",
    }
    .to_owned()
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn opens(depending: &Depending) -> String {
    let points = count(depending.points, "point");
    match depending.in_part {
        0 => points,
        part => format!("{points}, {part} in part"),
    }
}

fn ends(ends: &Ends) -> String {
    match ends {
        Ends::Retention { until: Some(until), newer: 0 } => format!("{}, by retention", day(*until)),
        Ends::Retention { until, newer } => {
            let date = until.map_or_else(String::new, |until| format!("{}, and ", day(until)));
            format!("{date}{}, by retention", count((*newer).max(1) as usize, "newer point"))
        }
        Ends::Nothing => "they are removed: no rule does it".to_owned(),
        Ends::Unpinning => "they are unpinned".to_owned(),
        Ends::StoringAfresh => "stored anew: bkp rotate recipients --afresh".to_owned(),
        Ends::NewKeysOnThatHost => "that host backs up with the new keys".to_owned(),
    }
}
