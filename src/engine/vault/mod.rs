//! Vault and OpenBao with integrated storage: their raft snapshot, checked as it streams by, and put back.
//!
//! A snapshot is encrypted by Vault itself, and of use only with the unseal keys of its day: each point therefore tells its *seal
//! generation*, which is the same for all snapshots that the same keys open. bkp never needs those keys to make a point.
//! Restored into a file, into a node that was initialised and holds nothing else, or in place into the cluster that wrote it.
//! What is in a snapshot cannot be restored in part.

use super::transfer::{self, Metered};
use super::{DumpRun, Dumped, Engine, Fingerprint, LoadRun, Loaded, Naming, OnDifference, Origin, Sink, Target};
use crate::backoff::pause;
use crate::clock;
use crate::durable;
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::SecretRef;
use crate::secret::vault::{self, Health, Login, Vault as Client};
use archive::{Checked, Contents};
use std::path::Path;
use std::time::{Duration, Instant};

mod archive;
mod rehearsal;
mod state;

pub use rehearsal::Rehearsal;

/// Name of the one stream of a point, as Vault's own documentation calls such files.
pub const STREAM: &str = "vault.snap";
/// A node may take so long to close after a snapshot of other keys was put into it.
const CLOSING: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where it is, and as whom to speak to it: a role that may take snapshots, and nothing else.
    pub vault: vault::Settings,
}

impl Settings {
    /// Of one that nobody logs in to.
    pub fn of(location: &Path) -> Self {
        let login = Login::Token(SecretRef::Env("VAULT_TOKEN".into()));
        Settings { vault: vault::Settings::new(location.display().to_string(), login) }
    }
}

pub struct Vault {
    settings: Settings,
}

impl Vault {
    pub fn new(settings: Settings) -> Self {
        Vault { settings }
    }

    fn client(&self) -> Client {
        Client::alone(self.settings.vault.clone())
    }
}

/// Refuses what has no snapshots, or gives none now.
fn must_be_open(client: &Client) -> Result<Health> {
    let address = &client.settings().address;
    let seal = client.seal()?;
    if !matches!(seal.storage.as_str(), "raft" | "") {
        let text = format!("Vault at {address} keeps its data in `{}`, which has no snapshots", seal.storage);
        return Err(Failure::usage(text)
            .hint("Only integrated storage (raft) has them: back up what it keeps its data in, or migrate: vault operator migrate"));
    }
    if seal.sealed {
        return Err(Failure::new(Kind::TryLater, format!("Vault at {address} is sealed"))
            .hint("Unseal it: vault operator unseal; then run this again"));
    }
    client.health()
}

/// Vault or OpenBao, and its version.
fn named(health: &Health) -> String {
    format!("{} {}", if health.is_openbao { "OpenBao" } else { "Vault" }, health.version)
}

impl Engine for Vault {
    fn kind(&self) -> &'static str {
        "vault"
    }

    fn location(&self) -> String {
        self.settings.vault.address.clone()
    }

    fn preflight(&self) -> Result<()> {
        let client = self.client();
        must_be_open(&client)?;
        client.may(vault::SNAPSHOT, &["read"])
    }

    fn dump(&self, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
        run.context.cancel.check()?;
        let client = self.client();
        let health = must_be_open(&client)?;
        let consistent_at = clock::now();
        let mut data = Metered::new(Checked::new(client.download()?)?, run.context);
        sink.stream(STREAM, &mut data)?;
        let contents = data.into_inner().contents();
        let contents = contents.ok_or_else(|| Failure::failed("the snapshot of Vault was not read to its end"))?;
        let before = run.memory.as_deref().and_then(|path| std::fs::read_to_string(path).ok());
        let generation = contents.census.as_ref().and_then(|census| census.generation.clone());
        if let Some(generation) = &generation {
            durable::write(&run.next_memory, generation.as_bytes(), 0o600)
                .context(|| "cannot remember the seal generation".into())?;
        }
        Ok(dumped(&contents, &health, consistent_at, before.as_deref()))
    }

    fn load(&self, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
        match target {
            Target::New(path) => into_file(origin, path, run),
            Target::NewDatabases(Naming::Same) => self.load_node(origin, true, run),
            Target::Live(_) => self.load_node(origin, false, run),
            Target::NewDatabases(_) | Target::NewVolume(_) | Target::Command => {
                Err(Failure::usage("a point of Vault is restored whole: it has no databases to name")
                    .hint("Give a file with --to FILE.snap, or a new node with --to vault:address=…,token_file=…"))
            }
        }
    }
}

fn dumped(contents: &Contents, health: &Health, consistent_at: jiff::Timestamp, before: Option<&str>) -> Dumped {
    let census = contents.census.as_ref();
    let generation = census.and_then(|census| census.generation.as_deref());
    let seal = census.map(|census| census.seal.clone()).unwrap_or_default();
    let (mut warnings, mut notes) = (Vec::new(), Vec::new());
    match generation {
        Some(generation) => {
            let keys = keys(&seal);
            notes.push(format!("seal generation {generation}: {keys} of that generation open it"));
            if let Some(before) = before.filter(|before| *before != generation) {
                warnings.push(format!(
                    "the unseal keys were replaced since the point before: points until then are of seal generation {before} and open \
                     with the old keys alone. Keep those as long as such a point is kept"
                ));
            }
        }
        None => warnings.push(format!(
            "the entries of this snapshot have a form that is not known: its sums are right, but which unseal keys open it is not told ({})",
            named(health)
        )),
    }
    let details = serde_json::json!({
        "cluster": health.cluster,
        "index": contents.index,
        "term": contents.term,
        "state": contents.state,
        "seal": seal,
        "seal_generation": generation,
    });
    Dumped {
        version: named(health),
        consistent_at,
        inventory: census.map(state::Census::inventory).unwrap_or_default(),
        fingerprint: census.map(state::Census::fingerprint).unwrap_or_default(),
        warnings,
        notes,
        restore_hint: format!(
            "this stream is a raft snapshot: start a new node, vault operator init, vault operator raft snapshot restore -force {STREAM}, \
             and unseal it with the unseal keys of seal generation {}",
            generation.unwrap_or("unknown")
        ),
        position: Some(serde_json::json!({ "index": contents.index, "term": contents.term })),
        details,
    }
}

