//! One archive into one new database, by several workers of `pg_restore`.
//!
//! Workers need a file to seek in, so the archive is put beside `pg_restore`, wherever that runs: into a file that has no name
//! and goes with whoever has it open, however that ends. Where there is no room for it, one worker reads the archive as it
//! comes. It is walked on its way, so that a cut archive is found before anything is loaded.

use crate::durable;
use crate::engine::postgres::archive::Walked;
use crate::engine::postgres::client::Clients;
use crate::engine::transfer::Metered;
use crate::error::{Context as _, Failure, Result};
use crate::event::Context;
use crate::exec::{Command, Place};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::fd::AsRawFd;

/// Where spooled archives go, on the host and in containers.
const SPOOL: &str = "/var/tmp";
/// Takes a password when `$1` is yes, then the list up to an empty line, then the archive, and runs what follows `$2`, the
/// name that the files have for a moment.
const BESIDE: &str = r#"umask 077
password=
[ "$1" = no ] || IFS= read -r password
exec 3<>"$2" && rm -f "$2" || exit 1
exec 4<>"$2" && rm -f "$2" || exit 1
while IFS= read -r line && [ -n "$line" ]; do printf '%s\n' "$line"; done >&4
cat >&3 || exit 1
asks=$1
shift 2
if [ "$asks" = no ]; then exec "$@" </dev/null; fi
printf '%s\n' "$password" | "$@"
"#;
/// More workers than this only make a server seek.
const MOST_WORKERS: usize = 8;

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
        let lines = only.map(|ids| ids.iter().map(|id| format!("{id};\n")).collect::<String>());
        let mut command = self.clients.command("pg_restore", self.database);
        command.arguments.push("--exit-on-error".into());
        if !self.tablespaces {
            command.arguments.push("--no-tablespaces".into());
        }
        // A worker that reads the archive as it comes must want all of it.
        if only.is_some() || self.has_room() {
            let workers = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, MOST_WORKERS));
            command.arguments.push(format!("--jobs={workers}").into());
            match self.clients.place() {
                Place::Host => self.on_host(command, &mut data, lines)?,
                Place::Container(_) => self.in_container(command, &mut data, lines)?,
            }
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
        let command = shell("df -Pk \"$1\" | tail -n 1", SPOOL);
        let mut said = String::new();
        self.clients.exec().start(&command, self.context.cancel).ok()?.read_to_string(&mut said).ok()?;
        said.split_whitespace().nth(3)?.parse::<u64>().ok()?.checked_mul(1024)
    }

    fn on_host(&self, mut command: Command, data: &mut dyn Read, lines: Option<String>) -> Result<()> {
        let path = |file: &File| format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let list = lines.map(|lines| nameless(&mut Cursor::new(lines))).transpose()?;
        if let Some(list) = &list {
            command.arguments.extend(["-L".into(), path(list).into()]);
        }
        let archive = nameless(data)?;
        command.arguments.push(path(&archive).into());
        let mut output = self.clients.exec().start(&command, self.context.cancel)?;
        io::copy(&mut output, &mut io::sink()).map(drop).context(|| "cannot run pg_restore".into())
    }

    fn in_container(&self, command: Command, data: &mut dyn Read, lines: Option<String>) -> Result<()> {
        let asks = if command.input.is_some() { "yes" } else { "no" };
        let name = format!("{SPOOL}/{}{}", durable::TEMPORARY_PREFIX, durable::random_hex(8));
        let mut arguments: Vec<_> = ["-c", BESIDE, "sh", asks, &name].map(Into::into).into();
        arguments.push(command.program);
        arguments.extend(command.arguments);
        if lines.is_some() {
            arguments.extend(["-L", "/proc/self/fd/4"].map(Into::into));
        }
        arguments.push("/proc/self/fd/3".into());
        let command = Command { program: "sh".into(), arguments, ..command };
        let mut data = Cursor::new(lines.unwrap_or_default() + "\n").chain(data);
        self.clients.exec().feed(&command, &mut data, self.context.cancel)
    }
}

/// A file on this host with `data` in it.
fn nameless(data: &mut dyn Read) -> Result<File> {
    let what = || format!("cannot write into {SPOOL}");
    let mut file = tempfile::tempfile_in(SPOOL).context(what)?;
    io::copy(data, &mut file).context(what)?;
    Ok(file)
}

fn shell(script: &str, argument: &str) -> Command {
    let arguments = ["-c", script, "sh", argument].map(Into::into).into();
    Command { program: "sh".into(), arguments, ..Command::default() }
}
