//! Making containers: whole ones from memory ([`seal`]), and from any reader ([`Encoder`], compressing in parallel).
//!
//! An [`Encoder`] is three stages on bounded queues: the caller reads and hashes, workers compress frames, one thread
//! encrypts them in order. Memory is a few frames, whatever the size of the data.

use super::{Codec, FRAME_BYTES, Frame, gzip, write_trailer};
use crate::error::{Context, Failure, Result};
use crate::repo::keys::Recipients;
use crossbeam_channel::{Receiver, Sender, bounded};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

/// How frames are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    pub codec: Codec,
    /// zstd 1–19, gzip 1–9.
    pub level: i32,
    /// Threads that compress; a session takes as many as its repository allows.
    pub workers: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Compression { codec: Codec::Zstd, level: 3, workers: 1 }
    }
}

/// Compresses frames one by one; each thread has its own.
pub struct FrameCompressor {
    zstd: zstd::bulk::Compressor<'static>,
    compression: Compression,
}

impl FrameCompressor {
    pub fn new(compression: Compression) -> Result<Self> {
        let level = if compression.codec == Codec::Zstd { compression.level } else { 1 };
        let mut zstd = zstd::bulk::Compressor::new(level).context(|| "cannot start the compressor".into())?;
        zstd.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))
            .context(|| "cannot start the compressor".into())?;
        Ok(FrameCompressor { zstd, compression })
    }

    pub fn compress(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        match self.compression.codec {
            Codec::Zstd => self.zstd.compress(data),
            Codec::Gzip => gzip::member(data, self.compression.level),
        }
    }
}

/// Encrypts frames as they come; [`finish`](Self::finish) adds padding and seek table.
struct Sealer<W: Write> {
    age: age::stream::StreamWriter<W>,
    codec: Codec,
    frames: Vec<Frame>,
}

impl<W: Write> Sealer<W> {
    fn new(output: W, codec: Codec, recipients: &Recipients) -> Result<Self> {
        let parsed = recipients.parse()?;
        let encryptor = age::Encryptor::with_recipients(parsed.iter().map(|r| r.as_ref() as &dyn age::Recipient))
            .map_err(|e| Failure::failed("cannot encrypt to the recipients of this repository").because(e))?;
        let age = encryptor.wrap_output(output).context(|| "cannot write an encrypted object".into())?;
        Ok(Sealer { age, codec, frames: Vec::new() })
    }

    fn frame(&mut self, compressed: &[u8], data: usize) -> io::Result<()> {
        self.frames.push(Frame { compressed: compressed.len() as u32, data: data as u32 });
        self.age.write_all(compressed)
    }

    fn finish(mut self) -> io::Result<W> {
        match self.codec {
            Codec::Zstd => write_trailer(&self.frames, &mut self.age)?,
            Codec::Gzip => {
                let body = self.frames.iter().map(|f| u64::from(f.compressed)).sum();
                gzip::write_trailer(body, &mut self.age)?;
            }
        }
        self.age.finish()
    }
}

/// A container of data that is in memory as frames, in `output`, whatever that held.
/// Each frame is given to `emptied` as soon as it is compressed.
pub fn seal_frames(
    frames: Vec<Vec<u8>>,
    compressor: &mut FrameCompressor,
    recipients: &Recipients,
    mut output: Vec<u8>,
    mut emptied: impl FnMut(Vec<u8>),
) -> Result<Vec<u8>> {
    let what = || "cannot seal an object".to_string();
    // Room for the worst case, so that it never grows by copying; what is not written to takes no memory.
    let data: usize = frames.iter().map(Vec::len).sum();
    let expected = data + data / 8 + (64 << 10);
    output.clear();
    output.reserve_exact(expected);
    let mut sealer = Sealer::new(output, compressor.compression.codec, recipients)?;
    for frame in frames {
        let compressed = compressor.compress(&frame).context(what)?;
        sealer.frame(&compressed, frame.len()).context(what)?;
        emptied(frame);
    }
    sealer.finish().context(what)
}

/// A container of a small thing: a point, an index, a body.
pub fn seal(data: &[u8], recipients: &Recipients) -> Result<Vec<u8>> {
    let frames: Vec<_> = data.chunks(FRAME_BYTES).map(<[u8]>::to_vec).collect();
    let mut compressor = FrameCompressor::new(Compression::default())?;
    seal_frames(frames, &mut compressor, recipients, Vec::new(), drop)
}

