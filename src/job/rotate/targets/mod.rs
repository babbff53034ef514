//! What is rotated and is no account at the server of a source. Each is an `engine::Accounts`: the states and their order are
//! the same for all.

pub mod minio;
mod signing;

pub use minio::AccessKeys;
pub use signing::SigningKeys;

/// Whether what can only be waited for is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    Yes,
    /// The secret may be known to others.
    No,
}
