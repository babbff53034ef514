//! Stores as they are configured: the repository, and the copies of it. Both are described by the same keys, and read here.

use super::convert::{absolute, not_empty};
use super::problem::Place;
use super::raw;
use super::reading::{Field, Reader};
use super::values;
use super::{Addressing, CopySettings, LockKeep, ObjectLock, StoreSettings};
use crate::secret::Secrets;
use crate::store::{self, LockMode};

/// How the repository is called where copies are called by their names.
pub const PRIMARY: &str = "repository";

impl StoreSettings {
    /// What opens it. Credentials are read by `secrets`, when the store is opened.
    pub fn to_open(&self, secrets: &Secrets) -> crate::error::Result<store::Settings> {
        let defaults = store::Settings::new(self.url.parse()?);
        Ok(store::Settings {
            endpoint: self.endpoint.clone(),
            region: self.region.clone().unwrap_or(defaults.region.clone()),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            session_token: self.session_token.clone(),
            secrets: secrets.clone(),
            ca_file: self.ca_file.clone(),
            addressing: match self.addressing {
                Addressing::Automatic => None,
                Addressing::Path => Some(store::Addressing::Path),
                Addressing::Virtual => Some(store::Addressing::Virtual),
            },
            bandwidth: self.bandwidth,
            ..defaults
        })
    }
}

impl Reader<'_> {
    pub fn repository(&self, field: &Field<raw::Store>) -> Option<StoreSettings> {
        let raw = field.value.as_ref()?;
        if let Some(name) = &raw.name {
            self.wrong::<()>(name.place, "only copies have a `name`");
        }
        if let Some(keep) = &raw.keep {
            let help = "what the repository keeps is said by `keep` of each policy";
            self.wrong_with_help::<()>(keep.place, "`keep` is for copies", help);
        }
        Some(self.store(field.place, raw))
    }

    pub fn copies(&self, field: &Field<Vec<Field<raw::Store>>>) -> Vec<CopySettings> {
        let mut copies: Vec<CopySettings> = Vec::new();
        for field in field.value.iter().flatten() {
            let Some(raw) = &field.value else { continue };
            if raw.name.is_none() {
                self.note_missing(field.place, "this copy has no `name`", "such as `name: offsite`");
            }
            let name = self.text(&raw.name, |text| values::name(text).map(|()| text.to_owned())).unwrap_or_default();
            let place = raw.name.as_ref().map_or(field.place, |name| name.place);
            match &name {
                name if name == PRIMARY => {
                    self.wrong::<()>(place, format!("`{PRIMARY}` is what the first store is called already"));
                }
                name if !name.is_empty() && copies.iter().any(|copy| copy.name == *name) => {
                    self.wrong::<()>(place, format!("there are two copies `{name}`"));
                }
                _ => {}
            }
            let store = self.store(field.place, raw);
            let keep = raw.keep.as_ref().and_then(|keep| self.keep(keep));
            copies.push(CopySettings { name, store, keep });
        }
        copies
    }

    fn store(&self, place: Place, raw: &raw::Store) -> StoreSettings {
        if raw.url.is_none() {
            self.note_missing(place, "this store has no `url`", "such as s3://BUCKET/PREFIX or file:///srv/backup");
        }
        let url = self.text(&raw.url, values::url);
        if url.as_deref().is_some_and(|url| url.starts_with("file://")) {
            self.only_for_s3(raw);
        }
        let has = |one: &Option<Field<String>>, twin: &Option<Field<String>>| one.is_some() || twin.is_some();
        if has(&raw.access_key, &raw.access_key_file) != has(&raw.secret_key, &raw.secret_key_file) {
            let help = "give both, or neither to take AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment";
            self.note_missing(place, "`access_key` and `secret_key` belong together", help);
        }
        StoreSettings {
            url: url.unwrap_or_default(),
            endpoint: self.text(&raw.endpoint, values::endpoint),
            region: self.text(&raw.region, |text| not_empty(text, "a region")),
            access_key: self.secret("access_key", &raw.access_key, &raw.access_key_file),
            secret_key: self.secret("secret_key", &raw.secret_key, &raw.secret_key_file),
            session_token: self.secret("session_token", &raw.session_token, &raw.session_token_file),
            addressing: match raw.addressing.as_ref().and_then(|a| a.value) {
                None => Addressing::Automatic,
                Some(raw::Addressing::Path) => Addressing::Path,
                Some(raw::Addressing::Virtual) => Addressing::Virtual,
            },
            ca_file: self.text(&raw.ca_file, absolute),
            object_lock: raw.object_lock.as_ref().and_then(|lock| self.object_lock(lock)),
            bandwidth: self.text(&raw.bandwidth, values::bandwidth),
        }
    }

    fn only_for_s3(&self, raw: &raw::Store) {
        let texts = [
            ("endpoint", &raw.endpoint),
            ("region", &raw.region),
            ("access_key", &raw.access_key),
            ("access_key_file", &raw.access_key_file),
            ("secret_key", &raw.secret_key),
            ("secret_key_file", &raw.secret_key_file),
            ("session_token", &raw.session_token),
            ("session_token_file", &raw.session_token_file),
            ("ca_file", &raw.ca_file),
        ];
        let others = [
            ("addressing", raw.addressing.as_ref().map(|f| f.place)),
            ("object_lock", raw.object_lock.as_ref().map(|f| f.place)),
        ];
        let texts = texts.into_iter().map(|(key, field)| (key, field.as_ref().map(|f| f.place)));
        for (key, place) in texts.chain(others).filter_map(|(key, place)| Some((key, place?))) {
            self.wrong::<()>(place, format!("`{key}` means nothing for a directory"));
        }
    }

    fn object_lock(&self, field: &Field<raw::ObjectLock>) -> Option<ObjectLock> {
        let raw = field.value.as_ref()?;
        if raw.mode.is_none() || raw.keep.is_none() {
            let help = "as in: object_lock: { mode: governance, keep: 30d }";
            self.note_missing(field.place, "object lock needs `mode` and `keep`", help);
            return None;
        }
        let keep = self.text(&raw.keep, lock_keep);
        let mode = match raw.mode.as_ref()?.value? {
            raw::LockMode::Governance => LockMode::Governance,
            raw::LockMode::Compliance => LockMode::Compliance,
        };
        Some(ObjectLock { mode, keep: keep? })
    }
}

fn lock_keep(text: &str) -> Result<LockKeep, String> {
    if text == "policy" {
        return Ok(LockKeep::Policy);
    }
    let expected = |_| "expected a number of days, such as 30d, or `policy`".to_string();
    let seconds = values::duration(text).map_err(expected)?.as_secs();
    let days = u32::try_from(seconds / 86_400).ok().filter(|days| *days <= 36_500);
    let days = days.filter(|_| seconds % 86_400 == 0);
    days.map(LockKeep::Days).ok_or_else(|| "object lock counts in whole days, at most 36500".into())
}
