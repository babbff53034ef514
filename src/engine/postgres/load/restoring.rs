//! One archive into one new database, by several workers of `pg_restore`.
//!
//! Workers need a file to seek in, so the archive is put beside `pg_restore`, wherever that runs. The file loses its name
//! when `pg_restore` begins; what a kill before that leaves is removed by the next restore. Where there is no room for it,
//! one worker reads the archive as it comes. It is walked on its way, so that a cut archive is found before anything is
//! loaded. Inside a container no process may have children that a kill would hand to PostgreSQL: hence `exec` everywhere.

use crate::durable;
use crate::engine::postgres::archive::Walked;
use crate::engine::postgres::client::Clients;
use crate::engine::transfer::Metered;
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::exec::{Command, Place};
use std::io::{self, Cursor, Read};

/// Where archives wait in containers and, unless TMPDIR says otherwise, on the host.
const SPOOL: &str = "/var/tmp";
/// More workers than this only make a server seek.
const MOST_WORKERS: usize = 8;
/// Runs what follows the names of two files, which are open for it as 4 and 6 and are gone.
const NAMELESS: &str = r#"exec 4<"$1" 6<"$2" && rm -f "$1" "$2" && shift 2 && exec "$@""#;
/// Minutes after which nobody writes into a file any more.
const ABANDONED: u32 = 60;

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
            self.sweep();
            let lines: String = only.unwrap_or_default().iter().map(|id| format!("{id};\n")).collect();
            let list = self.spool(&mut Cursor::new(lines))?;
            let archive = self.spool(&mut data)?;
            let command = nameless(command, [&list, &archive]);
            let mut output = self.clients.exec().start(&command, self.context.cancel)?;
            io::copy(&mut output, &mut io::sink()).context(|| "cannot run pg_restore".into())?;
            list.forget();
            archive.forget();
        } else {
            self.clients.exec().feed(&command, &mut data, self.context.cancel)?;
        }
        let contents = data.contents().ok_or_else(|| Failure::failed("the archive was not read to its end"))?;
        Ok(contents.bytes)
    }

    fn has_room(&self) -> bool {
        let free = match self.clients.place() {
            Place::Host => {
                rustix::fs::statvfs(self.spool_directory()).ok().map(|s| s.f_bavail.saturating_mul(s.f_frsize))
            }
            Place::Container(_) => self.free_in_container(),
        };
        // Not known is not none: a full disk is an error that says so.
        free.is_none_or(|free| free > self.size + self.size / 16)
    }

    fn free_in_container(&self) -> Option<u64> {
        let command = shell("df -Pk \"$1\" | tail -n 1", SPOOL);
        let mut said = String::new();
        self.clients.exec().start(&command, self.context.cancel).ok()?.read_to_string(&mut said).ok()?;
        said.split_whitespace().nth(3)?.parse::<u64>().ok()?.checked_mul(1024)
    }

    fn spool_directory(&self) -> String {
        let named = std::env::var("TMPDIR").ok().filter(|directory| !directory.is_empty());
        match self.clients.place() {
            Place::Host => named.unwrap_or_else(|| SPOOL.to_owned()),
            Place::Container(_) => SPOOL.to_owned(),
        }
    }

    /// Writes `data` to a file beside `pg_restore`.
    fn spool(&self, data: &mut dyn Read) -> Result<Spooled<'_>> {
        let directory = self.spool_directory();
        let path = format!("{directory}/{}{}", durable::TEMPORARY_PREFIX, durable::random_hex(8));
        let spooled = Spooled { clients: self.clients, path: Some(path.clone()) };
        let command = shell("umask 077 && exec cat > \"$1\"", &path);
        self.clients.exec().feed(&command, data, self.context.cancel).map_err(|failure| match failure.kind() {
            Kind::Failed => {
                failure.hint(format!("The archive waits in {directory} where pg_restore runs: make room there"))
            }
            _ => failure,
        })?;
        Ok(spooled)
    }

    /// Removes what a restore left that was killed. Where that cannot be, nothing is lost but room.
    fn sweep(&self) {
        let script = format!(
            "exec find \"$1\" -maxdepth 1 -name '{}*' -mmin +{ABANDONED} -exec rm -f {{}} +",
            durable::TEMPORARY_PREFIX
        );
        let swept = self.clients.exec().start(&shell(&script, &self.spool_directory()), self.context.cancel);
        let _ = swept.map(|mut output| io::copy(&mut output, &mut io::sink()));
    }
}

/// The same command behind [`NAMELESS`].
fn nameless(command: Command, files: [&Spooled<'_>; 2]) -> Command {
    let mut arguments: Vec<_> = ["-c", NAMELESS, "sh"].map(Into::into).into();
    arguments.extend(files.iter().filter_map(|file| file.path.as_ref()).map(Into::into));
    arguments.push(command.program);
    arguments.extend(command.arguments);
    Command { program: "sh".into(), arguments, ..command }
}

fn shell(script: &str, argument: &str) -> Command {
    let arguments = ["-c", script, "sh", argument].map(Into::into).into();
    Command { program: "sh".into(), arguments, ..Command::default() }
}

/// A file that is removed when this is dropped.
struct Spooled<'s> {
    clients: &'s Clients,
    path: Option<String>,
}

impl Spooled<'_> {
    /// It has no name any more.
    fn forget(mut self) {
        self.path = None;
    }
}

impl Drop for Spooled<'_> {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Also after a signal.
            let never = Cancel::default();
            let removed = self.clients.exec().start(&shell("exec rm -f \"$1\"", path), &never);
            let _ = removed.map(|mut output| io::copy(&mut output, &mut io::sink()));
        }
    }
}
