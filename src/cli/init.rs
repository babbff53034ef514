//! `bkp init`: a new repository, with a recovery key where nobody brought one; or one more writer of a repository.
//!
//! The recovery key is on disk before the repository exists, so that there is never a repository that nobody can read.

use super::Ran;
use super::environment::Environment;
use super::output::{pairs, plain};
use crate::durable;
use crate::error::{Context, Failure, Kind, Result};
use crate::repo::Repository;
use crate::repo::init::{self, Prepared};
use crate::repo::keys::{NamedRecipient, Role, named_recipient};
use crate::repo::point::Layout;
use crate::repo::recovery_key::RecoveryKey;
use crate::repo::writer::Writer;
use crate::store::{self, Store, probe};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Without --recipient a recovery key is made and written to a file. Move that file off this host: without it nothing \
can be restored, and whoever has it can read every backup.

Examples:
  bkp init --repo /srv/backup
  bkp init --repo s3://backups/prod --endpoint https://minio.example:9000
  bkp init --recipient ana=age1… --recipient 'luis=ssh-ed25519 AAAA… luis@desk'
  bkp init --join                          let this host write into the configured repository too")]
pub struct Arguments {
    /// Who can read the backups: an age or ssh public key, NAME= in front to name it; may be repeated
    #[arg(long, value_name = "[NAME=]KEY")]
    recipient: Vec<String>,
    /// Where to write the recovery key [default: ./bkp-recovery-key-ID.txt]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipient", "join"])]
    recovery_key: Option<PathBuf>,
    /// Let this host write into a repository that exists
    #[arg(long, conflicts_with = "recipient")]
    join: bool,
    /// Name of this writer, for people [default: the host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let name = self.name.clone().unwrap_or_else(crate::host::name);
        if self.join { join(env, &name) } else { self.create(env, &name) }
    }

    fn create(&self, env: &Environment, name: &str) -> Ran {
        let settings = env.store_settings()?;
        let now = env.now;
        let given = self.recipients(now)?;
        let store = store::create(&settings, env.watch()?)?;
        match Repository::open(store.clone()) {
            Ok(_) => return Err(init::already(&*store)),
            Err(failure) if failure.kind() == Kind::NoRepository => {}
            Err(failure) => return Err(failure),
        }
        let found = probe::probe(&settings, now)?;
        if env.write_options(Layout::default(), None)?.retain.is_some() && !found.object_lock {
            return Err(Failure::usage(format!(
                "{} cannot lock objects, and the configuration asks for it",
                store.describe()
            ))
            .hint("Make a bucket with object lock, or remove `object_lock:` from the configuration"));
        }
        let capabilities = serde_json::to_value(found).map_err(|e| Failure::failed("cannot write JSON").because(e))?;
        let key = given.is_empty().then(RecoveryKey::generate);
        let recipients = match &key {
            Some(key) => vec![named_recipient("recovery-key", Role::Operator, &key.recipient(), now)?],
            None => given,
        };
        let prepared = init::prepare(recipients, name, &env.paths()?.state, capabilities, now)?;
        let file = match &key {
            Some(key) => Some(self.write_key(key, &prepared, &*store, env)?),
            None => None,
        };
        let (repository, writer) = prepared.write(store).inspect_err(|_| {
            if let Some(file) = &file {
                env.output.note(&format!(
                    "{} was written before that; it is of no use if there is no repository",
                    file.display()
                ));
            }
        })?;
        report(env, &repository, &writer, file.as_deref(), "created")
    }

    fn recipients(&self, now: jiff::Timestamp) -> Result<Vec<NamedRecipient>> {
        let one = |(number, text): (usize, &String)| {
            // The base64 of an ssh key may end in `=`, but has spaces before that.
            match text.split_once('=').filter(|(name, key)| !name.contains(' ') && !key.is_empty()) {
                Some((name, key)) => named_recipient(name, Role::Operator, key, now),
                None => named_recipient(&format!("operator-{}", number + 1), Role::Operator, text, now),
            }
        };
        let all: Vec<NamedRecipient> = self.recipient.iter().enumerate().map(one).collect::<Result<_>>()?;
        must_differ(&all)?;
        Ok(all)
    }

    fn write_key(
        &self,
        key: &RecoveryKey,
        prepared: &Prepared,
        store: &dyn Store,
        env: &Environment,
    ) -> Result<PathBuf> {
        let id = &prepared.info.id[..8];
        let file = self.recovery_key.clone().unwrap_or_else(|| format!("bkp-recovery-key-{id}.txt").into());
        let file = std::path::absolute(&file).context(|| format!("cannot tell where {} is", file.display()))?;
        refuse_shared_directory(durable::parent_of(&file))?;
        // Years later nobody may know which server that bucket was on.
        let location = match env.store_settings()?.endpoint {
            Some(endpoint) => format!("{} at {endpoint}", store.describe()),
            None => store.describe(),
        };
        let text = key.text(&prepared.info.id, &location, &prepared.writer.trust_line(), env.now);
        let what = || format!("cannot write the recovery key {}", file.display());
        durable::write_new(&file, text.as_bytes(), 0o600).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::new(Kind::Refused, format!("{} is there already", file.display()))
                    .hint("A key is never overwritten: give another name with --recovery-key")
            }
            _ => Failure::from_io(e, what),
        })?;
        // Some file systems take a mode and forget it.
        let mode = std::fs::metadata(&file).context(what)?.permissions().mode();
        if mode & 0o077 != 0 {
            std::fs::remove_file(&file).context(what)?;
            return Err(Failure::new(
                Kind::Refused,
                format!("others could read the recovery key in {}", file.display()),
            )
            .hint("That file system does not keep permissions. Give a file elsewhere with --recovery-key"));
        }
        Ok(file)
    }
}

