//! How a command inside a container begins: the carrier tells its number, the watcher learns it, and only then it is let go.
//!
//! Should bkp die in between, the carrier's input ends and it gives up, so there is no instant in which a command runs that
//! nobody would end.

use super::Container;
use super::attached::{Attached, Piece};
use super::clock::{Clock, ENGINE, Stop, patiently};
use super::scripts::{CARRIER, Mark, Mode, WATCHER};
use crate::error::{Failure, Result};
use crate::exec::Command;
use crate::exec::tail::Complaints;
use bollard::errors::Error;
use futures_util::future::join;
use std::time::Instant;

/// The command, its watcher, its mark, and what was complained about until then.
pub type Opened = (Attached, Option<Attached>, Option<Mark>, Complaints);

/// Starts carrier and watcher. `None` when the image has no `sh`.
pub fn with_shell(
    container: &Container,
    command: &Command,
    words: &[String],
    mode: Mode,
    clock: Clock<'_>,
) -> Result<Option<Opened>> {
    let mark = Mark::new().map_err(|error| Failure::failed("the system gives no random numbers").because(error))?;
    let client = &container.docker.client;
    let shell = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
    let carrier = [shell(CARRIER), vec!["sh".to_owned()], words.to_vec()].concat();
    let both = async {
        let main = Attached::open(client, &container.id, carrier, Some(command));
        let (main, watcher) = join(main, Attached::open(client, &container.id, shell(WATCHER), None)).await;
        handshake(main?, watcher?, &mark, mode).await
    };
    let opened =
        patiently(clock, Some(ENGINE), Instant::now(), both)?.map_err(|stop| stopped(container, words, stop))?;
    match opened {
        Ok((main, watcher, complaints)) => Ok(Some((main, Some(watcher), Some(mark), complaints))),
        Err(Trouble::Missing) => Err(missing(container, &words[0])),
        Err(Trouble::Odd(text)) if lacks_shell(&text) => Ok(None),
        Err(Trouble::Odd(text)) => Err(container.cannot_run(&words[0]).because(text)),
        Err(Trouble::Engine(error)) if lacks_shell(&error.to_string()) => Ok(None),
        Err(Trouble::Engine(error)) => Err(container.refused(&words[0], error)),
    }
}

/// Starts the command by itself.
pub fn alone(container: &Container, command: &Command, words: &[String], clock: Clock<'_>) -> Result<Attached> {
    let open = Attached::open(&container.docker.client, &container.id, words.to_vec(), Some(command));
    let opened =
        patiently(clock, Some(ENGINE), Instant::now(), open)?.map_err(|stop| stopped(container, words, stop))?;
    opened.map_err(|error| match error.to_string() {
        text if text.contains("not found") || text.contains("no such file") => missing(container, &words[0]),
        _ => container.refused(&words[0], error),
    })
}

fn stopped(container: &Container, words: &[String], stop: Stop) -> Failure {
    match stop {
        Stop::Told(failure) => failure,
        Stop::Limit(time) | Stop::Silence(time) => container
            .cannot_run(&words[0])
            .because(format!("it did not start within {} s", time.as_secs_f64()))
            .hint("Look at the load of the machine and at the log of the container engine"),
    }
}

pub fn missing(container: &Container, program: &str) -> Failure {
    Failure::usage(format!("there is no program `{program}` in {}", container.title()))
        .hint("Install it in the image, or reach the server over the network with the program of this host")
}

/// What the runtimes say when they find no `sh`.
fn lacks_shell(text: &str) -> bool {
    text.contains("exec: \"sh\"")
        || (text.contains("executable file") && text.contains("sh") && text.contains("not found"))
}

enum Trouble {
    /// The program of the command is not there.
    Missing,
    /// Something else was said than expected.
    Odd(String),
    Engine(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Engine(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Trouble::Odd(error.to_string())
    }
}

async fn handshake(
    mut main: Attached,
    mut watcher: Attached,
    mark: &Mark,
    mode: Mode,
) -> std::result::Result<(Attached, Attached, Complaints), Trouble> {
    let (line, rest) = first_line(&mut main).await?;
    let (number, found) = line.split_once(' ').unwrap_or((&line, ""));
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Trouble::Odd(line));
    }
    match found {
        "found" => {}
        "missing" => return Err(Trouble::Missing),
        _ => return Err(Trouble::Odd(line)),
    }
    watcher.write_all(format!("{number}\n").as_bytes()).await?;
    match first_line(&mut watcher).await?.0.as_str() {
        "ready" => {}
        other => return Err(Trouble::Odd(other.to_owned())),
    }
    main.write_all(format!("{} {}\n", mark.digits(), mode.word()).as_bytes()).await?;
    let mut complaints = Complaints::default();
    complaints.push(&rest);
    Ok((main, watcher, complaints))
}

/// The first line that it writes, and what came with it.
async fn first_line(attached: &mut Attached) -> std::result::Result<(String, Vec<u8>), Trouble> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&bytes[..end]).trim().to_owned();
            return Ok((line, bytes.split_off(end + 1)));
        }
        match attached.next().await.map_err(Trouble::Odd)? {
            Some(Piece::Output(piece) | Piece::Complaint(piece)) => bytes.extend_from_slice(&piece),
            None => return Err(Trouble::Odd(String::from_utf8_lossy(&bytes).trim().to_owned())),
        }
    }
}
