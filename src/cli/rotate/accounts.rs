//! Whose secret a rotation changes, and how it is reached by who may change it.

use super::vault;
use crate::cli::environment::Environment;
use crate::engine::{self, Accounts, Settings};
use crate::error::{Failure, Result};
use crate::job::rotate::record;
use crate::job::rotate::targets::{AccessKeys, Given, MailAccount, SigningKeys};
use crate::policy::{Minio, Policy, Rotation, Target};

/// Settings of the server, where it is that of a source.
pub fn accounts_of<'e>(
    env: &'e Environment,
    policy: &Policy,
    rotation: &Rotation,
    given: Given,
) -> Result<(Box<dyn Accounts + 'e>, Option<Settings>)> {
    match &rotation.target {
        Target::Source(source) => {
            let (accounts, settings) = of_source(env, policy, rotation, source)?;
            Ok((accounts, Some(settings)))
        }
        Target::Smtp(server) => {
            Ok((Box::new(MailAccount::new(server, &rotation.account, &rotation.nodes, given)), None))
        }
        Target::SigningKey(key) => Ok((Box::new(SigningKeys::new(key, rotation, vault(env)?, &given)), None)),
        Target::Minio(minio) => Ok((Box::new(access_keys(env, rotation, minio, &given)?), None)),
    }
}

/// What was said, here and when it was begun: whoever goes on in an emergency does not have to say so again.
pub fn given_for(env: &Environment, rotation: &Rotation, mut given: Given) -> Result<Given> {
    let is_mail = matches!(rotation.target, Target::Smtp(_));
    if given.supplied.is_some() && !is_mail {
        return Err(Failure::usage(format!("bkp itself makes the new secret of {}", rotation.name))
            .hint("Leave out --new-password-file: it is for the password of a mail account (`smtp`)"));
    }
    if rotation.target.source().is_none() && !given.urgent {
        let path = record::path(&env.configuration()?.rotator.vault_path, &rotation.name)?;
        given.urgent = record::glance(vault(env)?, &path)?.urgent;
    }
    Ok(given)
}

fn of_source(
    env: &Environment,
    policy: &Policy,
    rotation: &Rotation,
    source: &str,
) -> Result<(Box<dyn Accounts>, Settings)> {
    let none = || Failure::usage(format!("there is no source `{source}`"));
    let mut settings = rotation.changing(policy).ok_or_else(none)?;
    settings.read_secrets_with(env.secrets()?);
    let accounts =
        engine::accounts(&settings, &rotation.account, rotation.turns(), &rotation.nodes).ok_or_else(|| {
            let kind = settings.kind();
            Failure::usage(format!("passwords of a {kind} source cannot be rotated by this version"))
        })?;
    Ok((accounts, settings))
}

fn access_keys<'e>(env: &'e Environment, rotation: &Rotation, minio: &Minio, given: &Given) -> Result<AccessKeys<'e>> {
    let (admin, password) =
        rotation.admin.as_ref().ok_or_else(|| Failure::usage(format!("{} has no `admin`", rotation.name)))?;
    vault(env)?;
    let by = (admin.clone(), password.clone());
    AccessKeys::new(minio, rotation, by, env.secrets()?, given)
}
