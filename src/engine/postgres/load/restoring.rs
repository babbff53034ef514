//! One archive into one new database, by several workers of `pg_restore`.
//!
//! Workers need a file to seek in, so the archive is put beside `pg_restore`, wherever that runs: into a file that has
//! lost its name before the first byte comes, so that nothing can be left of it. Where there is no room for it, one
//! worker reads the archive as it comes. It is walked on its way, so that a cut archive is found before anything is loaded.

use crate::durable;
use crate::engine::postgres::archive::Walked;
use crate::engine::postgres::client::Clients;
use crate::engine::transfer::Metered;
use crate::error::{Failure, Result};
use crate::event::Context;
use crate::exec::{Command, Place};
use std::io::{Cursor, Read};

/// Where archives wait, on the host and in containers.
const SPOOL: &str = "/var/tmp";
/// More workers than this only make a server seek.
const MOST_WORKERS: usize = 8;
/// Reads the password if one is asked for, the numbers of the wanted entries up to an empty line, and the archive; then
/// runs the rest of its arguments, for which these are open as 4 and 6.
const SPOOLED: &str = r#"umask 077
asks=$1 spool=$2
shift 2
password=
[ "$asks" = no ] || IFS= read -r password || exit
exec 3>"$spool.list" 4<"$spool.list" 5>"$spool" 6<"$spool" && rm -f "$spool.list" "$spool" || exit
while IFS= read -r line && [ -n "$line" ]; do echo "$line" >&3 || exit; done
cat >&5 && exec 3>&- 5>&- || exit
[ "$asks" = yes ] || exec "$@" </dev/null
printf '%s\n' "$password" | "$@""#;

pub struct Restore<'r> {
    pub clients: &'r Clients,
    pub context: Context<'r>,
    pub database: &'r str,
    /// Of the archive, in bytes; 0 where nobody knows.
    pub size: u64,
    /// All tablespaces of the source are there.
    pub tablespaces: bool,
}

impl Restore<'_> {
    /// Loads the whole archive, or only the entries with these numbers. Gives the bytes that were read.
    pub fn run(&self, data: Box<dyn Read + Send>, only: Option<&[i64]>) -> Result<u64> {
        let mut data = Walked::new(Metered::new(data, self.context));
        let mut command = self.clients.command("pg_restore", self.database);
        command.arguments.push("--exit-on-error".into());
        if !self.tablespaces {
            command.arguments.push("--no-tablespaces".into());
        }
        // A worker that reads the archive as it comes must want all of it.
        if only.is_some() || self.has_room() {
            let workers = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, MOST_WORKERS));
            command.arguments.push(format!("--jobs={workers}").into());
            if only.is_some() {
                command.arguments.extend(["-L".into(), "/dev/fd/4".into()]);
            }
            command.arguments.push("/dev/fd/6".into());
            let list: String = only.unwrap_or_default().iter().map(|id| format!("{id};\n")).collect();
            let mut input = Cursor::new(format!("{list}\n")).chain(&mut data);
            self.clients.exec().feed(&spooled(command), &mut input, self.context.cancel).map_err(no_room)?;
        } else {
            self.clients.exec().feed(&command, &mut data, self.context.cancel)?;
        }
        let contents = data.contents().ok_or_else(|| Failure::failed("the archive was not read to its end"))?;
        Ok(contents.bytes)
    }

    fn has_room(&self) -> bool {
        let free = match self.clients.place() {
            Place::Host => rustix::fs::statvfs(SPOOL).ok().map(|s| s.f_bavail.saturating_mul(s.f_frsize)),
            Place::Container(_) => self.free_in_container(),
        };
        // Not known is not none: a full disk is an error that says so.
        free.is_none_or(|free| free > self.size + self.size / 16)
    }

    fn free_in_container(&self) -> Option<u64> {
        let arguments = ["-c", "df -Pk \"$1\" | tail -n 1", "sh", SPOOL].map(Into::into).into();
        let command = Command { program: "sh".into(), arguments, ..Command::default() };
        let mut said = String::new();
        self.clients.exec().start(&command, self.context.cancel).ok()?.read_to_string(&mut said).ok()?;
        said.split_whitespace().nth(3)?.parse::<u64>().ok()?.checked_mul(1024)
    }
}

/// The same command behind [`SPOOLED`].
fn spooled(command: Command) -> Command {
    let asks = if command.input.is_some() { "yes" } else { "no" };
    let file = format!("{SPOOL}/{}{}", durable::TEMPORARY_PREFIX, durable::random_hex(8));
    let mut arguments: Vec<_> = ["-c", SPOOLED, "sh", asks, &file].map(Into::into).into();
    arguments.push(command.program);
    arguments.extend(command.arguments);
    Command { program: "sh".into(), arguments, ..command }
}

fn no_room(failure: Failure) -> Failure {
    if failure.full().contains("cat: ") {
        return failure.hint(format!("The archive is put into {SPOOL} where pg_restore runs: make room there"));
    }
    failure
}
