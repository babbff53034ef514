//! Where a Vault is and who asks it, as it is in effect: of the main file, or of a source.

use super::{Showing, duration_text};
use crate::secret::vault::{self, Given, Login};

impl Showing<'_> {
    /// `place`: the keys that lead to it.
    pub(super) fn vault(&mut self, place: &[&str], vault: &vault::Settings) {
        let at = |last: &[&'static str]| [place, last].concat();
        let text = |path: &std::path::PathBuf| path.display().to_string();
        self.put(&at(&["address"]), &[], vault.address.as_str());
        self.put_some(&at(&["namespace"]), &[], vault.namespace.as_deref());
        self.put_some(&at(&["ca_file"]), &[], vault.ca_file.as_ref().map(text));
        if let Some((certificate, key)) = &vault.client_certificate {
            self.put(&at(&["client_certificate_file"]), &[], text(certificate));
            self.put(&at(&["client_key_file"]), &[], text(key));
        }
        self.put(&at(&["timeout"]), &[], duration_text(vault.timeout));
        match &vault.login {
            Login::Token(token) => self.put(&at(&["token"]), &["token_file"], token.to_string()),
            Login::AppRole { mount, role_id, secret_id, wrapped, renew } => {
                self.put(&at(&["approle", "mount"]), &[], mount.as_str());
                let role_id = match role_id {
                    Given::Here(text) => text.clone(),
                    Given::Kept(reference) => reference.to_string(),
                };
                self.put(&at(&["approle", "role_id"]), &["role_id_file"], role_id);
                let secret_id = secret_id.as_ref().map(ToString::to_string);
                self.put_some(&at(&["approle", "secret_id"]), &["secret_id_file"], secret_id);
                self.put(&at(&["approle", "wrapped"]), &[], *wrapped);
                self.put(&at(&["approle", "renew"]), &[], *renew);
            }
            Login::Userpass { mount, user, password } => {
                self.put(&at(&["userpass", "mount"]), &[], mount.as_str());
                self.put(&at(&["userpass", "user"]), &[], user.as_str());
                self.put(&at(&["userpass", "password"]), &["password_file"], password.to_string());
            }
            Login::Kubernetes { mount, role, jwt } => {
                self.put(&at(&["kubernetes", "mount"]), &[], mount.as_str());
                self.put(&at(&["kubernetes", "role"]), &[], role.as_str());
                self.put(&at(&["kubernetes", "jwt"]), &["jwt_file"], jwt.to_string());
            }
            Login::Jwt { mount, role, jwt } => {
                self.put(&at(&["jwt", "mount"]), &[], mount.as_str());
                self.put_some(&at(&["jwt", "role"]), &[], role.as_deref());
                self.put(&at(&["jwt", "jwt"]), &["jwt_file"], jwt.to_string());
            }
        }
    }
}
