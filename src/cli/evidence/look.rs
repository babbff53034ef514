//! What is looked at to tell whether the journal of this host is whole: its segments, what the repository and its copies
//! hold of them, and the files that its head is anchored in. The same for `bkp evidence verify` and for a report.
//!
//! What cannot be asked is told, and the rest is looked at all the same: whoever takes the repository away must not make that
//! nothing is compared any more.

use super::{Door, only, only_writer, verifier};
use crate::cli::copies::briefly;
use crate::cli::environment::Environment;
use crate::cli::format::count;
use crate::error::{Failure, Kind, Result};
use crate::evidence::timestamp::Authorities;
use crate::evidence::{
    self, Finding, HERE, Held, InFile, Keeper, Kept, Material, SignedHead, Signer, Tampering, Verification,
};
use crate::policy::{Holder, PRIMARY};
use crate::repo::Repository;
use crate::repo::keys::Keyring;
use crate::repo::sign;
use ed25519_dalek::VerifyingKey;
use std::collections::BTreeSet;
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

impl Known {
    fn of(door: &Door) -> Self {
        let Door { writer, signer, pinned, access, .. } = door;
        Known { writer: writer.clone(), signer: *signer, pinned: *pinned, keys: access.keys.clone() }
    }
}

/// What is known of the journal before the places are asked.
struct About<'a> {
    keeper: Option<&'a Keeper<'a>>,
    journal: Option<&'a str>,
    /// The heads whose time stamps are kept here.
    stamped: &'a BTreeSet<u64>,
    is_verifier: bool,
}

