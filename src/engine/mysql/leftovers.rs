//! Databases that a restore began and did not end, and those that one in place put aside.
//!
//! The former hold the table [`UNFINISHED`](super::load::UNFINISHED), or have the name under which a restore in place
//! prepares a database; no dump takes them. The latter may have been kept on purpose.

use super::load::UNFINISHED;
use super::session::{Session, name, text};
use crate::engine::Leftover;
use crate::engine::leftovers::{REPLACED, UNFINISHED as NOT_WHOLE, is_mark, is_replaced};
use crate::error::Result;

/// Databases that are not whole.
pub fn unfinished(session: &mut Session<'_>) -> Result<Vec<String>> {
    let marked = format!(
        "SELECT schema_name, EXISTS (SELECT 1 FROM information_schema.tables t \
         WHERE t.table_schema = s.schema_name AND t.table_name = {}) FROM information_schema.schemata s ORDER BY 1",
        text(UNFINISHED)
    );
    let rows = session.rows(&marked)?.into_iter().filter_map(|row| <[String; 2]>::try_from(row).ok());
    Ok(rows.filter(|[database, marked]| marked == "1" || is_staged(database)).map(|[database, _]| database).collect())
}

pub fn all(session: &mut Session<'_>, location: &str) -> Result<Vec<Leftover>> {
    let mut found: Vec<Leftover> =
        unfinished(session)?.iter().map(|database| leftover(database, location, NOT_WHOLE)).collect();
    let databases = session.column("SELECT schema_name FROM information_schema.schemata ORDER BY 1")?;
    let replaced = databases.iter().filter(|database| is_replaced(database));
    found.extend(replaced.map(|database| leftover(database, location, REPLACED)));
    Ok(found)
}

pub fn leftover(database: &str, location: &str, what: &'static str) -> Leftover {
    Leftover::database(database, &name(database), location, what)
}

/// `bkp_1f2e3d4c_shop`.
fn is_staged(database: &str) -> bool {
    let mark = database.strip_prefix("bkp_").and_then(|rest| rest.split_once('_')).map(|(mark, _)| mark);
    mark.is_some_and(is_mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_restore_gives_are_taken_for_its_own() {
        for (name, staged, replaced) in [
            ("bkp_1f2e3d4c_shop", true, false),
            ("bkp_1f2e3d4c_", true, false),
            ("bkp_1f2e3d4c", false, false),
            ("bkp_2026_archive", false, false),
            ("bkp_shoppers_a", false, false),
            ("shop_replaced_20261122T193200Z", false, true),
            ("shop_replaced_20261122t193200z", false, true),
            ("shop_replaced_yesterday", false, false),
        ] {
            assert_eq!((is_staged(name), is_replaced(name)), (staged, replaced), "{name}");
        }
    }
}
