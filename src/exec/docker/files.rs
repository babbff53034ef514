//! Files of a container, also of a stopped one, read and written as the engine's tar archives.

use super::Container;
use super::clock::{Clock, Stop, patiently};
use super::connect;
use crate::error::{Context, Failure, Result};
use crate::event::Cancel;
use bollard::body_try_stream;
use bollard::errors::Error;
use bollard::query_parameters::{DownloadFromContainerOptions, UploadToContainerOptions};
use bytes::{Buf, Bytes};
use futures_util::stream::{self, Stream, StreamExt};
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A tar archive that stands still for so long is given up.
const STALL: Duration = Duration::from_secs(60);
/// The engine answers an upload after its last byte, however long that takes.
const DAYS: Duration = Duration::from_secs(7 * 24 * 3600);

/// A file to write.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// In the directory it goes into.
    pub name: &'a str,
    pub mode: u32,
    pub owner: Owner,
    pub length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub user: u64,
    pub group: u64,
}

impl Container {
    /// Hands the regular file at `path` to `take`, with its length. The reader fails rather than end early.
    pub fn read_file<T>(
        &self,
        path: &str,
        cancel: &Cancel,
        take: impl FnOnce(&mut dyn Read, u64) -> Result<T>,
    ) -> Result<T> {
        let what = || format!("cannot read {path} in {}", self.title());
        let mut archive = tar::Archive::new(self.download(path, what(), cancel));
        let mut entry = first(&mut archive, &what)?;
        if !entry.header().entry_type().is_file() {
            return Err(Failure::failed(what()).because("it is not a regular file"));
        }
        let length = entry.size();
        let mut whole = Whole { inner: &mut entry, left: length };
        take(&mut whole, length)
    }

    /// Who owns what is at `path`.
    pub fn user_of(&self, path: &str) -> Result<Owner> {
        let what = || format!("cannot find out the owner of {path} in {}", self.title());
        let cancel = Cancel::default();
        let mut archive = tar::Archive::new(self.download(path, what(), &cancel));
        let entry = first(&mut archive, &what)?;
        let header = entry.header();
        Ok(Owner { user: header.uid().context(what)?, group: header.gid().context(what)? })
    }

    /// Writes a file with `data`, which must give exactly its length, into the directory at `path`, which must be there. What
    /// has the same name is replaced. When this fails, half a file may be left.
    pub fn write_file(&self, path: &str, file: &File<'_>, data: &mut dyn Read, cancel: &Cancel) -> Result<()> {
        let what = || format!("cannot write {} into {path} in {}", file.name, self.title());
        let options = UploadToContainerOptions { path: path.to_owned(), ..UploadToContainerOptions::default() };
        let (sender, receiver) = mpsc::channel(4);
        let pieces = stream::unfold(receiver, |mut pieces| async { pieces.recv().await.map(|piece| (piece, pieces)) });
        let client = self.docker.client.clone().with_timeout(DAYS);
        let id = self.id.clone();
        let upload = async move { client.upload_to_container(&id, Some(options), body_try_stream(pieces)).await };
        let upload = connect::spawn(upload)?;
        let mut archive = tar::Builder::new(Upload { sender, cancel });
        let mut header = tar::Header::new_gnu();
        header.set_size(file.length);
        header.set_mode(file.mode);
        header.set_uid(file.owner.user);
        header.set_gid(file.owner.group);
        let mut whole = Whole { inner: data, left: file.length };
        let data = (&mut whole).take(file.length);
        let sent = archive.append_data(&mut header, file.name, data).and_then(|()| archive.finish());
        if sent.is_err() {
            // First of all: the archive ends itself when it is dropped, and half a file would look like a whole one.
            let broken = Err(io::ErrorKind::UnexpectedEof.into());
            let _ = connect::wait(archive.get_ref().sender.send(broken))?;
        }
        drop(archive);
        let answer = connect::wait(upload)?.map_err(|error| Failure::failed(what()).because(error))?;
        match (sent, answer) {
            (Err(error), _) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::from_io(error, what)),
            (_, Err(error)) => Err(connect::failure(error, &what())),
            (sent, Ok(())) => sent.context(what),
        }
    }

    fn download<'a>(&self, path: &str, what: String, cancel: &'a Cancel) -> Download<'a> {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let stream = self.docker.client.download_from_container(&self.id, Some(options));
        Download { stream: Box::pin(stream), bytes: Bytes::new(), what, cancel }
    }
}

fn first<'a, R: Read>(archive: &'a mut tar::Archive<R>, what: &dyn Fn() -> String) -> Result<tar::Entry<'a, R>> {
    let entry = archive.entries().and_then(|mut entries| entries.next().transpose());
    entry.context(what)?.ok_or_else(|| Failure::failed(what()).because("the engine sent an empty archive"))
}

/// The archive as the engine sends it.
struct Download<'a> {
    stream: Pin<Box<dyn Stream<Item = std::result::Result<Bytes, Error>> + Send>>,
    bytes: Bytes,
    what: String,
    cancel: &'a Cancel,
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let clock = Clock { cancel: self.cancel, limit: None };
        while self.bytes.is_empty() {
            match patiently(clock, Some(STALL), Instant::now(), self.stream.next())? {
                Ok(Some(Ok(bytes))) => self.bytes = bytes,
                Ok(Some(Err(error))) => return Err(connect::failure(error, &self.what).into()),
                Ok(None) => return Ok(0),
                Err(Stop::Told(failure)) => return Err(failure.into()),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        let length = self.bytes.len().min(buffer.len());
        self.bytes.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Takes the archive to the engine.
struct Upload<'a> {
    sender: mpsc::Sender<io::Result<Bytes>>,
    cancel: &'a Cancel,
}

impl Write for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let clock = Clock { cancel: self.cancel, limit: None };
        let piece = Bytes::copy_from_slice(bytes);
        match patiently(clock, Some(STALL), Instant::now(), self.sender.send(Ok(piece)))? {
            Ok(Ok(())) => Ok(bytes.len()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(Stop::Told(failure)) => Err(failure.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Exactly `left` bytes, or an error.
struct Whole<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            let text = format!("the archive of the engine is {} bytes short", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.left -= read as u64;
        Ok(read)
    }
}
