//! What a rehearsal asks of Vault: a new node on this host, and whether it takes the snapshot, opens with the unseal keys of its day,
//! and holds what the source held.
//!
//! **A restored Vault is dangerous**: once unsealed it revokes leases that have ended and rotates what is due, at the real
//! databases. So it is unsealed only where it has no network at all. Whether the keys fit is found out by them alone: they come
//! from this host's own `rehearse: { unseal_keys: … }`, and without them no more than `loaded` is proven.

use super::{Settings, closes, fingerprint, generation, state};
use crate::backoff::{Budget, pause};
use crate::durable;
use crate::engine::Settings as AnySettings;
use crate::engine::rehearsal::{
    Comparison, Ground, ProcessRecipe, Reach, Rehearsable, Scratch, Site, Subject, counted,
};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::secret::vault::{self, Login, Vault as Client};
use crate::secret::{Secret, SecretRef};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a node may take to be of use once it is open.
const OPENING: Duration = Duration::from_secs(120);
/// Beside the password of the rehearsal, where only bkp reads.
const TOKEN: &str = "vault-token";

pub struct Rehearsal;

impl Rehearsable for Rehearsal {
    fn ground(&self, _: &Subject<'_>) -> Result<Ground> {
        Ok(Ground::Server)
    }

    fn process(&self, subject: &Subject<'_>, site: &Site<'_>, _: &Secret) -> Result<Option<ProcessRecipe>> {
        let is_openbao = subject.version.starts_with("OpenBao");
        let configuration = site.directory.join("vault.hcl");
        let text = configured(site);
        Ok(Some(ProcessRecipe {
            programs: vec![if is_openbao { "bao" } else { "vault" }],
            directories: Vec::new(),
            before: Vec::new(),
            arguments: vec!["server".into(), format!("-config={}", configuration.display()).into()],
            files: vec![(configuration, Secret::new(text))],
            by_socket: site.alone,
            alone: site.alone,
        }))
    }

    fn settings(&self, _: &Subject<'_>, reach: Option<&Reach>) -> AnySettings {
        let beside = |name: &str| match reach.map(|reach| &reach.password) {
            Some(SecretRef::File(path)) => durable::parent_of(path).join(name),
            _ => PathBuf::from(name),
        };
        let address = match reach.and_then(|reach| Some((reach.host.as_ref()?, reach.port?))) {
            Some((host, port)) => format!("http://{host}:{port}"),
            None => "http://vault.rehearsal".to_owned(),
        };
        let settings = vault::Settings::new(address, Login::Token(SecretRef::File(beside(TOKEN))));
        AnySettings::Vault(Settings {
            vault: vault::Settings {
                socket: reach.and_then(|reach| reach.socket.clone()),
                timeout: Duration::from_secs(60),
                // Whoever waits for it asks again.
                budget: Budget { total: Duration::from_secs(1), ..vault::Settings::BUDGET },
                ..settings
            },
        })
    }

    fn ready(&self, settings: &AnySettings, _: &Cancel) -> Result<()> {
        client(settings)?.seal().map(drop)
    }

    fn must_be_empty(&self, settings: &AnySettings, _: &Cancel) -> Result<()> {
        let begun = client(settings)?.seal()?.initialized;
        crate::engine::rehearsal::must_be_fresh(begun.then(|| "keys".to_owned()))
    }

    fn prepare(&self, _: &Subject<'_>, settings: &AnySettings, cancel: &Cancel) -> Result<()> {
        let node = client(settings)?;
        let (key, token) = node.initialise()?;
        keep(&of(settings)?.vault.login, &token)?;
        node.unseal(&[key])?;
        wait_until_open(&node, cancel)
    }

    fn compare(&self, subject: &Subject<'_>, scratch: &Scratch, context: Context<'_>) -> Result<Comparison> {
        let settings = scratch.settings();
        let unbound = |why: String| Ok(Comparison { unbound: vec![why], ..Comparison::default() });
        let opens = generation(subject.origin);
        if subject.unseal_keys.is_empty() {
            return unbound(format!(
                "it was not unsealed, as no `rehearse: {{ unseal_keys: […] }}` is configured on this host ({opens} open it)"
            ));
        }
        // Only a server without a network is reached by a socket.
        if of(settings)?.vault.socket.is_none() {
            return unbound(
                "it was not unsealed: with a network, a restored Vault would revoke leases and rotate passwords at the real databases. \
                 Rehearse as root, with unshare and setpriv"
                    .to_owned(),
            );
        }
        let node = client(settings)?;
        open(&node, subject, context.cancel)?;
        let token = node.root_token(subject.unseal_keys)?;
        keep(&of(settings)?.vault.login, &token)?;
        let node = client(settings)?;
        let (was, is) = (subject.origin.fingerprint(), fingerprint(&node, context)?);
        let mut comparison = match Comparison::of(was, &is) {
            Ok(comparison) => comparison,
            Err(unbound) => return Ok(unbound),
        };
        let settled = |parts: &std::collections::BTreeMap<String, crate::engine::FingerprintPart>| {
            parts.iter().filter(|(name, _)| state::is_settled(name)).map(|(n, p)| (n.clone(), p.clone())).collect()
        };
        comparison.all(&settled(&was.parts), &settled(&is.parts), |was, is| counted(was, is, "entries"));
        comparison.all(&was.objects, &is.objects, |_, _| "other rules".to_owned());
        tables(&node, was, &mut comparison)?;
        Ok(comparison)
    }
}

