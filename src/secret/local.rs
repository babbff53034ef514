//! Reads secrets that are on this host: files, the environment, what systemd and Docker hand over.
//!
//! One trailing newline of a file is dropped, because every editor adds one.

use super::{Secret, SecretRef};
use crate::error::{Context, Failure, Kind, Result};
use std::path::{Path, PathBuf};
use zeroize::Zeroize;

/// Where Compose and Swarm mount secrets.
const DOCKER_SECRETS: &str = "/run/secrets";

pub(super) fn read(reference: &SecretRef) -> Result<Secret> {
    match reference {
        SecretRef::Env(name) => match std::env::var(name) {
            Ok(value) => Ok(Secret::new(value)),
            Err(_) => {
                Err(Failure::new(Kind::Key, format!("the environment variable {name} is not set (for {reference})"))
                    .hint("Set it where bkp is started, or give the secret in a file"))
            }
        },
        SecretRef::File(path) => file(path, reference),
        SecretRef::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(directory) => file(&Path::new(&directory).join(name), reference),
            None => Err(Failure::new(Kind::Key, format!("there is no credentials directory (for {reference})"))
                .hint("Run under systemd with LoadCredential=, or use ref+file://")),
        },
        SecretRef::DockerSecret(name) => {
            let path = PathBuf::from(DOCKER_SECRETS).join(name);
            file(&path, reference).map_err(|failure| match path.exists() {
                true => failure,
                false => failure.hint(format!("Name it under `secrets:` of the service that bkp runs in: [{name}]")),
            })
        }
        SecretRef::Vault(_) => Err(no_vault(reference)),
    }
}

/// For a reference to Vault where it is not known where Vault is, or where it must not be asked.
pub(super) fn no_vault(reference: &SecretRef) -> Failure {
    Failure::usage(format!("nothing says where Vault is (for {reference})"))
        .hint("Write `vault: { address: https://vault.example:8200, … }` into bkp.yaml; see docs/VAULT.md")
}

fn file(path: &Path, reference: &SecretRef) -> Result<Secret> {
    let bytes = std::fs::read(path)
        .context(|| format!("cannot read the secret {reference}"))
        .map_err(|e| Failure::new(Kind::Key, e.full()).hint("Check that the file is there and that bkp may read it"))?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        error.into_bytes().zeroize();
        Failure::new(Kind::Key, format!("the secret {reference} is not text in UTF-8"))
    })?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_dropped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "pw\n\n").unwrap();
        assert_eq!(read(&SecretRef::File(file.path().into())).unwrap().expose(), "pw\n");
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_reference() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"hunter2\xff").unwrap();
        for reference in [
            SecretRef::File(file.path().into()),
            SecretRef::File("/nonexistent/file".into()),
            SecretRef::Env("BKP_NO_SUCH_VARIABLE".into()),
            SecretRef::DockerSecret("bkp-no-such-secret".into()),
        ] {
            let failure = read(&reference).unwrap_err();
            assert_eq!(failure.kind(), Kind::Key);
            assert!(failure.full().contains(&reference.to_string()) && !failure.full().contains("hunter2"));
        }
        let of_docker = read(&SecretRef::DockerSecret("bkp-no-such-secret".into())).unwrap_err();
        assert!(of_docker.next_step().unwrap().contains("secrets:"));
    }
}
