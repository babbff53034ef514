//! What is looked at to tell whether the journal of this host is whole: its segments, what the repository and its copies
//! hold of them, and the files that its head is anchored in. The same for `bkp evidence verify` and for a report.
//!
//! What cannot be asked is told in the notes, and the rest is looked at all the same.

use super::{Door, only, only_writer};
use crate::cli::copies::briefly;
use crate::cli::environment::Environment;
use crate::cli::format::count;
use crate::error::{Failure, Kind, Result};
use crate::evidence::timestamp::Authorities;
use crate::evidence::{self, Keeper, Material, Verification};
use crate::policy::Holder;
use crate::repo::Repository;
use crate::repo::keys::Keyring;
use crate::repo::sign;
use ed25519_dalek::VerifyingKey;
use std::path::{Path, PathBuf};

#[derive(Default)]
pub struct Look<'a> {
    /// Neither the repository nor its copies are asked.
    pub offline: bool,
    /// A store that is away is not waited for.
    pub briefly: bool,
    /// The host whose journal it is, where the repository has several.
    pub writer: Option<&'a str>,
    /// Whose signatures to believe where the repository is not asked.
    pub key: Option<&'a str>,
    /// Files with further heads.
    pub anchors: &'a [PathBuf],
    /// Whose time stamps to believe, instead of those that are configured.
    pub tsa_ca: Option<&'a Path>,
}

/// Whose heads are believed, and how to open what is sealed.
struct Known {
    writer: String,
    signer: VerifyingKey,
    pinned: bool,
    keys: Keyring,
}

