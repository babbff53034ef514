//! What a rotation would do, found by asking everybody and changing nothing.

use super::act::Rotate;
use super::record::{self, Glance};
use super::scan::{self, Found, Scan};
use super::state::{Holds, Login};
use crate::engine::{Credential, Pair, Server};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::policy::Target;
use crate::secret::vault;
use crate::secret::{Secret, SecretRef};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Debug, Serialize)]
pub struct Plan {
    pub rotation: String,
    pub account: String,
    pub published: String,
    /// What was begun before and is not at its end.
    pub open: Option<Glance>,
    /// What the token may do in Vault, of what is needed: path by path. Empty where it is not told.
    pub granted: Vec<String>,
    /// Where the password in force was tried, and lets in.
    pub nodes: Vec<String>,
    pub steps: Vec<String>,
    /// What has the password and is not told of.
    pub unknown: BTreeSet<Found>,
    pub warnings: Vec<String>,
    /// How long somebody cannot log in with the one or the other.
    pub gap_seconds: f64,
}

impl Rotate<'_> {
    /// A failure is what the rotation itself would fail with before it changes anything.
    pub fn plan(&self, server: Option<&Server>, cancel: &Cancel) -> Result<Plan> {
        let granted = self.permitted()?;
        self.lost()?;
        let glance = record::glance(self.vault, &self.record)?;
        self.accounts.lock_with(glance.locks.clone());
        let open = glance.is_open.then_some(glance);
        let current = self.read_published()?;
        let mut warnings = Vec::new();
        let mut unknown = BTreeSet::new();
        if granted.is_empty() {
            warnings.push("Vault does not tell what the token may do: give its role the policy `default`".to_owned());
        }
        // What the policy makes is looked at now, and not in the middle.
        self.new_credential(&current, cancel)?;
        // In the middle of a rotation, the account is not as it should be before one.
        if open.is_none() {
            warnings.extend(self.preflight(&current, cancel)?);
        }
        let mut nodes = Vec::new();
        for node in self.accounts.nodes()? {
            match self.accounts.probe(&current, &node) {
                Login::Accepted => nodes.push(node.to_string()),
                Login::Refused | Login::Partly => {
                    return Err(self.refused(&format!("{} for {}", node, self.accounts.describe())));
                }
                Login::Unknown(why) => return Err(Failure::new(Kind::TryLater, why).hint("Nothing was tried besides")),
            }
        }
        if open.is_none() {
            warnings.extend(self.check_consumers(&current, cancel)?);
            let scan = self.scan_for(server, &current);
            warnings.extend(scan.warnings);
            unknown = scan.unknown;
        }
        warnings.extend(self.consumers.iter().filter_map(super::delivery::Consumer::warning));
        let published = format!("ref+vault://{}", self.rotation.published);
        let account = self.accounts.describe();
        let steps = self.steps(&account, &published);
        Ok(Plan {
            rotation: self.rotation.name.clone(),
            account,
            published,
            open,
            granted,
            nodes,
            steps,
            unknown,
            warnings,
            gap_seconds: self.gap().as_secs_f64(),
        })
    }

    /// Who else has the password that is in force.
    pub fn scan(&self, server: Option<&Server>) -> Result<Scan> {
        let current = self.read_published()?;
        Ok(self.scan_for(server, &current))
    }

    fn scan_for(&self, server: Option<&Server>, current: &Credential) -> Scan {
        let mut scan = scan::scan(self.rotation, server, current);
        for consumer in &self.consumers {
            match consumer.delivery.others(&self.rotation.consumers, current) {
                Ok(others) => scan.unknown.extend(others.into_iter().filter(|found| !found.is_known(self.rotation))),
                Err(failure) => {
                    scan.warnings.push(format!(
                        "who else is given what {} is was not seen: {}",
                        consumer.name,
                        failure.full()
                    ));
                }
            }
        }
        scan
    }

    /// Everything that is needed in Vault, asked for at once and before anything is begun.
    pub(super) fn permitted(&self) -> Result<Vec<String>> {
        const WRITE: &[&str] = &["create", "read", "update"];
        let mut wanted =
            vec![(self.vault.mounted(&self.record)?, WRITE), (self.vault.mounted(&self.rotation.published)?, WRITE)];
        if let Some((_, SecretRef::Vault(path))) = &self.rotation.admin {
            wanted.push((self.vault.mounted(path)?, &["read"]));
        }
        if let Some(published) = self.rotation.name_published() {
            wanted.push((self.vault.mounted(published)?, WRITE));
        }
        if let Target::SigningKey(key) = &self.rotation.target {
            wanted.push((self.vault.mounted(&key.jwks)?, WRITE));
        }
        let policy = self.rotation.vault_policy.as_ref();
        wanted.extend(policy.map(|policy| (vault::generates(policy), &["read"][..])));
        let known = self.vault.may_all(&wanted)?;
        let told = wanted.iter().filter(|_| known).map(|(path, may)| format!("{} {path}", may.join(", ")));
        Ok(told.collect())
    }

    /// Gives what people should know of besides.
    pub(super) fn check_consumers(&self, current: &Credential, cancel: &Cancel) -> Result<Vec<String>> {
        // Something that nobody has.
        let secret = Secret::new(crate::durable::random_hex(32));
        let other = Credential { user: self.rotation.changes_name().then(|| secret.expose().to_owned()), secret };
        let pair = Pair { current, pending: &other };
        let holds = self.consumers.iter().map(|consumer| Ok((consumer, consumer.delivery.holds(pair)?)));
        for held in holds.collect::<Result<Vec<_>>>()? {
            if let (consumer, Holds::Other) = held {
                let what = format!("{} does not hold the password that is published", consumer.name);
                return Err(Failure::new(Kind::Refused, what)
                    .hint(format!("Correct what is there, or what is published ({})", consumer.delivery.describe())));
            }
        }
        let mut notes = Vec::new();
        for consumer in &self.consumers {
            notes.extend(consumer.preflight(cancel)?);
        }
        Ok(notes)
    }

    /// How long the last one to be moved may be without a password that lets in, at most.
    fn gap(&self) -> Duration {
        match self.accounts.has_gap() {
            true => self.consumers.iter().map(|consumer| consumer.patience).sum(),
            false => Duration::ZERO,
        }
    }

    /// Where the name changes with the secret, and Vault has an old one of both, what is to be said of the account is said of the wrong
    /// name: what it would be right to do with the other one otherwise would lock everybody out.
    pub(super) fn preflight(&self, current: &Credential, cancel: &Cancel) -> Result<Vec<String>> {
        let checked = self.accounts.preflight(current, cancel);
        let is_about_the_name = checked.as_ref().is_err_and(|failure| failure.kind() == Kind::Key);
        let is_refused = || self.accounts.log_in(current).is_ok_and(|login| login == Login::Refused);
        match !is_about_the_name && self.rotation.changes_name() && is_refused() {
            true => Err(self.refused(&self.accounts.describe())),
            false => checked,
        }
    }

    /// Who refuses it.
    pub(super) fn refused(&self, who: &str) -> Failure {
        let published = format!("ref+vault://{}", self.rotation.published);
        Failure::new(Kind::Key, format!("{who} refuses the password that is published")).hint(format!(
            "Publish what its consumers have, if that lets in ({published}; Vault may have come back from an older state); or correct the account, and see that it may log in from this host. Nothing was changed"
        ))
    }

    fn makes(&self) -> &'static str {
        match self.rotation.target {
            Target::Source(_) => "make a new password",
            Target::Minio(_) => "make a name and a secret for a new access key",
            Target::SigningKey(_) => "make a new key that signs",
            Target::Smtp(_) => "take the new password from the file that you give",
        }
    }

    /// What becomes of the old one.
    fn ends(&self, account: &str) -> Vec<String> {
        let (seen, taken) = match &self.rotation.target {
            _ if self.accounts.has_gap() => return Vec::new(),
            Target::Smtp(_) => {
                ("see what the provider accepts", "wait for you to take the old one away there".to_owned())
            }
            Target::SigningKey(_) => {
                ("wait until the last token of the old key has passed", "take its public half from the list".to_owned())
            }
            Target::Minio(_) => ("see that nobody signs with the old one", "switch it off, and remove it".to_owned()),
            Target::Source(_) => {
                ("see that no session with the old one is left", format!("take the old one from {account}"))
            }
        };
        vec![seen.to_owned(), format!("{taken}, and see that it is refused")]
    }

    fn steps(&self, account: &str, published: &str) -> Vec<String> {
        let mut steps = vec![
            format!("save {account} as it is, sealed to the operators"),
            format!("{}; keep it in Vault and in escrow", self.makes()),
            match (&self.rotation.target, self.accounts.has_gap()) {
                (_, true) => {
                    format!("let {account} accept the new one, which takes the old one from it: now the gap begins")
                }
                (Target::Smtp(_), _) => {
                    "log in with it everywhere; what is refused waits for you to set it at the provider".to_owned()
                }
                (Target::SigningKey(key), _) => format!(
                    "add its public half at ref+vault://{}, and wait until every verifier has read it",
                    key.jwks
                ),
                _ => format!("let {account} accept both, and log in with both everywhere"),
            },
            format!("publish it at {published}"),
        ];
        steps.extend(self.consumers.iter().map(super::delivery::Consumer::describe));
        steps.extend(self.ends(account));
        steps.push("use the new one once more, and close".to_owned());
        steps
    }
}
