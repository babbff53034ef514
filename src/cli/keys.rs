//! `bkp keys`: who can read the backups, and who writes them.

use super::Ran;
use super::environment::Environment;
use super::format;
use super::output::{plain, table};
use crate::durable::Lock;
use crate::error::Result;
use crate::repo::keys::{self, Role, named_recipient};
use crate::repo::recipients::{self, Change};
use crate::repo::sign;
use crate::repo::writer::Writer;
use crate::repo::{Repository, catalog, init};

#[derive(clap::Subcommand, Debug)]
#[command(after_help = "\
Examples:
  bkp keys list
  bkp keys add ana age1… --identity recovery-key.txt
  bkp keys remove ana --identity recovery-key.txt")]
pub enum Command {
    /// List recipients, data epochs and writers
    #[command(after_help = "Examples:\n  bkp keys list\n  bkp keys list --json")]
    List,
    /// Let one more person read everything, old and new
    #[command(
        after_help = "Examples:\n  bkp keys add ana age1… --identity recovery-key.txt\n  bkp keys add scratch-host age1… --role rehearser --identity recovery-key.txt"
    )]
    Add(Add),
    /// Take a person off: their key opens no data that is written from now on
    #[command(
        after_help = "What a key could open before, it still opens: remove protects future data only.\n\nExamples:\n  bkp keys remove ana --identity recovery-key.txt"
    )]
    Remove(Remove),
    /// Begin a new data epoch: data written from now on is sealed to a new key
    #[command(after_help = "Examples:\n  bkp keys new-epoch")]
    NewEpoch,
}

#[derive(clap::Args, Debug)]
pub struct Add {
    /// Name of the person or host
    name: String,
    /// Their public key: age1…, ssh-ed25519 …, or an age plug-in's
    #[arg(value_name = "KEY")]
    recipient: String,
    /// What they are for
    #[arg(long, value_enum, default_value = "operator")]
    role: RoleArgument,
}

#[derive(clap::Args, Debug)]
pub struct Remove {
    /// Name or public key
    name: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RoleArgument {
    /// Holds a recovery key
    Operator,
    /// Restores for rehearsals
    Rehearser,
}

impl Command {
    pub fn run(self, env: &Environment) -> Ran {
        let repository = env.repository()?;
        match self {
            Command::List => list(env, &repository)?,
            Command::Add(add) => {
                let role = match add.role {
                    RoleArgument::Operator => Role::Operator,
                    RoleArgument::Rehearser => Role::Rehearser,
                };
                let new = named_recipient(&add.name, role, &add.recipient, env.now)?;
                let _lock = lock(env, &repository)?;
                let mut writer = env.writer(&repository)?;
                let operator = operator(env)?;
                let change = Change::Add(new);
                init::change_recipients(&repository, &mut writer, (&change, false), &operator, env.now)?;
                changed(env, &writer, "added", &format!("{} can read all backups from now on", plain(&add.name)))?;
            }
            Command::Remove(remove) => {
                let _lock = lock(env, &repository)?;
                let mut writer = env.writer(&repository)?;
                let operator = operator(env)?;
                let change = Change::Remove(remove.name.clone());
                init::change_recipients(&repository, &mut writer, (&change, false), &operator, env.now)?;
                let what = format!("{} opens no data that is written from now on", plain(&remove.name));
                changed(env, &writer, "removed", &what)?;
                env.output.note("What that key could open before, it still opens: old data is not sealed again.");
            }
            Command::NewEpoch => {
                let _lock = lock(env, &repository)?;
                let mut writer = env.writer(&repository)?;
                let number = init::new_epoch(&repository, &mut writer, false)?;
                changed(env, &writer, "new_epoch", &format!("data epoch {number} has begun"))?;
            }
        }
        Ok(None)
    }
}

/// Of two processes that change the keys of this host, the second one waits for nothing and says so.
pub fn lock(env: &Environment, repository: &Repository) -> Result<Lock> {
    Writer::lock(&env.paths()?.state, repository.id())
}

/// Changing who reads takes somebody who can.
fn operator(env: &Environment) -> Result<keys::Operator> {
    needs_identity(env)?;
    env.operator()
}

pub fn needs_identity(env: &Environment) -> Result<()> {
    if env.globals.identity.is_empty() {
        use crate::error::{Failure, Kind};
        return Err(Failure::new(Kind::Key, "changing who can read takes the private key of somebody who can")
            .hint("Give it with --identity FILE (or BKP_IDENTITY)"));
    }
    Ok(())
}

fn changed(env: &Environment, writer: &Writer, status: &str, text: &str) -> Result<()> {
    let document = serde_json::json!({
        "status": status, "epoch": writer.epoch.number, "recipients": writer.recipients,
    });
    env.output.answer(&document, || text.to_owned())
}

fn list(env: &Environment, repository: &Repository) -> Result<()> {
    let stored = recipients::claimed(&*repository.store)?.1;
    let writer = Writer::load(&env.paths()?.state, repository.id())?;
    let (writers, broken) = catalog::writers(repository)?;
    for (_, failure) in &broken {
        env.output.warn(&failure.full());
    }
    let epochs: Vec<u32> =
        repository.store.list("keys/")?.iter().filter_map(|e| keys::epoch_number(e.key.as_str())).collect();
    if let Some(writer) = writer.as_ref().filter(|w| w.recipients != stored) {
        env.output.warn(&format!(
            "the store names other recipients than this host seals to ({}); this host believes its own list\n  \
             If the change is meant, run the same `bkp keys` command here",
            writer.recipients.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ")
        ));
    }
    let own = writer.as_ref().map(|w| w.id());
    let believed = writer.as_ref().map_or(&stored, |w| &w.recipients);
    let document = serde_json::json!({
        "recipients": believed,
        "epochs": epochs,
        "epoch": writer.as_ref().map(|w| w.epoch.number),
        "writers": writers.iter().map(|w| serde_json::json!({
            "writer": w.writer, "name": w.name, "verify_key": w.verify_key,
            "key_id": sign::parse_key(&w.verify_key).ok().map(|key| sign::key_id(&key)), "created": w.created,
            "this_host": own == Some(w.writer.as_str()),
        })).collect::<Vec<_>>(),
    });
    env.output.answer(&document, || {
        let role = |role| match role {
            Role::Operator => "operator",
            Role::Rehearser => "rehearser",
        };
        let people = believed
            .iter()
            .map(|r| vec![plain(&r.name), role(r.role).to_owned(), format::utc(r.added), plain(&r.recipient)]);
        let hosts = writers.iter().map(|w| {
            let here = if own == Some(w.writer.as_str()) { "this host" } else { "" };
            vec![w.writer.clone(), plain(&w.name), format::utc(w.created), plain(&w.verify_key), here.to_owned()]
        });
        let epochs: Vec<String> = epochs.iter().map(u32::to_string).collect();
        format!(
            "{}\n\n{}\n\ndata epochs: {}",
            table(&["CAN READ", "ROLE", "SINCE", "PUBLIC KEY"], people),
            table(&["WRITES", "NAME", "SINCE", "SIGNS WITH", ""], hosts),
            epochs.join(", ")
        )
    })
}
