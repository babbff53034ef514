//! Views that refer to what is not there any more. A dump program dies of one of them, so it is told to leave them out;
//! they are named, and kept as text that a restore passes over: no server would take them.

use super::catalog::some;
use super::client::Client;
use super::session::{Session, error_number, name, texts};
use crate::error::Result;
use crate::event::Cancel;

/// What servers say of such a view: it is invalid, or its definer, a table, a column or a function is missing.
const BROKEN: [u16; 5] = [1356, 1449, 1146, 1054, 1305];

pub struct Broken {
    pub database: String,
    pub name: String,
    /// As the server keeps it; empty where it does not tell.
    definition: String,
}

impl Broken {
    pub fn path(&self) -> String {
        format!("{}.{}", name(&self.database), name(&self.name))
    }
}

/// The broken views of these databases. Asks what the dump programs ask; each no ends a session.
pub fn broken(client: &Client<'_>, databases: &[String], cancel: &Cancel) -> Result<Vec<Broken>> {
    let mut session = client.session(cancel)?;
    let all = session.rows(&format!(
        "SELECT table_schema, table_name FROM information_schema.tables \
         WHERE table_type = 'VIEW' AND table_schema IN ({}) ORDER BY 1, 2",
        texts(databases)
    ))?;
    let mut found = Vec::new();
    for row in all {
        let [database, view] = <[String; 2]>::try_from(row).unwrap_or_default();
        let mut broken = Broken { database, name: view, definition: String::new() };
        match session.run(&format!("SHOW FIELDS FROM {}", broken.path())) {
            Ok(()) => continue,
            Err(failure) if error_number(&failure.full()).is_some_and(|number| BROKEN.contains(&number)) => {}
            Err(failure) => return Err(client.explain(failure)),
        }
        broken.definition = definition(&mut client.session(cancel)?, &broken.path()).unwrap_or_default();
        session = client.session(cancel)?;
        found.push(broken);
    }
    session.close().map(|()| found)
}

fn definition(session: &mut Session<'_>, path: &str) -> Result<String> {
    let rows = session.rows(&format!("SHOW CREATE VIEW {path}"))?;
    Ok(rows.into_iter().flatten().nth(1).unwrap_or_default())
}

/// The definitions, in comments.
pub fn text(broken: &[Broken]) -> String {
    if broken.is_empty() {
        return String::new();
    }
    let mut sql =
        "\n-- Views that refer to what was not there. They are not made again; their definitions were:\n".to_owned();
    for view in broken {
        sql.push_str(&format!("-- {}\n", view.path().replace('\n', " ")));
        view.definition.lines().for_each(|line| sql.push_str(&format!("-- {line}\n")));
    }
    sql
}

pub fn warning(broken: &[Broken]) -> Option<String> {
    let names: Vec<String> = broken.iter().map(Broken::path).collect();
    (!names.is_empty()).then(|| {
        format!(
            "views that refer to what is not there are not in this point, but for their text in routines.sql: {}. \
             DROP VIEW them, or make what they need",
            some(&names)
        )
    })
}
