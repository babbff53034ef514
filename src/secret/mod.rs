//! Secrets, references to them, and those who keep them. A [`Secret`] cannot be printed and leaves no trace in memory.
//!
//! Configuration holds references ([`SecretRef`]), never values; [`Secrets`] reads them, as late as possible. What Vault
//! gave is kept in memory for the time that Vault cannot be asked, by the daemon also for the runs to come ([`Memory`]).
//! Failures name the reference and what was said, never a value.

use std::fmt;
use zeroize::Zeroizing;

mod local;
mod reference;
mod remembered;
mod secrets;
pub mod vault;

pub use reference::{SecretRef, VaultPath};
pub use remembered::{Memory, Remembered};
pub use secrets::{Degraded, Secrets};

/// A value that must not be seen. There is no `Display`, and `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(value: String) -> Self {
        Secret(Zeroizing::new(value))
    }

    /// The value itself. The name is long so that reviewers find every use.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "Secret(…)");
    }
}