impl Look<'_> {
    /// Whether the journal of this host is whole, and what others hold of it fits.
    pub fn at_host(&self, env: &Environment) -> Result<Verification> {
        let journal = env.journal()?;
        if journal.segments()?.is_empty() {
            return Err(Failure::failed(format!("there is no journal in {}", journal.directory().display()))
                .hint("Look at what the repository holds with --stored, or at a bundle"));
        }
        let door = match self.offline {
            true => Err(Failure::failed("it was not asked (--offline)")),
            false => self.open(env, None).and_then(|repository| Door::of(env, repository, self.writer)),
        };
        let authorities = self.authorities(env)?;
        let keeper = door.as_ref().ok().map(|door| door.keeper(authorities.as_ref()));
        let mut material = evidence::of_journal(&journal)?;
        // Without its first record, the journal does not say which one it is.
        let id = match (journal.id()?, &keeper) {
            (None, Some(keeper)) => Some(only(keeper)?),
            (id, _) => id,
        };
        let compared = match (&door, &keeper, &id) {
            (Ok(_), Some(keeper), Some(id)) => keeper.stand_against(&mut material, id),
            (Err(failure), ..) => Err(Failure::failed(failure.full())),
            _ => Ok(()),
        };
        if let Err(failure) = compared {
            let what = "nothing was compared with what the repository holds";
            material.notes.push(format!("{what}: {}", failure.full()));
        }
        let known = match &door {
            Ok(door) => Some(Known {
                writer: door.writer.clone(),
                signer: door.signer,
                pinned: door.pinned,
                keys: door.access.keys.clone(),
            }),
            Err(_) => self.known(env)?,
        };
        if let Some(known) = &known {
            material.key = Some((known.signer, known.pinned));
            if let Some(id) = &id {
                self.places(env, known, &mut material, id)?;
            }
            self.files(&mut material, &known.signer)?;
        }
        evidence::verify(material)
    }

    fn open(&self, env: &Environment, copy: Option<&str>) -> Result<Repository> {
        let settings = match copy {
            Some(name) => env.copy_settings(env.configuration()?.copy(name)?)?,
            None => env.store_settings()?,
        };
        env.open(if self.briefly { briefly(settings) } else { settings })
    }

    /// Where the repository is not asked: the key that is given, or that of this host. Nothing: there is none, and no need.
    fn known(&self, env: &Environment) -> Result<Option<Known>> {
        if let Some(text) = self.key {
            let signer = key(text, self.writer.unwrap_or_default())?;
            let writer = self.writer.unwrap_or_default().to_owned();
            return Ok(Some(Known { writer, signer, pinned: true, keys: Keyring::new([]) }));
        }
        match only_writer(env) {
            Ok(own) => Ok(Some(Known {
                writer: own.id().to_owned(),
                signer: own.signing.verifying_key(),
                pinned: true,
                keys: own.keyring(),
            })),
            Err(_) if self.anchors.is_empty() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// What the configured places hold; those that cannot be asked are told.
    fn places(&self, env: &Environment, known: &Known, material: &mut Material<'_>, journal: &str) -> Result<()> {
        for place in &env.configuration()?.evidence.places {
            let looked = match &place.holder {
                Holder::Copy(_) if self.offline => Ok(()),
                Holder::Copy(name) => self.open(env, Some(name)).and_then(|copy| {
                    let Known { writer, signer, keys, .. } = known;
                    let (place, repository) = (place.name.clone(), &copy);
                    let keeper = Keeper { place, repository, keys, writer, signer: *signer, authorities: None };
                    keeper.heads(material, journal)
                }),
                Holder::File(path) => evidence::in_file(path, &known.signer).map(|(heads, _)| {
                    material.witnesses.extend(heads.into_iter().map(|head| head.witness(&place.name)));
                }),
                Holder::Mail(_) | Holder::TimeStamp(_) => Ok(()),
            };
            if let Err(failure) = looked {
                material.notes.push(format!("{} was not asked: {}", place.name, failure.full()));
            }
        }
        Ok(())
    }

    /// Whose time stamps to believe: those that are named here, else those of the configuration.
    pub fn authorities(&self, env: &Environment) -> Result<Option<Authorities>> {
        let configured = env.configuration()?.evidence.places.iter().find_map(|place| match &place.holder {
            Holder::TimeStamp(authority) => authority.ca_file.as_deref(),
            _ => None,
        });
        self.tsa_ca.or(configured).map(Authorities::read).transpose()
    }

    /// Heads in files that were given.
    pub fn files(&self, material: &mut Material<'_>, key: &VerifyingKey) -> Result<()> {
        for path in self.anchors {
            let (heads, others) = evidence::in_file(path, key)?;
            if heads.is_empty() {
                return Err(Failure::new(
                    Kind::Verification,
                    format!("{} holds no head that this host signed", path.display()),
                ));
            }
            if others > 0 {
                let what = count(others, "head");
                material.notes.push(format!("{what} in {} are not signed by this host", path.display()));
            }
            let place = path.display().to_string();
            material.witnesses.extend(heads.into_iter().map(|head| head.witness(&place)));
        }
        Ok(())
    }
}

/// `ed25519:…`, or a file that has it: by itself, or as one of the lines `# bkp-writer: ID ed25519:…`.
pub fn key(text: &str, writer: &str) -> Result<VerifyingKey> {
    if text.starts_with("ed25519:") {
        return sign::parse_key(text);
    }
    let file = std::fs::read_to_string(text).map_err(|e| Failure::from_io(e, || format!("cannot read {text}")))?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let keys = file.lines().map(words).filter(|words| words.last().is_some_and(|word| word.starts_with("ed25519:")));
    let mut keys: Vec<Vec<String>> = keys.collect();
    if keys.len() > 1 {
        keys.retain(|words| words.iter().any(|word| word == writer));
    }
    match &keys[..] {
        [one] => sign::parse_key(one.last().map(String::as_str).unwrap_or_default()),
        _ => Err(Failure::new(Kind::Key, format!("{text} does not name the key of this host"))
            .hint("Its line is: # bkp-writer: ID ed25519:…  (bkp keys list on the host shows it)")),
    }
}