/// What opens it, in words.
fn keys(seal: &serde_json::Value) -> String {
    match (seal["type"].as_str(), seal["secret_threshold"].as_u64(), seal["secret_shares"].as_u64()) {
        (Some("shamir"), Some(threshold), Some(shares)) => format!("{threshold} of the {shares} unseal keys"),
        (Some(kind), ..) => format!("the key in {kind}"),
        (None, ..) => "the unseal keys".to_owned(),
    }
}

fn generation(origin: &dyn Origin) -> String {
    let (seal, generation) = (&origin.details()["seal"], origin.details()["seal_generation"].as_str());
    format!("{} of seal generation {}", keys(seal), generation.unwrap_or("unknown"))
}

/// The archive is checked once more as it comes.
fn checked<'a>(origin: &dyn Origin, run: &LoadRun<'a>) -> Result<Metered<'a, Checked<impl std::io::Read + use<>>>> {
    if run.part != super::Part::Whole {
        return Err(Failure::usage("a snapshot of Vault is restored whole: there is nothing to choose from it")
            .hint("Restore it into a new node, and copy what is wanted from there"));
    }
    Ok(Metered::new(Checked::new(origin.stream(STREAM)?)?, run.context))
}

fn compare(origin: &dyn Origin, contents: Option<Contents>, on_difference: OnDifference) -> Result<u64> {
    let contents = contents.ok_or_else(|| Failure::failed("the snapshot was not read to its end"))?;
    let told = origin.details()["state"].as_str().unwrap_or_default();
    let is = contents.census.as_ref().map(state::Census::fingerprint).unwrap_or_default();
    let same = told == contents.state && is == *origin.fingerprint();
    match same || on_difference == OnDifference::LeaveToRehearsal {
        true => Ok(contents.census.map_or(0, |census| census.entries)),
        false => Err(Failure::new(Kind::Verification, "the snapshot is not what the fingerprint of the point says")
            .hint("Take another point, and look at this one: bkp check")),
    }
}

fn into_file(origin: &dyn Origin, path: &Path, run: &LoadRun<'_>) -> Result<Loaded> {
    transfer::must_be_free(path)?;
    let mut data = checked(origin, run)?;
    let file = transfer::receive(&mut data, path)?;
    let bytes = data.bytes();
    let items = compare(origin, data.into_inner().contents(), run.on_difference)?;
    durable::crash_point("restore:data-written");
    transfer::appear(file, path)?;
    Ok(Loaded { bytes, items, ..Loaded::default() })
}

impl Vault {
    /// `new`: a node that holds nothing of anybody's, which then takes what any cluster wrote.
    fn load_node(&self, origin: &dyn Origin, new: bool, run: &LoadRun<'_>) -> Result<Loaded> {
        let client = self.client();
        must_be_open(&client)?;
        if new && let Some(own) = client.tables()?.own() {
            let text =
                format!("Vault at {} has {own} already, so it is no new node; nothing was changed", self.location());
            return Err(Failure::new(Kind::Refused, text).hint(
                "Start a new node and only initialise and unseal it; or restore in place, into the cluster that the snapshot is of",
            ));
        }
        let mut data = checked(origin, run)?;
        durable::crash_point("restore:target-begun");
        client.upload(&mut data, new)?;
        let bytes = data.bytes();
        let items = compare(origin, data.into_inner().contents(), run.on_difference)?;
        durable::crash_point("restore:after-live");
        let mut loaded = Loaded { bytes, items, ..Loaded::default() };
        let opens = generation(origin);
        loaded.warnings.push(match closes(&client, run.context.cancel)? {
            true => format!("Vault at {} is sealed now: {opens} open it, and its tokens and logins are those of the snapshot", self.location()),
            false => format!("Vault at {} has the tokens, logins and leases of the snapshot now; when it is sealed next, {opens} open it", self.location()),
        });
        Ok(loaded)
    }
}

/// Whether the node is sealed after it took a snapshot: it is when other keys wrote that.
fn closes(client: &Client, cancel: &Cancel) -> Result<bool> {
    let begun = Instant::now();
    loop {
        cancel.check()?;
        match client.seal() {
            Ok(seal) if seal.sealed => return Ok(true),
            _ if begun.elapsed() > CLOSING => return Ok(false),
            _ => _ = pause(Duration::from_millis(200), &|| cancel.check().is_err()),
        }
    }
}

/// What a node holds now, in the form of the fingerprint of a dump.
fn fingerprint(client: &Client, context: crate::event::Context<'_>) -> Result<Fingerprint> {
    let mut data = Metered::new(Checked::new(client.download()?)?, context);
    std::io::copy(&mut data, &mut std::io::sink()).context(|| "cannot read the snapshot".into())?;
    let census = data.into_inner().contents().and_then(|contents| contents.census);
    Ok(census.map(|census| census.fingerprint()).unwrap_or_default())
}