/// Each has a name and a key of its own: to take one off would leave the other one in.
fn must_differ(all: &[NamedRecipient]) -> Result<()> {
    for (number, one) in all.iter().enumerate() {
        let before = &all[..number];
        if let Some(other) = before.iter().find(|other| other.key() == one.key()) {
            return Err(Failure::usage(format!("`{}` and `{}` have the same key", other.name, one.name))
                .hint("Give each key once: somebody who has two of them gives each a name of its own"));
        }
        if before.iter().any(|other| other.name == one.name) {
            return Err(Failure::usage(format!("two keys are called `{}`", one.name))
                .hint("Give each key a name of its own: bkp keys remove NAME takes one off"));
        }
    }
    Ok(())
}

/// In a directory that everybody may write to, others could exchange the file.
fn refuse_shared_directory(directory: &Path) -> Result<()> {
    let what = || format!("cannot look at {}", directory.display());
    let mode = std::fs::metadata(directory).context(what)?.permissions().mode();
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        return Err(Failure::new(Kind::Refused, format!("everybody may change files in {}", directory.display()))
            .hint("Give a private place for the recovery key with --recovery-key"));
    }
    Ok(())
}

fn join(env: &Environment, name: &str) -> Ran {
    let repository = env.repository()?;
    let state = &env.paths()?.state;
    if let Some(writer) = Writer::load(state, repository.id())? {
        return report(env, &repository, &writer, None, "already_joined");
    }
    let writer = init::join(&repository, name, state, env.now)?;
    report(env, &repository, &writer, None, "joined")
}

fn report(env: &Environment, repository: &Repository, writer: &Writer, key: Option<&Path>, status: &str) -> Ran {
    let location = repository.store.describe();
    let recipients: Vec<_> =
        writer.recipients.iter().map(|r| serde_json::json!({ "name": r.name, "recipient": r.recipient })).collect();
    let document = serde_json::json!({
        "status": status,
        "repository": repository.id(),
        "location": location,
        "created": repository.info.created,
        "store": repository.info.store,
        "writer": writer.id(),
        "writer_name": writer.info.name,
        "verify_key": writer.info.verify_key,
        "trust_line": writer.trust_line(),
        "recipients": recipients,
        "recovery_key_file": key.map(crate::policy::path_text),
    });
    env.output.answer(&document, || {
        let mut rows = vec![
            ("repository", format!("{location}  ({status}, id {})", &repository.id()[..8])),
            ("writer", format!("{}  ({})", writer.id(), plain(&writer.info.name))),
        ];
        for recipient in &writer.recipients {
            rows.push(("can read", format!("{}  {}", plain(&recipient.name), plain(&recipient.recipient))));
        }
        if let Some(key) = key {
            rows.push(("recovery key", key.display().to_string()));
        }
        pairs(&rows)
    })?;
    env.output.note(&advice(writer, key, status));
    Ok(None)
}

/// What to do now.
fn advice(writer: &Writer, key: Option<&Path>, status: &str) -> String {
    let line = writer.trust_line();
    match (key, status) {
        (Some(key), _) => format!(
            "\nWithout the recovery key nothing can be restored, and whoever has it can read every backup:\n  \
             1. copy {file} to a place away from this host (password store, safe, paper)\n  \
             2. test the copy there after the first backup: bkp ls SOURCE --identity COPY\n  \
             3. remove it from this host: shred -u {file}",
            file = key.display()
        ),
        (None, "created") => format!(
            "\nAdd this line to the identity files of those who restore; it lets them see that backups are really from here:\n  {line}"
        ),
        (None, _) => format!(
            "\nCompare the recipients above with what the operators say: the store vouches for them alone.\n\
             Add this line to the identity files of those who restore:\n  {line}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_taken_once_whatever_is_noted_beside_it() {
        let ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJtrIlqm3CqvAM4W3lIj3F1RZWL+y1GVQDCFXqlbCD0d";
        let reader = |name: &str, key: &str| NamedRecipient {
            name: name.into(),
            role: Role::Operator,
            recipient: key.into(),
            added: jiff::Timestamp::UNIX_EPOCH,
        };
        let taken = |other: NamedRecipient| must_differ(&[reader("luis", ssh), other]).map_err(|f| f.full());
        assert!(taken(reader("ana", &format!("{ssh} ana@desk"))).unwrap_err().contains("have the same key"));
        assert!(taken(reader("luis", "age1x")).unwrap_err().contains("two keys are called `luis`"));
        taken(reader("ana", "age1x")).unwrap();
    }

    #[test]
    fn a_directory_that_everybody_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let set = |mode| std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        set(0o755);
        refuse_shared_directory(directory.path()).unwrap();
        set(0o1777);
        refuse_shared_directory(directory.path()).unwrap();
        set(0o777);
        assert_eq!(refuse_shared_directory(directory.path()).unwrap_err().kind(), Kind::Refused);
    }
}
