//! From the shapes of the files to the validated types: the one place that knows what a value means.
//!
//! A `None` from here means that a problem was noted; the caller goes on, so that the next problem is found too.
//! No I/O: whether a path exists is found when it is used.

use super::problem::Place;
use super::raw;
use super::reading::{Field, Reader};
use super::rehearsals::Rehearsals;
use super::rotations::Rotation;
use super::sources;
use super::timing::{Timing, Written};
use super::values;
use super::{Keep, Labels, Objectives, Source};
use crate::repo::retention;
use crate::secret::SecretRef;
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where Docker keeps named volumes.
const DOCKER_VOLUMES: &str = "/var/lib/docker/volumes";

/// The directory of a named Docker volume on this host.
pub fn docker_volume_path(name: &str) -> PathBuf {
    Path::new(DOCKER_VOLUMES).join(name).join("_data")
}

/// What a policy file says, before it is known what the main file says.
pub struct PolicyParts {
    pub name: Option<(String, Place)>,
    pub stack: Option<String>,
    pub schedule: Option<String>,
    pub timezone: Option<TimeZone>,
    pub timing: Timing,
    pub objectives: Objectives,
    pub keep: Option<Keep>,
    pub labels: Option<Labels>,
    pub rehearsals: Option<Rehearsals>,
    pub rotations: Vec<(Rotation, Place)>,
    pub sources: Vec<(Source, Place)>,
}

