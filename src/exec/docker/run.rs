//! The plain ways of running a command inside a container: its output read, or data fed to it.

use super::container::Container;
use super::scripts::Mode;
use super::session::{Event, Session, ended_with};
use crate::error::{Failure, Result};
use crate::event::Cancel;
use crate::exec::Command;
use crate::exec::tail::Ending;
use bytes::{Buf, Bytes};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const PIECE: usize = 128 << 10;

/// Standard output of a command, as [`crate::exec::Output`] promises it.
pub struct ContainerOutput<'a> {
    session: Session<'a>,
    ending: Option<Ending>,
    data: Bytes,
    /// How it ended; a second read after a failure fails again.
    outcome: Option<std::result::Result<(), String>>,
}

impl<'a> ContainerOutput<'a> {
    pub fn new(session: Session<'a>, ending: Option<Ending>) -> Self {
        ContainerOutput { session, ending, data: Bytes::new(), outcome: None }
    }

    fn advance(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.session.check()?;
        while self.data.is_empty() {
            match self.session.receive(self.session.silence)? {
                Event::Data(data) => self.data = data,
                Event::Ended(told) => {
                    self.session.finish(told)?;
                    if self.ending.as_ref().is_some_and(|ending| !ending.seen()) {
                        let what = "ended well, but its output does not end with the terminator: it counts as cut";
                        let hint = "Run the command by hand and look at its last line";
                        return Err(self.session.failure(what).hint(hint));
                    }
                    self.session.keep_remarks();
                    return Ok(0);
                }
            }
        }
        let length = self.data.len().min(buffer.len());
        self.data.copy_to_slice(&mut buffer[..length]);
        if let Some(ending) = &mut self.ending {
            ending.push(&buffer[..length]);
        }
        Ok(length)
    }
}

impl Read for ContainerOutput<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.outcome {
            Some(Ok(())) => return Ok(0),
            Some(Err(text)) => return Err(Failure::failed(text.clone()).into()),
            None if buffer.is_empty() => return Ok(0),
            None => {}
        }
        let outcome = self.advance(buffer);
        match &outcome {
            Ok(0) => self.outcome = Some(Ok(())),
            Ok(_) => {}
            Err(failure) => self.outcome = Some(Err(failure.full())),
        }
        Ok(outcome?)
    }
}

/// Feeds `data` to a command that was started for it.
pub fn feed(mut session: Session<'_>, data: &mut dyn Read) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut whole = true;
    while whole {
        match data.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => whole = session.send(&buffer[..length])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                // Dropped now, the session kills before it lets the input end.
                return Err(Failure::from_io(error, || format!("cannot read the data for {}", session.name)));
            }
        }
    }
    if whole {
        session.close_input()?;
    }
    // It may work on for long after it has taken everything: only the limit counts now.
    let told = end_of(&mut session, None)?;
    if !whole || told.status != 0 {
        session.give_up();
        let early = "ended well, but before it had read all data".to_owned();
        return Err(session.failure(&if told.status == 0 { early } else { ended_with(told.status) }));
    }
    if session.tells_rest() && end_of(&mut session, Some(Duration::from_secs(60)))?.status != 0 {
        return Err(session.failure("ended well, but left some of the data unread"));
    }
    session.finish(told)
}

fn end_of(session: &mut Session<'_>, silence: Option<Duration>) -> Result<super::scripts::Told> {
    loop {
        if let Event::Ended(told) = session.receive(silence)? {
            return Ok(told);
        }
    }
}

/// The first of `programs` that is there. Without `sh` in the image each is asked for its version.
pub fn find(container: &Container, programs: &[&str]) -> Result<Option<String>> {
    let key = (container.id.clone(), programs.join(" "));
    if let Some(known) = FOUND.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(Some(known.clone()));
    }
    let found = look_for(container, programs)?;
    if let Some(found) = &found {
        FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found.clone());
    }
    Ok(found)
}

/// What was found where: a command in a container takes long, and a program that is there stays there.
static FOUND: Mutex<BTreeMap<(String, String), String>> = Mutex::new(BTreeMap::new());

fn look_for(container: &Container, programs: &[&str]) -> Result<Option<String>> {
    let script = r#"for program; do command -v "$program" >/dev/null 2>&1 && echo "$program" && exit; done; exit 0"#;
    let mut arguments: Vec<_> = ["-c", script, "sh"].map(Into::into).to_vec();
    arguments.extend(programs.iter().map(Into::into));
    let limit = Some(Duration::from_secs(60));
    let command = Command { program: "sh".into(), arguments, limit, ..Command::default() };
    if !container.has_no_shell()
        && let Some(answer) = asked(container, &command)?
    {
        let name = String::from_utf8_lossy(&answer).trim().to_owned();
        return Ok(Some(name).filter(|name| !name.is_empty()));
    }
    for program in programs {
        let arguments = vec!["--version".into()];
        let limit = Some(Duration::from_secs(20));
        let command = Command { program: program.into(), arguments, limit, ..Command::default() };
        if asked(container, &command)?.is_some() {
            return Ok(Some((*program).to_owned()));
        }
    }
    Ok(None)
}

/// What `command` writes; `None` when it cannot be run.
fn asked(container: &Container, command: &Command) -> Result<Option<Vec<u8>>> {
    let cancel = Cancel::default();
    let started = Session::start(container, command, Mode::Read, &cancel);
    let mut session = match started {
        Ok(session) => session,
        Err(failure) if failure.kind() == crate::error::Kind::Usage => return Ok(None),
        Err(failure) => return Err(failure),
    };
    session.close_input()?;
    let mut answer = Vec::new();
    loop {
        match session.receive(None)? {
            Event::Data(data) => answer.extend_from_slice(&data),
            Event::Ended(told) => return Ok(session.finish(told).is_ok().then_some(answer)),
        }
    }
}
