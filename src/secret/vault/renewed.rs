//! A secret id that bkp replaces by itself at half of its life, so that none ends while somebody needs it.
//!
//! Two are good at a time. The new one is made, noted beside the file of the old one, tried by a login, put into that file, and
//! read back; only then the old one is destroyed. Whatever ends a process in between, the note tells the next one how to go on;
//! a new one that was made and could not be noted is nobody's, and ends by itself. What fails leaves the old one in use.

use super::connection::{Call, Connection, Trouble};
use super::token::Session;
use super::{Capabilities, Given, Login, Vault, line, told};
use crate::backoff::Budget;
use crate::clock;
use crate::durable::{self, Lock, TempFile, crash_point};
use crate::error::{Context, Failure, Kind, Result};
use crate::secret::secrets::lock;
use crate::secret::{Secret, SecretRef, local};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vaultrs::{api, auth};
use zeroize::{Zeroize, Zeroizing};

/// When it is looked again after something failed.
const AGAIN: Duration = Duration::from_secs(600);
/// No wait is longer, whatever the clocks say.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How it stands with the secret id of this process.
#[derive(Default)]
pub(super) struct Tended {
    /// When to look again; nothing before the first login.
    next: Option<Instant>,
    /// Why it could not be replaced.
    trouble: Option<String>,
}

/// A new secret id that is not in use yet, and the old one that is to go.
#[derive(Serialize, Deserialize)]
struct Note {
    secret_id: String,
    accessor: String,
    old_accessor: String,
}

impl Drop for Note {
    fn drop(&mut self) {
        self.secret_id.zeroize();
    }
}

/// What Vault tells of a secret id.
struct Life {
    accessor: String,
    made: Timestamp,
    /// Nothing: it never ends.
    ends: Option<Timestamp>,
}

impl Life {
    /// When it is to be replaced.
    fn half(&self) -> Option<Timestamp> {
        let whole = self.ends?.duration_since(self.made);
        self.made.checked_add(whole / 2).ok()
    }
}

/// The role that bkp logs in with, and where its secret id is.
struct Role<'a> {
    /// `auth/approle/role/bkp`.
    path: String,
    mount: &'a str,
    role_id: &'a Given,
    file: PathBuf,
    wrapped: bool,
}

impl Role<'_> {
    fn note(&self) -> PathBuf {
        with_ending(&self.file, "next")
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{ending}"));
    path.with_file_name(name)
}

impl Vault {
    /// Why the secret id could not be replaced, in a line.
    pub fn secret_id_trouble(&self) -> Option<String> {
        lock(&self.tended).trouble.clone()
    }

    /// Replaces the secret id when it is time. Never fails: the old one is good for as long again.
    pub(super) fn tend_secret_id(&self, connection: &Arc<Connection>, session: &Session, patience: &Budget) {
        let is_due = lock(&self.tended).next.is_none_or(|next| Instant::now() >= next);
        let Some(role) = self.role(session).filter(|_| is_due) else { return };
        let tended = match self.tend(connection, session, &role, patience) {
            Ok(Some(half)) => {
                let wait = half.duration_since(clock::now()).max(SignedDuration::ZERO);
                let wait = wait.unsigned_abs().clamp(Duration::from_secs(60), LONGEST);
                Tended { next: Some(Instant::now() + wait), trouble: None }
            }
            Ok(None) => Tended { next: Some(Instant::now() + LONGEST), trouble: None },
            Err(failure) => {
                let hint = failure.next_step().unwrap_or_default();
                let text = format!("the secret id for Vault could not be replaced: {}. {hint}", failure.full());
                Tended { next: Some(Instant::now() + AGAIN), trouble: Some(text) }
            }
        };
        *lock(&self.tended) = tended;
    }

