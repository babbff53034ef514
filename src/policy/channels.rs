//! Who is told of what happens: the `notify:` list, validated.
//!
//! What news there are and how they are worded is the affair of `notify`. Addresses that open a door by themselves (of
//! chats and pings) are secrets, and therefore references.

use super::convert::{absolute, not_empty, text_of};
use super::problem::Place;
use super::raw;
use super::reading::{Field, Reader};
use crate::secret::SecretRef;
use jiff::civil::{Time, Weekday};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// Somebody to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Unique.
    pub name: String,
    pub carrier: Carrier,
    pub topics: Vec<Topic>,
    /// None: all of them.
    pub policies: Vec<String>,
    pub language: Language,
    pub detail: Detail,
    pub digest: Digest,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Carrier {
    Mail(Mail),
    Webhook { url: Address, secret: Option<SecretRef> },
    Ping { url: SecretRef },
    Ntfy { url: Address, token: Option<SecretRef> },
    Slack { url: SecretRef },
    Discord { url: SecretRef },
    Telegram { token: SecretRef, chat: String, api: String },
}

/// Where something is sent that need not be a secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    Open(String),
    Secret(SecretRef),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    pub to: Vec<String>,
    pub from: Option<String>,
    pub encryption: Encryption,
    pub host: String,
    pub port: u16,
    pub login: Option<(String, SecretRef)>,
    pub ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Asked for after the greeting; without it no mail is sent.
    StartTls,
    FromTheBeginning,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    Failure,
    Recovery,
    Missed,
    Anomaly,
    Configuration,
    // Another channel cannot be reached.
    Notifier,
    Start,
    Success,
    Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    English,
    Spanish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Full,
    /// No source is named, and no error repeated.
    Brief,
}

/// When a digest is due, in the zone of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Absent: every day.
    pub day: Option<Weekday>,
    pub at: Time,
}

const USUAL: [Topic; 6] =
    [Topic::Failure, Topic::Recovery, Topic::Missed, Topic::Anomaly, Topic::Configuration, Topic::Notifier];
const OF_PINGS: [Topic; 4] = [Topic::Start, Topic::Success, Topic::Failure, Topic::Missed];
const KINDS: &str = "one of `mail`, `webhook`, `ping`, `ntfy`, `slack`, `discord` and `telegram`";
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Channel {
    pub fn kind(&self) -> &'static str {
        match &self.carrier {
            Carrier::Mail(_) => "mail",
            Carrier::Webhook { .. } => "webhook",
            Carrier::Ping { .. } => "ping",
            Carrier::Ntfy { .. } => "ntfy",
            Carrier::Slack { .. } => "slack",
            Carrier::Discord { .. } => "discord",
            Carrier::Telegram { .. } => "telegram",
        }
    }

    /// What it needs to be reached.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match &self.carrier {
            Carrier::Mail(mail) => mail.login.iter().map(|(_, password)| password).collect(),
            Carrier::Webhook { url, secret } => url.secret().into_iter().chain(secret).collect(),
            Carrier::Ntfy { url, token } => url.secret().into_iter().chain(token).collect(),
            Carrier::Ping { url } | Carrier::Slack { url } | Carrier::Discord { url } => vec![url],
            Carrier::Telegram { token, .. } => vec![token],
        }
    }
}

impl Address {
    fn secret(&self) -> Option<&SecretRef> {
        match self {
            Address::Open(_) => None,
            Address::Secret(reference) => Some(reference),
        }
    }

    /// The address, or where it is read.
    pub fn text(&self) -> String {
        match self {
            Address::Open(address) => address.clone(),
            Address::Secret(reference) => reference.to_string(),
        }
    }
}

impl Topic {
    pub fn name(self) -> &'static str {
        match self {
            Topic::Failure => "failure",
            Topic::Recovery => "recovery",
            Topic::Missed => "missed",
            Topic::Anomaly => "anomaly",
            Topic::Configuration => "configuration",
            Topic::Notifier => "notifier",
            Topic::Start => "start",
            Topic::Success => "success",
            Topic::Digest => "digest",
        }
    }
}

