//! The `vault:` section: from its shape to the settings of the client.
//!
//! What is needed to get into Vault cannot be in Vault; that is found here, and not when it is too late.

use super::convert::{absolute, not_empty};
use super::raw;
use super::reading::{Field, Reader};
use super::values;
use crate::secret::SecretRef;
use crate::secret::vault::{Given, Login, Settings, check_address};

const WAYS: &str = "one of `approle`, `kubernetes`, `jwt`, `userpass` and `token`";

impl Reader<'_> {
    pub(super) fn vault(&self, field: &Field<raw::Vault>) -> Option<Settings> {
        let raw = field.value.as_ref()?;
        if raw.address.is_none() {
            let help = "such as: vault: { address: https://vault.example:8200, … }";
            self.note_missing(field.place, "Vault has no `address`", help);
        }
        let login = self.login(field, raw);
        let certificate = self.text(&raw.client_certificate_file, absolute);
        let key = self.text(&raw.client_key_file, absolute);
        if raw.client_certificate_file.is_some() != raw.client_key_file.is_some() {
            let message = "`client_certificate_file` and `client_key_file` belong together";
            self.note_missing(field.place, message, "give both, or neither");
        }
        Some(Settings {
            address: self.text(&raw.address, |text| check_address(text).map(|()| text.to_owned()))?,
            socket: None,
            namespace: self.text(&raw.namespace, namespace),
            ca_file: self.text(&raw.ca_file, absolute),
            client_certificate: certificate.zip(key),
            login: login?,
            timeout: self.text(&raw.timeout, values::duration).unwrap_or(Settings::TIMEOUT),
            budget: Settings::BUDGET,
        })
    }

    fn login(&self, field: &Field<raw::Vault>, raw: &raw::Vault) -> Option<Login> {
        let token = raw.token.as_ref().or(raw.token_file.as_ref()).map(|f| f.place);
        let ways = [
            raw.approle.as_ref().map(|f| f.place),
            raw.kubernetes.as_ref().map(|f| f.place),
            raw.jwt.as_ref().map(|f| f.place),
            raw.userpass.as_ref().map(|f| f.place),
            token,
        ];
        match ways.into_iter().flatten().collect::<Vec<_>>()[..] {
            [] => {
                self.note_missing(field.place, "it is not said how to log in at Vault", format!("give it {WAYS}"));
                None
            }
            [_, second, ..] => self.wrong_with_help(second, "there is one way to log in at Vault", "keep one of them"),
            [_] if raw.approle.is_some() => self.approle(raw.approle.as_ref()?),
            [_] if raw.kubernetes.is_some() => self.kubernetes(raw.kubernetes.as_ref()?),
            [_] if raw.jwt.is_some() => self.jwt(raw.jwt.as_ref()?),
            [_] if raw.userpass.is_some() => self.userpass(raw.userpass.as_ref()?),
            [_] => self.own_secret("token", &raw.token, &raw.token_file).map(Login::Token),
        }
    }

    fn approle(&self, field: &Field<raw::AppRole>) -> Option<Login> {
        let raw = field.value.as_ref()?;
        if raw.role_id.is_none() && raw.role_id_file.is_none() {
            let help = "as in: approle: { role_id_file: /etc/bkp/role_id, secret_id: ref+cred://vault-secret-id }";
            self.note_missing(field.place, "`approle` has no `role_id`", help);
        }
        let is_reference = |field: &Field<String>| field.value.as_deref().is_some_and(|text| text.starts_with("ref+"));
        let here = raw.role_id.as_ref().is_some_and(|field| !is_reference(field)) && raw.role_id_file.is_none();
        let role_id = match here {
            true => self.text(&raw.role_id, |text| not_empty(text, "a role id")).map(Given::Here),
            false => self.own_secret("role_id", &raw.role_id, &raw.role_id_file).map(Given::Kept),
        };
        let wrapped = raw.wrapped.as_ref().and_then(|field| field.value).unwrap_or(false);
        let given = raw.secret_id.is_some() || raw.secret_id_file.is_some();
        if let Some(field) = raw.wrapped.as_ref().filter(|_| wrapped && !given) {
            let help = "give it as `secret_id` or `secret_id_file`";
            return self.wrong_with_help(field.place, "which secret id is wrapped?", help);
        }
        let secret_id = self.own_secret("secret_id", &raw.secret_id, &raw.secret_id_file);
        if given && secret_id.is_none() {
            return None;
        }
        let renew = raw.renew.as_ref().and_then(|field| field.value).unwrap_or(false);
        if let Some(field) =
            raw.renew.as_ref().filter(|_| renew && !wrapped && !matches!(secret_id, Some(SecretRef::File(_))))
        {
            let help = "give it as `secret_id_file`, in a directory that bkp may write to, or `wrapped`";
            return self.wrong_with_help(field.place, "a secret id that is handed over cannot be replaced", help);
        }
        let mount = self.auth_mount(&raw.mount, "approle")?;
        Some(Login::AppRole { mount, role_id: role_id?, secret_id, wrapped, renew })
    }

    fn kubernetes(&self, field: &Field<raw::Kubernetes>) -> Option<Login> {
        let raw = field.value.as_ref()?;
        if raw.role.is_none() {
            self.note_missing(field.place, "`kubernetes` has no `role`", "as in: kubernetes: { role: bkp }");
        }
        let jwt = match &raw.jwt_file {
            None => SecretRef::File(Settings::SERVICE_ACCOUNT.into()),
            Some(_) => SecretRef::File(self.text(&raw.jwt_file, absolute)?),
        };
        let mount = self.auth_mount(&raw.mount, "kubernetes")?;
        Some(Login::Kubernetes { mount, role: self.text(&raw.role, |text| not_empty(text, "a role"))?, jwt })
    }

    fn jwt(&self, field: &Field<raw::Jwt>) -> Option<Login> {
        let raw = field.value.as_ref()?;
        if raw.jwt.is_none() && raw.jwt_file.is_none() {
            let help = "as in: jwt: { role: bkp, jwt_file: /run/secrets/jwt }";
            self.note_missing(field.place, "`jwt` has no token to show", help);
        }
        let role = self.text(&raw.role, |text| not_empty(text, "a role"));
        let mount = self.auth_mount(&raw.mount, "jwt")?;
        Some(Login::Jwt { mount, role, jwt: self.own_secret("jwt", &raw.jwt, &raw.jwt_file)? })
    }

    fn userpass(&self, field: &Field<raw::Userpass>) -> Option<Login> {
        let raw = field.value.as_ref()?;
        if raw.user.is_none() || (raw.password.is_none() && raw.password_file.is_none()) {
            let help = "as in: userpass: { user: bkp, password_file: /etc/bkp/vault-password }";
            self.note_missing(field.place, "`userpass` needs `user` and `password`", help);
        }
        let user = self.text(&raw.user, auth_path);
        let password = self.own_secret("password", &raw.password, &raw.password_file);
        Some(Login::Userpass { mount: self.auth_mount(&raw.mount, "userpass")?, user: user?, password: password? })
    }

    /// A secret that leads into Vault.
    fn own_secret(
        &self,
        key: &str,
        reference: &Option<Field<String>>,
        file: &Option<Field<String>>,
    ) -> Option<SecretRef> {
        match self.secret(key, reference, file)? {
            SecretRef::Vault(_) => {
                let place = reference.as_ref()?.place;
                self.wrong_with_help(
                    place,
                    "what leads into Vault cannot be in Vault",
                    "keep it in a file, or let systemd hand it over: ref+cred://NAME",
                )
            }
            other => Some(other),
        }
    }

    fn auth_mount(&self, field: &Option<Field<String>>, default: &str) -> Option<String> {
        match field {
            None => Some(default.to_owned()),
            Some(_) => self.text(field, auth_path),
        }
    }
}

/// Part of the path of a request.
fn auth_path(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-@+/".contains(&b);
    let parts = || text.split('/').all(|part| !matches!(part, "" | "." | ".."));
    match text.bytes().all(good) && parts() {
        true if text.starts_with("auth/") => Err("leave out `auth/`".into()),
        true => Ok(text.to_owned()),
        false => Err("expected a name of letters, digits and . _ - @ +".into()),
    }
}

fn namespace(text: &str) -> Result<String, String> {
    let text = text.trim_matches('/');
    match !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("expected the path of a namespace, such as team/backup".into()),
    }
}