    fn role(&self, session: &Session) -> Option<Role<'_>> {
        let Login::AppRole { mount, role_id, secret_id, wrapped, renew: true } = &self.settings.login else {
            return None;
        };
        let file = match (secret_id, wrapped) {
            (Some(_), true) => self.file(),
            (Some(SecretRef::File(path)), false) => path.clone(),
            _ => return None,
        };
        let path = format!("auth/{mount}/role/{}", session.role.as_ref()?);
        Some(Role { path, mount, role_id, file, wrapped: *wrapped })
    }

    /// When the one in use is to be replaced next.
    fn tend(
        &self,
        connection: &Arc<Connection>,
        session: &Session,
        role: &Role<'_>,
        patience: &Budget,
    ) -> Result<Option<Timestamp>> {
        let _only = match Lock::take(&with_ending(&role.file, "lock"), "the secret id for Vault") {
            // Somebody else does it.
            Err(failure) if failure.kind() == Kind::Locked => {
                return Ok(Some(clock::now() + SignedDuration::from_mins(1)));
            }
            lock => lock?,
        };
        if let Some(note) = noted(&role.note())? {
            self.go_on(connection, session, role, (&note, patience))?;
        }
        let life = self.life(connection, session, role, patience)?;
        let Some(half) = life.half() else { return Ok(None) };
        if half > clock::now() {
            return Ok(Some(half));
        }
        self.may_replace(connection, session, role, patience)?;
        let note = self.make(connection, session, role, (life.accessor, patience))?;
        self.go_on(connection, session, role, (&note, patience))?;
        Ok(self.life(connection, session, role, patience)?.half())
    }

    /// Before anything is made that could not be put to use.
    fn may_replace(
        &self,
        connection: &Connection,
        session: &Session,
        role: &Role<'_>,
        patience: &Budget,
    ) -> Result<()> {
        let paths = self.paths(role);
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let body = json!({ "paths": paths });
        let answer = self.told_by(connection, session, "sys/capabilities-self".into(), body, patience);
        let granted = Capabilities::told(&self.settings, answer, &paths, session)?;
        let missing = paths.iter().filter(|path| !granted.missing(path, &["update"]).is_empty());
        let lines: Vec<String> = missing.map(|path| line(path, &["update"])).collect();
        if lines.is_empty() {
            return Ok(());
        }
        Err(Failure::new(Kind::Key, "the role may not make itself a new one")
            .hint(format!("Add to one of its policies: {}", lines.join(" "))))
    }

    fn paths(&self, role: &Role<'_>) -> [String; 3] {
        ["secret-id", "secret-id/lookup", "secret-id-accessor/destroy"].map(|what| format!("{}/{what}", role.path))
    }

    fn make(
        &self,
        connection: &Connection,
        session: &Session,
        role: &Role<'_>,
        (old_accessor, patience): (String, &Budget),
    ) -> Result<Note> {
        // Not tried again when the answer is lost: each time makes one.
        let once = patience.lasting(Duration::ZERO);
        let answer = self.told_by(connection, session, format!("{}/secret-id", role.path), json!({}), &once);
        let mut answer = answer.map_err(|trouble| self.refused(&trouble, "make a new one"))?;
        crash_point("vault-secret-id:made");
        let mut taken = |key: &str| match answer.get_mut(key).map(Value::take) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(Failure::failed("Vault gave no secret id")),
        };
        let note = Note { secret_id: taken("secret_id")?, accessor: taken("secret_id_accessor")?, old_accessor };
        let text = serde_json::to_vec(&note).map(Zeroizing::new);
        let text = text.map_err(|e| Failure::failed("cannot write JSON").because(e))?;
        let path = role.note();
        durable::write(&path, &text, 0o600).context(|| format!("cannot write {}", path.display()))?;
        crash_point("vault-secret-id:noted");
        Ok(note)
    }

    /// Brings to its end what was noted, from wherever it is.
    fn go_on(
        &self,
        connection: &Arc<Connection>,
        session: &Session,
        role: &Role<'_>,
        (note, patience): (&Note, &Budget),
    ) -> Result<()> {
        let new = Secret::new(note.secret_id.clone());
        if !self.lets_in(connection, role, (&new, patience))? {
            return remove(&role.note());
        }
        crash_point("vault-secret-id:proven");
        self.put(role, &new)?;
        crash_point("vault-secret-id:stored");
        if self.in_use(role)?.expose().trim() != new.expose() {
            return Err(Failure::failed(format!("{} does not hold what was written to it", role.file.display())));
        }
        match self.destroy(connection, session, role, (&note.old_accessor, patience)) {
            Ok(()) => {}
            // It ended by itself, or this was done before.
            Err(trouble) if trouble.status() == Some(404) || trouble.says("failed to find accessor") => {}
            Err(trouble) => return Err(self.refused(&trouble, "destroy the old one")),
        }
        crash_point("vault-secret-id:destroyed");
        remove(&role.note())
    }

    /// Whether it logs in; the token is of no further use.
    fn lets_in(
        &self,
        connection: &Arc<Connection>,
        role: &Role<'_>,
        (new, patience): (&Secret, &Budget),
    ) -> Result<bool> {
        let role_id = match role.role_id {
            Given::Here(text) => Secret::new(text.clone()),
            Given::Kept(reference) => local::read(reference)?,
        };
        let nobody = connection.speaker(None)?;
        let answer = self.insist(patience, || {
            let (nobody, mount, role_id, new) = (nobody.clone(), role.mount.to_owned(), role_id.clone(), new.clone());
            connection.ask(async move {
                auth::approle::login(nobody.client(), &mount, role_id.expose().trim(), new.expose()).await
            })
        });
        match answer {
            Ok(mut auth) => {
                let token = Secret::new(std::mem::take(&mut auth.client_token));
                Arc::new(Session::made(connection.speaker(Some(&token))?, &auth)).revoke(connection);
                Ok(true)
            }
            Err(trouble) if trouble.is_outage() => Err(told::outage(&self.settings, &trouble)),
            Err(_) => Ok(false),
        }
    }

    fn life(&self, connection: &Connection, session: &Session, role: &Role<'_>, patience: &Budget) -> Result<Life> {
        let path = format!("{}/secret-id/lookup", role.path);
        let body = json!({ "secret_id": self.in_use(role)?.expose().trim() });
        let answer = self.told_by(connection, session, path, body, patience);
        let answer = answer.map_err(|trouble| self.refused(&trouble, "look at the one in use"))?;
        let text = |key: &str| answer[key].as_str().unwrap_or_default();
        let time = |key: &str| text(key).parse::<Timestamp>().ok();
        let made =
            time("creation_time").ok_or_else(|| Failure::failed("Vault does not tell when the secret id was made"))?;
        let accessor = text("secret_id_accessor").to_owned();
        // One without an end has a time before all others.
        Ok(Life { accessor, made, ends: time("expiration_time").filter(|ends| *ends > made) })
    }

    fn in_use(&self, role: &Role<'_>) -> Result<Secret> {
        match role.wrapped {
            true => {
                let kept = self.kept()?;
                kept.map(|kept| kept.secret_id)
                    .ok_or_else(|| Failure::failed("the secret id for Vault is not there any more"))
            }
            false => local::read(&SecretRef::File(role.file.clone())),
        }
    }

    fn put(&self, role: &Role<'_>, new: &Secret) -> Result<()> {
        if role.wrapped {
            return self.keep_instead(new);
        }
        replace(&role.file, new).context(|| format!("cannot write the new secret id into {}", role.file.display()))
    }

    fn told_by(
        &self,
        connection: &Connection,
        session: &Session,
        path: String,
        body: Value,
        patience: &Budget,
    ) -> std::result::Result<Value, Trouble> {
        self.insist(patience, || {
            let speaker = session.speaker.clone();
            let call = Call { path: path.clone(), query: None, body: Some(body.clone()) };
            connection.ask(async move { api::exec_with_result(speaker.client(), call).await })
        })
    }

    fn destroy(
        &self,
        connection: &Connection,
        session: &Session,
        role: &Role<'_>,
        (accessor, patience): (&str, &Budget),
    ) -> std::result::Result<(), Trouble> {
        self.insist(patience, || {
            let speaker = session.speaker.clone();
            let body = Some(json!({ "secret_id_accessor": accessor }));
            let call = Call { path: format!("{}/secret-id-accessor/destroy", role.path), query: None, body };
            connection.ask(async move { api::exec_with_empty(speaker.client(), call).await })
        })
    }

    fn refused(&self, trouble: &Trouble, what: &str) -> Failure {
        if trouble.is_outage() {
            return told::outage(&self.settings, trouble);
        }
        Failure::new(Kind::Key, format!("Vault does not let the role {what}: {}", trouble.words()))
            .hint("See what it needs: docs/VAULT.md")
    }
}

