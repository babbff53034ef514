//! Reading containers from front to back.
//!
//! The reader gives the data and, instead of end-of-file, an error unless the whole container was seen: every frame with
//! its checksum, the padding, the seek table in agreement with the frames, and nothing after it. Frames larger than the
//! format allows are refused before they are decoded, so that foreign bytes cannot make it use memory.

use super::{Codec, FRAME_BYTES, Frame, SKIPPABLE_PADDING, SKIPPABLE_SEEK_TABLE, gzip, parse_table};
use crate::error::{Failure, Kind, Result};
use crate::repo::keys::Keyring;
use std::io::{self, BufRead, BufReader, Read};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// `what` names the object in errors.
pub fn open<'a, R: BufRead + Send + 'a>(
    input: R,
    codec: Codec,
    keys: &Keyring,
    what: &str,
) -> Result<Box<dyn Read + Send + 'a>> {
    let plain = decrypt(input, keys, what)?;
    Ok(match codec {
        Codec::Zstd => Box::new(ZstdReader::new(plain, what)?),
        Codec::Gzip => Box::new(GzipReader::new(plain, what)),
    })
}

/// The data of a whole small container.
pub fn open_whole(bytes: &[u8], keys: &Keyring, what: &str) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    open(bytes, Codec::Zstd, keys, what)?
        .read_to_end(&mut data)
        .map_err(|e| Failure::from_io(e, || damaged_text(what)))?;
    Ok(data)
}

pub fn decrypt<R: BufRead>(input: R, keys: &Keyring, what: &str) -> Result<age::stream::StreamReader<R>> {
    decrypt_by(input, keys.identities(), what)
}

/// By private keys of any kind.
pub fn decrypt_by<'a, R: BufRead>(
    input: R,
    identities: impl Iterator<Item = &'a dyn age::Identity>,
    what: &str,
) -> Result<age::stream::StreamReader<R>> {
    let decryptor = age::Decryptor::new_buffered(input).map_err(|e| match e {
        age::DecryptError::Io(error) => unread(what, error),
        other => damaged(what, other.to_string()),
    })?;
    decryptor.decrypt(identities).map_err(|e| match e {
        age::DecryptError::NoMatchingKeys => Failure::new(Kind::Key, format!("none of the keys at hand opens {what}"))
            .hint("Give the recovery key with --identity FILE"),
        age::DecryptError::Io(error) => unread(what, error),
        other => damaged(what, other.to_string()),
    })
}

fn damaged_text(what: &str) -> String {
    format!("{what} is damaged")
}

pub(super) fn damaged(what: &str, why: impl Into<String>) -> Failure {
    Failure::new(Kind::Verification, damaged_text(what)).because(why.into())
}

/// What a lower reader says of itself (the store is gone, a signal came) stands; everything else is damage.
pub(super) fn unread(what: &str, error: io::Error) -> Failure {
    if error.get_ref().is_some_and(|inner| inner.is::<Failure>()) {
        return Failure::from_io(error, || damaged_text(what));
    }
    damaged(what, error.to_string())
}

/// zstd frames, padding, seek table.
struct ZstdReader<R: Read> {
    input: BufReader<R>,
    decoder: Decoder<'static>,
    data: Vec<u8>,
    position: usize,
    frames: Vec<Frame>,
    padded: bool,
    ended: bool,
    what: String,
}

impl<R: Read> ZstdReader<R> {
    fn new(input: R, what: &str) -> Result<Self> {
        let mut decoder = Decoder::new().map_err(|e| Failure::from_io(e, || "cannot start the decompressor".into()))?;
        decoder
            .set_parameter(DParameter::WindowLogMax(20))
            .map_err(|e| Failure::from_io(e, || "cannot start the decompressor".into()))?;
        Ok(ZstdReader {
            input: BufReader::with_capacity(128 << 10, input),
            decoder,
            data: Vec::new(),
            position: 0,
            frames: Vec::new(),
            padded: false,
            ended: false,
            what: what.to_owned(),
        })
    }

    fn bad(&self, why: &str) -> io::Error {
        damaged(&self.what, why).into()
    }

    fn wrap(&self, error: io::Error) -> io::Error {
        unread(&self.what, error).into()
    }

    fn cut(&self, error: io::Error, why: &str) -> io::Error {
        if error.kind() == io::ErrorKind::UnexpectedEof { self.bad(why) } else { self.wrap(error) }
    }

    /// Goes on to the next piece of the container; `false` at its good end.
    fn advance(&mut self) -> io::Result<bool> {
        let mut magic = [0u8; 4];
        self.input.read_exact(&mut magic).map_err(|e| self.cut(e, "it ends before its seek table"))?;
        match u32::from_le_bytes(magic) {
            SKIPPABLE_PADDING if !self.padded => self.padding()?,
            SKIPPABLE_SEEK_TABLE if self.padded => {
                self.table()?;
                return Ok(false);
            }
            0xFD2F_B528 if !self.padded => self.frame(magic)?,
            _ => return Err(self.bad("there is something in it that does not belong there")),
        }
        Ok(true)
    }

