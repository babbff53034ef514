//! A stream to a server on which no password is given away: whoever asks for one in clear, or for its MD5, is not answered.
//!
//! It listens to what the server says until that lets in, and ends the connection at a question that is none of SCRAM's, before
//! the client has seen it. What goes to the server is not touched.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

pub(super) struct OnlyScram<S> {
    stream: S,
    listener: Listener,
}

/// What the server asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked(u32);

impl Asked {
    pub fn is_md5(self) -> bool {
        self.0 == MD5
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            LETS_IN => f.write_str("it lets in without asking for one"),
            CLEAR => f.write_str("it asks for the password in clear"),
            MD5 => f.write_str("it asks for the password as MD5"),
            _ => f.write_str("it asks for another login than one with a password"),
        }
    }
}

impl std::error::Error for Asked {}

const CLEAR: u32 = 3;
const MD5: u32 = 5;
/// Questions: that it lets in, and the three of SCRAM.
const LETS_IN: u32 = 0;
const SCRAM: std::ops::RangeInclusive<u32> = 10..=12;
/// What a message begins with: its kind, and its length, which counts itself; then, in questions about the login, which one.
const HEADER: usize = 5;
const QUESTION: usize = HEADER + 4;

/// Follows messages, however they are cut.
#[derive(Default)]
struct Listener {
    begun: Vec<u8>,
    /// Of the message that was begun, to be passed over.
    rest: usize,
    is_in: bool,
    /// Whoever lets in everybody says nothing about a password.
    must_ask: bool,
    has_asked: bool,
}

impl Listener {
    fn hear(&mut self, mut bytes: &[u8]) -> Result<(), Asked> {
        while let (Some((first, others)), false) = (bytes.split_first(), self.is_in) {
            if self.rest > 0 {
                let passed = self.rest.min(bytes.len());
                self.rest -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            self.begun.push(*first);
            bytes = others;
            self.look()?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Asked> {
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_be_bytes);
        let begun = self.begun.len();
        let is_question = self.begun.first() == Some(&b'R');
        if begun < HEADER || is_question && begun < QUESTION {
            return Ok(());
        }
        if is_question {
            match number(&self.begun[HEADER..QUESTION]) {
                LETS_IN if self.must_ask && !self.has_asked => return Err(Asked(LETS_IN)),
                LETS_IN => self.is_in = true,
                question if SCRAM.contains(&question) => self.has_asked = true,
                question => return Err(Asked(question)),
            }
        }
        let length = usize::try_from(number(&self.begun[1..HEADER])).unwrap_or(usize::MAX);
        self.rest = (length + 1).saturating_sub(begun);
        self.begun.clear();
        Ok(())
    }
}

impl<S> OnlyScram<S> {
    /// With `must_ask`, a server that lets in without a password is given up, too.
    pub fn new(stream: S, must_ask: bool) -> Self {
        OnlyScram { stream, listener: Listener { must_ask, ..Listener::default() } }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for OnlyScram<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        let heard = self.listener.hear(&into.filled()[before..]);
        Poll::Ready(heard.map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for OnlyScram<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The certificate was checked against authorities that were named: it need not be bound to the login, too.
impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for OnlyScram<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(number: u32, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + rest.len()).unwrap();
        [&b"R"[..], &length.to_be_bytes(), &number.to_be_bytes(), rest].concat()
    }

    fn heard(bytes: &[u8], at_once: usize) -> Result<bool, Asked> {
        let mut listener = Listener::default();
        bytes.chunks(at_once).try_for_each(|chunk| listener.hear(chunk))?;
        Ok(listener.is_in)
    }

    #[test]
    fn questions_of_scram_are_heard_and_others_are_not_answered_however_they_come() {
        // What it says besides may look like a question.
        let notice = [&b"N"[..], &13_u32.to_be_bytes(), &question(CLEAR, b"")].concat();
        let lets_in = question(LETS_IN, b"");
        assert_eq!(heard(&lets_in, 9), Ok(true));
        assert_eq!(Listener { must_ask: true, ..Listener::default() }.hear(&lets_in), Err(Asked(LETS_IN)));
        for at_once in 1..30 {
            let scram = [question(10, b"SCRAM-SHA-256\0\0"), question(11, b"r=1"), question(12, b"v=1")].concat();
            assert_eq!(heard(&[&notice[..], &scram].concat(), at_once), Ok(false));
            let good = [&notice[..], &scram, &lets_in, &question(CLEAR, b"")].concat();
            assert_eq!(heard(&good, at_once), Ok(true), "afterwards nothing is asked for");
            for asked in [CLEAR, MD5, 9] {
                assert_eq!(heard(&[&notice[..], &question(asked, b"salt")].concat(), at_once), Err(Asked(asked)));
            }
            // After SCRAM was begun.
            assert_eq!(heard(&[scram, question(MD5, b"salt")].concat(), at_once), Err(Asked(MD5)));
        }
    }
}
