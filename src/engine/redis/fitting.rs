//! Whether a server reads the data of a point: RDB files do not fit everywhere, and a server says so only at the first key.

use super::connection::Connection;
use super::restore::told;
use crate::engine::Origin;
use crate::error::{Failure, Kind, Result};

/// Refuses a server that is too old for the data, or of the flavour that does not read it.
pub fn must_fit(origin: &dyn Origin, connection: &mut Connection<'_>) -> Result<()> {
    let details = origin.details();
    let (Some(version), Some(file)) = (details["version"].as_str(), details["rdb_version"].as_u64()) else {
        return Ok(());
    };
    let info = told(connection, &[b"INFO", b"server"], "+info")?;
    let of = |name: &str| info.iter().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    let (there, number) = match (of("valkey_version"), of("redis_version")) {
        (Some(number), _) => (Flavour::Valkey, number),
        (None, Some(number)) => (Flavour::Redis, number),
        (None, None) => return Ok(()),
    };
    if there.reads(number, file) {
        return Ok(());
    }
    let from = if details["flavour"] == "valkey" { Flavour::Valkey } else { Flavour::Redis };
    let text = format!(
        "the point is of {} {version} (RDB {file}), which {} {number} at {} does not read; nothing was changed",
        from.name(),
        there.name(),
        connection.address
    );
    Err(Failure::new(Kind::Refused, text).hint(format!("Restore into {} {version} or newer", from.name())))
}

#[derive(Clone, Copy)]
enum Flavour {
    Redis,
    Valkey,
}

impl Flavour {
    fn name(self) -> &'static str {
        match self {
            Flavour::Redis => "Redis",
            Flavour::Valkey => "Valkey",
        }
    }

    /// Numbers from 12 to 79 are those of Redis after the two parted, from 80 on those of Valkey.
    fn reads(self, version: &str, file: u64) -> bool {
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        let series: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        match self {
            Flavour::Redis if series >= (8, 0) => file < 80,
            Flavour::Redis => {
                let newest = [((7, 4), 12), ((7, 2), 11), ((7, 0), 10), ((5, 0), 9), ((4, 0), 8), ((3, 2), 7)];
                newest.into_iter().find(|(from, _)| series >= *from).map_or(6, |(_, file)| file) >= file
            }
            Flavour::Valkey => file <= 11 || (file >= 80 && series >= (9, 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_fit_servers_of_their_series() {
        for (flavour, version, file, fits) in [
            (Flavour::Redis, "7.0.15", 10, true),
            (Flavour::Redis, "7.0.15", 11, false),
            (Flavour::Redis, "6.2.14", 10, false),
            (Flavour::Redis, "7.4.1", 12, true),
            (Flavour::Redis, "8.0.6", 12, true),
            (Flavour::Redis, "8.0.6", 80, false),
            (Flavour::Valkey, "8.1.0", 11, true),
            (Flavour::Valkey, "8.1.0", 80, false),
            (Flavour::Valkey, "9.1.2", 12, false),
            (Flavour::Valkey, "9.1.2", 80, true),
        ] {
            assert_eq!(flavour.reads(version, file), fits, "{} {version} {file}", flavour.name());
        }
    }
}
