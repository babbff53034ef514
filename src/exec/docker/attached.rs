//! One command inside a container, and the connection to its standard streams.
//!
//! It is bare: whoever uses it sees to time limits, to the exit status, and that the command ends.

use crate::error::{Failure, Result};
use crate::exec::Command;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream::{Stream, StreamExt};
use std::ffi::OsStr;
use std::pin::Pin;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// A piece of what it wrote.
pub enum Piece {
    Output(Bytes),
    Complaint(Bytes),
}

/// `None` at the end of the stream.
pub type Heard = std::result::Result<Option<Piece>, String>;

pub enum Exchanged {
    Heard(Heard),
    Taken(std::io::Result<usize>),
}

pub type Output = Pin<Box<dyn Stream<Item = std::result::Result<LogOutput, Error>> + Send>>;
pub type Input = Pin<Box<dyn AsyncWrite + Send>>;

pub struct Attached {
    pub id: String,
    output: Output,
    /// Absent once it is closed.
    input: Option<Input>,
}

impl Attached {
    /// Runs `words` in the container; environment and directory are those of `command`.
    pub async fn open(
        client: &bollard::Docker,
        container: &str,
        words: Vec<String>,
        command: Option<&Command>,
    ) -> std::result::Result<Self, Error> {
        let environment = command.map(|command| &command.environment).into_iter().flatten();
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            cmd: Some(words),
            env: Some(environment.map(|(name, value)| [text(name), text(value)].join("=")).collect()),
            working_dir: command.and_then(|command| command.directory.as_ref()).map(|path| text(path.as_os_str())),
            ..CreateExecOptions::default()
        };
        let id = client.create_exec(container, options).await?.id;
        let start = StartExecOptions { output_capacity: Some(64 << 10), ..StartExecOptions::default() };
        match client.start_exec(&id, Some(start)).await? {
            StartExecResults::Attached { output, input } => Ok(Attached { id, output, input: Some(input) }),
            StartExecResults::Detached => Err(Error::DockerStreamError { error: "it is not attached".into() }),
        }
    }

    /// The next piece; `None` at the end of the stream. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Heard {
        piece(self.output.next().await)
    }

    /// What comes first: something to read, or some of `bytes` being taken. Nothing is lost when the wait is given up.
    pub async fn exchange(&mut self, bytes: &[u8]) -> Exchanged {
        let Some(input) = &mut self.input else {
            return Exchanged::Taken(Err(std::io::ErrorKind::BrokenPipe.into()));
        };
        let write = std::pin::pin!(input.write(bytes));
        let read = self.output.next();
        match select(read, write).await {
            Either::Left((item, _)) => Exchanged::Heard(piece(item)),
            Either::Right((taken, _)) => Exchanged::Taken(taken),
        }
    }

    pub async fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.input {
            Some(input) => input.flush().await,
            None => Ok(()),
        }
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.input {
            Some(input) => {
                input.write_all(bytes).await?;
                input.flush().await
            }
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Both streams by themselves.
    pub fn split(self) -> (Output, Input) {
        (self.output, self.input.unwrap_or_else(|| Box::pin(tokio::io::sink())))
    }

    /// Tells the command that its input has ended.
    pub async fn close(&mut self) {
        if let Some(mut input) = self.input.take() {
            // Gone already: then it needs no telling.
            let _ = input.shutdown().await;
        }
    }
}

fn piece(item: Option<std::result::Result<LogOutput, Error>>) -> Heard {
    match item {
        None => Ok(None),
        Some(Ok(LogOutput::StdOut { message })) => Ok(Some(Piece::Output(message))),
        Some(Ok(LogOutput::StdErr { message })) => Ok(Some(Piece::Complaint(message))),
        Some(Ok(_)) => Err("its streams are torn, or not told apart".into()),
        Some(Err(error)) => Err(error.to_string()),
    }
}

fn text(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

/// Program and arguments of `command`; the engine takes only text.
pub fn words(command: &Command) -> Result<Vec<String>> {
    let words = std::iter::once(&command.program).chain(&command.arguments);
    let words: Option<Vec<String>> = words.map(|word| word.to_str().map(str::to_owned)).collect();
    match words {
        Some(words) if words[0].is_empty() => Err(Failure::usage("there is no program to run")),
        Some(words) => Ok(words),
        None => Err(Failure::usage("a command inside a container must be UTF-8 text")),
    }
}
