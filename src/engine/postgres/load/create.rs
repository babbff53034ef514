//! New databases with what an archive does not tell of them: encoding, locale, owner, settings, grants, comment.

use super::{Item, There};
use crate::engine::postgres::catalogue::Database;
use crate::engine::postgres::client::Clients;
use crate::engine::postgres::session::Session;
use crate::engine::postgres::sql::{self, name, text};
use crate::error::{Failure, Result};

/// Creates the database under its temporary name, empty.
pub fn database(session: &mut Session<'_>, clients: &Clients, item: &Item<'_>, there: &There) -> Result<()> {
    let from = item.database;
    let mut statement =
        format!("create database {} template template0 encoding {}", name(&item.temporary), text(&from.encoding));
    statement.push_str(&locale(from, clients.major()));
    if there.tablespaces.contains(&from.tablespace) && from.tablespace != "pg_default" {
        statement.push_str(&format!(" tablespace {}", name(&from.tablespace)));
    }
    session.run(&statement).map_err(|failure| {
        Failure::failed(format!("cannot create a database like {}", from.name))
            .because(failure.full())
            .hint("The role needs CREATEDB, and the server the same locales as the source: restore into the same image")
    })?;
    let comment = format!("being restored by bkp: {}", from.name);
    session.run(&format!("comment on database {} is {}", name(&item.temporary), text(&comment)))
}

fn locale(from: &Database, major: u32) -> String {
    let mut words = format!(" lc_collate {} lc_ctype {}", text(&from.collate), text(&from.ctype));
    let provider = match from.provider.as_str() {
        "i" => "icu",
        "b" => "builtin",
        _ => "libc",
    };
    if major >= 15 {
        words.push_str(&format!(" locale_provider {provider}"));
    }
    if let Some(locale) = from.locale.as_ref().filter(|_| provider != "libc") {
        words.push_str(&format!(" {provider}_locale {}", text(locale)));
    }
    if let Some(rules) = from.icu_rules.as_ref().filter(|_| provider == "icu") {
        words.push_str(&format!(" icu_rules {}", text(rules)));
    }
    words
}

/// Gives the database the properties of its original. What is left out is told.
pub fn properties(session: &mut Session<'_>, item: &Item<'_>) -> Result<Vec<String>> {
    let (from, database) = (item.database, name(&item.temporary));
    let roles = super::catalogue::strings(session, "select rolname as value from pg_roles")?;
    let mut statements = Vec::new();
    for own in &from.settings {
        let whose = match &own.role {
            None => format!("alter database {database}"),
            Some(role) if roles.contains(role) => format!("alter role {} in database {database}", name(role)),
            Some(_) => continue,
        };
        statements.extend(own.values.iter().filter_map(|kept| sql::setting(kept)).map(|set| format!("{whose} {set}")));
    }
    statements.push(format!("alter database {database} owner to {}", name(&from.owner)));
    if let Some(grants) = &from.grants {
        statements.push(format!("revoke all on database {database} from public, {}", name(&from.owner)));
        for grant in grants {
            let to = grant.grantee.as_ref().map_or_else(|| "public".to_owned(), |role| name(role));
            let option = if grant.grantable { " with grant option" } else { "" };
            statements.push(format!("grant {} on database {database} to {to}{option}", grant.privilege));
        }
    }
    let comment = from.comment.as_ref().map_or_else(|| "null".to_owned(), |comment| text(comment));
    statements.push(format!("comment on database {database} is {comment}"));
    if from.connection_limit >= 0 {
        statements.push(format!("alter database {database} connection limit {}", from.connection_limit));
    }
    if from.is_template {
        statements.push(format!("alter database {database} is_template true"));
    }
    statements.insert(0, "begin".into());
    statements.push("commit".into());
    session.run(&statements.join("; "))?;
    let lost = from.settings.iter().filter_map(|own| own.role.as_ref()).filter(|role| !roles.contains(role));
    Ok(lost.map(|role| format!("settings of {role} in {} are left out: there is no such role", item.name)).collect())
}
