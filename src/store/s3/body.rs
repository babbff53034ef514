//! The body of a download as a reader that blocks, one block ahead of whoever reads.

use super::client::Connection;
use crate::store::{Key, StoreError};
use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Big enough that handing a block over costs nothing, small enough to keep two of them for each reader.
const BLOCK: usize = 1 << 20;

/// Ends when the transfer ends; whether that was too early is for [`crate::store::body::Exact`] to say.
pub(super) struct Body {
    connection: Arc<Connection>,
    key: Key,
    next: Option<Receiver<Block>>,
    ready: VecDeque<Bytes>,
}

struct Block {
    /// `None`: there is no more.
    rest: Option<ByteStream>,
    pieces: VecDeque<Bytes>,
    error: Option<String>,
}

impl Body {
    pub fn new(connection: Arc<Connection>, key: Key, stream: ByteStream) -> Self {
        let next = Some(connection.start(fetch(stream)));
        Body { connection, key, next, ready: VecDeque::new() }
    }

    fn fill(&mut self) -> io::Result<()> {
        while self.ready.is_empty()
            && let Some(next) = self.next.take()
        {
            let broken = |text: &str| StoreError::Transient(format!("reading {}: {text}", self.key));
            let block = next.recv().map_err(|_| broken("the S3 client stopped"))?;
            if let Some(error) = block.error {
                return Err(broken(&error).into());
            }
            self.next = block.rest.map(|stream| self.connection.start(fetch(stream)));
            self.ready = block.pieces;
        }
        Ok(())
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
            Some(Err(e)) => return Block { rest: None, pieces, error: Some(DisplayErrorContext(e).to_string()) },
            None => return Block { rest: None, pieces, error: None },
        }
    }
    Block { rest: Some(stream), pieces, error: None }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
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
        Ok(taken)
    }
}
