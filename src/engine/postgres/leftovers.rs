//! Databases that a restore began and did not end, and those that one in place put aside: known by their names, which
//! nobody else gives. The latter may have been kept on purpose.

use super::catalogue;
use super::session::Session;
use super::sql;
use crate::engine::Leftover;
use crate::engine::leftovers::{REPLACED, UNFINISHED, is_mark, is_replaced};
use crate::error::Result;

/// What the database of a restore that is not done begins with.
pub const STAGED: &str = "bkp_restore_";

pub fn all(session: &mut Session<'_>, location: &str) -> Result<Vec<Leftover>> {
    let names = catalogue::strings(session, "select datname as value from pg_database order by 1")?;
    let what = |name: &String| match () {
        () if is_staged(name) => Some(UNFINISHED),
        () if is_replaced(name) => Some(REPLACED),
        () => None,
    };
    Ok(names.iter().filter_map(|name| Some(leftover(name, location, what(name)?))).collect())
}

pub fn leftover(database: &str, location: &str, what: &'static str) -> Leftover {
    Leftover::database(database, &sql::name(database), location, what)
}

/// `bkp_restore_shop_1f2e3d4c`.
pub fn is_staged(database: &str) -> bool {
    let mark = database.strip_prefix(STAGED).and_then(|rest| rest.rsplit_once('_')).map(|(_, mark)| mark);
    mark.is_some_and(is_mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_restore_gives_are_taken_for_its_own() {
        for (name, staged, replaced) in [
            ("bkp_restore_shop_1f2e3d4c", true, false),
            ("bkp_restore_shop", false, false),
            ("bkp_restore_shop_archived", false, false),
            ("shop_replaced_20261122t193200z", false, true),
            ("shop_replaced_parts", false, false),
        ] {
            assert_eq!((is_staged(name), is_replaced(name)), (staged, replaced), "{name}");
        }
    }
}
