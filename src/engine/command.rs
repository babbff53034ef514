//! Commands (being built).
use super::*;
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub run: Vec<String>,
    pub stream: String,
    pub terminator: Option<String>,
    pub restore: Option<Vec<String>>,
}