impl Digest {
    const USUAL: Digest = Digest { day: None, at: Time::constant(8, 0, 0, 0) };

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected when a digest is due, such as 08:00 or mon 08:00".to_string();
        let (day, time) = match text.split_once(' ') {
            Some((day, time)) => (Some(day), time.trim()),
            None => (None, text),
        };
        let day =
            day.map(|day| DAYS.iter().position(|name| *name == day.to_lowercase()).ok_or_else(wrong)).transpose()?;
        let day = day.and_then(|number| Weekday::from_monday_zero_offset(i8::try_from(number).ok()?).ok());
        let at = Time::strptime("%H:%M", time).map_err(|_| wrong())?;
        Ok(Digest { day, at })
    }

    pub fn text(self) -> String {
        let day = self.day.and_then(|day| usize::try_from(day.to_monday_zero_offset()).ok());
        let day = day.map(|number| format!("{} ", DAYS[number])).unwrap_or_default();
        format!("{day}{}", self.at.strftime("%H:%M"))
    }
}

impl Reader<'_> {
    pub(super) fn channels(&self, field: &Field<Vec<Field<raw::Notify>>>) -> Vec<Channel> {
        let mut channels: Vec<Channel> = Vec::new();
        for field in field.value.iter().flatten() {
            let Some(channel) = self.channel(field) else { continue };
            if channels.iter().any(|other| other.name == channel.name) {
                let message = format!("there are two channels `{}`", channel.name);
                self.wrong_with_help::<()>(field.place, message, "give one of them another `name`");
            }
            channels.push(channel);
        }
        channels
    }

    fn channel(&self, field: &Field<raw::Notify>) -> Option<Channel> {
        let raw = field.value.as_ref()?;
        let carrier = self.carrier(field.place, raw)?;
        let is_ping = matches!(carrier, Carrier::Ping { .. });
        let texts = |field: &Option<Field<Vec<Field<String>>>>| -> Vec<String> {
            let list = field.as_ref().and_then(|field| field.value.as_ref());
            list.into_iter().flatten().filter_map(|text| text.value.clone()).collect()
        };
        let on = raw.on.as_ref().and_then(|on| on.value.as_ref());
        let mut topics: Vec<Topic> = match on {
            Some(on) => on.iter().filter_map(|topic| topic.value).collect(),
            None if is_ping => OF_PINGS.to_vec(),
            None => USUAL.to_vec(),
        };
        topics.dedup();
        let brief = matches!(carrier, Carrier::Ntfy { .. });
        let mut channel = Channel {
            name: String::new(),
            carrier,
            topics,
            policies: texts(&raw.policies),
            language: match raw.language.as_ref().and_then(|language| language.value) {
                Some(raw::Language::Es) => Language::Spanish,
                _ => Language::English,
            },
            detail: match raw.detail.as_ref().and_then(|detail| detail.value) {
                Some(raw::Detail::Brief) => Detail::Brief,
                Some(raw::Detail::Full) => Detail::Full,
                None if brief => Detail::Brief,
                None => Detail::Full,
            },
            digest: self.text(&raw.digest, Digest::parse).unwrap_or(Digest::USUAL),
        };
        let named = self.text(&raw.name, |text| super::values::name(text).map(|()| text.to_owned()));
        channel.name = named.unwrap_or_else(|| channel.kind().to_owned());
        Some(channel)
    }

    fn carrier(&self, place: Place, raw: &raw::Notify) -> Option<Carrier> {
        let kinds = [
            raw.mail.as_ref().map(|f| f.place),
            raw.webhook.as_ref().map(|f| f.place),
            raw.ping.as_ref().map(|f| f.place),
            raw.ntfy.as_ref().map(|f| f.place),
            raw.slack.as_ref().map(|f| f.place),
            raw.discord.as_ref().map(|f| f.place),
            raw.telegram.as_ref().map(|f| f.place),
        ];
        match kinds.into_iter().flatten().collect::<Vec<_>>()[..] {
            [] => {
                self.note_missing(place, "it is not said how to tell", format!("give it {KINDS}"));
                return None;
            }
            [_, second, ..] => {
                return self.wrong_with_help(second, "a channel is of one kind", "write another entry for this one");
            }
            [_] => {}
        }
        let hook = |field: &Field<raw::Hook>| {
            let hook = field.value.as_ref()?;
            self.needed_secret(field.place, "url", &hook.url, &hook.url_file)
        };
        if let Some(field) = &raw.mail {
            self.mail(field).map(Carrier::Mail)
        } else if let Some(field) = &raw.webhook {
            let webhook = field.value.as_ref()?;
            let secret = self.secret("secret", &webhook.secret, &webhook.secret_file);
            Some(Carrier::Webhook { url: self.address(field.place, &webhook.url, &webhook.url_file)?, secret })
        } else if let Some(field) = &raw.ping {
            let ping = field.value.as_ref()?;
            Some(Carrier::Ping { url: self.needed_secret(field.place, "url", &ping.url, &ping.url_file)? })
        } else if let Some(field) = &raw.ntfy {
            let ntfy = field.value.as_ref()?;
            let token = self.secret("token", &ntfy.token, &ntfy.token_file);
            Some(Carrier::Ntfy { url: self.address(field.place, &ntfy.url, &ntfy.url_file)?, token })
        } else if let Some(field) = &raw.slack {
            Some(Carrier::Slack { url: hook(field)? })
        } else if let Some(field) = &raw.discord {
            Some(Carrier::Discord { url: hook(field)? })
        } else {
            let field = raw.telegram.as_ref()?;
            let telegram = field.value.as_ref()?;
            let api = self.text(&telegram.api, web_address).unwrap_or_else(|| "https://api.telegram.org".to_owned());
            let chat = self.needed(field.place, "chat", &telegram.chat, |text| not_empty(text, "a chat"))?;
            let token = self.needed_secret(field.place, "token", &telegram.token, &telegram.token_file)?;
            Some(Carrier::Telegram { token, chat, api })
        }
    }

    pub(super) fn mail(&self, field: &Field<raw::Mail>) -> Option<Mail> {
        let raw = field.value.as_ref()?;
        let to = raw.to.as_ref().and_then(|to| to.value.as_ref());
        let to: Vec<String> = to.into_iter().flatten().filter_map(|to| text_of(self, to, mail_address)).collect();
        if to.is_empty() {
            self.note_missing(field.place, "this mail goes to nobody", "as in: to: [ops@example.org]");
        }
        let (encryption, host, port) = self.needed(field.place, "smtp", &raw.smtp, mail_server)?;
        let user = self.text(&raw.user, |text| not_empty(text, "a user"));
        let password = self.secret("password", &raw.password, &raw.password_file);
        if user.is_some() != password.is_some() {
            self.note_missing(field.place, "`user` and `password` belong together", "give both, or neither");
        }
        let local = matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1");
        if encryption == Encryption::None && password.is_some() && !local {
            let help = "use smtp:// (STARTTLS) or smtps://";
            self.wrong_with_help::<()>(field.place, "the password would go unencrypted over the network", help);
        }
        Some(Mail {
            to,
            from: self.text(&raw.from, mail_address),
            encryption,
            host,
            port,
            login: user.zip(password),
            ca_file: self.text(&raw.ca_file, absolute),
        })
    }

    /// A text that must be there.
    fn needed<T>(
        &self,
        place: Place,
        key: &str,
        field: &Option<Field<String>>,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if field.is_none() {
            self.note_missing(place, format!("`{key}` is missing"), format!("add `{key}:`"));
        }
        self.text(field, check)
    }

    /// An address that may be written down, unless it is a reference.
    fn address(&self, place: Place, url: &Option<Field<String>>, file: &Option<Field<String>>) -> Option<Address> {
        let is_reference = |url: &Field<String>| url.value.as_ref().is_some_and(|url| url.starts_with("ref+"));
        if file.is_some() || url.as_ref().is_none_or(is_reference) {
            return self.needed_secret(place, "url", url, file).map(Address::Secret);
        }
        self.text(url, open_address).map(Address::Open)
    }

    fn needed_secret(
        &self,
        place: Place,
        key: &str,
        reference: &Option<Field<String>>,
        file: &Option<Field<String>>,
    ) -> Option<SecretRef> {
        if reference.is_none() && file.is_none() {
            let help = format!("add `{key}_file:`, or `{key}:` with a reference");
            self.note_missing(place, format!("`{key}` is missing"), help);
        }
        self.secret(key, reference, file)
    }
}

