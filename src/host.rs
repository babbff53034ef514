//! What this host is called.

use std::path::Path;

/// Its name, for people.
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What tells this installation from others that have the same policies, and perhaps the same name.
pub fn identity() -> String {
    let machine = std::fs::read_to_string(Path::new("/etc/machine-id")).unwrap_or_default();
    format!("{}/{}", name(), machine.trim())
}
