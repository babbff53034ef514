//! `bkp secrets`: the passwords that are rotated, as the configuration and the journal know them, and as Vault and the servers
//! have them now; and the keys that read the backups.

use super::Ran;
use super::copies;
use super::environment::Environment;
use super::format::{age, instant};
use super::former::Readers;
use super::output::{plain, table};
use crate::daemon::host;
use crate::error::{Kind, Result};
use crate::job::rotate::rules;
use crate::journal::State;
use crate::policy::{Policy, Rotation, duration_text};
use crate::schedule::Schedule;
use jiff::Timestamp;
use now::{Asking, Now};
use serde_json::{Value, json};

mod now;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
NOW is asked of Vault and of the server: whether what is published lets in, and what was published before it does not. Exit \
code 4 where that is otherwise.

Examples:
  bkp secrets
  bkp secrets --offline
  bkp secrets --json")]
pub struct Arguments {
    /// Only what the configuration and the journal of this host say
    #[arg(long)]
    offline: bool,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let configuration = env.configuration()?;
        let state = env.journal()?.state().unwrap_or_default();
        let schedules = Schedule::of_rotations(configuration, &host(), &state);
        let mut asking = Asking { env, away: None };
        let (mut documents, mut rows, mut is_wrong) = (Vec::new(), Vec::new(), false);
        for (policy, rotation) in configuration.rotations() {
            let schedule = schedules.iter().find(|schedule| schedule.policy == rotation.name);
            let next = schedule.and_then(|schedule| schedule.upcoming(env.now).next()).map(|next| next.due);
            let known = Known::of(policy, rotation, &state, env.now, next);
            let now = if self.offline { Now::default() } else { asking.ask(policy, rotation, known.is_open) };
            is_wrong |= now.is_wrong();
            documents.push(known.document(&now));
            rows.push(known.row(&now));
        }
        let readers = if self.offline { None } else { readers(env) };
        let of_readers = readers.as_ref().map(|readers| match readers {
            Ok(readers) => readers.document(env.now),
            Err(failure) => json!({ "unknown": failure.full() }),
        });
        let document = json!({ "secrets": documents, "recipients": of_readers, "offline": self.offline });
        env.output.answer(&document, || {
            let titles =
                ["NAME", "ACCOUNT", "SOURCE", "OWNER", "CONSUMERS", "ROTATED", "PROVEN", "DUE", "NEXT", "NOW", "NOTE"];
            let passwords = match rows.is_empty() {
                true => "no password is rotated: see docs/ROTATION.md".to_owned(),
                false => table(&titles, rows),
            };
            match &readers {
                None => passwords,
                Some(Ok(readers)) => format!("{passwords}\n\n{}", readers.text(env.now)),
                Some(Err(why)) => format!("{passwords}\n\nwho reads the backups is not known: {}", plain(&why.full())),
            }
        })?;
        Ok(is_wrong.then_some(Kind::Verification))
    }
}

/// Nothing where no repository is named.
fn readers(env: &Environment) -> Option<Result<Readers>> {
    let settings = env.store_settings().ok()?;
    Some(env.open(copies::briefly(settings)).and_then(|repository| Readers::look(env, &repository)))
}

/// What the configuration and the journal say of one.
struct Known<'a> {
    policy: &'a Policy,
    rotation: &'a Rotation,
    now: Timestamp,
    rotated: Option<(Timestamp, Option<&'a str>)>,
    /// When it was seen last that what is published lets in, and what was seen.
    proven: Option<(Timestamp, Option<&'a str>)>,
    is_open: bool,
    owed: bool,
    due: Option<Option<Timestamp>>,
    is_overdue: bool,
    next: Option<Timestamp>,
}

impl<'a> Known<'a> {
    fn of(
        policy: &'a Policy,
        rotation: &'a Rotation,
        state: &'a State,
        now: Timestamp,
        next: Option<Timestamp>,
    ) -> Self {
        let known = state.rotations.get(&rotation.name);
        let rotated = known.and_then(|known| known.rotated.as_ref()).map(|(at, fact)| (*at, fact.to.as_deref()));
        let proven = known.and_then(|known| known.proven.as_ref()).map(|(at, fact)| (*at, fact.note.as_deref()));
        let due = rules::due(rotation, state);
        Known {
            policy,
            rotation,
            now,
            rotated,
            proven,
            is_open: known.and_then(|known| known.last.as_ref()).is_some_and(|(_, last)| !last.is_end()),
            owed: known.is_some_and(|known| known.owed.is_some()),
            due,
            is_overdue: due.is_some_and(|at| at.is_none_or(|at| at <= now)),
            next,
        }
    }

    fn consumers(&self) -> Vec<&str> {
        self.rotation.consumers.iter().map(|consumer| consumer.name.as_str()).collect()
    }

    fn document(&self, now: &Now) -> Value {
        let Known { policy, rotation, .. } = self;
        json!({
            "rotation": rotation.name, "policy": policy.name, "source": rotation.target.name(), "account": rotation.account,
            "published": format!("ref+vault://{}", rotation.published),
            "rotated": self.rotated.map(|(at, _)| at), "fingerprint": self.rotated.and_then(|(_, print)| print),
            "proven": self.proven.map(|(at, note)| json!({ "at": at, "note": note })),
            "consumers": self.consumers(), "every": rotation.every.map(duration_text), "due": self.due.flatten(),
            "next": self.next, "overdue": self.is_overdue, "under_way": self.is_open, "owed": self.owed, "now": now,
        })
    }

    fn row(&self, now: &Now) -> Vec<String> {
        let Known { policy, rotation, .. } = self;
        let since = |at: Timestamp| age(self.now.as_second() - at.as_second());
        vec![
            rotation.name.clone(),
            plain(&rotation.account),
            rotation.target.name().to_owned(),
            policy.name.clone(),
            self.consumers().join(", "),
            match (self.rotated, now.written) {
                (Some((at, _)), _) => since(at),
                (None, Some(written)) => format!("never; written {}", since(written)),
                (None, None) => "never".to_owned(),
            },
            self.proven.map_or_else(|| "never".to_owned(), |(at, _)| since(at)),
            match self.due {
                None => "-".to_owned(),
                Some(Some(at)) if !self.is_overdue => at.strftime("%Y-%m-%d").to_string(),
                Some(_) => "now".to_owned(),
            },
            self.next.map_or_else(|| "by hand".to_owned(), |at| instant(at, &policy.timezone)),
            plain(&now.word()),
            match (self.owed, self.is_open) {
                (true, _) => format!("restored: bkp rotate reapply {}", rotation.name),
                (false, true) => "not at its end: bkp rotate status".to_owned(),
                (false, false) => "-".to_owned(),
            },
        ]
    }
}