/// What only an open node tells: that its tables name every mount, login and policy that has entries.
fn tables(node: &Client, was: &crate::engine::Fingerprint, comparison: &mut Comparison) -> Result<()> {
    let tables = node.tables()?;
    for name in was.parts.keys() {
        let (table, id, what) = match name.split_once('/') {
            Some(("logical", id)) => (&tables.mounts, id, "mount"),
            Some(("auth", id)) => (&tables.logins, id, "login"),
            _ => continue,
        };
        comparison.compared += 1;
        if !table.contains_key(id) {
            comparison.differs(format!("{name}: no {what} has it"));
        }
    }
    // Vault's own, which it does not list.
    let hidden = ["control-group", "response-wrapping"];
    for name in was.objects.keys().filter_map(|name| name.strip_prefix("policy ")) {
        comparison.compared += 1;
        if !hidden.contains(&name) && !tables.policies.contains(name) {
            comparison.differs(format!("policy {name}: missing"));
        }
    }
    Ok(())
}

fn open(node: &Client, subject: &Subject<'_>, cancel: &Cancel) -> Result<()> {
    if !closes(node, cancel)? {
        return Ok(());
    }
    let opens = generation(subject.origin);
    let text = format!("the unseal keys of this host do not open the snapshot: it wants {opens}");
    let wrong = || {
        Failure::new(Kind::Verification, text.clone()).hint(
            "If the keys were replaced since, rehearse with the old ones too; if they are lost, this point is of no use: make a new one",
        )
    };
    match node.unseal(subject.unseal_keys) {
        Ok(true) => wait_until_open(node, cancel),
        Ok(false) => Err(wrong()),
        Err(failure) if failure.kind() == Kind::Key => Err(wrong().because(failure)),
        Err(failure) => Err(failure),
    }
}

fn wait_until_open(node: &Client, cancel: &Cancel) -> Result<()> {
    let begun = Instant::now();
    loop {
        cancel.check()?;
        let health = node.health();
        if health.as_ref().is_ok_and(|health| !health.sealed && !health.standby) {
            return Ok(());
        }
        if begun.elapsed() > OPENING {
            let why = health.err().map_or_else(|| "it does not become active".to_owned(), |failure| failure.full());
            return Err(Failure::failed("the node that was started for the rehearsal is of no use").because(why));
        }
        pause(Duration::from_millis(200), &|| cancel.check().is_err());
    }
}

/// Of the scratch node, and gone with it.
fn keep(login: &Login, token: &Secret) -> Result<()> {
    let Login::Token(SecretRef::File(path)) = login else { return Err(Failure::failed("this node has no token")) };
    durable::write(path, token.expose().as_bytes(), 0o600).context(|| format!("cannot write {}", path.display()))
}

/// Clients come by the socket. Raft wants a listener of the network, too, which nobody reaches: where there is no network, not
/// even loopback has an address to listen on.
fn configured(site: &Site<'_>) -> String {
    let quoted = |path: &Path| serde_json::json!(path.display().to_string()).to_string();
    let (data, socket) = (quoted(site.directory), quoted(site.socket));
    let (host, port) = (if site.alone { "0.0.0.0" } else { "127.0.0.1" }, site.port);
    let cluster = if port < u16::MAX { port + 1 } else { port - 1 };
    format!(
        "storage \"raft\" {{\n path = {data}\n node_id = \"rehearsal\"\n performance_multiplier = 1\n}}\n\
         listener \"unix\" {{\n address = {socket}\n}}\n\
         listener \"tcp\" {{\n address = \"{host}:{port}\"\n cluster_address = \"{host}:{cluster}\"\n tls_disable = true\n}}\n\
         api_addr = \"http://127.0.0.1:{port}\"\ncluster_addr = \"http://127.0.0.1:{cluster}\"\ndisable_mlock = true\n"
    )
}

fn client(settings: &AnySettings) -> Result<Client> {
    Ok(Client::alone(of(settings)?.vault.clone()))
}

fn of(settings: &AnySettings) -> Result<&Settings> {
    match settings {
        AnySettings::Vault(settings) => Ok(settings),
        _ => Err(Failure::failed("these settings are not of Vault")),
    }
}
