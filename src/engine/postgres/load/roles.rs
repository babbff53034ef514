//! Roles of the source in another server: made where they are missing, with their settings and memberships, and without passwords
//! but for those that bkp itself logs in with. A role that is there is left as it is, and named.

use super::{Item, There};
use crate::engine::postgres::catalogue::{Details, Membership, Role};
use crate::engine::postgres::client::Clients;
use crate::engine::postgres::session::Session;
use crate::engine::postgres::snapshot::few;
use crate::engine::postgres::sql::{self, name, text};
use crate::engine::{Comes, Returning};
use crate::error::Result;
use crate::secret::Secret;
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
    let (kept_roles, missing): (Vec<&Role>, Vec<&Role>) =
        wanted.into_iter().partition(|role| there.roles.contains(&role.name));
    let mut statements = vec!["begin".to_owned()];
    statements.extend(missing.iter().flat_map(|role| definition(role, Returning::of(returning, &role.name))));
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
    session.run(Secret::new(statements.join(";\n")).expose())?;
    let kept: Vec<String> = kept_roles.iter().map(|r| r.name.clone()).filter(|name| name != clients.user()).collect();
    let new = missing.iter().map(|role| role.name.clone()).collect();
    let mut warnings = came_back(&missing, returning);
    // Whose turn it is not is in order so.
    let is_rotated = |role: &Role| returning.is_some_and(|returning| returning.rotated.contains(&role.name));
    let closed = kept_roles.iter().filter(|role| role.login && there.closed.contains(&role.name) && !is_rotated(role));
    let closed: Vec<String> = closed.map(|role| role.name.clone()).collect();
    if !closed.is_empty() {
        warnings.push(format!(
            "roles may not log in, and might at the time of the point (ALTER ROLE … LOGIN): {}",
            few(&closed)
        ));
    }
    if !kept.is_empty() {
        warnings.insert(0, format!("roles that were there already were left as they are: {}", few(&kept)));
    }
    Ok(Came { warnings, new })
}

/// What people have to know of those that may log in. Who is rotated is given its password by bkp, or told of if not.
fn came_back(missing: &[&Role], returning: Option<&Returning>) -> Vec<String> {
    let of = |is: &dyn Fn(Comes<'_>) -> bool| -> Vec<&str> {
        let those = missing.iter().filter(|role| role.login && is(Returning::of(returning, &role.name)));
        those.map(|role| role.name.as_str()).collect()
    };
    let each = [
        (
            of(&|comes| matches!(comes, Comes::AsItWas)),
            "roles came back without passwords, give them theirs (ALTER ROLE … PASSWORD …)",
        ),
        (of(&|comes| matches!(comes, Comes::With(_))), "roles came back with the passwords that bkp logs in with"),
        (
            of(&|comes| matches!(comes, Comes::Locked)),
            "roles came back without the right to log in, for nothing here knows of them (ALTER ROLE … LOGIN PASSWORD …)",
        ),
    ];
    let told = each.into_iter().filter(|(roles, _)| !roles.is_empty());
    told.map(|(roles, text)| format!("{text}: {}", roles.join(", "))).collect()
}

fn definition(role: &Role, comes: Comes<'_>) -> Vec<String> {
    let login = role.login && !matches!(comes, Comes::Locked);
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
    if let Comes::With(password) = comes {
        // The server logs what it is told.
        let verifier = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
        create.push_str(&format!(" password {}", text(&verifier)));
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
