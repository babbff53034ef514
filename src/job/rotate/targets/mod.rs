//! What is rotated and is no account at the server of a source. Each is an `engine::Accounts`: the states and their order are
//! the same for all.

pub mod minio;
mod signing;
mod smtp;

pub use minio::AccessKeys;
pub use signing::SigningKeys;
pub use smtp::MailAccount;

use crate::secret::Secret;

/// What somebody said of this rotation, now or when it was begun.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The secret may be known to others: what can only be waited for is not.
    pub urgent: bool,
    /// A secret that others made.
    pub supplied: Option<Secret>,
}
