//! One password for all hosts of an account, and no second one, whatever there was before.

use super::verifier::{self, is_of};
use super::{Client, Flavour, Rotation, Session, Verifiers, native, text};
use crate::engine::{Accounts, Credential};
use crate::error::Result;
use crate::event::Cancel;
use crate::secret::Secret;

impl Rotation {
    pub(super) fn set_alone(&self, credential: &Credential, cancel: &Cancel) -> Result<bool> {
        let nodes = self.nodes()?;
        self.with(cancel, |client, session| {
            let is_changed = match client.version.flavour {
                Flavour::Mysql => self.set_alone_in_mysql(client, session, credential)?,
                Flavour::Mariadb => self.set_alone_in_mariadb(session, credential)?,
            };
            if is_changed {
                self.is_known_again(&nodes, credential);
            }
            self.wait_for_replicas(session, client.version.flavour, credential, cancel)?;
            Ok(is_changed)
        })
    }

    fn set_alone_in_mariadb(&self, session: &mut Session<'_>, secret: &Secret) -> Result<bool> {
        let alone = Verifiers(vec![native(secret)]);
        let there = self.verifiers(session)?;
        if !there.is_empty() && there.iter().all(|(_, verifiers)| *verifiers == alone) {
            return Ok(false);
        }
        self.alter(session, |_| Ok(alone.statement()))?;
        Ok(true)
    }

    /// First the password, then the second one goes: which of the two somebody logged in with is not known.
    fn set_alone_in_mysql(&self, client: &Client<'_>, session: &mut Session<'_>, secret: &Secret) -> Result<bool> {
        let has_second = self.has_second_password(session)?;
        let has_it = self.has_everywhere(session, secret)?;
        if !has_it {
            self.set_in_mysql(client, session, secret)?;
        }
        if has_second {
            self.alter(session, |_| Ok("DISCARD OLD PASSWORD".to_owned()))?;
        }
        Ok(has_second || !has_it)
    }

    /// By verifiers where the server takes them: a history of passwords refuses the password itself, when it was there before.
    fn set_in_mysql(&self, client: &Client<'_>, session: &mut Session<'_>, secret: &Secret) -> Result<()> {
        let question = format!("SELECT host, plugin FROM mysql.user WHERE user = {}", text(&self.account));
        let variants = session.rows(&question)?;
        let one = |row: Vec<String>| {
            let [host, plugin] = <[String; 2]>::try_from(row).ok()?;
            let verifier = hex::encode(verifier::of(&plugin, secret)?);
            Some(format!("{}@{} IDENTIFIED WITH {} AS 0x{verifier}", text(&self.account), text(&host), text(&plugin)))
        };
        let parts: Option<Vec<String>> = variants.into_iter().map(one).collect();
        match parts.filter(|parts| !parts.is_empty() && client.version.at_least(Flavour::Mysql, (8, 0, 17))) {
            Some(parts) => session.run(Secret::new(format!("ALTER USER {}", parts.join(", "))).expose()),
            None => self.alter(session, |_| Ok(format!("IDENTIFIED BY {}", text(secret.expose())))),
        }
    }

    /// By the verifiers; what is not understood is as good as no.
    fn has_everywhere(&self, session: &mut Session<'_>, secret: &Secret) -> Result<bool> {
        let account = text(&self.account);
        let question = format!("SELECT plugin, HEX(authentication_string) FROM mysql.user WHERE user = {account}");
        let rows = session.rows(&question)?;
        let is_it = |row: &Vec<String>| match &row[..] {
            [plugin, kept] => hex::decode(kept).ok().and_then(|kept| is_of(plugin, &kept, secret)) == Some(true),
            _ => false,
        };
        Ok(!rows.is_empty() && rows.iter().all(is_it))
    }
}
