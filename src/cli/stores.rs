//! Where the stores are: options of the command line, the configuration, and the doors to the repository and its copies.

use super::environment::Environment;
use crate::error::{Failure, Kind, Result};
use crate::policy::{self, CopySettings};
use crate::repo::Repository;
use crate::secret::SecretRef;
use crate::store::{self, Location};
use std::path::PathBuf;
use std::time::Duration;

/// Where a command reads that changes nothing.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct FromCopy {
    /// Read from this copy instead of the repository
    #[arg(long, value_name = "COPY")]
    pub from: Option<String>,
}

impl FromCopy {
    pub fn is_copy(&self) -> bool {
        self.from.as_deref().is_some_and(|name| name != policy::PRIMARY)
    }
}

/// For a bucket that the configuration does not describe.
#[derive(clap::Args, Clone, Debug)]
pub struct StoreOptions {
    /// S3 server, such as https://minio.example:9000 [env: BKP_ENDPOINT]
    #[arg(long, global = true, value_name = "URL", help_heading = "S3 options")]
    pub endpoint: Option<String>,
    /// S3 region [env: AWS_REGION]
    #[arg(long, global = true, value_name = "NAME", help_heading = "S3 options")]
    pub region: Option<String>,
    /// File that holds the access key [default: AWS_ACCESS_KEY_ID]
    #[arg(long, global = true, value_name = "FILE", help_heading = "S3 options")]
    pub access_key_file: Option<PathBuf>,
    /// File that holds the secret key [default: AWS_SECRET_ACCESS_KEY]
    #[arg(long, global = true, value_name = "FILE", help_heading = "S3 options")]
    pub secret_key_file: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the system's
    #[arg(long, global = true, value_name = "FILE", help_heading = "S3 options")]
    pub ca_file: Option<PathBuf>,
    /// How long to try again while the store, or Vault, does not answer, such as 30s [env: BKP_PATIENCE] [default: 15m]
    #[arg(long, global = true, hide_short_help = true, value_name = "DURATION", help_heading = "S3 options")]
    pub patience: Option<String>,
}

impl Environment {
    pub fn patience(&self) -> Result<Option<Duration>> {
        let Some(text) = &self.globals.store.patience else { return Ok(None) };
        let wrong = |wrong| Failure::usage(format!("`{text}` is no patience: {wrong}")).hint("--patience 5m");
        policy::duration(text).map(Some).map_err(wrong)
    }

    /// Where the repository is, from `--repo` or the configuration. Options of the command line go first.
    pub fn store_settings(&self) -> Result<store::Settings> {
        let configured = self.configuration()?.repository.as_ref();
        let url = match (&self.globals.repo, configured) {
            (Some(url), _) => url,
            (None, Some(repository)) => &repository.url,
            (None, None) => {
                return Err(Failure::new(Kind::NoRepository, "no repository was named").hint(
                    "Give --repo DIRECTORY or --repo s3://BUCKET/PREFIX, set BKP_REPO, or write `repository:` into the configuration",
                ));
            }
        };
        let mut settings = store::Settings::new(url.parse::<Location>()?);
        if let Location::Directory(path) = &mut settings.location {
            *path = std::path::absolute(&*path)
                .map_err(|e| Failure::from_io(e, || format!("cannot tell where {url} is")))?;
        }
        let same = |r: &&policy::StoreSettings| r.url.parse::<Location>().is_ok_and(|l| l == settings.location);
        if let Some(repository) = configured.filter(same) {
            settings = repository.to_open(self.secrets()?)?;
        }
        self.apply_options(settings)
    }

    fn apply_options(&self, mut settings: store::Settings) -> Result<store::Settings> {
        let options = &self.globals.store;
        let file = |path: &PathBuf| {
            std::path::absolute(path)
                .map(SecretRef::File)
                .map_err(|e| Failure::from_io(e, || format!("cannot tell where {} is", path.display())))
        };
        if let Some(path) = &options.access_key_file {
            settings.access_key = Some(file(path)?);
        }
        if let Some(path) = &options.secret_key_file {
            settings.secret_key = Some(file(path)?);
        }
        settings.endpoint = options.endpoint.clone().or(settings.endpoint);
        settings.region = options.region.clone().unwrap_or(settings.region);
        settings.ca_file = options.ca_file.clone().or(settings.ca_file);
        settings.secrets = self.secrets()?.clone();
        self.patiently(settings)
    }

    fn patiently(&self, mut settings: store::Settings) -> Result<store::Settings> {
        if let Some(patience) = self.patience()? {
            settings.budget = settings.budget.lasting(patience);
        }
        Ok(settings)
    }

    /// Where a copy of the repository is.
    pub fn copy_settings(&self, copy: &CopySettings) -> Result<store::Settings> {
        self.patiently(copy.store.to_open(self.secrets()?)?)
    }

    pub fn repository(&self) -> Result<Repository> {
        self.open(self.store_settings()?)
    }

    /// The copy of that name, or the repository where none is named.
    pub fn repository_or(&self, copy: Option<&str>) -> Result<Repository> {
        match copy.filter(|name| *name != policy::PRIMARY) {
            Some(name) => self.open(self.copy_settings(self.configuration()?.copy(name)?)?),
            None => self.repository(),
        }
    }

    /// Opens a repository. What its endpoint was found to do when it was made is made use of.
    pub fn open(&self, mut settings: store::Settings) -> Result<Repository> {
        let memory = self.configuration()?.memory;
        let repository = Repository::open(store::open_watched(&settings, self.watch()?)?)?;
        settings.capabilities = serde_json::from_value(repository.info.store.clone()).ok();
        match (&settings.location, settings.capabilities) {
            (Location::Bucket { .. }, Some(_)) => {
                let store = store::open_watched(&settings, self.watch()?)?;
                Ok(Repository::new(store, repository.info).with_memory(memory))
            }
            _ => Ok(repository.with_memory(memory)),
        }
    }
}
