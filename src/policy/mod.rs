//! Configuration, validated: what is backed up, where to, and what is promised.
//!
//! [`load`] reads `bkp.yaml` and `policies.d/*.yaml` and gives a [`Configuration`] in which everything has been checked, or
//! all [`Problems`] at once. The way: text → tree with places (`tree`, `variables`) → shapes (`reading`, `raw`) → these types
//! (`convert`). [`adhoc`] makes a source from a word on the command line, [`When`] an instant.
//! Nothing here opens a source, a repository or a secret; what is not there yet is found when it is used.

use crate::engine;
use crate::error::{Failure, Result};
use crate::exec::docker::Quiet;
use crate::repo::point::Layout;
pub use crate::repo::retention::Rules as Keep;
use crate::secret::{SecretRef, vault};
use crate::store::LockMode;
use jiff::tz::TimeZone;
use std::path::PathBuf;
use std::time::Duration;

mod adhoc;
mod anchors;
mod auditing;
mod channels;
mod consumers;
mod convert;
mod load;
mod mask;
mod passwords;
mod paths;
mod problem;
mod put_back;
mod raw;
mod reading;
mod rehearsals;
mod rotation_times;
mod rotations;
mod servers;
mod show;
mod sources;
mod stores;
mod targets;
mod timing;
mod told_variables;
mod tree;
mod turns;
mod values;
mod variables;
mod vaults;
mod watching;
mod when;

pub use adhoc::adhoc;
pub use anchors::{AnchorPlace, Authority, Evidence, Holder};
pub use auditing::AuditSettings;
pub use channels::{Address, Carrier, Channel, Detail, Digest, Encryption, Language, Mail, Topic};
pub use consumers::{Cluster, ComposeService, Consumer, How, Reload, SwarmService, Told, Workload, WorkloadKind};
pub use convert::docker_volume_path;
pub use load::{load, load_files, load_with};
pub use passwords::{Alphabet, PasswordRule};
pub use paths::{Paths, path_text, serialize_path};
pub use problem::{Origin, Problem, Problems, did_you_mean};
pub use raw::schema;
pub use rehearsals::{Assertion, Expected, Rehearsals, Rehearser, one_line};
pub use rotation_times::{Freeze, is_named_the_same};
pub use rotations::{Rotation, Rotator};
pub use show::{Shown, show};
pub use stores::PRIMARY;
pub use targets::{MailServer, Minio, SigningAlgorithm, SigningKey, Target};
pub use timing::{Blackout, DaemonSettings, IoClass, Missed, Overlap, Routine, Timing};
pub use turns::ChangingName;
pub use values::{cron, duration, duration_text, name as check_name, size, size_text};
pub use watching::{HttpSettings, LogForm};
pub use when::When;

/// Everything that was configured.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub repository: Option<StoreSettings>,
    pub copies: Vec<CopySettings>,
    /// Where `ref+vault://` is read from.
    pub vault: Option<vault::Settings>,
    pub timezone: TimeZone,
    pub memory: u64,
    pub daemon: DaemonSettings,
    pub prune: Option<Routine>,
    pub check: Option<Routine>,
    pub rehearser: Rehearser,
    pub rotator: Rotator,
    /// The journal as proof for others.
    pub evidence: Evidence,
    pub audit: AuditSettings,
    pub http: HttpSettings,
    pub log: Option<LogForm>,
    /// Who is told of what happens.
    pub notify: Vec<Channel>,
    pub policies: Vec<Policy>,
    /// What is no error but should be known: a file anybody may change, a file that is passed over.
    pub warnings: Vec<String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    origins: Vec<(Vec<String>, Origin)>,
}

/// A place where backups are kept. The URL is one of `s3://BUCKET[/PREFIX]` and `file:///DIRECTORY`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreSettings {
    pub url: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key: Option<SecretRef>,
    pub secret_key: Option<SecretRef>,
    pub session_token: Option<SecretRef>,
    pub addressing: Addressing,
    pub ca_file: Option<PathBuf>,
    pub object_lock: Option<ObjectLock>,
    /// Bytes per second, in both directions together.
    pub bandwidth: Option<u64>,
}

/// A further store, that gets what the repository has.
#[derive(Clone, Debug, PartialEq)]
pub struct CopySettings {
    pub name: String,
    pub store: StoreSettings,
    /// Absent: everything that the repository has.
    pub keep: Option<Keep>,
}

/// Where the bucket's name stands in a request. Automatic: in the path when there is an endpoint, else in the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    #[default]
    Automatic,
    Path,
    Virtual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLock {
    pub mode: LockMode,
    pub keep: LockKeep,
}

/// How long an object is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKeep {
    Days(u32),
    /// As long as retention wants the points that need it.
    Policy,
}

