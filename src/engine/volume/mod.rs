//! Volumes: directory trees (being built).
use super::*;
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub path: PathBuf,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
}
