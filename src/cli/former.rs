//! Who reads the backups since when, and keys from before with what they still open: for `bkp secrets`.

use super::environment::{Access, Environment};
use super::format::{age, count};
use super::output::{plain, table};
use super::points;
use crate::error::Result;
use crate::job::dependence::{self, Dependence, Depending};
use crate::job::lock::Kept;
use crate::policy::duration_text;
use crate::repo::catalog::Wanted;
use crate::repo::former::{self, Former, fingerprint};
use crate::repo::keys::{NamedRecipient, Role};
use crate::repo::{Repository, recipients};
use crate::watch::{self, Language};
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
    let access = Access { keys, trust, writer: Some(writer), operator: None };
    let (former, _) = former::all(repository, &access.trust)?;
    look_with(env, repository, &access, &former)
}

fn look_with(
    env: &Environment,
    repository: &Repository,
    access: &Access,
    former: &[Former],
) -> Result<Vec<Dependence>> {
    // To open every point takes a while, and mostly nobody's key was ever replaced.
    if former.is_empty() {
        return Ok(Vec::new());
    }
    let catalog = points::read(env, repository, access, Wanted::default())?;
    let kept = |source: &str| kept(env, source);
    dependence::look(repository, former, (&access.keys, &access.trust), &catalog, (&kept, env.now))
}

pub struct Readers {
    readers: Vec<NamedRecipient>,
    epoch: Option<u32>,
    former: Vec<Dependence>,
    /// Whom these alone named is not known.
    unknown_lists: Vec<u32>,
    every: Option<SignedDuration>,
}

impl Readers {
    /// Only points that this host may list: its own, unless an identity is given.
    pub fn look(env: &Environment, repository: &Repository) -> Result<Self> {
        let access = env.listing(repository)?;
        let (former, unknown_lists) = former::all(repository, &access.trust)?;
        let former = look_with(env, repository, &access, &former)?;
        let readers = match &access.writer {
            Some(writer) => writer.recipients.clone(),
            None => recipients::claimed(&*repository.store)?.1,
        };
        let every = env.configuration()?.rotator.recipients_every.and_then(|every| every.try_into().ok());
        Ok(Readers { readers, epoch: access.writer.map(|writer| writer.epoch.number), former, unknown_lists, every })
    }

    fn due(&self, reader: &NamedRecipient) -> Option<Timestamp> {
        watch::reader_due(reader, self.every)
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
            "unknown_lists": self.unknown_lists,
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
        let mut readers = table(&["READS BACKUPS", "ROLE", "KEY", "SINCE", "DUE"], readers);
        if !self.unknown_lists.is_empty() {
            let numbers: Vec<String> = self.unknown_lists.iter().map(u32::to_string).collect();
            readers.push_str(&format!(
                "\n\nlists of who reads are missing or damaged (keys/recipients-NNNN.json): number {}. Whom they alone named is not known; put them back from a copy of the store",
                numbers.join(", ")
            ));
        }
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
                row([
                    source,
                    opens(depending),
                    since(depending.newest),
                    watch::ends(&depending.ends, Language::English, &day),
                ])
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