/// What is backed up together.
#[derive(Clone, Debug)]
pub struct Policy {
    pub name: String,
    pub stack: Option<String>,
    /// Cron with 5 or 6 fields, or `@daily`; its shape has been checked.
    pub schedule: Option<String>,
    /// Its own, or that of the configuration.
    pub timezone: TimeZone,
    /// Of meaning where there is a schedule.
    pub timing: Timing,
    pub objectives: Objectives,
    pub keep: Option<Keep>,
    /// Absent: no label brings anything in.
    pub labels: Option<Labels>,
    /// Absent: only by hand, to level `equal`.
    pub rehearsals: Option<Rehearsals>,
    /// Passwords that are rotated.
    pub rotations: Vec<Rotation>,
    /// At least one, unless labels bring them.
    pub sources: Vec<Source>,
}

/// How a policy backs up what labels bring.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    pub own_accounts: bool,
    /// At most one of each engine, without its place.
    pub servers: Vec<engine::Settings>,
    pub quiesce: Option<Quiet>,
    /// That of the policy.
    pub layout: Layout,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objectives {
    /// How old the newest point may be.
    pub rpo: Option<Duration>,
    /// How long a restore may take.
    pub rto: Option<Duration>,
}

/// One thing to protect. Its name is unique in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub name: String,
    pub settings: engine::Settings,
    /// How its dumps are stored. Of no meaning for volumes.
    pub layout: Layout,
}

impl Policy {
    /// By the daemon.
    pub fn is_rehearsed(&self) -> bool {
        self.rehearsals.as_ref().is_some_and(|rehearsals| rehearsals.schedule.is_some())
    }
}

impl Default for Configuration {
    /// What holds when there is no file at all.
    fn default() -> Self {
        Configuration {
            repository: None,
            copies: Vec::new(),
            vault: None,
            timezone: TimeZone::system(),
            memory: crate::repo::DEFAULT_MEMORY,
            daemon: DaemonSettings::default(),
            prune: None,
            check: None,
            rehearser: Rehearser::default(),
            rotator: Rotator::default(),
            evidence: Evidence::default(),
            audit: AuditSettings::default(),
            http: HttpSettings::default(),
            log: None,
            notify: Vec::new(),
            policies: Vec::new(),
            warnings: Vec::new(),
            files: Vec::new(),
            origins: Vec::new(),
        }
    }
}

impl Configuration {
    /// A source and its policy, by the name of the source.
    pub fn source(&self, name: &str) -> Option<(&Policy, &Source)> {
        let of = |policy| move |source| (policy, source);
        self.policies.iter().flat_map(|p| p.sources.iter().map(of(p))).find(|(_, source)| source.name == name)
    }

    /// The sources that names of policies and sources mean, each once, in the order of the configuration; all of them when
    /// no name is given. A name that is both means the policy.
    pub fn select(&self, names: &[String]) -> Result<Vec<(&Policy, &Source)>> {
        for name in names {
            if !self.policies.iter().any(|p| p.name == *name) && self.source(name).is_none() {
                return Err(self.unknown(name));
            }
        }
        let wanted = |policy: &Policy, source: &Source| {
            let by_policy = names.contains(&policy.name);
            let is_policy = self.policies.iter().any(|p| p.name == source.name);
            names.is_empty() || by_policy || !is_policy && names.contains(&source.name)
        };
        let all = self.policies.iter().flat_map(|p| p.sources.iter().map(move |s| (p, s)));
        Ok(all.filter(|(policy, source)| wanted(policy, source)).collect())
    }

    /// The sources of these names, also where a policy has the same name.
    pub fn only_sources(&self, names: &[String]) -> Result<Vec<(&Policy, &Source)>> {
        names.iter().map(|name| self.source(name).ok_or_else(|| self.unknown(name))).collect()
    }

    /// Every reference to a secret, once, and what it is for.
    pub fn secrets(&self) -> Vec<(SecretRef, String)> {
        let stores = self.repository.iter().map(|store| (PRIMARY, store));
        let stores = stores.chain(self.copies.iter().map(|copy| (copy.name.as_str(), &copy.store)));
        let of_stores = stores.flat_map(|(name, store)| {
            let references = [&store.access_key, &store.secret_key, &store.session_token];
            references.into_iter().flatten().map(move |reference| (reference.clone(), name.to_owned()))
        });
        let of_rehearser = self.rehearser.identity.iter().chain(&self.rehearser.unseal_keys);
        let of_rehearser = of_rehearser.map(|reference| (reference.clone(), "rehearse".to_owned()));
        let of_http = self.http.token.iter().map(|reference| (reference.clone(), "http".to_owned()));
        let sources = self.policies.iter().flat_map(|policy| &policy.sources);
        let of_sources = sources.flat_map(|source| {
            source.settings.secrets().into_iter().map(|reference| (reference.clone(), source.name.clone()))
        });
        let of_labels = self.policies.iter().flat_map(|policy| {
            let servers = policy.labels.iter().flat_map(|labels| &labels.servers);
            servers.flat_map(|settings| settings.secrets()).map(|reference| (reference.clone(), policy.name.clone()))
        });
        let of_channels = self.notify.iter().flat_map(|channel| {
            channel.secrets().into_iter().map(|reference| (reference.clone(), format!("notify {}", channel.name)))
        });
        let of_anchors = self.evidence.places.iter().filter_map(|place| match &place.holder {
            Holder::Mail(mail) => {
                mail.login.as_ref().map(|(_, password)| (password.clone(), format!("evidence {}", place.name)))
            }
            _ => None,
        });
        let of_rotations = self.rotations().flat_map(|(_, rotation)| {
            let admin = rotation.admin.iter().map(|(_, password)| password.clone());
            let published = [&rotation.published].into_iter().chain(rotation.name_published());
            admin
                .chain(published.map(|path| SecretRef::Vault(path.clone())))
                .map(|reference| (reference, format!("rotate {}", rotation.name)))
        });
        let of_sources = of_sources.chain(of_labels).chain(of_rotations);
        let mut all: Vec<(SecretRef, String)> = Vec::new();
        let of_channels = of_channels.chain(of_anchors);
        for (reference, user) in of_stores.chain(of_rehearser).chain(of_http).chain(of_sources).chain(of_channels) {
            match all.iter_mut().find(|(known, _)| *known == reference) {
                Some((_, users)) => *users = format!("{users}, {user}"),
                None => all.push((reference, user)),
            }
        }
        all
    }

