//! What every command stands on: the global options, the configuration, and the doors to repository and keys.
//!
//! Everything is opened when a command asks for it, so that `bkp --help` or `bkp config check` need no repository.

use super::globals::Globals;
use super::output::Output;
use super::progress::{Progress, SharedBar, StoreNews};
use crate::clock;
use crate::daemon;
use crate::engine::{self, Engine, Settings};
use crate::error::{Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::job::Places;
use crate::job::discover::labels::{self, Remark, Taken};
use crate::job::discover::look::Around;
use crate::job::lock::{self, Kept};
use crate::job::recorder::{ForSlot, Recorder};
use crate::journal::Journal;
use crate::policy::{self, Configuration, CopySettings, Paths, Policy, Problems};
use crate::repo::keys::{Keyring, Operator};
use crate::repo::point::{Layout, Point};
use crate::repo::sign::Trust;
use crate::repo::writer::Writer;
use crate::repo::{Repository, write};
use crate::secret::{Remembered, SecretRef, Secrets};
use crate::store::{self, Key, Location, Store, Watch};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

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
    /// The point that is being read, to tell in which copy it is should that fail.
    reads: OnceCell<Key>,
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
            reads: OnceCell::new(),
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
        // What a run of the daemon says goes into its log.
        let is_logged = self.slot.is_some();
        let told = |problems: Problems| if is_logged { problems.brief() } else { Failure::from(problems) };
        let loaded = policy::load(self.paths()?).map_err(told)?;
        for warning in &loaded.warnings {
            self.output.warn(warning);
        }
        Ok(self.configuration.get_or_init(|| loaded))
    }

    /// For commands that only show: where the configuration has a problem, what the daemon took last is as good.
    pub fn take_configuration_in_force(&self) -> Result<()> {
        let Err(problem) = self.configuration() else { return Ok(()) };
        let paths = self.paths()?;
        let taken = self.journal()?.state()?.config;
        let Some(copy) = taken.and_then(|taken| daemon::copy_of(&paths.state, &taken.digest)) else {
            return Err(problem);
        };
        let loaded = policy::load(&Paths { config: copy, config_given: true, ..paths.clone() });
        let loaded = loaded.map_err(|_| problem)?;
        self.output.warn("the configuration has a problem (bkp config check); what is shown goes by the one before, which the daemon took last");
        let _ = self.configuration.set(loaded);
        Ok(())
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
                let stopped = move || cancel.check().is_err();
                // Only who is started by the daemon has a way to its memory.
                let remembered = ForSlot::of_this_process().and_then(|_| Remembered::of_this_process());
                Secrets::remembering(vault, &self.paths()?.state, stopped, remembered)
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

    /// Remembers which point is read.
    pub fn reads(&self, point: &Point) {
        let _ = self.reads.set(point.key());
    }

    pub fn read_point(&self) -> Option<&Key> {
        self.reads.get()
    }

    /// The policy of a source, where it has one.
    pub fn policy_of(&self, source: &str) -> Result<Option<&Policy>> {
        let configured = self.configuration()?.source(source);
        let live = || self.live.get().and_then(|live| live.configuration.source(source));
        Ok(configured.or_else(live).map(|(policy, _)| policy))
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

    /// The store for somebody who has only so long.
    pub fn store_within(&self, patience: Duration) -> Result<Arc<dyn Store>> {
        let mut settings = self.store_settings()?;
        settings.budget = settings.budget.lasting(patience);
        store::open(&settings)
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

    /// The person who runs this, as the environment has it; nobody where it is a schedule.
    pub fn asker(&self) -> Option<String> {
        let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).ok();
        name.filter(|name| self.slot.is_none() && !name.is_empty())
    }

    /// The engine of a source of this host. A volume leaves out the repository and the directories of bkp itself.
    pub fn engine(&self, settings: &Settings) -> Result<Box<dyn Engine>> {
        let mut settings = settings.clone();
        settings.read_secrets_with(self.secrets()?);
        if let Settings::Volume(volume) = &mut settings {
            let paths = self.paths()?;
            volume.apart = vec![paths.state.clone(), paths.cache.clone()];
            let copies = self.configuration()?.copies.iter().map(|copy| self.copy_settings(copy));
            for settings in [self.store_settings()].into_iter().chain(copies) {
                if let Location::Directory(repository) = settings?.location {
                    volume.apart.push(repository);
                }
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

    /// Enough to list points: the writer's own keys, and those of an operator when they were given; on a host that only
    /// rehearses, those of the rehearser.
    pub fn listing(&self, repository: &Repository) -> Result<Access> {
        if !self.globals.identity.is_empty() {
            return self.reading(repository);
        }
        let state = &self.paths()?.state;
        let Some(writer) = Writer::load(state, repository.id())? else {
            if self.configuration()?.rehearser.identity.is_some() {
                return self.rehearsing(repository);
            }
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
        self.reading_with(repository, self.operator()?)
    }

    /// Enough to rehearse restores: an identity that was given, or the one that is configured for it.
    pub fn rehearsing(&self, repository: &Repository) -> Result<Access> {
        if !self.globals.identity.is_empty() {
            return self.reading(repository);
        }
        let Some(reference) = &self.configuration()?.rehearser.identity else {
            return Err(Failure::new(Kind::Key, "rehearsing a restore needs a private key, and this host has none").hint(
                "Make one for rehearsals: age-keygen -o /etc/bkp/rehearser.txt; bkp keys add NAME age1… --role rehearser --identity recovery-key.txt; \
                 then write `rehearse: { identity_file: /etc/bkp/rehearser.txt }` into the main file, or give --identity",
            ));
        };
        let operator = match reference {
            SecretRef::File(path) => Operator::read(std::slice::from_ref(path)),
            other => Operator::of_text(self.secrets()?.read(other)?.expose(), &other.to_string()),
        };
        self.reading_with(repository, operator?)
    }

    fn reading_with(&self, repository: &Repository, operator: Operator) -> Result<Access> {
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

    pub fn has_identity(&self) -> bool {
        !self.globals.identity.is_empty()
    }

    pub fn operator(&self) -> Result<Operator> {
        Operator::read(&self.globals.identity)
    }

    /// How backups are written: object lock as far as the configuration asks for it. `policy` is that of the source.
    pub fn write_options(&self, layout: Layout, policy: Option<&Policy>) -> Result<write::Options> {
        let lock = self.configuration()?.repository.as_ref().and_then(|r| r.object_lock);
        let retain = lock.map(|lock| lock::of_new(&lock, policy.and_then(Kept::by), self.now));
        Ok(write::Options { retain, layout, ..write::Options::default() })
    }
}
