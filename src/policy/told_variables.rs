//! Variables of files that consumers are told by.

use super::reading::{Field, OneOrMore, Reader};
use serde_json::{Value, json};

impl Reader<'_> {
    pub(super) fn variables(&self, field: &Option<Field<OneOrMore<String>>>) -> Option<Vec<String>> {
        let field = field.as_ref()?;
        let OneOrMore(all) = field.value.as_ref()?;
        if all.is_empty() {
            return self.wrong(field.place, "expected the name of a variable, such as DB_PASSWORD");
        }
        let one = |field: &Field<String>| match variable(field.value.as_deref()?) {
            Ok(name) => Some(name),
            Err(message) => self.wrong(field.place, message),
        };
        all.iter().map(one).collect()
    }
}

fn variable(text: &str) -> Result<String, String> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match !text.is_empty() && text.bytes().all(sound) && !text.as_bytes()[0].is_ascii_digit() {
        true => Ok(text.to_owned()),
        false => Err("expected the name of a variable, such as DB_PASSWORD".into()),
    }
}

/// For showing: one is not a list.
pub(super) fn shown(names: &[String]) -> Value {
    if let [one] = names { json!(one) } else { json!(names) }
}
