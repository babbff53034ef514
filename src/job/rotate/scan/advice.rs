//! What the configuration would say so that variables that were found beside others are exchanged with them.

use super::told::OF;
use super::{Found, Thing};
use crate::policy::{Rotation, Told};
use std::collections::BTreeSet;

/// Nothing, or a sentence and the space behind it.
pub(super) fn of(unknown: &BTreeSet<Found>, rotation: &Rotation) -> String {
    let mut said = BTreeSet::new();
    let mut all = Vec::new();
    let mut wants_user = false;
    for consumer in &rotation.consumers {
        let Told::EnvFile { path, variables, user_variables } = &consumer.told else { continue };
        let of_file = format!("{}{OF}", path.display());
        let beside = |thing| -> Vec<&str> {
            unknown.iter().filter(|found| found.thing == thing).filter_map(|f| f.name.strip_prefix(&of_file)).collect()
        };
        let (secrets, users) = (beside(Thing::Variable), beside(Thing::User));
        if secrets.is_empty() && users.is_empty() || !said.insert(path) {
            continue;
        }
        wants_user |= users.is_empty() && rotation.changes_name();
        let list = |key: &str, before: &[String], more: &[&str]| {
            let names: Vec<&str> = before.iter().map(String::as_str).chain(more.iter().copied()).collect();
            (!more.is_empty()).then(|| format!("`{key}: [{}]`", names.join(", ")))
        };
        let keys = [list("variable", variables, &secrets), list("user_variable", user_variables, &users)];
        all.push(format!("in {}: {}", consumer.name, keys.into_iter().flatten().collect::<Vec<_>>().join(" and ")));
    }
    let users = unknown.iter().filter(|found| found.thing == Thing::User).map(|found| format!("'{}'", found.name));
    let users: Vec<String> = users.collect();
    let stays = match users.is_empty() {
        true => String::new(),
        false => format!("What of it is the user of something else stays: `known: [{}]`. ", users.join(", ")),
    };
    if all.is_empty() {
        return stays;
    }
    let user = match wants_user {
        true => {
            "Their user changes, too: name its variable in `user_variable`, where it does not stand in the address. "
        }
        false => "",
    };
    format!("Let variables that are the same password be exchanged together, {}. {user}{stays}", all.join("; "))
}