impl Look<'_> {
    /// Whether the journal of this host is whole, and what others hold of it fits.
    pub fn at_host(&self, env: &Environment) -> Result<Verification> {
        let journal = env.journal()?;
        if journal.segments()?.is_empty() {
            return Err(Failure::failed(format!("there is no journal in {}", journal.directory().display()))
                .hint("Look at what the repository holds with --stored, or at a bundle"));
        }
        // What is noted from here on may be of heads that those who are asked next did not have yet.
        let known_before = journal.head()?.seq;
        let own = if self.writer.is_none() && self.key.is_none() { verifier(env)? } else { None };
        let door = match self.offline || own.is_some() {
            true => Err(Failure::failed("--offline")),
            false => self.open(env, None).and_then(|repository| Door::of_host(env, repository, self.writer)),
        };
        let authorities = self.authorities(env)?;
        let keeper = door.as_ref().map(|door| door.keeper(authorities.as_ref()));
        let mut material = Material { known_before, ..evidence::of_journal(&journal)? };
        // Without its first record, the journal does not say which one it is.
        let id = match (journal.id()?, &keeper) {
            (None, Ok(keeper)) => only(keeper).map_err(|failure| could_not(&mut material, PRIMARY, &failure)).ok(),
            (id, _) => id,
        };
        let compared = match (&keeper, &id) {
            (Ok(keeper), Some(id)) => keeper.stand_against(&mut material, id),
            (Ok(_), None) => Ok(()),
            // A verifier puts nothing there.
            (Err(_), _) if own.is_some() => Ok(()),
            (Err(failure), _) => Err(Failure::new(failure.kind(), failure.full())),
        };
        if let Err(failure) = compared {
            could_not(&mut material, PRIMARY, &failure);
        }
        let known = door.as_ref().map(Known::of).or_else(|_| self.known(env, own.as_ref()));
        match &known {
            Ok(known) => {
                material.key = Some((known.signer, known.pinned));
                let stamped = match &id {
                    Some(id) => kept(env, id, known, authorities.as_ref(), &mut material)?,
                    None => BTreeSet::new(),
                };
                let about = About {
                    keeper: keeper.as_ref().ok(),
                    journal: id.as_deref(),
                    stamped: &stamped,
                    is_verifier: own.is_some(),
                };
                self.places(env, known, &about, &mut material)?;
                self.files(&mut material, &known.signer, &known.writer)?;
            }
            Err(failure) if self.anchors.is_empty() => could_not(&mut material, "anchors", failure),
            Err(failure) => return Err(Failure::new(failure.kind(), failure.full())),
        }
        material.asks_everybody = known.is_ok();
        evidence::verify(material)
    }

    fn open(&self, env: &Environment, copy: Option<&str>) -> Result<Repository> {
        let settings = match copy {
            Some(name) => env.copy_settings(env.configuration()?.copy(name)?)?,
            None => env.store_settings()?,
        };
        env.open(if self.briefly { briefly(settings) } else { settings })
    }

    /// Where the repository is not asked: the key that is given, or that of this host.
    fn known(&self, env: &Environment, own: Option<&Signer>) -> Result<Known> {
        if let Some(text) = self.key {
            let signer = key(text, self.writer.unwrap_or_default())?;
            let writer = self.writer.unwrap_or_default().to_owned();
            return Ok(Known { writer, signer, pinned: true, keys: Keyring::new([]) });
        }
        if let Some(own) = own {
            let (writer, signer) = (own.id.clone(), own.key.verifying_key());
            return Ok(Known { writer, signer, pinned: true, keys: Keyring::new([]) });
        }
        only_writer(env).map(|own| Known {
            writer: own.id().to_owned(),
            signer: own.signing.verifying_key(),
            pinned: true,
            keys: own.keyring(),
        })
    }

    /// What the configured places hold, whatever became of the repository.
    fn places(&self, env: &Environment, known: &Known, about: &About<'_>, material: &mut Material<'_>) -> Result<()> {
        let About { keeper, journal, stamped, is_verifier } = *about;
        for place in &env.configuration()?.evidence.places {
            let held = match (&place.holder, journal) {
                (Holder::Copy(_), _) if self.offline => Err(Failure::failed("--offline")),
                (Holder::File(path), _) => in_file(path, &place.name, known, material).map(Held::Heads),
                (Holder::Mail(_), _) => Ok(Held::Mute),
                (Holder::Copy(name), Some(journal)) => self.open(env, Some(name)).and_then(|copy| {
                    let Known { writer, signer, keys, .. } = known;
                    let (place, repository) = (place.name.clone(), &copy);
                    let keeper = Keeper { place, repository, keys, writer, signer: *signer, authorities: None };
                    keeper.heads(material, journal).map(Held::Heads)
                }),
                (Holder::TimeStamp(_), Some(journal)) => match keeper {
                    Some(keeper) => keeper.stamps(journal).map(|stored| Held::Heads(&stored | stamped)),
                    None if is_verifier => Ok(Held::Heads(stamped.clone())),
                    // They lie in the repository, and that it was not asked is told.
                    None => Ok(Held::Unknown),
                },
                (_, None) => Err(Failure::failed("the journal does not say which one it is")),
            };
            match held {
                Ok(held) => drop(material.places.insert(place.name.clone(), held)),
                Err(failure) => could_not(material, &place.name, &failure),
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
    pub fn files(&self, material: &mut Material<'_>, signer: &VerifyingKey, writer: &str) -> Result<()> {
        for path in self.anchors {
            let place = path.display().to_string();
            let InFile { heads, broken, others } = evidence::in_file(path, signer, writer)?;
            if heads.is_empty() && broken.is_empty() {
                let what = format!("{place} holds no head that this host signed");
                return Err(Failure::new(Kind::Verification, what));
            }
            if others > 0 {
                let what = count(others, "head");
                material.judged.notes.push(format!("{what} in {place} are not signed by this host"));
            }
            garbled(material, &place, &broken);
            material.witnesses.extend(heads.into_iter().map(|head| head.witness(&place)));
        }
        Ok(())
    }
}

/// Heads that this host keeps itself, for their time stamps. Gives the numbers of those that have one.
fn kept(
    env: &Environment,
    journal: &str,
    known: &Known,
    authorities: Option<&Authorities>,
    material: &mut Material<'_>,
) -> Result<BTreeSet<u64>> {
    let mut stamped = BTreeSet::new();
    for head in Kept::of(&env.paths()?.state).heads(journal)?.into_iter().filter(|head| head.stamp.is_some()) {
        let name = format!("the head of record {}", head.seq);
        match SignedHead::open(&head.envelope, &known.signer, &name) {
            Ok(signed) => material.take(signed, (HERE, &name), &head, authorities),
            Err(failure) => {
                let what = format!("and the head of it that is kept here: {}", failure.full());
                let finding = Finding::new(Tampering::Signature, HERE, (head.seq, head.seq), &what);
                material.judged.findings.push(finding);
            }
        }
        stamped.insert(head.seq);
    }
    Ok(stamped)
}

/// The heads of this host in the file of a place. Those of others may stand there as well.
fn in_file(path: &Path, place: &str, known: &Known, material: &mut Material<'_>) -> Result<BTreeSet<u64>> {
    if !path.try_exists().is_ok_and(|exists| exists) && path.parent().is_some_and(Path::is_dir) {
        return Ok(BTreeSet::new());
    }
    let InFile { heads, broken, .. } = evidence::in_file(path, &known.signer, &known.writer)?;
    garbled(material, place, &broken);
    let numbers = heads.iter().map(|head| head.seq).collect();
    material.witnesses.extend(heads.into_iter().map(|head| head.witness(place)));
    Ok(numbers)
}

fn garbled(material: &mut Material<'_>, place: &str, broken: &[u64]) {
    for seq in broken {
        let what = format!("and the head of it in {place}: it says that it is of this host, and is not signed by it");
        material.judged.findings.push(Finding::new(Tampering::Signature, place, (*seq, *seq), &what));
    }
}

/// A place that could not be asked; or one that answered what it must not say.
fn could_not(material: &mut Material<'_>, place: &str, failure: &Failure) {
    material.places.insert(place.to_owned(), Held::Unknown);
    match failure.kind() {
        Kind::Verification => {
            material.judged.findings.push(Finding::of_all(Tampering::Signature, place, &failure.full()));
        }
        _ => material.judged.unasked.push(format!("{place} was not asked: {}", failure.full())),
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
