//! Bytes on their way through an engine: counted on the meter, hashed, and stopped by a signal; and a stream that becomes a file.
//!
//! Nothing here retries, and nothing makes a file visible: that is the caller's last step.

use super::{LoadRun, Origin};
use crate::durable::{self, TempFile};
use crate::error::{self, Failure, Kind, Result};
use crate::event::Context;
use error::Context as _;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

const PIECE: usize = 256 << 10;

/// Counts what is read through it on the meter, and fails once the run is cancelled.
pub struct Metered<'a, R> {
    inner: R,
    context: Context<'a>,
    hash: blake3::Hasher,
    bytes: u64,
    ended: bool,
}

impl<'a, R: Read> Metered<'a, R> {
    pub fn new(inner: R, context: Context<'a>) -> Self {
        Metered { inner, context, hash: blake3::Hasher::new(), bytes: 0, ended: false }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// BLAKE3 of what was read, in hexadecimal.
    pub fn digest(&self) -> String {
        self.hash.finalize().to_hex().to_string()
    }

    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Whether the end was reached, and not only what the other side cared to read.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.context.cancel.check()?;
            match self.inner.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(read) => {
                    self.ended |= read == 0 && !buffer.is_empty();
                    self.hash.update(&buffer[..read]);
                    self.bytes += read as u64;
                    self.context.meter.add(read as u64, 0);
                    return Ok(read);
                }
            }
        }
    }
}

/// The one stream of a point of an engine that makes one.
pub fn only_stream<'a>(origin: &dyn Origin, run: &LoadRun<'a>) -> Result<Metered<'a, Box<dyn Read + Send>>> {
    if run.part != super::Part::Whole {
        return Err(Failure::usage("this point holds one stream and no paths: --path does not apply"));
    }
    let names = origin.streams();
    match names.as_slice() {
        [name] => Ok(Metered::new(origin.stream(name)?, run.context)),
        _ => Err(Failure::new(
            Kind::Verification,
            format!("the point should hold one stream, but holds {}", names.len()),
        )),
    }
}

/// Refuses a target that is there already. The last step refuses again, for what appears meanwhile.
pub fn must_be_free(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Err(occupied(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::from_io(error, || format!("cannot look at {}", path.display()))),
    }
}

fn occupied(path: &Path) -> Failure {
    Failure::new(Kind::Refused, format!("{} is there already; nothing was changed", path.display()))
        .hint("Choose another --to, or move it away first")
}

/// Writes all of `data` into a temporary file beside `target`.
pub fn receive<R: Read>(data: &mut Metered<'_, R>, target: &Path) -> Result<TempFile> {
    let directory = durable::parent_of(target);
    let mut file = TempFile::create_in(directory, 0o600)
        .context(|| format!("cannot write into {}", directory.display()))
        .map_err(|failure| failure.hint("The directory of the target must exist and be writable"))?;
    durable::crash_point("restore:target-begun");
    let mut buffer = vec![0; PIECE];
    loop {
        let read = data.read(&mut buffer).context(|| format!("cannot read the data for {}", target.display()))?;
        if read == 0 {
            return Ok(file);
        }
        file.write_all(&buffer[..read]).context(|| format!("cannot write {}", target.display()))?;
    }
}

/// Gives a finished file its name, which must still be free.
pub fn appear(file: TempFile, target: &Path) -> Result<()> {
    durable::crash_point("restore:before-live");
    file.commit_new(target).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => occupied(target),
        _ => Failure::from_io(error, || format!("cannot create {}", target.display())),
    })?;
    durable::crash_point("restore:after-live");
    Ok(())
}
