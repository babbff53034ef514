//! One archive into one new database, by several workers of `pg_restore`.
//!
//! Workers need a file to seek in, so the archive is put beside `pg_restore`, wherever that runs, and removed in all
//! cases; where there is no room for it, one worker reads it as it comes. It is walked on its way, so that a cut archive
//! is found before anything is loaded.

use crate::durable::{self, TempFile};
use crate::engine::postgres::archive::Walked;
use crate::engine::postgres::client::Clients;
use crate::engine::transfer::Metered;
use crate::error::{Context as _, Failure, Result};
use crate::event::{Cancel, Context};
use crate::exec::{Command, Place};
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};

/// Where spooled archives go, in containers and, unless TMPDIR says otherwise, on the host.
const SPOOL: &str = "/var/tmp";
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
        let list = lines.map(|lines| self.spool(&mut Cursor::new(lines))).transpose()?;
        let mut command = self.clients.command("pg_restore", self.database);
        command.arguments.push("--exit-on-error".into());
        if !self.tablespaces {
            command.arguments.push("--no-tablespaces".into());
        }
        if let Some(list) = &list {
            command.arguments.extend(["-L".into(), list.path().into()]);
        }
        // A worker that reads the archive as it comes must want all of it.
        if only.is_some() || self.has_room() {
            let archive = self.spool(&mut data)?;
            let workers = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, MOST_WORKERS));
            command.arguments.push(format!("--jobs={workers}").into());
            command.arguments.push(archive.path().into());
            let mut output = self.clients.exec().start(&command, self.context.cancel)?;
            io::copy(&mut output, &mut io::sink()).context(|| "cannot run pg_restore".into())?;
        } else {
            self.clients.exec().feed(&command, &mut data, self.context.cancel)?;
        }
        let contents = data.contents().ok_or_else(|| Failure::failed("the archive was not read to its end"))?;
        Ok(contents.bytes)
    }

    fn has_room(&self) -> bool {
        let free = match self.clients.place() {
            Place::Host => rustix::fs::statvfs(spool_directory()).ok().map(|s| s.f_bavail.saturating_mul(s.f_frsize)),
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

    /// Writes `data` to a file beside `pg_restore`.
    fn spool(&self, data: &mut dyn Read) -> Result<Spooled<'_>> {
        match self.clients.place() {
            Place::Host => {
                let directory = spool_directory();
                let what = || format!("cannot write into {}", directory.display());
                let mut file = TempFile::create_in(&directory, 0o600).context(what)?;
                io::copy(data, &mut file).context(what)?;
                file.flush().context(what)?;
                Ok(Spooled::Host(file))
            }
            Place::Container(_) => {
                let path = format!("{SPOOL}/{}{}", durable::TEMPORARY_PREFIX, durable::random_hex(8));
                let spooled = Spooled::Container { clients: self.clients, path: path.clone() };
                let command = shell("umask 077 && exec cat > \"$1\"", &path);
                self.clients.exec().feed(&command, data, self.context.cancel)?;
                Ok(spooled)
            }
        }
    }
}

fn spool_directory() -> PathBuf {
    std::env::var_os("TMPDIR").filter(|directory| !directory.is_empty()).map_or_else(|| SPOOL.into(), PathBuf::from)
}

fn shell(script: &str, argument: &str) -> Command {
    let arguments = ["-c", script, "sh", argument].map(Into::into).into();
    Command { program: "sh".into(), arguments, ..Command::default() }
}

/// A file that is removed when this is dropped.
enum Spooled<'s> {
    Host(TempFile),
    Container { clients: &'s Clients, path: String },
}

impl Spooled<'_> {
    fn path(&self) -> &Path {
        match self {
            Spooled::Host(file) => file.path(),
            Spooled::Container { path, .. } => Path::new(path),
        }
    }
}

impl Drop for Spooled<'_> {
    fn drop(&mut self) {
        if let Spooled::Container { clients, path } = self {
            // Also after a signal: nobody else would remove it.
            let never = Cancel::default();
            let removed = clients.exec().start(&shell("exec rm -f \"$1\"", path), &never);
            let _ = removed.map(|mut output| io::copy(&mut output, &mut io::sink()));
        }
    }
}