impl Reader<'_> {
    pub(super) fn wrong<T>(&self, place: Place, message: impl Into<String>) -> Option<T> {
        self.note(self.document.problem(place, message));
        None
    }

    pub(super) fn wrong_with_help<T>(
        &self,
        place: Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.note(self.document.problem(place, message).help(help));
        None
    }

    /// The text of a field, if it is there and `check` likes it.
    pub(super) fn text<T>(
        &self,
        field: &Option<Field<String>>,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        text_of(self, field.as_ref()?, check)
    }

    pub fn timezone(&self, field: &Option<Field<String>>) -> Option<TimeZone> {
        self.text(field, |name| {
            TimeZone::get(name).map_err(|_| "expected the name of a time zone, such as America/Bogota or UTC".into())
        })
    }

    pub fn memory(&self, field: &Option<Field<String>>) -> Option<u64> {
        self.text(field, values::size)
    }

    fn duration(&self, field: &Option<Field<String>>) -> Option<Duration> {
        self.text(field, values::duration)
    }

    /// A reference, or the file of the `_file` twin.
    pub(super) fn secret(
        &self,
        key: &str,
        reference: &Option<Field<String>>,
        file: &Option<Field<String>>,
    ) -> Option<SecretRef> {
        if let (Some(_), Some(file)) = (reference, file) {
            return self.wrong(file.place, format!("`{key}` and `{key}_file` are both here; keep one of them"));
        }
        if let Some(path) = self.text(file, absolute) {
            return Some(SecretRef::File(path));
        }
        self.reference(key, reference.as_ref()?)
    }

    fn reference(&self, key: &str, reference: &Field<String>) -> Option<SecretRef> {
        match reference.value.as_deref()?.parse() {
            Ok(secret) => {
                if matches!(secret, SecretRef::Vault(_)) {
                    self.wants_vault.borrow_mut().get_or_insert(reference.place);
                }
                Some(secret)
            }
            // The message never holds the value, but it may hold the scheme of a reference that is not known.
            Err(message) if reference.value.as_deref().is_some_and(|v| v.starts_with("ref+")) => {
                self.wrong(reference.place, message)
            }
            Err(_) => {
                let problem = self.document.problem_unseen(reference.place, "a secret is never written here");
                self.note(problem.help(format!(
                    "write a reference, such as ref+file:///run/secrets/name or ref+env://NAME, or use `{key}_file`"
                )));
                None
            }
        }
    }

    pub(super) fn references(&self, key: &str, field: &Option<Field<Vec<Field<String>>>>) -> Vec<SecretRef> {
        let list = field.iter().flat_map(|field| field.value.iter().flatten());
        list.filter_map(|one| self.reference(key, one)).collect()
    }

    pub fn policy(&self, field: &Field<raw::Policy>) -> Option<PolicyParts> {
        let raw = field.value.as_ref()?;
        if raw.policy.is_none() {
            self.note_missing(field.place, "this policy has no name", "begin the file with `policy: NAME`");
        }
        let name = self.text(&raw.policy, |text| values::name(text).map(|()| text.to_string()));
        let stack = self.text(&raw.stack, |text| not_empty(text, "a stack"));
        let layout = sources::layout(&raw.layout);
        let labels = raw.labels.as_ref().and_then(|labels| self.labels(labels));
        let labels = labels.map(|labels| Labels { layout: layout.unwrap_or_default(), ..labels });
        let sources = match raw.sources.as_ref() {
            Some(sources) => self.sources(sources, stack.as_deref(), layout),
            None if raw.labels.is_some() => Vec::new(),
            None => {
                self.note_missing(field.place, "this policy has no `sources`", "name at least one thing to back up");
                Vec::new()
            }
        };
        let written = Written {
            missed: &raw.missed,
            jitter: &raw.jitter,
            deadline: &raw.deadline,
            overlap: &raw.overlap,
            blackout: &raw.blackout,
        };
        let objectives = raw.objectives.as_ref().and_then(|o| o.value.as_ref());
        Some(PolicyParts {
            name: name.zip(raw.policy.as_ref().map(|f| f.place)),
            stack,
            schedule: self.text(&raw.schedule, |text| values::schedule(text).map(|()| text.to_string())),
            timezone: self.timezone(&raw.timezone),
            timing: self.timing(&written, raw.schedule.is_some()),
            objectives: Objectives {
                rpo: objectives.and_then(|o| self.duration(&o.rpo)),
                rto: objectives.and_then(|o| self.duration(&o.rto)),
            },
            keep: raw.keep.as_ref().and_then(|keep| self.keep(keep)),
            labels,
            rehearsals: raw.rehearse.as_ref().and_then(|field| self.rehearsals(field, &sources, raw.labels.is_some())),
            rotations: raw.rotate.as_ref().map(|field| self.rotations(field, &sources)).unwrap_or_default(),
            sources,
        })
    }

    pub(super) fn keep(&self, field: &Field<raw::Keep>) -> Option<Keep> {
        let raw = field.value.as_ref()?;
        let count = |field: &Option<Field<u64>>| -> Option<u32> {
            let field = field.as_ref()?;
            match u32::try_from(field.value?) {
                Ok(0) | Err(_) => {
                    self.wrong_with_help(field.place, "expected 1 or more", "to keep none of a period, leave it out")
                }
                Ok(number) => Some(number),
            }
        };
        let fields = [&raw.last, &raw.hourly, &raw.daily, &raw.weekly, &raw.monthly, &raw.yearly];
        let age = |field| self.text(field, |text| text.parse::<retention::Age>());
        if fields.iter().all(|f| f.is_none()) && raw.within.is_none() {
            self.note_missing(field.place, "`keep` would keep nothing", "as in: keep: { last: 3, daily: 14 }");
            return None;
        }
        let [last, hourly, daily, weekly, monthly, yearly] = fields.map(count);
        let min = count(&raw.min).unwrap_or(retention::MINIMUM);
        let safety = age(&raw.safety).unwrap_or_else(retention::safety_time);
        Some(Keep { last, hourly, daily, weekly, monthly, yearly, within: age(&raw.within), min, safety })
    }
}

/// The text of one field, if `check` likes it.
pub(super) fn text_of<T>(
    reader: &Reader<'_>,
    field: &Field<String>,
    check: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    check(field.value.as_deref()?).or_else(|message| reader.wrong(field.place, message).ok_or(())).ok()
}

pub(super) fn not_empty(text: &str, what: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err(format!("expected {what}, found nothing")) } else { Ok(text.into()) }
}

pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    match text {
        _ if text.contains('\0') => Err("a path cannot hold a zero byte".into()),
        _ if text.starts_with('/') => Ok(text.into()),
        _ if text.starts_with("~/") => Err("`~` is not replaced here: write the whole path".into()),
        _ => Err("expected an absolute path, beginning with `/`".into()),
    }
}
