//! The configuration in effect as YAML, with the origin of each value in a comment.

use super::{Origin, Shown};
use serde_json::{Value, json};
use std::fmt;

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<(String, Option<String>)> = Vec::new();
        let mut open: &[String] = &[];
        for setting in &self.0 {
            let (last, above) = setting.key.split_last().expect("every setting has a key");
            let shared = open.iter().zip(above).take_while(|(a, b)| a == b).count();
            for (depth, key) in above.iter().enumerate().skip(shared) {
                lines.push((format!("{}{}:", "  ".repeat(depth), yaml(&json!(key))), None));
            }
            open = above;
            let origin = setting.origin.as_ref().map_or("default".into(), Origin::to_string);
            let line = format!("{}{last}: {}", "  ".repeat(above.len()), yaml(&setting.value));
            lines.push((line, Some(origin)));
        }
        let width =
            lines.iter().filter(|(_, o)| o.is_some()).map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(60);
        for (line, origin) in lines {
            match origin {
                Some(origin) => writeln!(f, "{line:width$}  # {origin}")?,
                None => writeln!(f, "{line}")?,
            }
        }
        Ok(())
    }
}

/// A value as YAML: JSON is YAML, and plain words need no quotes.
fn yaml(value: &Value) -> String {
    match value {
        Value::String(text) if plain(text) => text.clone(),
        other => other.to_string(),
    }
}

fn plain(text: &str) -> bool {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:".contains(&b);
    let reserved =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    !reserved
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(harmless)
        && !text.ends_with(':')
        || crate::policy::values::duration(text).is_ok()
        || crate::policy::values::size(text).is_ok()
}
