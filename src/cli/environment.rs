//! What every command stands on: the global options, the configuration, and the doors to repository and keys.
//!
//! Everything is opened when a command asks for it, so that `bkp --help` or `bkp config check` need no repository.

use super::output::Output;
use super::progress::{Mode, Progress, SharedBar, StoreNews};
use crate::clock;
use crate::engine::{self, Engine, Settings};
use crate::error::{Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::job::Places;
use crate::job::discover::labels::{self, Remark, Taken};
use crate::job::discover::look::Around;
use crate::job::recorder::{ForSlot, Recorder};
use crate::journal::Journal;
use crate::policy::{self, Configuration, Paths, Policy};
use crate::repo::keys::{Keyring, Operator};
use crate::repo::point::{Layout, Point};
use crate::repo::sign::Trust;
use crate::repo::writer::Writer;
use crate::repo::{Repository, write};
use crate::secret::{SecretRef, Secrets};
use crate::store::{self, Addressing, Location, Retain, Store, Watch};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

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

pub struct Environment {
    pub globals: Globals,
    pub output: Output,
    pub cancel: Arc<Cancel>,
    /// The instant the command began.
    pub now: Timestamp,
    /// What the daemon started this process for.
    pub slot: Option<ForSlot>,
    /// The bar that is drawn now.
    bar: SharedBar,
    paths: OnceCell<Paths>,
    configuration: OnceCell<Configuration>,
    secrets: OnceCell<Secrets>,
    live: OnceCell<Live>,
}

/// The configuration with the sources that labels of containers and volumes bring.
pub struct Live {
    pub configuration: Configuration,
    /// Labels that have no effect.
    pub remarks: Vec<Remark>,
}

/// Keys that open points, and whose signatures to believe.
pub struct Access {
    pub writer: Option<Writer>,
    pub keys: Keyring,
    pub trust: Trust,
    /// Whose identity was given: then everything can be read, and points of all writers.
    pub operator: Option<Operator>,
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
}

impl Globals {
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

impl Access {
    /// The keys for one point, also when `keys/` in the store is lost or was exchanged.
    pub fn keys_for(&self, point: &Point) -> Keyring {
        self.operator.as_ref().map_or_else(|| self.keys.clone(), |operator| operator.keys_for(point, &self.keys))
    }
}

impl Environment {
    pub fn new(globals: Globals, output: Output, cancel: Arc<Cancel>) -> Self {
        let now = clock::now();
        Environment {
            globals,
            output,
            cancel,
            now,
            slot: ForSlot::of_this_process(),
            bar: SharedBar::default(),
            paths: OnceCell::new(),
            configuration: OnceCell::new(),
            secrets: OnceCell::new(),
            live: OnceCell::new(),
        }
    }

    /// The same with a configuration that was read before.
    pub fn of(globals: Globals, output: Output, cancel: Arc<Cancel>, configuration: &Configuration) -> Self {
        Environment { configuration: configuration.clone().into(), ..Environment::new(globals, output, cancel) }
    }

    pub fn paths(&self) -> Result<&Paths> {
        if let Some(paths) = self.paths.get() {
            return Ok(paths);
        }
        let paths = Paths::of_this_process(self.globals.config.as_deref())?;
        Ok(self.paths.get_or_init(|| paths))
    }

    pub fn configuration(&self) -> Result<&Configuration> {
        if let Some(configuration) = self.configuration.get() {
            return Ok(configuration);
        }
        let loaded = policy::load(self.paths()?).map_err(Failure::from)?;
        for warning in &loaded.warnings {
            self.output.warn(warning);
        }
        Ok(self.configuration.get_or_init(|| loaded))
    }

    /// Who reads secrets, for as long as this process lives.
    pub fn secrets(&self) -> Result<&Secrets> {
        if let Some(secrets) = self.secrets.get() {
            return Ok(secrets);
        }
        let secrets = match self.configuration()?.vault.clone() {
            None => Secrets::default(),
            Some(mut vault) => {
                if let Some(patience) = self.patience()? {
                    vault.budget = vault.budget.lasting(patience);
                }
                let cancel = self.cancel.clone();
                Secrets::with_vault(vault, &self.paths()?.state, move || cancel.check().is_err())
            }
        };
        Ok(self.secrets.get_or_init(|| secrets))
    }

    fn patience(&self) -> Result<Option<Duration>> {
        let Some(text) = &self.globals.store.patience else { return Ok(None) };
        let wrong = |wrong| Failure::usage(format!("`{text}` is no patience: {wrong}")).hint("--patience 5m");
        policy::duration(text).map(Some).map_err(wrong)
    }

    /// Asks the container engine, where a policy takes in what is labelled.
    pub fn live(&self) -> Result<&Live> {
        if let Some(live) = self.live.get() {
            return Ok(live);
        }
        let configuration = self.configuration()?;
        let taken = match configuration.policies.iter().any(|policy| policy.labels.is_some()) {
            true => Around::look()?.show(|host| labels::take_in(host, configuration)),
            false => Taken::default(),
        };
        let configuration = configuration.with_sources(taken.sources);
        Ok(self.live.get_or_init(|| Live { configuration, remarks: taken.remarks }))
    }

    /// A source and its policy: one that is configured, else one that a label brings.
    pub fn source(&self, name: &str) -> Result<Option<(&Policy, &policy::Source)>> {
        match self.configuration()?.source(name) {
            Some(found) => Ok(Some(found)),
            None => Ok(self.live()?.configuration.source(name)),
        }
    }

    pub fn zone(&self) -> Result<&TimeZone> {
        Ok(&self.configuration()?.timezone)
    }

    pub fn progress(&self) -> Progress {
        Progress::new(self.globals.progress, self.output, &self.bar)
    }

    /// For stores: signals end their waiting, and what they have to tell goes above the bar that is drawn.
    pub fn watch(&self) -> Result<Watch> {
        let news = StoreNews::new(self.globals.progress, self.output, self.zone()?.clone(), self.bar.clone());
        Ok(Watch { cancel: self.cancel.clone(), events: Arc::new(news) })
    }

    pub fn context<'a>(&'a self, progress: &'a Progress) -> Context<'a> {
        Context { events: progress, meter: progress.meter(), cancel: &self.cancel }
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
        let same = |r: &&policy::RepositorySettings| r.url.parse::<Location>().is_ok_and(|l| l == settings.location);
        if let Some(repository) = configured.filter(same) {
            settings.endpoint = repository.endpoint.clone();
            settings.region = repository.region.clone().unwrap_or(settings.region);
            settings.access_key = repository.access_key.clone();
            settings.secret_key = repository.secret_key.clone();
            settings.session_token = repository.session_token.clone();
            settings.ca_file = repository.ca_file.clone();
            settings.addressing = match repository.addressing {
                policy::Addressing::Automatic => None,
                policy::Addressing::Path => Some(Addressing::Path),
                policy::Addressing::Virtual => Some(Addressing::Virtual),
            };
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
        if let Some(patience) = self.patience()? {
            settings.budget = settings.budget.lasting(patience);
        }
        Ok(settings)
    }

    /// The store for somebody who has only so long.
    pub fn store_within(&self, patience: Duration) -> Result<Arc<dyn Store>> {
        let mut settings = self.store_settings()?;
        settings.budget = settings.budget.lasting(patience);
        store::open(&settings)
    }

    /// Opens the repository. What its endpoint was found to do when it was made is made use of.
    pub fn repository(&self) -> Result<Repository> {
        let memory = self.configuration()?.memory;
        let mut settings = self.store_settings()?;
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

    pub fn places(&self, repository: &Repository) -> Result<Places> {
        let paths = self.paths()?;
        Ok(Places::new(&paths.state, &paths.cache, repository))
    }

    pub fn journal(&self) -> Result<Journal> {
        Ok(Journal::of(&self.paths()?.state))
    }

    /// Notes the runs of this process in the journal.
    pub fn recorder(&self) -> Result<Recorder> {
        let (output, bar) = (self.output, self.bar.clone());
        let recorder = Recorder::new(self.journal()?, move |failure| {
            let bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
            match bar.as_ref() {
                Some(bar) => bar.suspend(|| output.told(failure)),
                None => output.told(failure),
            }
        });
        Ok(match self.slot.clone() {
            Some(slot) => recorder.of_slot(slot),
            None => recorder,
        })
    }

    /// The engine of a source of this host. A volume leaves out the repository and the directories of bkp itself.
    pub fn engine(&self, settings: &Settings) -> Result<Box<dyn Engine>> {
        let mut settings = settings.clone();
        settings.read_secrets_with(self.secrets()?);
        if let Settings::Volume(volume) = &mut settings {
            let paths = self.paths()?;
            volume.apart = vec![paths.state.clone(), paths.cache.clone()];
            if let Location::Directory(repository) = self.store_settings()?.location {
                volume.apart.push(repository);
            }
        }
        Ok(engine::build(&settings))
    }

    /// What this host writes with; a failure when it is no writer of the repository.
    pub fn writer(&self, repository: &Repository) -> Result<Writer> {
        let state = &self.paths()?.state;
        Writer::load(state, repository.id())?.ok_or_else(|| {
            Failure::new(Kind::Key, format!("this host is no writer of {}", repository.store.describe()))
                .because(format!("there is no state of it in {}", state.display()))
                .hint("Register it with: bkp init --join; or run this as the user who made the repository")
        })
    }

    /// Enough to list points: the writer's own keys, and those of an operator when they were given.
    pub fn listing(&self, repository: &Repository) -> Result<Access> {
        if !self.globals.identity.is_empty() {
            return self.reading(repository);
        }
        let state = &self.paths()?.state;
        let Some(writer) = Writer::load(state, repository.id())? else {
            return Err(Failure::new(
                Kind::Key,
                "points cannot be listed: this host is no writer of the repository, and no identity was given",
            )
            .hint("Give the recovery key with --identity FILE (or BKP_IDENTITY)"));
        };
        Ok(Access { keys: writer.keyring(), trust: writer.trust(), writer: Some(writer), operator: None })
    }

    /// Enough to read data: an operator's identity opens the data epochs.
    pub fn reading(&self, repository: &Repository) -> Result<Access> {
        if self.globals.identity.is_empty() {
            return Err(Failure::new(Kind::Key, "reading a backup needs a private key, and none was given").hint(
                "Give the recovery key with --identity FILE (or BKP_IDENTITY); the host that makes backups does not have it",
            ));
        }
        let operator = self.operator()?;
        operator.check_repository(repository.id())?;
        let mut keys = operator.keyring(&*repository.store)?;
        let mut trust = Trust { pinned: operator.trusted.clone() };
        let writer = Writer::load(&self.paths()?.state, repository.id())?;
        if let Some(writer) = &writer {
            keys = keys.join(writer.keyring());
            trust.pinned.extend(writer.trust().pinned);
        }
        Ok(Access { writer, keys, trust, operator: Some(operator) })
    }

    pub fn operator(&self) -> Result<Operator> {
        Operator::read(&self.globals.identity)
    }

    /// How backups are written: object lock as far as the configuration asks for it.
    pub fn write_options(&self, layout: Layout) -> Result<write::Options> {
        let lock = self.configuration()?.repository.as_ref().and_then(|r| r.object_lock);
        let retain = lock.map(|lock| Retain {
            mode: lock.mode,
            until: self.now + SignedDuration::from_hours(24 * i64::from(lock.days)),
        });
        Ok(write::Options { retain, layout, ..write::Options::default() })
    }
}