    fn length(&mut self) -> io::Result<u32> {
        let mut length = [0u8; 4];
        self.input.read_exact(&mut length).map_err(|e| self.wrap(e))?;
        Ok(u32::from_le_bytes(length))
    }

    fn padding(&mut self) -> io::Result<()> {
        let length = self.length()?;
        let skipped =
            io::copy(&mut (&mut self.input).take(length.into()), &mut io::sink()).map_err(|e| self.wrap(e))?;
        if skipped != u64::from(length) {
            return Err(self.bad("it ends within its padding"));
        }
        let compressed = length.checked_add(8).ok_or_else(|| self.bad("its padding is too large"))?;
        self.frames.push(Frame { compressed, data: 0 });
        self.padded = true;
        Ok(())
    }

    fn table(&mut self) -> io::Result<()> {
        let length = self.length()?;
        if u64::from(length) != self.frames.len() as u64 * 8 + 9 {
            return Err(self.bad("its seek table has the wrong length"));
        }
        let mut content = vec![0; length as usize];
        self.input.read_exact(&mut content).map_err(|e| self.wrap(e))?;
        let table = parse_table(&content).map_err(|why| self.bad(why))?;
        if table != self.frames {
            return Err(self.bad("its seek table does not agree with its frames"));
        }
        if self.input.read(&mut [0]).map_err(|e| self.wrap(e))? != 0 {
            return Err(self.bad("something follows its end"));
        }
        Ok(())
    }

    fn frame(&mut self, magic: [u8; 4]) -> io::Result<()> {
        self.data.resize(FRAME_BYTES, 0);
        let (mut read, mut written) = (0, 0);
        let mut first = Some(magic);
        loop {
            let what = self.what.clone();
            let wrap = |e: io::Error| io::Error::from(unread(&what, e));
            let input: &[u8] = match &first {
                Some(bytes) => bytes,
                None => self.input.fill_buf().map_err(wrap)?,
            };
            if input.is_empty() {
                return Err(self.bad("it ends within a frame"));
            }
            let mut from = InBuffer::around(input);
            let mut to = OutBuffer::around_pos(&mut self.data[..], written);
            let wanted = self.decoder.run(&mut from, &mut to).map_err(wrap)?;
            let (taken, now) = (from.pos(), to.pos());
            if first.take().is_none() {
                self.input.consume(taken);
            }
            if wanted != 0 && taken == 0 && now == written {
                return Err(self.bad("a frame is larger than the format allows"));
            }
            read += taken;
            written = now;
            if wanted == 0 {
                break;
            }
        }
        self.data.truncate(written);
        self.position = 0;
        self.frames.push(Frame { compressed: read as u32, data: written as u32 });
        Ok(())
    }
}

impl<R: Read> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.data.len() {
            if self.ended || !self.advance()? {
                self.ended = true;
                return Ok(0);
            }
        }
        let n = buffer.len().min(self.data.len() - self.position);
        buffer[..n].copy_from_slice(&self.data[self.position..self.position + n]);
        self.position += n;
        Ok(n)
    }
}

/// gzip members up to the one that marks the end.
struct GzipReader<R: Read> {
    member: Option<flate2::bufread::GzDecoder<BufReader<R>>>,
    ended: bool,
    what: String,
}

impl<R: Read> GzipReader<R> {
    fn new(input: R, what: &str) -> Self {
        let first = flate2::bufread::GzDecoder::new(BufReader::with_capacity(128 << 10, input));
        GzipReader { member: Some(first), ended: false, what: what.to_owned() }
    }

    fn bad(&self, why: impl Into<String>) -> io::Error {
        damaged(&self.what, why).into()
    }
}

impl<R: Read> Read for GzipReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(member) = &mut self.member else { return Err(self.bad("it was read on after an error")) };
            match member.read(buffer) {
                Ok(0) => {}
                Ok(n) => return Ok(n),
                Err(e) => return Err(unread(&self.what, e).into()),
            }
            let end = gzip::is_end(member.header().and_then(|h| h.extra()));
            let Some(mut rest) = self.member.take().map(flate2::bufread::GzDecoder::into_inner) else { continue };
            let more = !rest.fill_buf().map_err(|e| unread(&self.what, e))?.is_empty();
            match (end, more) {
                (true, false) => {
                    self.ended = true;
                    return Ok(0);
                }
                (false, true) => self.member = Some(flate2::bufread::GzDecoder::new(rest)),
                (true, true) => return Err(self.bad("something follows its end")),
                (false, false) => return Err(self.bad("it ends before its end mark")),
            }
        }
    }
}
