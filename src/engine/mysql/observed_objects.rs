//! Everything besides rows that a server has, one by one: by name, with a digest of what it is.
//!
//! Read in the same way from the source and from what came back of it, so that what a dump lost can be named.

use super::accounts;
use super::client::Client;
use super::session::{Session, texts};
use super::views::Broken;
use crate::error::Result;
use std::collections::BTreeMap;

type Objects = BTreeMap<String, String>;

/// Kind, the columns that name it, and the columns that say what it is. Rows of one name belong to one object.
struct Question {
    kind: &'static str,
    database: &'static str,
    names: &'static [&'static str],
    is: &'static [&'static str],
    from: &'static str,
}

const QUESTIONS: &[Question] = &[
    Question {
        kind: "columns",
        database: "table_schema",
        names: &["table_name"],
        is: &["column_name", "column_type", "is_nullable", "collation_name", "extra"],
        from: "information_schema.columns WHERE CONCAT(table_schema, '.', table_name) NOT IN \
               (SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.views)",
    },
    Question {
        kind: "index",
        database: "table_schema",
        names: &["table_name", "index_name"],
        is: &["seq_in_index", "non_unique", "column_name", "sub_part", "index_type"],
        from: "information_schema.statistics WHERE 1=1",
    },
    Question {
        kind: "constraint",
        database: "table_schema",
        names: &["table_name", "constraint_name"],
        is: &["constraint_type"],
        from: "information_schema.table_constraints WHERE 1=1",
    },
    Question {
        kind: "foreign key",
        database: "constraint_schema",
        names: &["table_name", "constraint_name"],
        is: &["referenced_table_name", "update_rule", "delete_rule"],
        from: "information_schema.referential_constraints WHERE 1=1",
    },
    Question {
        kind: "view",
        database: "table_schema",
        names: &["table_name"],
        is: &["view_definition", "check_option", "security_type", "definer"],
        from: "information_schema.views WHERE 1=1",
    },
    Question {
        kind: "trigger",
        database: "trigger_schema",
        names: &["trigger_name"],
        is: &["event_manipulation", "event_object_table", "action_timing", "action_statement", "definer"],
        from: "information_schema.triggers WHERE 1=1",
    },
    Question {
        kind: "routine",
        database: "routine_schema",
        names: &["routine_type", "routine_name"],
        is: &["routine_definition", "security_type", "definer"],
        from: "information_schema.routines WHERE 1=1",
    },
    Question {
        kind: "event",
        database: "event_schema",
        names: &["event_name"],
        is: &["event_definition", "interval_value", "interval_field", "definer"],
        from: "information_schema.events WHERE 1=1",
    },
];

/// What there is besides rows, as a fingerprint has it: what belongs to these databases, but for views that no dump can hold, and
/// the accounts where they belong to the source.
pub fn of_source(
    session: &mut Session<'_>,
    databases: &[String],
    broken: &[Broken],
    accounts: Option<&accounts::Accounts>,
) -> Result<Objects> {
    let mut objects = read(session, databases)?;
    objects.retain(|object, _| !broken.iter().any(|view| *object == format!("view {}.{}", view.database, view.name)));
    objects.extend(accounts.iter().flat_map(|accounts| told(accounts)));
    Ok(objects)
}

/// What belongs to these databases.
pub fn read(session: &mut Session<'_>, databases: &[String]) -> Result<Objects> {
    let mut hashers: BTreeMap<String, blake3::Hasher> = BTreeMap::new();
    for question in QUESTIONS {
        let columns: Vec<String> = [&[question.database][..], question.names, question.is]
            .concat()
            .iter()
            .map(|column| format!("IFNULL({column}, '')"))
            .collect();
        let order: Vec<String> = (1..=columns.len()).map(|at| at.to_string()).collect();
        let rows = session.rows(&format!(
            "SELECT {} FROM {} AND {} IN ({}) ORDER BY {}",
            columns.join(", "),
            question.from,
            question.database,
            texts(databases),
            order.join(", ")
        ))?;
        for row in rows {
            let (name, is) = row.split_at((1 + question.names.len()).min(row.len()));
            let hasher = hashers.entry(format!("{} {}", question.kind, name.join("."))).or_default();
            for field in is {
                // Clients that load a script may leave out white space at its end.
                let field = field.trim_end();
                hasher.update(&(field.len() as u64).to_le_bytes()).update(field.as_bytes());
            }
        }
    }
    Ok(hashers.into_iter().map(|(name, hasher)| (name, hasher.finalize().to_hex().to_string())).collect())
}

/// Accounts, and what each may. Passwords are in there as the server keeps them, and only in the digest.
pub fn of_accounts(
    session: &mut Session<'_>,
    client: &Client<'_>,
    has: &dyn Fn(&str, &str) -> bool,
) -> Result<Objects> {
    Ok(told(&accounts::of_databases(session, client, has)?))
}

fn told(accounts: &accounts::Accounts) -> Objects {
    let digest = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    let created = accounts.created.iter().map(|(account, create)| (format!("account {account}"), digest(create)));
    let grants = accounts.grants.iter().map(|(_, grant)| (format!("grant {grant}"), digest(grant)));
    created.chain(grants).collect()
}

/// Accounts that every new server has by itself; those of a scratch server have their own passwords.
pub fn is_of_installation(object: &str) -> bool {
    let own = ["`root`@`localhost`", "`root`@`%`", "`healthcheck`@"];
    (object.starts_with("account ") || object.starts_with("grant "))
        && own.iter().any(|account| object.contains(account))
}