    /// All passwords that are rotated.
    pub fn rotations(&self) -> impl Iterator<Item = (&Policy, &Rotation)> {
        self.policies.iter().flat_map(|policy| policy.rotations.iter().map(move |rotation| (policy, rotation)))
    }

    /// The rotation of that name.
    pub fn rotation(&self, name: &str) -> Result<(&Policy, &Rotation)> {
        if let Some(found) = self.rotations().find(|(_, rotation)| rotation.name == name) {
            return Ok(found);
        }
        let known: Vec<&str> = self.rotations().map(|(_, rotation)| rotation.name.as_str()).collect();
        let near = did_you_mean(name, known.iter().copied());
        let failure = Failure::usage(format!("there is no rotation `{name}`{near}"));
        Err(match known.as_slice() {
            [] => failure.hint("None is configured: write it into `rotate:` of a policy; see docs/ROTATION.md"),
            known => failure.hint(format!("Configured are: {}", known.join(", "))),
        })
    }

    /// The copy of that name.
    pub fn copy(&self, name: &str) -> Result<&CopySettings> {
        if let Some(copy) = self.copies.iter().find(|copy| copy.name == name) {
            return Ok(copy);
        }
        let known = self.copies.iter().map(|copy| copy.name.as_str());
        let failure = Failure::usage(format!("there is no copy `{name}`{}", did_you_mean(name, known.clone())));
        Err(match self.copies.is_empty() {
            true => failure.hint("None is configured: write it into `copies:` of the main file"),
            false => failure.hint(format!("Configured are: {}", known.collect::<Vec<_>>().join(", "))),
        })
    }

    /// The sources of a stack, of all policies that belong to it.
    pub fn stack(&self, name: &str) -> Result<Vec<(&Policy, &Source)>> {
        let of_stack = |policy: &&Policy| policy.stack.as_deref() == Some(name);
        let sources: Vec<_> =
            self.policies.iter().filter(of_stack).flat_map(|p| p.sources.iter().map(move |s| (p, s))).collect();
        if !sources.is_empty() {
            return Ok(sources);
        }
        let mut known: Vec<&str> = self.policies.iter().filter_map(|p| p.stack.as_deref()).collect();
        known.sort_unstable();
        known.dedup();
        let failure =
            Failure::usage(format!("there is no stack `{name}`{}", did_you_mean(name, known.iter().copied())));
        Err(match known.as_slice() {
            [] => failure.hint("No policy says `stack: NAME` yet"),
            known => failure.hint(format!("Configured are: {}", known.join(", "))),
        })
    }

    /// The same with more sources, each for the policy of that name.
    pub fn with_sources(&self, sources: Vec<(String, Source)>) -> Self {
        let mut all = self.clone();
        for (name, source) in sources {
            let policy = all.policies.iter_mut().find(|policy| policy.name == name);
            policy.into_iter().for_each(|policy| policy.sources.push(source.clone()));
        }
        all
    }

    fn unknown(&self, name: &str) -> Failure {
        let sources = self.policies.iter().flat_map(|p| p.sources.iter().map(|s| s.name.as_str()));
        let mut known: Vec<&str> = self.policies.iter().map(|p| p.name.as_str()).chain(sources).collect();
        known.sort();
        known.dedup();
        let what = format!("there is no policy or source `{name}`{}", did_you_mean(name, known.iter().copied()));
        match known.as_slice() {
            [] => Failure::usage(what).hint(
                "Nothing is configured yet: write a policy, or name what to back up as in --source sqlite:/srv/app.db",
            ),
            known => Failure::usage(what).hint(format!("Configured are: {}", known.join(", "))),
        }
    }

    /// Where a setting was written; `None` for a default.
    fn origin(&self, key: &[&str]) -> Option<&Origin> {
        self.origins.iter().find(|(path, _)| path == key).map(|(_, origin)| origin)
    }
}
