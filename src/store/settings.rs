//! Where a store is and how to get at it; and the doors to it: [`open`] and [`create`].
//!
//! Settings hold references to credentials, never values, so that they can be printed. The values are read when the store
//! is opened. Everything that [`open`] gives retries and limits itself.

use super::bandwidth::{Limited, Rate};
use super::directory::Directory;
use super::outage::Watch;
use super::probe::Capabilities;
use super::retry::{Budget, Retrying};
use super::s3::S3;
use super::{Key, Store, StoreError};
use crate::error::{Failure, Kind, Result};
use crate::secret::{SecretRef, Secrets};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Where the objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Directory(PathBuf),
    /// The prefix has no `/` at either end; it may be empty.
    Bucket {
        bucket: String,
        prefix: String,
    },
}

/// How a bucket is named in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// `https://endpoint/bucket/key`
    Path,
    /// `https://bucket.endpoint/key`
    Virtual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub location: Location,
    /// `https://host:port` of a server that is not Amazon's.
    pub endpoint: Option<String>,
    pub region: String,
    /// Absent, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` of the environment are used.
    pub access_key: Option<SecretRef>,
    pub secret_key: Option<SecretRef>,
    pub session_token: Option<SecretRef>,
    /// Who reads them.
    pub secrets: Secrets,
    /// Absent: by path when there is an endpoint.
    pub addressing: Option<Addressing>,
    /// Certificate authorities (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// What a probe found the endpoint to do. Absent: every write is careful and nothing can be locked.
    pub capabilities: Option<Capabilities>,
    pub budget: Budget,
    /// How many requests may be under way at once.
    pub parallel: usize,
    /// Bytes per second to and from it, at most.
    pub bandwidth: Option<u64>,
}

impl Settings {
    pub fn new(location: Location) -> Self {
        Settings {
            location,
            endpoint: None,
            region: "us-east-1".into(),
            access_key: None,
            secret_key: None,
            session_token: None,
            secrets: Secrets::default(),
            addressing: None,
            ca_file: None,
            capabilities: None,
            budget: Budget::default(),
            parallel: 8,
            bandwidth: None,
        }
    }
}

const SHAPES: &str =
    "Give a directory (/srv/backup or file:///srv/backup) or a bucket (s3://bucket or s3://bucket/prefix)";

/// `file:///path`, a bare path, or `s3://bucket[/prefix]`. The text is not repeated in an error: it could hold a password.
impl FromStr for Location {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |what: &str| Err(Failure::usage(what).hint(SHAPES));
        if let Some(path) = text.strip_prefix("file://") {
            return match path.starts_with('/') {
                true => Ok(Location::Directory(path.into())),
                false => bad("a file:// location needs an absolute path, with three slashes"),
            };
        }
        let Some(rest) = text.strip_prefix("s3://") else {
            return match (text.is_empty(), text.split_once("://")) {
                (true, _) => bad("the location of the store is empty"),
                (_, Some((scheme, _))) => bad(&format!("`{scheme}://` is no kind of store that is known")),
                _ => Ok(Location::Directory(text.into())),
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains('@') {
            return bad("credentials do not belong into the location of a store");
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(plain) {
            return bad("an s3:// location needs the name of a bucket: 3 to 63 letters, digits, dots and hyphens");
        }
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && (prefix.len() > 120 || Key::new(prefix).is_err()) {
            return bad(
                "the prefix in an s3:// location may hold letters, digits and . _ = - between slashes, 120 at most",
            );
        }
        Ok(Location::Bucket { bucket: bucket.into(), prefix: prefix.into() })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Directory(path) => write!(f, "file://{}", path.display()),
            Location::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Location::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Opens a store that is there: [`Kind::NoRepository`] when the directory is not. A bucket is first asked for by the first use.
pub fn open(settings: &Settings) -> Result<Arc<dyn Store>> {
    open_watched(settings, Watch::default())
}

/// The same; a signal ends the waiting between tries, and it is told when the store does not answer.
pub fn open_watched(settings: &Settings, watch: Watch) -> Result<Arc<dyn Store>> {
    let mut bare = open_bare(settings)?;
    if let Some(per_second) = settings.bandwidth {
        let place = format!("{} {}", settings.location, settings.endpoint.as_deref().unwrap_or_default());
        bare = Arc::new(Limited::to_rate(bare, Rate::shared(place, per_second), watch.cancel.clone()));
    }
    Ok(Arc::new(Retrying::watched(bare, settings.budget, settings.parallel, watch)))
}

/// A store that tries everything once, for those who wrap it themselves.
pub fn open_bare(settings: &Settings) -> Result<Arc<dyn Store>> {
    match &settings.location {
        Location::Directory(path) => Ok(Arc::new(Directory::open(path).map_err(|e| explain(e, settings))?)),
        Location::Bucket { .. } => Ok(Arc::new(S3::open(settings)?)),
    }
}

/// Makes the directory where there is none; asks whether a bucket is there, and never makes one: whether it locks objects
/// and in which region it is cannot be changed afterwards, so that is the operator's to decide.
pub fn create(settings: &Settings, watch: Watch) -> Result<Arc<dyn Store>> {
    if let Location::Directory(path) = &settings.location {
        Directory::create(path).map_err(|e| explain(e, settings))?;
        return open_watched(settings, watch);
    }
    let store = open_watched(settings, watch)?;
    let any = Key::new("repository.json").expect("it is a good name");
    match store.head(&any) {
        Ok(_) | Err(StoreError::NotFound(_)) => Ok(store),
        Err(e) => Err(explain(e, settings)),
    }
}

fn explain(error: StoreError, settings: &Settings) -> Failure {
    let gone = matches!(error, StoreError::NoStore(_));
    let failure = Failure::from(error);
    match &settings.location {
        Location::Directory(_) if gone => {
            failure.hint("Make a repository there with bkp init, or check that the file system is mounted")
        }
        Location::Bucket { .. } if gone => failure
            .hint("Create the bucket, with object lock if backups are to be undeletable, and run the command again"),
        Location::Directory(_) if failure.kind() == Kind::Key => {
            failure.hint("Check the owner and the permissions of that directory")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(text: &str) -> Location {
        text.parse().unwrap()
    }

    #[test]
    fn locations_are_understood() {
        assert_eq!(location("file:///srv/b"), Location::Directory("/srv/b".into()));
        assert_eq!(location("./b"), Location::Directory("./b".into()));
        assert_eq!(location("s3://backups"), Location::Bucket { bucket: "backups".into(), prefix: String::new() });
        assert_eq!(location("s3://backups/prod/x/").to_string(), "s3://backups/prod/x");
    }

    #[test]
    fn bad_locations_are_refused_without_repeating_a_password() {
        for text in
            ["", "file://srv/b", "s3://", "s3://b", "s3://bucket/../x", "ftp://host/x", "s3://user:hunter2@bucket/p"]
        {
            let failure = text.parse::<Location>().unwrap_err();
            assert_eq!(failure.kind(), Kind::Usage, "{text}");
            assert!(failure.next_step().is_some() && !failure.full().contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_directory_is_made_only_by_create() {
        let scratch = tempfile::tempdir().unwrap();
        let settings = Settings::new(Location::Directory(scratch.path().join("a/b")));
        let failure = open(&settings).err().unwrap();
        assert_eq!(failure.kind(), Kind::NoRepository);
        assert!(failure.next_step().unwrap().contains("bkp init"));
        assert!(!scratch.path().join("a").exists());
        create(&settings, Watch::default()).unwrap();
        open(&settings).unwrap();
    }
}
