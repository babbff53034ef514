//! References: where a secret is kept, as text. Reading one is not done here.
//!
//! A text that is no reference may be the secret itself, so no error repeats it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretRef {
    /// `ref+file:///run/secrets/x`
    File(PathBuf),
    /// `ref+env://NAME`
    Env(String),
    /// `ref+cred://NAME`: systemd's `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// `ref+docker-secret://NAME`: what Compose and Swarm mount below `/run/secrets`.
    DockerSecret(String),
    /// `ref+vault://PATH#/FIELD`
    Vault(VaultPath),
}

/// One field of a secret in Vault.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultPath {
    /// With the mount: `kv/bkp/s3`, or as version 2 of the API has it, `kv/data/bkp/s3`.
    pub path: String,
    /// Of the secret; the newest when it is absent.
    pub version: Option<u64>,
    /// The keys that lead to the value; at least one.
    pub field: Vec<String>,
}

const KNOWN: &str = "known are ref+vault://, ref+file://, ref+env://, ref+cred://, ref+docker-secret://";

impl FromStr for SecretRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.strip_prefix("ref+").and_then(|t| t.split_once("://")) else {
            return Err("a secret is never written here: give a reference such as ref+file:///run/secrets/name, or use the key with `_file` at its end".into());
        };
        let plain = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        match scheme {
            "file" if rest.starts_with('/') => Ok(SecretRef::File(rest.into())),
            "file" => Err("ref+file:// needs an absolute path, as in ref+file:///run/secrets/name".into()),
            "env" if plain => Ok(SecretRef::Env(rest.into())),
            "cred" if plain => Ok(SecretRef::Credential(rest.into())),
            "docker-secret" if plain => Ok(SecretRef::DockerSecret(rest.into())),
            "env" | "cred" | "docker-secret" => Err(format!("ref+{scheme}:// needs a name")),
            "vault" => rest.parse().map(SecretRef::Vault),
            other => Err(format!("unknown kind of reference `ref+{other}://`: {KNOWN}")),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::File(path) => write!(f, "ref+file://{}", path.display()),
            SecretRef::Env(name) => write!(f, "ref+env://{name}"),
            SecretRef::Credential(name) => write!(f, "ref+cred://{name}"),
            SecretRef::DockerSecret(name) => write!(f, "ref+docker-secret://{name}"),
            SecretRef::Vault(path) => write!(f, "ref+vault://{path}"),
        }
    }
}

/// `PATH[?version=N]#/FIELD`
impl FromStr for VaultPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((place, field)) = text.split_once("#/") else {
            return Err("ref+vault:// needs the field at its end, as in ref+vault://kv/shop/database#/password".into());
        };
        let (path, query) = place.split_once('?').map_or((place, None), |(path, query)| (path, Some(query)));
        let version = match query {
            None => None,
            Some(query) => {
                let number = query.strip_prefix("version=").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                Some(number.ok_or("after the path of ref+vault:// may stand only ?version=N, with N from 1")?)
            }
        };
        let good = |b: u8| b.is_ascii_graphic() && !b"%?#\\\"'{}".contains(&b);
        let parts: Vec<&str> = path.split('/').collect();
        if parts.len() < 2 || parts.iter().any(|part| matches!(*part, "" | "." | "..") || !part.bytes().all(good)) {
            return Err(
                "ref+vault:// needs the mount and the path below it, without slashes at its ends, as in ref+vault://kv/shop/database#/password".into()
            );
        }
        let field: Vec<String> = field.split('/').map(|key| key.replace("~1", "/").replace("~0", "~")).collect();
        if field.iter().any(|key| key.is_empty() || key.chars().any(char::is_control)) {
            return Err("the field of ref+vault:// is empty: write its name after #/".into());
        }
        Ok(VaultPath { path: path.into(), version, field })
    }
}

impl fmt::Display for VaultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(version) = self.version {
            write!(f, "?version={version}")?;
        }
        f.write_str("#")?;
        self.field.iter().try_for_each(|key| write!(f, "/{}", key.replace('~', "~0").replace('/', "~1")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_written_as_it_was_read() {
        for text in [
            "ref+file:///run/secrets/x",
            "ref+env://NAME",
            "ref+cred://name",
            "ref+docker-secret://db_password",
            "ref+vault://kv/data/bkp/s3#/access_key",
            "ref+vault://kv/bkp/s3?version=3#/access_key",
            "ref+vault://team-a/kv/x#/a~1b/c~0d",
        ] {
            assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_parts_of_a_path_in_vault() {
        let Ok(SecretRef::Vault(path)) = "ref+vault://kv/bkp/s3?version=3#/a~1b/c".parse() else { panic!("no path") };
        assert_eq!(
            path,
            VaultPath { path: "kv/bkp/s3".into(), version: Some(3), field: vec!["a/b".into(), "c".into()] }
        );
    }

    #[test]
    fn an_inline_value_is_refused_without_being_repeated() {
        for text in
            ["hunter2", "ref+file://hunter2", "ref+env://hunter 2", "ref+vault://hunter2", "ref+vault:///hunter2#/x"]
        {
            let message = text.parse::<SecretRef>().unwrap_err();
            assert!(message.contains("reference") || message.contains("ref+"), "{message}");
            assert!(!message.contains("hunter"), "{message}");
        }
    }

    #[test]
    fn what_is_no_path_in_vault() {
        for text in [
            "kv/x",
            "kv/x#",
            "kv/x#password",
            "kv/x#/",
            "kv/x#/a//b",
            "kv#/x",
            "/kv/x#/y",
            "kv/x/#/y",
            "kv/../x#/y",
            "kv/x?version=0#/y",
            "kv/x?version=last#/y",
            "kv/x?v=1#/y",
            "kv/a b#/y",
            "kv/%2e%2e/x#/y",
            "kv/x\n#/y",
        ] {
            assert!(format!("ref+vault://{text}").parse::<SecretRef>().is_err(), "{text:?}");
        }
    }
}