fn noted(path: &Path) -> Result<Option<Note>> {
    match std::fs::read(path) {
        // What was not written whole was never put to use.
        Ok(bytes) => Ok(serde_json::from_slice(&Zeroizing::new(bytes)).ok()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).context(|| format!("cannot read {}", path.display())),
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).context(|| format!("cannot remove {}", path.display())),
        _ => Ok(()),
    }
}

/// With the mode and the owner of the file that is there.
fn replace(path: &Path, new: &Secret) -> std::io::Result<()> {
    let there = std::fs::metadata(path)?;
    let mut file = TempFile::create_in(durable::parent_of(path), there.mode() & 0o777)?;
    if (there.uid(), there.gid()) != (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()) {
        fchown(file.file(), Some(there.uid()), Some(there.gid()))?;
    }
    writeln!(file, "{}", new.expose())?;
    file.commit(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_id_is_replaced_at_half_of_its_life_and_one_without_an_end_never() {
        let made: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let life = |ends: Option<&str>| Life { accessor: String::new(), made, ends: ends.map(|t| t.parse().unwrap()) };
        assert_eq!(life(Some("2026-11-11T00:00:00Z")).half().unwrap().to_string(), "2026-11-06T00:00:00Z");
        assert_eq!(life(None).half(), None);
    }

    #[test]
    fn the_note_is_beside_the_file() {
        assert_eq!(with_ending(Path::new("/etc/bkp/secret-id"), "next"), Path::new("/etc/bkp/secret-id.next"));
    }
}
