//! Scratch targets: servers and directories that rehearsals restore into, and that go away again.

use jiff::Timestamp;
use std::path::Path;

mod directory;
mod record;

pub use directory::Directory;

/// What a target is for, and how long it may be there.
#[derive(Clone, Debug)]
pub struct Lease<'a> {
    /// The state directory, whose `scratch` holds the records.
    pub state: &'a Path,
    pub run: &'a str,
    pub source: &'a str,
    /// When it may be removed although nobody did. With a target that may be kept, when that ends too.
    pub deadline: Timestamp,
}
