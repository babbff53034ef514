//! Commands: any program's standard output as a stream, and its standard input for the way back.
//!
//! The dump is whole when the program ended with status 0 (and wrote the terminator, when one is required); its content is
//! not looked into, so the fingerprint is only length and hash of the stream. `consistent_at` is the instant of the start:
//! a program that takes a snapshot takes it later, so whatever was committed by then is in the dump; what came later may be.
//! Arguments never appear in messages or points: somebody may have put a password there.

use super::transfer::{self, Metered};
use super::{DumpRun, Dumped, Engine, Fingerprint, FingerprintPart, LoadRun, Loaded, Origin, Sink, Target};
use crate::clock;
use crate::error::{Failure, Kind, Result};
use crate::exec::host::Host;
use crate::exec::{self, Exec};
use std::collections::BTreeMap;
use std::time::Duration;

/// How the fingerprint is made: one part, `stream`, of bytes and their BLAKE3.
const METHOD: &str = "stream-1";

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub run: Vec<String>,
    pub stream: String,
    pub terminator: Option<String>,
    pub restore: Option<Vec<String>>,
    /// How long `run` may take.
    pub limit: Duration,
}

impl Settings {
    /// What the stream is called when nobody says.
    pub const STREAM: &'static str = "output";
    /// Nobody waits longer than this for a dump that hangs, unless told to.
    pub const LIMIT: Duration = Duration::from_secs(24 * 3600);
}

pub struct CommandEngine {
    settings: Settings,
}

impl CommandEngine {
    pub fn new(settings: Settings) -> Self {
        CommandEngine { settings }
    }

    fn dump_command(&self) -> Result<exec::Command> {
        let mut command = command(&self.settings.run, "run")?;
        command.terminator = self.settings.terminator.clone();
        command.limit = Some(self.settings.limit);
        Ok(command)
    }
}

fn command(words: &[String], setting: &str) -> Result<exec::Command> {
    let Some((program, arguments)) = words.split_first().filter(|(program, _)| !program.is_empty()) else {
        return Err(Failure::usage(format!("`{setting}` names no program")));
    };
    let arguments = arguments.iter().map(Into::into).collect();
    Ok(exec::Command { program: program.into(), arguments, ..exec::Command::default() })
}

/// The program, and that there are arguments, but not which.
fn abridged(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [program] => program.clone(),
        [program, ..] => format!("{program} …"),
    }
}

impl Engine for CommandEngine {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn location(&self) -> String {
        abridged(&self.settings.run)
    }

    fn preflight(&self) -> Result<()> {
        let name = &self.settings.stream;
        if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
            return Err(Failure::usage(format!("`{name}` is no name for a stream"))
                .hint("Give a plain file name that tells the content: dump.sql"));
        }
        if self.settings.terminator.as_ref().is_some_and(|t| t.trim_ascii().is_empty()) {
            return Err(
                Failure::usage("the terminator is empty").hint("Give the last line of a whole dump, or leave it out")
            );
        }
        if let Some(words) = &self.settings.restore {
            command(words, "restore")?;
        }
        Host::find(&self.dump_command()?).map(|_| ())
    }

    fn dump(&self, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
        self.preflight()?;
        let command = self.dump_command()?;
        let program = Host::find(&command)?;
        let consistent_at = clock::now();
        let mut output = Metered::new(Host.start(&command, run.context.cancel)?, run.context);
        sink.stream(&self.settings.stream, &mut output)?;
        if !output.ended() {
            return Err(Failure::failed(format!("the output of {} was not read to its end", self.location())));
        }
        let mut warnings = Vec::new();
        if output.bytes() == 0 {
            warnings.push(format!("{} wrote nothing: this point is empty", self.location()));
        }
        let restore_hint = match &self.settings.restore {
            Some(words) => format!("feed this stream to the standard input of: {}", abridged(words)),
            None => format!("this stream is what {} wrote to its standard output", self.location()),
        };
        Ok(Dumped {
            position: None,
            details: serde_json::Value::Null,
            version: program.display().to_string(),
            consistent_at,
            inventory: BTreeMap::new(),
            fingerprint: fingerprint(&output),
            warnings,
            notes: Vec::new(),
            restore_hint,
        })
    }

    fn load(&self, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
        match target {
            Target::New(path) => {
                transfer::must_be_free(path)?;
                let mut data = transfer::only_stream(origin, run)?;
                let file = transfer::receive(&mut data, path)?;
                compare(origin, &data)?;
                crate::durable::crash_point("restore:data-written");
                transfer::appear(file, path)?;
                Ok(loaded(&data))
            }
            Target::Command => {
                let words = self.settings.restore.as_ref().ok_or_else(|| {
                    Failure::usage(format!("no restore command is configured for {}", self.location()))
                        .hint("Add `restore: [PROGRAM, …]` to the source, or write the stream to a file with --to")
                })?;
                let mut data = transfer::only_stream(origin, run)?;
                Host.feed(&command(words, "restore")?, &mut data, run.context.cancel)?;
                compare(origin, &data)?;
                Ok(loaded(&data))
            }
            Target::Live(_) | Target::NewVolume(_) | Target::NewDatabases(_) => {
                Err(Failure::usage("bkp cannot put the output of a command back into its place")
                    .hint("Restore through the restore command of the source, or to a file with --to"))
            }
        }
    }
}

fn fingerprint<R: std::io::Read>(data: &Metered<'_, R>) -> Fingerprint {
    let part = FingerprintPart { count: data.bytes(), digest: data.digest() };
    Fingerprint {
        method: METHOD.into(),
        parts: BTreeMap::from([("stream".to_owned(), part)]),
        ..Fingerprint::default()
    }
}

fn compare<R: std::io::Read>(origin: &dyn Origin, data: &Metered<'_, R>) -> Result<()> {
    if origin.fingerprint() == &fingerprint(data) {
        return Ok(());
    }
    Err(Failure::new(Kind::Verification, "the stream is not what the fingerprint of the point says")
        .hint("Take another point, and look at this one: bkp check"))
}

fn loaded<R: std::io::Read>(data: &Metered<'_, R>) -> Loaded {
    Loaded { bytes: data.bytes(), items: 1, warnings: Vec::new(), ..Loaded::default() }
}
