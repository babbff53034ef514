//! What is rotated and is no account at the server of a source. Each is an `engine::Accounts`: the states and their order are
//! the same for all.

pub mod minio;
mod signing;
mod smtp;

pub use minio::AccessKeys;
pub use signing::SigningKeys;
pub use smtp::MailAccount;

use crate::secret::Secret;

/// What somebody said on the command line.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub waits: Waits,
    /// A secret that others made.
    pub supplied: Option<Secret>,
}

/// Whether what can only be waited for is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waits {
    #[default]
    Yes,
    /// The secret may be known to others.
    No,
}
