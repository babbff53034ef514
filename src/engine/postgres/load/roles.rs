//! Roles of the source in another server: made where they are missing, without passwords, with their settings and
//! memberships. A role that is there is left as it is, and named.

use super::{Item, There};
use crate::engine::postgres::catalogue::{Details, Membership, Role};
use crate::engine::postgres::client::Clients;
use crate::engine::postgres::session::Session;
use crate::engine::postgres::snapshot::few;
use crate::engine::postgres::sql::{self, name, text};
use crate::engine::{Comes, Returning};
use crate::error::Result;
use std::collections::BTreeSet;

/// Which roles, and how they come back.
pub struct Wanted<'a> {
    pub details: &'a Details,
    pub items: &'a [Item<'a>],
    /// Not only those that the databases name.
    pub all: bool,
    pub returning: Option<&'a Returning>,
}

/// What the roles of a point did to a server.
#[derive(Default)]
pub struct Came {
    pub warnings: Vec<String>,
    /// Were not there before.
    pub new: Vec<String>,
}

/// Makes the roles of the point, all or only those that the databases name, in one transaction.
pub fn create(session: &mut Session<'_>, clients: &Clients, wanted: &Wanted<'_>, there: &There) -> Result<Came> {
    let Wanted { details, items, all, returning } = *wanted;
    let used: BTreeSet<&String> =
        items.iter().flat_map(|item| item.database.roles.iter().chain([&item.database.owner])).collect();
    let wanted: Vec<&Role> = details.roles.iter().filter(|role| all || used.contains(&role.name)).collect();
    let (kept, missing): (Vec<&Role>, Vec<&Role>) =
        wanted.into_iter().partition(|role| there.roles.contains(&role.name));
    let mut statements = vec!["begin".to_owned()];
    let is_locked = |role: &Role| role.login && Returning::of(returning, &role.name) == Comes::Locked;
    statements.extend(missing.iter().flat_map(|role| definition(role, role.login && !is_locked(role))));
    let known = |membership: &&Membership| {
        there.roles.contains(&membership.role) || missing.iter().any(|role| role.name == membership.role)
    };
    for role in &missing {
        let of = role.member_of.iter().filter(known);
        statements.extend(of.map(|membership| grant(role, membership, clients.major())));
    }
    if all {
        let settings = details.settings.iter().filter_map(|kept| sql::setting(kept));
        statements.extend(settings.map(|set| format!("alter role all {set}")));
    }
    statements.push("commit".into());
    session.run(&statements.join(";\n"))?;
    let kept: Vec<String> = kept.iter().map(|r| r.name.clone()).filter(|name| name != clients.user()).collect();
    let of = |locked: bool| -> Vec<String> {
        let those = missing.iter().filter(|role| role.login && is_locked(role) == locked);
        those.map(|role| role.name.clone()).collect()
    };
    let (without, locked) = (of(false), of(true));
    let new = missing.iter().map(|role| role.name.clone()).collect();
    let mut warnings = Vec::new();
    if !kept.is_empty() {
        warnings.push(format!("roles that were there already were left as they are: {}", few(&kept)));
    }
    if !without.is_empty() {
        warnings.push(format!(
            "roles came back without passwords, give them theirs (ALTER ROLE … PASSWORD …): {}",
            without.join(", ")
        ));
    }
    if !locked.is_empty() {
        warnings.push(format!(
            "roles came back without the right to log in, for nothing here knows of them (ALTER ROLE … LOGIN PASSWORD …): {}",
            locked.join(", ")
        ));
    }
    Ok(Came { warnings, new })
}

fn definition(role: &Role, login: bool) -> Vec<String> {
    let own = name(&role.name);
    let options = [
        (role.superuser, "superuser"),
        (role.inherit, "inherit"),
        (role.create_role, "createrole"),
        (role.create_db, "createdb"),
        (login, "login"),
        (role.replication, "replication"),
        (role.bypass_rls, "bypassrls"),
    ];
    let options: Vec<String> =
        options.iter().map(|(has, option)| if *has { (*option).to_owned() } else { format!("no{option}") }).collect();
    let mut create = format!("create role {own} {} connection limit {}", options.join(" "), role.connection_limit);
    if let Some(until) = &role.valid_until {
        create.push_str(&format!(" valid until {}", text(until)));
    }
    let mut all = vec![create];
    all.extend(role.settings.iter().filter_map(|kept| sql::setting(kept)).map(|set| format!("alter role {own} {set}")));
    all.extend(role.comment.as_ref().map(|comment| format!("comment on role {own} is {}", text(comment))));
    all
}

fn grant(role: &Role, membership: &Membership, major: u32) -> String {
    let base = format!("grant {} to {}", name(&membership.role), name(&role.name));
    if major < 16 {
        return if membership.admin { format!("{base} with admin option") } else { base };
    }
    let mut options = vec![format!("admin {}", membership.admin)];
    options.extend(membership.inherit.map(|inherit| format!("inherit {inherit}")));
    options.extend(membership.set.map(|set| format!("set {set}")));
    format!("{base} with {}", options.join(", "))
}
