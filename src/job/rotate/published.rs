//! What consumers read in Vault: the secret, and beside it in the same document the name where that changes with it. Both are written
//! in one step, so that nobody reads the one without the other.

use super::act::Rotate;
use super::state::Published;
use crate::engine::{Credential, Pair};
use crate::error::{Failure, Kind, Result};
use crate::policy::Rotation;
use crate::secret::Secret;
use crate::secret::vault::{Document, Vault};

/// `None` where something is missing.
pub(super) fn read(rotation: &Rotation, document: &Document) -> Option<Credential> {
    let text = |field: &[String]| document.text(field).filter(|text| !text.expose().is_empty());
    let user = match rotation.name_published() {
        Some(path) => Some(text(&path.field)?.expose().to_owned()),
        None => None,
    };
    Some(Credential { user, secret: text(&rotation.published.field)? })
}

/// The same document with another credential.
pub(super) fn with(rotation: &Rotation, document: &Document, credential: &Credential) -> Document {
    let document = document.with(&rotation.published.field, credential);
    match (rotation.name_published(), &credential.user) {
        (Some(path), Some(user)) => document.with(&path.field, &Secret::new(user.clone())),
        _ => document,
    }
}

/// What is published now, and as which version: asked of Vault, and never what it gave before.
pub fn now(vault: &Vault, rotation: &Rotation) -> Result<(u64, Credential)> {
    let path = &rotation.published;
    let document = vault.document(path)?;
    let is_there = |field: &[String]| document.text(field).is_some_and(|text| !text.expose().is_empty());
    let nothing = |what: &str, at: &str| {
        Failure::new(Kind::Key, format!("no {what} is published at ref+vault://{at} yet"))
            .hint("Put the one that is in force there first, as docs/ROTATION.md shows: vault kv put … -")
    };
    if !is_there(&path.field) {
        return Err(nothing("password", &path.to_string()));
    }
    let of_name = rotation.name_published().map_or_else(String::new, ToString::to_string);
    let credential = read(rotation, &document).ok_or_else(|| nothing("user", &of_name))?;
    match (rotation.turns(), &credential.user) {
        (Some(users), Some(user)) if !users.contains(user) => {
            let what = format!("ref+vault://{of_name} is neither {}", users.join(" nor "));
            Err(Failure::new(Kind::Key, what)
                .hint("Publish the user that is in force together with its password, or correct `logins`"))
        }
        _ => Ok((document.version, credential)),
    }
}

/// What was published as an older version; nothing where that is gone, or was none.
pub fn before(vault: &Vault, rotation: &Rotation, version: u64) -> Result<Option<Credential>> {
    let document = vault.document_of(&rotation.published, version)?;
    Ok(document.and_then(|document| read(rotation, &document)))
}

fn which(there: Option<&Credential>, pair: Pair<'_>) -> Published {
    let is = |credential: &Credential| there.is_some_and(|there| there.is(credential));
    match (is(pair.pending), is(pair.current)) {
        (true, _) => Published::Pending,
        (_, true) => Published::Current,
        _ => Published::Other,
    }
}

impl Rotate<'_> {
    pub(super) fn read_published(&self) -> Result<Credential> {
        now(self.vault, self.rotation).map(|(_, credential)| credential)
    }

    /// What is published now, as far as Vault can be asked.
    pub(super) fn published(&self, pair: Option<Pair<'_>>) -> Result<Published> {
        let document = match self.vault.document(&self.rotation.published) {
            Ok(document) => document,
            Err(failure) if failure.kind() == Kind::TryLater => return Ok(Published::Unknown(failure.full())),
            Err(failure) => return Err(failure),
        };
        let Some(pair) = pair else { return Ok(Published::Current) };
        Ok(which(read(self.rotation, &document).as_ref(), pair))
    }

    /// What was just written as this version is what is read. Somebody's who wrote since is seen by the next look.
    pub(super) fn must_be_published(&self, version: u64, wanted: &Published, pair: Pair<'_>) -> Result<()> {
        let path = &self.rotation.published;
        let document = self.vault.document(path)?;
        if document.version != version || which(read(self.rotation, &document).as_ref(), pair) == *wanted {
            return Ok(());
        }
        let text = format!("Vault does not give back what was written to ref+vault://{path}");
        Err(Failure::failed(text).hint(format!(
            "Look who else writes there, and whether the old and the new one are the same; then: bkp rotate resume {}",
            self.rotation.name
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Then an old one that is written back would never be seen there.
    #[test]
    fn two_that_are_the_same_are_the_pending_one() {
        let [old, new] = ["old", "new"].map(|text| Credential::from(Secret::new(text.into())));
        let of = |there: Option<&Credential>, pending: &Credential| which(there, Pair { current: &old, pending });
        assert_eq!(of(Some(&old), &new), Published::Current);
        assert_eq!(of(Some(&new), &new), Published::Pending);
        assert_eq!(of(None, &new), Published::Other);
        assert_eq!(of(Some(&old), &old), Published::Pending);
    }
}
