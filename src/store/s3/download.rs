//! An object on its way here, as a reader that blocks, one block ahead of whoever reads.
//!
//! A transfer that breaks leaves a reader that can be read again: it asks for the rest, of the same object only.

use super::S3;
use super::client::Connection;
use super::errors::chain;
use crate::store::{Key, Store, StoreError, StoreResult};
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::mpsc::Receiver;

/// Big enough that handing a block over costs nothing, small enough to keep two of them for each reader.
const BLOCK: usize = 1 << 20;

pub(super) struct Download {
    s3: S3,
    key: Key,
    /// What is still to come.
    rest: Range<u64>,
    /// Which object this is; some endpoints do not say.
    tag: Option<String>,
    /// `None` after a break.
    transfer: Option<Transfer>,
}

impl Download {
    /// `None`: the object ends before the range begins.
    pub fn open(s3: &S3, key: &Key, range: Option<Range<u64>>) -> StoreResult<Option<Self>> {
        let rest = range.clone().unwrap_or(0..0);
        let mut download = Download { s3: s3.clone(), key: key.clone(), rest, tag: None, transfer: None };
        let found = download.request(range)?;
        Ok(found.then_some(download))
    }

    /// Asks for a range; what comes is what is there of it. False: nothing is.
    fn request(&mut self, range: Option<Range<u64>>) -> StoreResult<bool> {
        let at = self.s3.location(&self.key);
        let mut request = self.s3.connection.client.get_object().bucket(at.bucket).key(at.key);
        request = request.set_range(range.as_ref().map(header)).set_if_match(self.tag.clone());
        let what = format!("reading {} from {}", self.key, self.s3.describe());
        let answer = match self.s3.connection.request(&what, 0, request.send()) {
            Ok(answer) => answer,
            Err(refused) if range.is_some() && (refused.is("InvalidRange") || refused.status == 416) => {
                return Ok(false);
            }
            Err(refused) if refused.status == 412 => {
                return Err(StoreError::Other(format!("{what}: it was replaced meanwhile")));
            }
            Err(refused) => return Err(refused.about(&self.key)),
        };
        let odd = |text: &str| StoreError::Other(format!("{what}: {text}"));
        let length = answer.content_length.and_then(|length| u64::try_from(length).ok());
        let length = length.ok_or_else(|| odd("the endpoint does not tell the length"))?;
        let start = range.as_ref().map_or(0, |range| range.start);
        if let Some(range) = range {
            let begins = format!("bytes {start}-");
            let right_place = answer.content_range.is_some_and(|told| told.starts_with(&begins));
            if !right_place || length > range.end - range.start {
                return Err(odd("the endpoint does not honour ranges"));
            }
        }
        self.rest = start..start + length;
        self.tag = answer.e_tag;
        self.transfer = Some(Transfer::new(&self.s3.connection, answer.body));
        Ok(true)
    }

    /// Reads on, after a break from where it was.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let most = buffer.len().min(usize::try_from(self.rest.end - self.rest.start).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        if self.transfer.is_none() && !self.request(Some(self.rest.clone()))? {
            return Err(StoreError::Other(format!("{} is shorter than it was", self.key)));
        }
        let Some(transfer) = &mut self.transfer else { return Ok(0) };
        let broken = match transfer.take(&self.s3.connection, &mut buffer[..most]) {
            Ok(0) => format!("it ended {} bytes too early", self.rest.end - self.rest.start),
            Ok(n) => {
                self.rest.start += n as u64;
                return Ok(n);
            }
            Err(error) => error,
        };
        self.transfer = None;
        Err(StoreError::Transient(format!("reading {} from {}: {broken}", self.key, self.s3.describe())))
    }
}

/// Many endpoints count in signed 64 bits, so an end beyond those is left open.
fn header(range: &Range<u64>) -> String {
    match range.end > i64::MAX as u64 {
        true => format!("bytes={}-", range.start),
        false => format!("bytes={}-{}", range.start, range.end - 1),
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.step(buffer)?)
    }
}

/// One answer's body.
struct Transfer {
    next: Option<Receiver<Block>>,
    ready: VecDeque<Bytes>,
    /// Why there is no more, to be told after what came.
    broken: Option<String>,
}

struct Block {
    /// `None`: there is no more.
    rest: Option<ByteStream>,
    pieces: VecDeque<Bytes>,
    error: Option<String>,
}

impl Transfer {
    fn new(connection: &Connection, stream: ByteStream) -> Self {
        Transfer { next: Some(connection.start(fetch(stream))), ready: VecDeque::new(), broken: None }
    }

    /// `Ok(0)`: the transfer ended; whether that was too early is for others to say.
    fn take(&mut self, connection: &Connection, buffer: &mut [u8]) -> Result<usize, String> {
        self.fill(connection);
        let mut taken = 0;
        while taken < buffer.len()
            && let Some(piece) = self.ready.front_mut()
        {
            let n = piece.len().min(buffer.len() - taken);
            piece.copy_to_slice(&mut buffer[taken..taken + n]);
            taken += n;
            if piece.is_empty() {
                self.ready.pop_front();
            }
        }
        match self.broken.take() {
            Some(error) if taken == 0 => Err(error),
            error => {
                self.broken = error;
                Ok(taken)
            }
        }
    }

    fn fill(&mut self, connection: &Connection) {
        while self.ready.is_empty()
            && let Some(next) = self.next.take()
        {
            match next.recv() {
                Ok(block) => {
                    self.next = block.rest.map(|stream| connection.start(fetch(stream)));
                    self.ready = block.pieces;
                    self.broken = block.error;
                }
                Err(_) => self.broken = Some("the S3 client stopped".into()),
            }
        }
    }
}

async fn fetch(mut stream: ByteStream) -> Block {
    let mut pieces = VecDeque::new();
    let mut size = 0;
    while size < BLOCK {
        match stream.next().await {
            Some(Ok(piece)) => {
                size += piece.len();
                pieces.push_back(piece);
            }
            Some(Err(e)) => return Block { rest: None, pieces, error: Some(chain(&e)) },
            None => return Block { rest: None, pieces, error: None },
        }
    }
    Block { rest: Some(stream), pieces, error: None }
}
