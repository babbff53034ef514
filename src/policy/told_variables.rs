//! Variables of files that consumers are told by.

use super::consumers::{Consumer, Told};
use super::reading::{Field, OneOrMore, Reader};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

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

/// What several consumers are told by in one file is exchanged in one step, whichever of them is moved first: each may be given the
/// whole file, and would keep what is only exchanged with the next one.
pub(super) fn exchanged_together(consumers: &mut [Consumer]) {
    let mut files: BTreeMap<PathBuf, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for consumer in &*consumers {
        if let Told::EnvFile { path, variables, user_variables } = &consumer.told {
            let (all, users) = files.entry(path.clone()).or_default();
            add(all, variables);
            add(users, user_variables);
        }
    }
    for consumer in consumers {
        if let Told::EnvFile { path, variables, user_variables } = &mut consumer.told
            && let Some((all, users)) = files.get(path)
        {
            add(variables, all);
            add(user_variables, users);
        }
    }
}

fn add(names: &mut Vec<String>, more: &[String]) {
    for name in more {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
}

/// For showing: one is not a list.
pub(super) fn shown(names: &[String]) -> Value {
    if let [one] = names { json!(one) } else { json!(names) }
}
