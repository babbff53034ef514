//! Whether the secrets that the configuration refers to can be read, and how Vault is. Values are read, and told nowhere.

use super::{Findings, Verdict};
use crate::cli::environment::Environment;
use crate::cli::format::count;
use crate::error::Result;
use crate::secret::SecretRef;
use crate::secret::vault::Vault;
use jiff::SignedDuration;

/// A token that is about to end without being renewed.
const SOON: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn examine(env: &Environment, findings: &mut Findings) {
    let (Ok(configuration), Ok(secrets)) = (env.configuration(), env.secrets()) else { return };
    let references = configuration.secrets();
    let (of_vault, local): (Vec<_>, Vec<_>) =
        references.into_iter().partition(|(reference, _)| matches!(reference, SecretRef::Vault(_)));
    let mut good = 0;
    for (reference, user) in &local {
        match secrets.read(reference) {
            Ok(_) => good += 1,
            Err(failure) => findings.failure("secrets", &for_user(failure, user)),
        }
    }
    if let Some(vault) = secrets.vault()
        && of_vault_itself(vault, findings)
    {
        for (reference, user) in &of_vault {
            let SecretRef::Vault(path) = reference else { continue };
            match vault.may_read(path) {
                Ok(()) => good += 1,
                Err(failure) => findings.failure("secrets", &for_user(failure, user)),
            }
        }
    }
    if good > 0 {
        findings.add("secrets", Verdict::Ok, format!("{} can be read", count(good, "reference")));
    }
}

fn for_user(failure: crate::error::Failure, user: &str) -> crate::error::Failure {
    let named = crate::error::Failure::new(failure.kind(), format!("{user}: {}", failure.full()));
    match failure.next_step() {
        Some(hint) => named.hint(hint),
        None => named,
    }
}

/// False when it cannot be asked for secrets.
fn of_vault_itself(vault: &Vault, findings: &mut Findings) -> bool {
    let seen = state(vault, findings).and_then(|usable| {
        if usable {
            token(vault, findings)?;
        }
        Ok(usable)
    });
    seen.unwrap_or_else(|failure| {
        findings.failure("vault", &failure);
        false
    })
}

fn state(vault: &Vault, findings: &mut Findings) -> Result<bool> {
    let address = &vault.settings().address;
    let health = vault.health()?;
    let what = format!("{address}, version {}", health.version);
    if !health.initialized {
        findings.add("vault", Verdict::Failed, format!("{what}: it has not been set up yet"));
        findings.hint("Initialize it: vault operator init");
    } else if health.sealed {
        findings.add("vault", Verdict::Failed, format!("{what}: it is sealed"));
        findings.hint("Unseal it: vault operator unseal; until then only a daemon that is running has the secrets");
    } else {
        let role = if health.standby { "a standby node" } else { "unsealed" };
        findings.add("vault", Verdict::Ok, format!("{what}, {role}"));
        if address.starts_with("http://") && !is_here(address) {
            findings.add("vault", Verdict::Warning, "secrets travel to this host without encryption");
            findings.hint("Give Vault a certificate, and write https:// into `vault: address:`");
        }
    }
    Ok(health.initialized && !health.sealed)
}

fn is_here(address: &str) -> bool {
    ["http://127.", "http://localhost", "http://[::1]"].iter().any(|here| address.starts_with(here))
}

fn token(vault: &Vault, findings: &mut Findings) -> Result<()> {
    let token = vault.token()?;
    if let Some(trouble) = vault.secret_id_trouble() {
        findings.add("vault", Verdict::Warning, trouble);
    }
    let policies = token.policies.join(", ");
    let lasts = match token.lasts {
        None => "it does not end".to_owned(),
        Some(lasts) => format!("it lasts {}", crate::cli::format::span(lasts.as_secs().try_into().unwrap_or(i64::MAX))),
    };
    let renewed = if token.renewable { ", and is renewed while it is used" } else { "" };
    let text = format!("the token has the policies {policies}; {lasts}{renewed}");
    if token.policies.iter().any(|policy| policy == "root") {
        findings.add("vault", Verdict::Warning, format!("{text}: it may do everything"));
        findings.hint("Let bkp log in with a role that may read what it needs; see docs/VAULT.md");
    } else if token.is_given
        && !token.renewable
        && token.lasts.is_some_and(|lasts| SignedDuration::try_from(lasts).is_ok_and(|lasts| lasts < SOON))
    {
        findings.add("vault", Verdict::Warning, format!("{text}, and cannot be renewed"));
        findings.hint("Make a periodic one: vault token create -period=24h -policy=bkp; or let bkp log in by itself");
    } else {
        findings.add("vault", Verdict::Ok, text);
    }
    Ok(())
}
