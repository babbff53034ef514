//! The file that an operator gets who brings no key: the private half, what it belongs to, and what the scripts of the repository
//! must be.

use super::{init, names};
use age::secrecy::ExposeSecret;
use jiff::Timestamp;

/// A new recovery key, made by `init` for an operator who has none.
pub struct RecoveryKey(age::x25519::Identity);

impl RecoveryKey {
    pub fn generate() -> Self {
        RecoveryKey(age::x25519::Identity::generate())
    }

    pub fn recipient(&self) -> String {
        self.0.to_public().to_string()
    }

    /// The content of the operator's file. `writer_line` pins the writer's public key.
    pub fn text(
        &self,
        repository: &str,
        location: &str,
        writer_line: &str,
        now: Timestamp,
    ) -> zeroize::Zeroizing<String> {
        let script_lines: String = init::travelling()
            .map(|(name, text)| {
                format!(
                    "# sha256 of {name} (compare before you run it): {}\n",
                    hex::encode(names::sha256(text.as_bytes()))
                )
            })
            .collect();
        zeroize::Zeroizing::new(format!(
            "# bkp recovery key. Without it nothing can be restored; whoever has it can read every backup.\n\
             # Keep it away from this machine: on paper, in a safe, in a password store.\n\
             # bkp-repository: {repository}\n# location: {location}\n# created: {}\n# public key: {}\n{writer_line}\n{}{}\n",
            now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            self.recipient(),
            script_lines,
            self.0.to_string().expose_secret()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::keys::noted_writers;

    #[test]
    fn writers_are_read_from_the_recovery_key() {
        let text =
            RecoveryKey::generate().text("r", "file:///x", "# bkp-writer: 00ff ed25519:abc", Timestamp::UNIX_EPOCH);
        assert_eq!(noted_writers(&text).collect::<Vec<_>>(), [("00ff".to_owned(), "ed25519:abc".to_owned())]);
    }
}