pub(super) fn web_address(text: &str) -> Result<String, String> {
    let wrong = || "expected an address, such as https://alerts.example/bkp".to_string();
    let url = reqwest::Url::parse(text).map_err(|_| wrong())?;
    match url.scheme() {
        "http" | "https" if url.has_host() && !has_user(&url) => Ok(text.to_owned()),
        "http" | "https" if url.has_host() => Err("a user or password does not belong into an address".into()),
        _ => Err(wrong()),
    }
}

fn has_user(url: &reqwest::Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// It is shown as it is, and kept with the configuration.
fn open_address(text: &str) -> Result<String, String> {
    let is_secret = reqwest::Url::parse(text).is_ok_and(|url| has_user(&url) || url.query().is_some());
    if is_secret {
        return Err(
            "an address with a user or with `?…` may hold a secret: put it into a file, and use `url_file`".into()
        );
    }
    web_address(text)
}

fn mail_address(text: &str) -> Result<String, String> {
    match text.parse::<lettre::message::Mailbox>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("expected a mail address, such as ops@example.org".into()),
    }
}

pub(super) fn mail_server(text: &str) -> Result<(Encryption, String, u16), String> {
    let wrong = || "expected a mail server, such as smtp://mail.example:587 or smtps://mail.example:465".to_string();
    let url = reqwest::Url::parse(text).map_err(|_| wrong())?;
    let (encryption, port) = match url.scheme() {
        "smtp" => (Encryption::StartTls, 587),
        "smtps" => (Encryption::FromTheBeginning, 465),
        "smtp+plain" => (Encryption::None, 25),
        _ => return Err(wrong()),
    };
    if has_user(&url) {
        return Err("user and password have keys of their own: `user`, `password_file`".into());
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((encryption, host.to_owned(), url.port().unwrap_or(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_in_an_address_is_refused() {
        assert!(open_address("https://alerts.example/bkp").is_ok());
        for bad in
            ["https://user:hunter2@h.example/x", "https://hunter2@h.example", "https://h.example/x?token=hunter2"]
        {
            assert!(!open_address(bad).unwrap_err().contains("hunter2"), "{bad}");
        }
        assert!(web_address("http://user:hunter2@h.example").is_err());
    }

    #[test]
    fn digests_are_daily_or_weekly() {
        for (text, shown) in [("08:00", "08:00"), ("mon 08:00", "mon 08:00"), ("Sun 23:59", "sun 23:59")] {
            assert_eq!(Digest::parse(text).unwrap().text(), shown);
        }
        for bad in ["", "8", "someday 08:00", "24:61", "mon"] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mail_server_says_how_it_is_encrypted() {
        assert_eq!(mail_server("smtp://m.example").unwrap(), (Encryption::StartTls, "m.example".into(), 587));
        assert_eq!(mail_server("smtps://m.example").unwrap(), (Encryption::FromTheBeginning, "m.example".into(), 465));
        assert_eq!(mail_server("smtp+plain://127.0.0.1:2525").unwrap(), (Encryption::None, "127.0.0.1".into(), 2525));
        assert!(mail_server("smtp://user:secret@m.example").unwrap_err().contains("password_file"));
        assert!(mail_server("https://m.example").is_err());
    }
}
