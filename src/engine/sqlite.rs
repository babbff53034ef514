//! SQLite (being built).
use super::*;
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub path: PathBuf,
}
