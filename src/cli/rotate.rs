//! `bkp rotate`: exchanges a secret everywhere it is used; tells of what is under way, goes on with it, takes it back.

use super::Ran;
use super::environment::Environment;
use super::in_force;
use crate::clock;
use crate::durable::Lock;
use crate::error::{Failure, Kind, Result};
use crate::host;
use crate::job::recorder::{Recorder, What};
use crate::job::rotate::readers::NAME;
use crate::job::rotate::record;
use crate::job::rotate::rules::{self, Allowed, Hindrance};
use crate::job::rotate::scan::Found;
use crate::job::rotate::state::End;
use crate::job::rotate::targets::Given;
use crate::job::rotate::{Ended, Wish, scan};
use crate::journal::{Fact, Job, Reason, RunEnded};
use crate::secret::vault::Vault;
use crate::secret::{SecretRef, Secrets};
use std::cell::RefCell;
use std::path::PathBuf;

mod accounts;
mod canary;
mod ground;
pub mod missing;
mod owed;
mod planned;
mod recipients;
mod status;

pub use accounts::accounts_of;
use ground::Ground;

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
The server accepts the new password before anybody can read it, and loses the old one only after every consumer was moved and no session with the old one is left. What fails before that is taken back by itself. A run that was killed is gone on with by `bkp rotate resume`, which looks at what is there.

Examples:
  bkp rotate shop-db --dry-run           what would be done, and what would be in the way
  bkp rotate shop-db --because INC-42
  bkp rotate shop-db --emergency         whatever the rules say; then ends every session of the account
  bkp rotate shop-db --unrehearsed       although the last rehearsal of its source failed
  bkp rotate status
  bkp rotate resume shop-db
  bkp rotate recipients ana=age1…        the key that opens the backups (docs/ROTATION_KEYS.md)
  bkp rotate rollback shop-db            until the old one is retired")]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Name of the rotation in the configuration
    #[arg(value_name = "ROTATION", required = true)]
    name: Option<String>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    beginning: Beginning,
    #[command(flatten)]
    why: Why,
}

/// Of a rotation that is not begun yet.
#[derive(clap::Args, Debug, Default)]
struct Beginning {
    /// Also when the last rehearsal of the source failed
    #[arg(long)]
    unrehearsed: bool,
    /// Also when something was found that has the password and is not told of: it will be locked out
    #[arg(long)]
    despite_unknown: bool,
    /// The new password, where people make it: of a mail account
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct Why {
    /// The reason, for the journal: a ticket, an incident
    #[arg(long, value_name = "TEXT")]
    because: Option<String>,
    /// The password may be known to others: no waiting, and nobody keeps it
    #[arg(long)]
    emergency: bool,
}

/// What was said to one command.
struct Said {
    beginning: Beginning,
    why: Why,
}

impl Said {
    fn given(&self) -> Result<Given> {
        let read = |path: &PathBuf| Secrets::default().read(&SecretRef::File(path.clone()));
        let supplied = self.beginning.new_password_file.as_ref().map(read).transpose()?;
        Ok(Given { urgent: self.why.emergency, supplied })
    }

    fn allowed(&self) -> Allowed {
        Allowed { emergency: self.why.emergency, unrehearsed: self.beginning.unrehearsed }
    }

    /// Who is locked out is decided when a rotation begins.
    fn fits_what_is_open(&self, name: &str) -> Result<()> {
        match self.beginning.despite_unknown {
            false => Ok(()),
            true => {
                Err(Failure::usage(format!("{name} is under way: --despite-unknown is for one that is not begun yet"))
                    .hint(format!("Write what need not be moved into `known`, then: bkp rotate resume {name}")))
            }
        }
    }

