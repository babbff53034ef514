//! What a rehearsal asks of SQLite: whether every table, definition and setting is there again; and the user's own questions.

use super::{Settings, fingerprint, open};
use crate::engine::Settings as AnySettings;
use crate::engine::rehearsal::{Comparison, Ground, Question, Reach, Rehearsable, Scratch, Subject};
use crate::error::{Failure, Result};
use crate::event::{Cancel, Context};
use rusqlite::types::ValueRef;

pub struct Rehearsal;

impl Rehearsable for Rehearsal {
    fn ground(&self, _: &Subject<'_>) -> Result<Ground> {
        Ok(Ground::File)
    }

    fn settings(&self, _: &Subject<'_>, _: Option<&Reach>) -> AnySettings {
        AnySettings::Sqlite(Settings::of(""))
    }

    fn compare(&self, subject: &Subject<'_>, scratch: &Scratch, context: Context<'_>) -> Result<Comparison> {
        let path = file(scratch)?;
        let is = fingerprint::of_still(path, path, context.cancel)?;
        Ok(fingerprint::compare(subject.origin.fingerprint(), &is))
    }

    fn ask(&self, scratch: &Scratch, question: &Question, cancel: &Cancel) -> Result<String> {
        let Question::Sql { database: None, query } = question else {
            return Err(question.is_not_for("a SQLite database"));
        };
        let path = file(scratch)?;
        let connection = open::still(path)?;
        let answer = open::interruptible(&connection, cancel, || {
            connection.query_row(query, [], |row| Ok(text(row.get_ref(0)?)))
        });
        cancel.check()?;
        match answer {
            Err(rusqlite::Error::QueryReturnedNoRows) => Err(Failure::failed("the query gave no row")),
            other => other.map_err(|error| Failure::failed("the query failed").because(error)),
        }
    }
}

fn file(scratch: &Scratch) -> Result<&std::path::Path> {
    scratch.path().ok_or_else(|| Failure::failed("a SQLite database is rehearsed in a file"))
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(blob) => hex::encode(blob),
    }
}
