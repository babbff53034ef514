//! A file that is the secret, or an address that holds it, as those below `/run/secrets` are.
//!
//! It is exchanged in one step, with its mode and owner: nobody reads half of it. A container that has the file itself mounted
//! sees the old one until it is restarted; where the directory is mounted, the new one is there at once. No copy of the old one
//! is kept beside it: whoever mounts the directory would have that too.

use super::Delivery;
use super::env_file::exchange;
use super::text;
use crate::durable::{TempFile, remove_if_there};
use crate::engine::Pair;
use crate::error::{Context, Failure, Kind, Result};
use crate::event::Cancel;
use crate::job::rotate::state::Holds;
use std::path::{Path, PathBuf};

pub struct SecretFile(PathBuf);

impl SecretFile {
    pub fn new(path: &Path) -> Self {
        SecretFile(path.to_owned())
    }

    /// Where the file itself is, if this is a link to it.
    fn real(&self) -> Result<PathBuf> {
        let path = std::fs::canonicalize(&self.0).context(|| format!("cannot find {}", self.0.display()))?;
        // The engine makes a directory of a file that was not there when it was to be mounted.
        if path.is_dir() {
            return Err(Failure::new(Kind::Refused, format!("{} is a directory", self.0.display()))
                .hint("Write the file itself: `secret_file: /srv/shop/secrets/db_password`"));
        }
        Ok(path)
    }
}

impl Delivery for SecretFile {
    fn holds(&self, pair: Pair<'_>) -> Result<Holds> {
        text::holds(&text::read(&self.real()?)?, pair)
    }

    fn deliver(&self, pair: Pair<'_>, to: Holds, leased: &Cancel) -> Result<()> {
        let Pair { current: from, pending: to } = to.exchange(pair);
        let path = self.real()?;
        let Some(new) = text::exchanged(&text::read(&path)?, from, to)? else {
            let what = format!("{} does not hold the password that was expected", path.display());
            return Err(Failure::new(Kind::Refused, what).hint("Somebody changed it: correct it, then run this again"));
        };
        leased.check()?;
        exchange(&path, &path, new.expose().as_bytes())
    }

    fn settle(&self, _: &Cancel) -> Result<()> {
        let left = TempFile::left_of(&self.real()?);
        remove_if_there(&left).context(|| format!("cannot remove {}", left.display()))
    }

    fn describe(&self) -> String {
        format!("replace {}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_is_replaced_with_its_mode_where_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("db_password"), directory.path().join("link"));
        std::fs::write(&path, "old-password\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        symlink(&path, &link).unwrap();
        let [old, new] = ["old-password", "New_password-0123456789"].map(|text| Secret::new(text.to_owned()).into());
        let pair = Pair { current: &old, pending: &new };
        let file = SecretFile::new(&link);
        assert_eq!(file.holds(pair).unwrap(), Holds::Current);
        file.deliver(pair, Holds::Pending, &Cancel::default()).unwrap();
        assert_eq!(file.holds(pair).unwrap(), Holds::Pending);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "New_password-0123456789\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o440);
        let over = Cancel::default();
        over.set(Kind::Terminated);
        assert_eq!(file.deliver(pair, Holds::Current, &over).unwrap_err().kind(), Kind::Terminated);
        assert_eq!(file.holds(pair).unwrap(), Holds::Pending);
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left beside it");
        file.deliver(pair, Holds::Current, &Cancel::default()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old-password\n");
        std::fs::write(&path, "another\n").unwrap();
        assert_eq!(file.holds(pair).unwrap(), Holds::Other);
        let failure = file.deliver(pair, Holds::Pending, &Cancel::default()).unwrap_err();
        assert!(failure.full().contains("was expected") && !failure.full().contains("another"));
        assert!(SecretFile::new(directory.path()).holds(pair).unwrap_err().full().contains("is a directory"));
    }
}
