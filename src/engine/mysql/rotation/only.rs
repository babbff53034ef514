//! One password for all hosts of an account, and no second one, whatever there was before.

use super::verifier::is_of;
use super::{Flavour, Rotation, Session, Verifiers, native, text};
use crate::engine::{Accounts, Credential};
use crate::error::Result;
use crate::event::Cancel;
use crate::secret::Secret;

impl Rotation {
    pub(super) fn set_alone(&self, credential: &Credential, cancel: &Cancel) -> Result<bool> {
        let nodes = self.nodes()?;
        self.with(cancel, |client, session| {
            let is_changed = match client.version.flavour {
                Flavour::Mysql => self.set_alone_in_mysql(session, credential)?,
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
    fn set_alone_in_mysql(&self, session: &mut Session<'_>, secret: &Secret) -> Result<bool> {
        let has_second = self.has_second_password(session)?;
        if !has_second && self.has_everywhere(session, secret)? {
            return Ok(false);
        }
        self.alter(session, |_| Ok(format!("IDENTIFIED BY {}", text(secret.expose()))))?;
        if has_second {
            self.alter(session, |_| Ok("DISCARD OLD PASSWORD".to_owned()))?;
        }
        Ok(true)
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
