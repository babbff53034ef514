//! One password for all hosts of an account, and no second one, whatever there was before.

use super::{Flavour, Login, NATIVE, Rotation, Session, Verifiers, native, text};
use crate::engine::Accounts;
use crate::error::Result;
use crate::event::Cancel;
use crate::secret::Secret;

impl Rotation {
    pub(super) fn set_alone(&self, secret: &Secret, cancel: &Cancel) -> Result<bool> {
        self.with(cancel, |client, session| match client.version.flavour {
            Flavour::Mysql => self.set_alone_in_mysql(session, secret),
            Flavour::Mariadb => {
                let alone = Verifiers(vec![native(secret)]);
                let there = self.verifiers(session)?;
                if !there.is_empty() && there.iter().all(|(_, verifiers)| *verifiers == alone) {
                    return Ok(false);
                }
                self.alter(session, |_| Ok(alone.statement()))?;
                Ok(true)
            }
        })
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

    /// By the verifiers, where they can be made here; by logging in, where there is only one host to log in from. Otherwise it
    /// is not known, and as good as no.
    fn has_everywhere(&self, session: &mut Session<'_>, secret: &Secret) -> Result<bool> {
        let account = text(&self.account);
        let question = format!("SELECT plugin, HEX(authentication_string) FROM mysql.user WHERE user = {account}");
        let rows = session.rows(&question)?;
        let verifier = hex::encode_upper(native(secret));
        let is_native = |row: &Vec<String>| row.first().is_some_and(|plugin| plugin == NATIVE);
        if rows.iter().all(is_native) {
            return Ok(!rows.is_empty() && rows.iter().all(|row| row.get(1) == Some(&verifier)));
        }
        let logins = self.nodes()?.iter().map(|node| self.probe(&secret.clone().into(), node)).collect();
        Ok(rows.len() == 1 && self.together(logins) == Login::Accepted)
    }
}