    /// In an emergency nobody keeps the password.
    fn takes_unknown(&self) -> bool {
        self.beginning.despite_unknown || self.why.emergency
    }
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// What is under way, and what became of the last rotations
    #[command(after_help = "Examples:\n  bkp rotate status\n  bkp rotate status shop-db --json")]
    Status {
        /// Name of the rotation [default: all]
        #[arg(value_name = "ROTATION")]
        name: Option<String>,
    },
    /// Go on with what was begun
    #[command(after_help = "Examples:\n  bkp rotate resume shop-db")]
    Resume {
        #[arg(value_name = "ROTATION")]
        name: String,
        #[command(flatten)]
        why: Why,
    },
    /// After the server was put back: the account takes what is published, and nothing else
    #[command(after_help = "Examples:\n  bkp rotate reapply shop-db")]
    Reapply {
        #[arg(value_name = "ROTATION")]
        name: String,
    },
    /// Give those who read the backups other keys, and begin a new data epoch
    Recipients(recipients::Arguments),
    /// Take back what was begun, as long as the old password is not retired
    #[command(after_help = "Examples:\n  bkp rotate rollback shop-db --because 'the shop does not start'")]
    Rollback {
        #[arg(value_name = "ROTATION")]
        name: String,
        #[command(flatten)]
        why: Why,
    },
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let beginning = self.beginning;
        match self.command {
            Some(Command::Status { name }) => status::show(env, name.as_deref()),
            Some(Command::Resume { name, why }) => act(env, &name, &Said { beginning, why }, Wish::Resume),
            Some(Command::Rollback { name, why }) => act(env, &name, &Said { beginning, why }, Wish::RollBack),
            Some(Command::Recipients(recipients)) => recipients.run(env),
            Some(Command::Reapply { name }) => {
                let _lock = in_force::lock(env, &name)?;
                owed::reapply(env, &name)
            }
            None => {
                let name = self.name.unwrap_or_default();
                let said = Said { beginning, why: self.why };
                if self.dry_run { planned::show(env, &name, &said) } else { act(env, &name, &said, Wish::Rotate) }
            }
        }
    }
}

/// The id of this host's journal, and what people call the host.
pub fn holder(env: &Environment) -> Result<(String, String)> {
    Ok((env.journal()?.id()?.unwrap_or_default(), host::name()))
}

/// How long a host that says nothing keeps a rotation to itself.
pub fn lease(env: &Environment) -> Result<jiff::SignedDuration> {
    Ok(jiff::SignedDuration::try_from(env.configuration()?.rotator.lease).unwrap_or(jiff::SignedDuration::MAX))
}

pub fn vault(env: &Environment) -> Result<&Vault> {
    env.secrets()?.vault().ok_or_else(|| {
        Failure::usage("nothing says where Vault is").hint("Write `vault: { address: … }` into the main file")
    })
}

fn act(env: &Environment, name: &str, said: &Said, wish: Wish) -> Ran {
    if name == NAME {
        return Err(Failure::usage("nothing is kept of what was begun: what is there tells how far it is").hint(
            "Give the command that was begun again: bkp rotate recipients NAME=KEY; what was done is not taken back",
        ));
    }
    let ground = Ground::of(env, name, said.given()?)?;
    let _lock = ground.keepsake.lock(name)?;
    let _turn = ground.keepsake.turn()?;
    // A restore that was killed is not at it any more, and what it owes is due.
    env.journal()?.end_what_died(clock::now())?;
    let path = record::path(&env.configuration()?.rotator.vault_path, name)?;
    let glance = record::glance(ground.vault, &path)?;
    let is_open = glance.is_open;
    if is_open {
        said.fits_what_is_open(name)?;
    }
    missing::forget_what_is_over(env, name, &glance)?;
    let other = if is_open { None } else { missing::note(env, ground.rotation, &glance)? };
    let mut state = env.journal()?.state()?;
    if rules::owed(&state, name).is_some() && !ground.keepsake.is_lost(name, &glance) {
        if !is_open && wish == Wish::Resume {
            return owed::reapply(env, name);
        }
        owed::settle(env, name)?;
        state = env.journal()?.state()?;
    }
    let mut taken = Vec::new();
    if wish == Wish::Rotate && !is_open {
        let by_schedule = env.slot.is_some();
        if let Some(at) = ground.rotated_since(env, &state)? {
            let by = other.map_or_else(String::new, |host| format!(" by {host}"));
            env.output.note(&format!("{name} was rotated at {at:.0}{by}, and is not due"));
            return Ok(None);
        }
        match ground.may_begin(env, &state, said)? {
            Ok(()) => {}
            // Somebody else did it, just now.
            Err(hindrance @ Hindrance::RotatedLately(_)) if by_schedule => {
                env.output.note(&hindrance.why(ground.rotation));
                return Ok(None);
            }
            Err(hindrance) => return Err(hindrance.failure(ground.rotation, by_schedule)),
        }
        taken = look_for_others(env, &ground, said)?;
    }
    let recorder = env.recorder()?;
    // Several may be of one source: runs are told apart by what is rotated.
    let what = What::source(Job::Rotate, name, Some(name));
    let asked = Asking { said, wish, taken, last_closed: glance.last_closed() };
    let ended = recorder.run_named(what, reason(env), |run| run_it(env, &ground, &asked, &recorder, run), note_end)?;
    report(env, name, &ended, wish)
}

