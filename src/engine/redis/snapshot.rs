//! A snapshot: the server writes its file in the background (`BGSAVE`), and bkp reads that file.
//!
//! The end is awaited by three signs: none is in progress, the last one went well, and `LASTSAVE` moved. That the file is the
//! new one is shown by the time inside it, by the server's own clock. The file is read where the server is: in its container,
//! or on this host.

use super::client::Client;
use super::connection;
use super::facts::{self, Facts};
use crate::engine::Server;
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Cancel;
use crate::exec::{Command, Place};
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const RULE: &str = "+bgsave +lastsave +info +time +config|get";
const TICK: Duration = Duration::from_millis(100);
/// Seconds by which the time in a file may be behind what `TIME` told before: the server takes the former from a coarser
/// clock, and just after the turn of a second that one is still in the second before.
const BLUR: i64 = 1;
/// A save that was put off, and that nothing is in the way of, begins within this.
const BEGIN: Duration = Duration::from_secs(15);

/// A file that the server has written for this run.
pub struct Snapshot {
    pub path: PathBuf,
    /// The server's clock before it was asked for.
    pub asked: i64,
}

/// Waits for the next look.
pub fn pause(cancel: &Cancel) -> Result<()> {
    // Nothing is ever sent here: a channel is how this layer waits.
    let _ = crossbeam_channel::after(TICK).recv();
    cancel.check()
}

pub fn take(client: &mut dyn Client, facts: &Facts, cancel: &Cancel) -> Result<Snapshot> {
    let (Some(directory), Some(name)) = (facts.configured("dir"), facts.configured("dbfilename")) else {
        let text = format!("{} does not tell where its file is", client.server());
        return Err(Failure::new(Kind::Key, text).hint(format!("On the server: ACL SETUSER <user> {RULE}")));
    };
    let path = PathBuf::from(directory).join(name);
    // A save that is under way began too early for this run, whatever its file says.
    wait_while_saving(client, cancel)?;
    // LASTSAVE counts seconds: two saves within one could not be told apart, nor two within the blur of the clock.
    let (last, asked) = loop {
        let (last, now) = (last_save(client)?, clock(client)?);
        if now > last + BLUR {
            break (last, now);
        }
        pause(cancel)?;
    };
    let answer = client.demand(&["BGSAVE", "SCHEDULE"], RULE)?;
    let begun = !answer.concat().contains("scheduled");
    wait_until_saved(client, last, begun, cancel)?;
    Ok(Snapshot { path, asked })
}

fn clock(client: &mut dyn Client) -> Result<i64> {
    let told = facts::clock(client)?;
    told.ok_or_else(|| connection::refused(&client.server(), "TIME", RULE, "NOPERM"))
}

fn last_save(client: &mut dyn Client) -> Result<i64> {
    let answer = client.demand(&["LASTSAVE"], RULE)?;
    let told = answer.first().and_then(|text| text.trim().parse().ok());
    told.ok_or_else(|| Failure::failed(format!("{} does not tell when it last saved", client.server())))
}

fn wait_while_saving(client: &mut dyn Client, cancel: &Cancel) -> Result<()> {
    while client.info()?.get("rdb_bgsave_in_progress").is_some_and(|is| is != "0") {
        pause(cancel)?;
    }
    Ok(())
}

fn wait_until_saved(client: &mut dyn Client, last: i64, mut begun: bool, cancel: &Cancel) -> Result<()> {
    let mut idle_since = Instant::now();
    loop {
        let info = client.info()?;
        let is = |name: &str| info.get(name).map_or("", String::as_str);
        let in_progress = is("rdb_bgsave_in_progress") == "1";
        begun |= in_progress;
        if in_progress || is("aof_rewrite_in_progress") == "1" {
            idle_since = Instant::now();
        } else if last_save(client)? != last && is("rdb_last_bgsave_status") == "ok" {
            return Ok(());
        } else if begun && is("rdb_last_bgsave_status") != "ok" {
            let text = format!("the background save of {} failed", client.server());
            return Err(Failure::failed(text).hint(
                "Look at the server's log: its data directory may be full or not writable, or memory short. \
                 With `stop-writes-on-bgsave-error` it refuses writes until a save goes well",
            ));
        } else if idle_since.elapsed() > BEGIN {
            let text = format!("{} did not begin its background save", client.server());
            return Err(Failure::new(Kind::TryLater, text).hint("Look at the server's log"));
        }
        pause(cancel)?;
    }
}

impl Snapshot {
    /// The file's bytes.
    pub fn open<'a>(&self, server: &Server, cancel: &'a Cancel) -> Result<Box<dyn Read + Send + 'a>> {
        match &server.place {
            Place::Container(_) => {
                let command = Command {
                    program: "cat".into(),
                    arguments: vec!["--".into(), (&self.path).into()],
                    ..Command::default()
                };
                server.exec()?.start(&command, cancel)
            }
            Place::Host => {
                let file = std::fs::File::open(&self.path)
                    .context(|| format!("cannot read {}, where the server says its file is", self.path.display()));
                let hint = "When the server is on another machine or in a container: use the method `replica`, or name its \
                            `container`";
                Ok(Box::new(file.map_err(|failure| failure.hint(hint))?))
            }
        }
    }

    /// Refuses a file that was written before this run.
    pub fn is_new(&self, written_at: Option<i64>) -> Result<()> {
        match written_at {
            Some(at) if at + BLUR >= self.asked => Ok(()),
            _ => {
                let text = format!("{} is not the file that the server has just written", self.path.display());
                Err(Failure::failed(text).hint("Is the server the one whose files these are?"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_second_before_may_be_this_runs_and_an_older_one_is_not() {
        let snapshot = Snapshot { path: "/data/dump.rdb".into(), asked: 100 };
        for at in [99, 100, 101] {
            snapshot.is_new(Some(at)).unwrap();
        }
        for at in [Some(98), None] {
            assert!(snapshot.is_new(at).unwrap_err().to_string().contains("not the file"), "{at:?}");
        }
    }
}