/// What went through an [`encode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub bytes: u64,
    /// The reader was at its end; otherwise `limit` stopped it and another object must follow.
    pub complete: bool,
}

type Job = (Vec<u8>, Sender<io::Result<(Vec<u8>, usize)>>);
type Slot = Receiver<io::Result<(Vec<u8>, usize)>>;

/// Reads `data` to its end, or to `limit` bytes, and writes a container of it to `output`, which is given back.
///
/// `hash` is fed with the data, so that it can run on over several objects.
pub fn encode<W: Write + Send>(
    data: &mut dyn Read,
    output: W,
    compression: Compression,
    recipients: &Recipients,
    hash: &mut Sha256,
    limit: u64,
) -> Result<(Encoded, W)> {
    let workers = compression.workers.max(1);
    let (jobs, job_queue) = bounded::<Job>(workers);
    let (slots, slot_queue) = bounded::<Slot>(workers * 2);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let queue = job_queue.clone();
            scope.spawn(move || compress_jobs(&queue, compression));
        }
        drop(job_queue);
        let sealing = scope.spawn(move || seal_slots(&slot_queue, output, compression.codec, recipients));
        let read = feed(data, hash, limit, &jobs, &slots);
        drop((jobs, slots));
        let sealed = sealing.join().expect("the sealing thread does not panic");
        // A broken sink closes the queue, which `feed` sees as a stop: the sink's error is the cause then.
        match (sealed?, read) {
            (Some(output), Ok(encoded)) => Ok((encoded, output)),
            (_, Err(e)) => Err(e),
            (None, Ok(_)) => Err(Failure::failed("the stream was abandoned")),
        }
    })
}

fn compress_jobs(queue: &Receiver<Job>, compression: Compression) {
    let mut compressor = FrameCompressor::new(compression);
    for (data, slot) in queue {
        let result = match &mut compressor {
            Ok(c) => c.compress(&data).map(|compressed| (compressed, data.len())),
            Err(e) => Err(io::Error::other(e.full())),
        };
        let _ = slot.send(result);
    }
}

/// `None` when the reader failed: the object is then not ended.
fn seal_slots<W: Write>(slots: &Receiver<Slot>, output: W, codec: Codec, recipients: &Recipients) -> Result<Option<W>> {
    let what = || "cannot store a stream".to_string();
    let mut sealer = Sealer::new(output, codec, recipients)?;
    for slot in slots {
        // A worker that is gone without an answer can only mean that the program is ending.
        let (compressed, data) = slot.recv().map_err(io::Error::other).and_then(|r| r).context(what)?;
        if data == 0 {
            return Ok(None);
        }
        sealer.frame(&compressed, data).context(what)?;
    }
    sealer.finish().context(what).map(Some)
}

fn feed(
    data: &mut dyn Read,
    hash: &mut Sha256,
    limit: u64,
    jobs: &Sender<Job>,
    slots: &Sender<Slot>,
) -> Result<Encoded> {
    let mut bytes = 0;
    loop {
        let mut frame = Vec::with_capacity(FRAME_BYTES);
        let read = data.take(FRAME_BYTES as u64).read_to_end(&mut frame);
        if let Err(e) = read {
            abandon(slots);
            return Err(Failure::from_io(e, || "cannot read the stream".into()));
        }
        let complete = frame.len() < FRAME_BYTES;
        if !frame.is_empty() {
            hash.update(&frame);
            bytes += frame.len() as u64;
            let (answer, slot) = bounded(1);
            if jobs.send((frame, answer)).is_err() || slots.send(slot).is_err() {
                return Err(Failure::failed("the stream was abandoned"));
            }
        }
        if complete || bytes >= limit {
            return Ok(Encoded { bytes, complete });
        }
    }
}

/// Tells the sealing thread that no complete object will come, so that it does not end one.
fn abandon(slots: &Sender<Slot>) {
    let (answer, slot) = bounded(1);
    let _ = answer.send(Ok((Vec::new(), 0)));
    let _ = slots.send(slot);
}
