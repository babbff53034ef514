//! What `bkp audit` measures by: the key `audit`, validated.

use super::convert::text_of;
use super::raw;
use super::reading::{Field, Reader};
use super::values::{self, duration_text};
use std::time::Duration;

/// Each with a default, so that an audit means something before anything is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// The longest time between two runs of a policy.
    pub frequency: Duration,
    /// How far back points must be kept at least.
    pub retention: Duration,
    /// How long ago the last restore test that passed may be.
    pub rehearsed: Duration,
    pub credential_age: Duration,
    /// Of the keys of bkp itself.
    pub key_age: Duration,
    /// Good copies besides the repository.
    pub copies: u64,
    /// The newest points must be locked against deletion.
    pub immutable: bool,
}

const DAY: u64 = 24 * 60 * 60;

impl Default for AuditSettings {
    fn default() -> Self {
        AuditSettings {
            frequency: Duration::from_secs(DAY),
            retention: Duration::from_secs(35 * DAY),
            rehearsed: Duration::from_secs(30 * DAY),
            credential_age: Duration::from_secs(365 * DAY),
            key_age: Duration::from_secs(730 * DAY),
            copies: 1,
            immutable: true,
        }
    }
}

impl Reader<'_> {
    pub(super) fn audit(&self, field: &Field<raw::Audit>) -> Option<AuditSettings> {
        let raw = field.value.as_ref()?;
        let default = AuditSettings::default();
        let duration = |field: &Option<Field<String>>, default| {
            field.as_ref().and_then(|field| text_of(self, field, values::duration)).unwrap_or(default)
        };
        Some(AuditSettings {
            frequency: duration(&raw.frequency, default.frequency),
            retention: duration(&raw.retention, default.retention),
            rehearsed: duration(&raw.rehearsed, default.rehearsed),
            credential_age: duration(&raw.credential_age, default.credential_age),
            key_age: duration(&raw.key_age, default.key_age),
            copies: raw.copies.as_ref().and_then(|field| field.value).unwrap_or(default.copies),
            immutable: raw.immutable.as_ref().and_then(|field| field.value).unwrap_or(default.immutable),
        })
    }
}

/// For showing: what is not said counts too.
pub fn shown(audit: &AuditSettings) -> [(&'static str, serde_json::Value); 7] {
    [
        ("frequency", duration_text(audit.frequency).into()),
        ("retention", duration_text(audit.retention).into()),
        ("rehearsed", duration_text(audit.rehearsed).into()),
        ("credential_age", duration_text(audit.credential_age).into()),
        ("key_age", duration_text(audit.key_age).into()),
        ("copies", audit.copies.into()),
        ("immutable", audit.immutable.into()),
    ]
}
