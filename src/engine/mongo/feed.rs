//! The way of an archive from the thread that asks the server to the one that stores: pieces of a MiB in a bounded queue,
//! so that the next batch is on its way while the last one is compressed. What passes is proven at once.

use super::oplog::Seen;
use super::walk::{Walked, Walker};
use crate::error::{Failure, Result};
use crate::event::Context;
use crossbeam_channel::{Receiver, Sender};
use std::io::{self, Read};

const PIECE: usize = 1 << 20;

/// Pieces under way at most: about one batch of a server.
const QUEUE: usize = 16;

pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// Everything was handed over. A queue that ends without it was broken off.
    End,
    Broken(Failure),
}

pub(super) fn queue() -> (Feed, Pipe) {
    let (sender, receiver) = crossbeam_channel::bounded(QUEUE);
    (Feed { sender, buffer: Vec::with_capacity(PIECE) }, Pipe { receiver, piece: Vec::new(), read: 0, ended: false })
}

pub(super) struct Feed {
    sender: Sender<Piece>,
    buffer: Vec<u8>,
}

impl Feed {
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    /// Ends the archive, or tells why there is no whole one. Nobody may listen any more: then nobody needs it.
    pub fn close(mut self, outcome: Result<()>) {
        let last = match outcome.and_then(|()| self.flush()) {
            Ok(()) => Piece::End,
            Err(failure) => Piece::Broken(failure),
        };
        let _ = self.sender.send(last);
    }

    fn flush(&mut self) -> Result<()> {
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE + (PIECE >> 3)));
        self.sender.send(Piece::Bytes(piece)).map_err(|_| Failure::failed("nobody takes the archive any more"))
    }
}

pub(super) struct Pipe {
    receiver: Receiver<Piece>,
    piece: Vec<u8>,
    read: usize,
    ended: bool,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            if self.ended {
                return Ok(0);
            }
            match self.receiver.recv() {
                Ok(Piece::Bytes(piece)) => (self.piece, self.read) = (piece, 0),
                Ok(Piece::End) => self.ended = true,
                Ok(Piece::Broken(failure)) => return Err(failure.into()),
                Err(_) => return Err(Failure::failed("reading the server stopped before the end").into()),
            }
        }
        let take = buffer.len().min(self.piece.len() - self.read);
        buffer[..take].copy_from_slice(&self.piece[self.read..self.read + take]);
        self.read += take;
        Ok(take)
    }
}

/// Walks along with what is read, and gives no end before the whole archive is proven.
pub(super) struct Proven<'a, R> {
    inner: R,
    context: Context<'a>,
    walker: Option<Walker>,
    walked: Option<Walked>,
    seen: Seen,
}

impl<'a, R: Read> Proven<'a, R> {
    pub fn new(inner: R, context: Context<'a>, seen: Seen) -> Self {
        Proven { inner, context, walker: Some(Walker::new()), walked: None, seen }
    }

    /// What was in it; a failure when it was not read to its end.
    pub fn walked(self) -> Result<(Walked, Seen)> {
        let walked = self.walked.ok_or_else(|| Failure::failed("the archive was not read to its end"))?;
        Ok((walked, self.seen))
    }
}

impl<R: Read> Read for Proven<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.context.cancel.check()?;
        let read = self.inner.read(buffer)?;
        if let Some(walker) = &mut self.walker {
            walker.take(&buffer[..read], &mut self.seen)?;
        }
        if read == 0
            && !buffer.is_empty()
            && let Some(walker) = self.walker.take()
        {
            self.walked = Some(walker.finish()?);
        }
        self.context.meter.add(read as u64, 0);
        Ok(read)
    }
}
