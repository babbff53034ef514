//! How sizes, instants and spans look to people.

use crate::watch::{Language, ago};
use jiff::Timestamp;

pub use crate::watch::{instant, size, span, took};

/// `2 h ago`.
pub fn age(seconds: i64) -> String {
    ago(seconds, Language::English)
}

/// `2026-11-22T21:20:15Z`.
pub fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `1 point`, `2 points`.
pub fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
