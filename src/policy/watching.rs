//! How bkp is watched: the keys `http` and `log`, validated.
//!
//! What is not on loopback wants a token; that is found here, and not by whoever reads along.

use super::convert::not_empty;
use super::raw;
use super::reading::{Field, Reader};
use crate::secret::SecretRef;
use std::net::{Ipv4Addr, SocketAddr};

/// Where the daemon shows how things are, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Absent: nowhere.
    pub listen: Option<SocketAddr>,
    /// Somebody chose it, so that it must be had.
    pub chosen: bool,
    pub token: Option<SecretRef>,
    /// Names besides those of loopback by which it may be asked for; in lower case.
    pub hosts: Vec<String>,
}

/// How the daemon writes its log. Without a wish it looks where the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    Text,
    Json,
}

impl HttpSettings {
    pub const PORT: u16 = 9427;
}

impl Default for HttpSettings {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, HttpSettings::PORT));
        HttpSettings { listen: Some(listen), chosen: false, token: None, hosts: Vec::new() }
    }
}

const OFF: &str = "off";

/// As it is written.
pub fn listen_text(http: &HttpSettings) -> String {
    http.listen.map_or_else(|| OFF.to_owned(), |address| address.to_string())
}

pub fn log_text(form: LogForm) -> &'static str {
    match form {
        LogForm::Text => "text",
        LogForm::Json => "json",
    }
}

impl Reader<'_> {
    pub(super) fn http(&self, field: &Field<raw::Http>) -> Option<HttpSettings> {
        let raw = field.value.as_ref()?;
        let default = HttpSettings::default();
        let listen = match &raw.listen {
            None => default.listen,
            Some(_) => self.text(&raw.listen, listen)?,
        };
        let token = self.secret("token", &raw.token, &raw.token_file);
        let has_token = raw.token.is_some() || raw.token_file.is_some();
        if let (Some(address), Some(written), false) = (listen, &raw.listen, has_token)
            && !address.ip().is_loopback()
        {
            let help =
                "give `token_file: /etc/bkp/http-token` (make one with: openssl rand -hex 32), or listen on 127.0.0.1";
            self.wrong_with_help::<()>(written.place, "whoever reaches this address could read along", help);
        }
        let hosts = raw.hosts.as_ref().and_then(|hosts| hosts.value.as_ref());
        let host = |field: &Field<String>| {
            let text = field.value.as_deref()?;
            not_empty(text, "a name").or_else(|message| self.wrong(field.place, message).ok_or(())).ok()
        };
        let hosts = hosts.into_iter().flatten().filter_map(host).map(|name| name.to_ascii_lowercase()).collect();
        Some(HttpSettings { listen, chosen: raw.listen.is_some(), token, hosts })
    }

    pub(super) fn log(&self, field: &Field<raw::LogForm>) -> Option<LogForm> {
        Some(match field.value? {
            raw::LogForm::Text => LogForm::Text,
            raw::LogForm::Json => LogForm::Json,
        })
    }
}

/// `127.0.0.1:9427`, `[::1]:9427`, `off`.
fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == OFF {
        return Ok(None);
    }
    let wrong = "expected an address and a port, such as 127.0.0.1:9427 or 0.0.0.0:9427, or `off`";
    text.parse().map(Some).map_err(|_| wrong.to_owned())
}