/// Whoever has the password and is not moved would be locked out. Gives those who are to be.
fn look_for_others(env: &Environment, ground: &Ground<'_>, said: &Said) -> Result<Vec<Found>> {
    let rotate = ground.rotate(env, said, "", &|| Ok(String::new()), &|_| {})?;
    let scan = rotate.scan(ground.server())?;
    for warning in &scan.warnings {
        env.output.warn(warning);
    }
    match scan::refusal(&scan.unknown, ground.rotation) {
        Some(refusal) if !said.takes_unknown() => Err(refusal),
        refusal => {
            refusal.iter().for_each(|refusal| env.output.warn(&refusal.full()));
            Ok(scan.unknown.into_iter().collect())
        }
    }
}

/// What somebody wants, and what was the last thing known when it was looked whether that may be.
struct Asking<'a> {
    said: &'a Said,
    wish: Wish,
    taken: Vec<Found>,
    last_closed: Option<&'a str>,
}

fn run_it(env: &Environment, ground: &Ground<'_>, asked: &Asking<'_>, recorder: &Recorder, run: &str) -> Result<Ended> {
    // No dump logs in while its account is between two passwords.
    let places = env.places(&env.repository()?)?;
    let held: Vec<Lock> = ground.users.iter().map(|source| places.lock(source)).collect::<Result<_>>()?;
    let held = RefCell::new(held);
    let prove = || {
        let works = ground.published_works()?;
        held.borrow_mut().clear();
        Ok(std::iter::once(works).chain(ground.canaries(env)?).collect::<Vec<_>>().join(", and "))
    };
    let note = |rotated| recorder.note(&[Fact::Rotation(Box::new(rotated))]);
    let mut rotate = ground.rotate(env, asked.said, run, &prove, &note)?;
    rotate.last_closed = asked.last_closed.map(str::to_owned);
    rotate.taken.clone_from(&asked.taken);
    rotate.run(asked.wish, &env.cancel)
}

fn note_end(ended: &Ended, run: &str) -> RunEnded {
    match &ended.failed {
        Some(why) => RunEnded::failed(run, &rolled_back(why)),
        None => RunEnded::well(run, false),
    }
}

fn rolled_back(why: &str) -> Failure {
    Failure::failed(format!("the rotation was taken back, and the old password is in force: {why}"))
        .hint("Mend what failed, then rotate again")
}

fn report(env: &Environment, name: &str, ended: &Ended, wish: Wish) -> Ran {
    for warning in &ended.warnings {
        env.output.warn(warning);
    }
    let word = match ended.end {
        End::Rotated => "rotated",
        End::RolledBack => "rolled_back",
        End::Nothing => "nothing",
    };
    let went_on = wish == Wish::RollBack && ended.end == End::Rotated;
    let document = serde_json::json!({
        "ok": ended.failed.is_none() && !went_on, "rotation": name, "end": word,
        "from": ended.from, "to": ended.to, "failed": ended.failed,
    });
    env.output.answer(&document, || match (ended.end, &ended.from, &ended.to) {
        (End::Rotated, Some(from), Some(to)) => format!("{name} is rotated: {from} → {to}"),
        (End::RolledBack, ..) => format!("{name} is as it was before"),
        _ => format!("{name}: nothing is under way"),
    })?;
    match &ended.failed {
        _ if went_on => {
            let text = format!(
                "{name} could not be taken back: the old password was gone already, so the new one is in force"
            );
            Err(Failure::new(Kind::Refused, text)
                .hint(format!("Everybody has the new one. For another one: bkp rotate {name}")))
        }
        Some(why) => Err(rolled_back(why)),
        None => Ok(None),
    }
}

fn reason(env: &Environment) -> Reason {
    env.slot.as_ref().map_or(Reason::Manual, |slot| slot.reason)
}
