//! Routines and events as SQL, written by bkp from `SHOW CREATE`.
//!
//! The dump programs are not asked for them: some spin for ever on an event with `;;` in it, MariaDB's fails on a database
//! with a quote in its name, and both pass over in silence what they may not see. Here a hidden body is an error.
//! The text is UTF-8; an object that was made by a client of another character set says so unless its text would change.

use super::catalog::Program;
use super::session::{Session, name, text};
use crate::error::{Failure, Kind, Result};

pub struct Written {
    pub sql: String,
    /// Routines whose database had another collation when they were made.
    pub notes: Vec<String>,
}

/// Triggers too, when somebody asks for them.
pub fn write(session: &mut Session<'_>, programs: &[Program]) -> Result<Written> {
    let mut written = Written {
        sql: "-- Routines and events. Load this after dump.sql, with a client that keeps comments: --comments\n".into(),
        notes: Vec::new(),
    };
    let mut collations = std::collections::BTreeMap::new();
    for row in session.rows("SELECT schema_name, default_collation_name FROM information_schema.schemata")? {
        let [database, collation] = <[String; 2]>::try_from(row).unwrap_or_default();
        collations.insert(database, collation);
    }
    for program in programs {
        let definition = Definition::read(session, program)?;
        if collations.get(&program.database).is_some_and(|now| *now != definition.database_collation) {
            written.notes.push(format!(
                "{} {}.{} was made when its database had the collation {}",
                program.kind.to_lowercase(),
                program.database,
                program.name,
                definition.database_collation
            ));
        }
        definition.append(program, &mut written.sql);
    }
    Ok(written)
}

struct Definition {
    sql_mode: String,
    time_zone: Option<String>,
    create: String,
    client_charset: String,
    collation: String,
    database_collation: String,
}

impl Definition {
    fn read(session: &mut Session<'_>, program: &Program) -> Result<Self> {
        let path = format!("{}.{}", name(&program.database), name(&program.name));
        let mut rows = session.rows(&format!("SHOW CREATE {} {path}", program.kind))?;
        let mut row = rows.pop().unwrap_or_default();
        let time_zone = (program.kind == "EVENT" && row.len() > 2).then(|| row.remove(2));
        // A trigger says when it was made.
        row.truncate(6);
        let [_, sql_mode, create, client_charset, collation, database_collation] =
            <[String; 6]>::try_from(row).unwrap_or_default();
        if create.is_empty() || create == "NULL" {
            let what = program.kind.to_lowercase();
            return Err(Failure::new(Kind::Refused, format!("the body of {what} {path} is hidden from this user"))
                .hint(
                    "GRANT SHOW_ROUTINE ON *.* (MySQL), or SELECT ON mysql.proc (MariaDB), to the user of the source",
                ));
        }
        Ok(Definition { sql_mode, time_zone, create, client_charset, collation, database_collation })
    }

    fn append(&self, program: &Program, sql: &mut String) {
        let charset = match self.client_charset.as_str() {
            "utf8mb3" | "utf8" if self.create.chars().all(|c| c.len_utf8() < 4) => &self.client_charset,
            _ if self.create.is_ascii() => &self.client_charset,
            _ => "utf8mb4",
        };
        let mut settings = format!(
            "SET character_set_client = {charset}, collation_connection = {}, sql_mode = {}",
            self.collation,
            text(&self.sql_mode)
        );
        if let Some(zone) = &self.time_zone {
            settings.push_str(&format!(", time_zone = {}", text(zone)));
        }
        let delimiter = delimiter(&self.create);
        sql.push_str(&format!(
            "\nUSE {};\nSET NAMES utf8mb4;\n{settings};\nDELIMITER {delimiter}\n{}\n{delimiter}\nDELIMITER ;\n",
            name(&program.database),
            self.create
        ));
    }
}

/// One that the text does not hold: clients look for it without understanding everything around it.
fn delimiter(text: &str) -> String {
    let mut delimiter = ";;".to_owned();
    while text.contains(&delimiter) {
        delimiter.push('/');
    }
    delimiter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delimiter_is_not_in_the_text() {
        assert_eq!(delimiter("BEGIN END"), ";;");
        assert_eq!(delimiter("SELECT ';;', ';;/'"), ";;//");
    }
}
