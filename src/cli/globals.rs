//! The options that every command understands, and where each is taken from when the command line leaves it open.

use super::progress::Mode;
use crate::policy;
use std::path::PathBuf;

/// Options that every command understands.
#[derive(clap::Args, Clone, Debug)]
pub struct Globals {
    /// Main configuration file [env: BKP_CONFIG; default: /etc/bkp/bkp.yaml, for users ~/.config/bkp/bkp.yaml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Repository: a directory, file:///DIRECTORY or s3://BUCKET/PREFIX [env: BKP_REPO]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub repo: Option<String>,
    /// Private key that reads backups: recovery key, age identity, ssh key; may be repeated [env: BKP_IDENTITY]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub identity: Vec<PathBuf>,
    /// One JSON document on standard output
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Only errors and warnings on standard error
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// No colour (also: NO_COLOR)
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_color: bool,
    /// How to show progress on standard error; auto: a bar on a terminal, else nothing
    #[arg(long, global = true, value_enum, default_value_t = Mode::Auto, value_name = "MODE", help_heading = "Global options")]
    pub progress: Mode,
    #[command(flatten)]
    pub store: StoreOptions,
}

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

impl Globals {
    /// What the command line left open is taken from the environment; there, empty counts as not set.
    pub fn completed(mut self) -> Self {
        let given = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        self.repo = self.repo.or_else(|| given("BKP_REPO"));
        if self.identity.is_empty() {
            self.identity.extend(given("BKP_IDENTITY").map(PathBuf::from));
        }
        self.store.endpoint = self.store.endpoint.or_else(|| given("BKP_ENDPOINT"));
        self.store.region = self.store.region.or_else(|| given("AWS_REGION"));
        self.store.patience = self.store.patience.or_else(|| given("BKP_PATIENCE"));
        self
    }

    /// The options that say where the repository is, for a process of the same kind. What is in the environment is there too.
    pub fn for_children(&self) -> Vec<String> {
        let path = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string();
        let options = [
            ("--repo", self.repo.clone()),
            ("--endpoint", self.store.endpoint.clone()),
            ("--region", self.store.region.clone()),
            ("--access-key-file", self.store.access_key_file.as_ref().map(path)),
            ("--secret-key-file", self.store.secret_key_file.as_ref().map(path)),
            ("--ca-file", self.store.ca_file.as_ref().map(path)),
            ("--patience", self.store.patience.clone()),
        ];
        let given = options.into_iter().filter_map(|(option, value)| Some([option.to_owned(), value?]));
        let identities = self.identity.iter().map(|file| ["--identity".to_owned(), path(file)]);
        given.chain(identities).flatten().collect()
    }
}
