//! Text that may be shown anywhere: what could steer a terminal, a browser, a spreadsheet or the direction of reading is shown
//! as what it is, and never obeyed.
//!
//! Names and messages come from outside. A [`Text`] cannot be made without this having been seen to; escaping for HTML, CSV or
//! PDF is the affair of those who write these.

use std::fmt;

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(String);

impl Text {
    pub fn of(text: &str) -> Self {
        if text.chars().all(is_harmless) {
            return Text(text.to_owned());
        }
        let mut shown = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            match is_harmless(c) {
                true => shown.push(c),
                false => shown.extend(c.escape_default()),
            }
        }
        Text(shown)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Neither a control character, nor one that turns the direction of text, nor one that is not seen at all.
pub fn is_harmless(c: char) -> bool {
    !(c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'))
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text::of(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text::of(&text)
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Text::of(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_is_shown() {
        let table = [
            ("año – ñandú ✔", "año – ñandú ✔"),
            ("a\u{1b}[2J\nb", "a\\u{1b}[2J\\nb"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("in\u{200b}visible\u{feff}", "in\\u{200b}visible\\u{feff}"),
            ("a\u{2066}b\u{2069}", "a\\u{2066}b\\u{2069}"),
        ];
        for (text, shown) in table {
            assert_eq!(Text::of(text).as_str(), shown);
        }
    }
}
