//! The catalogue: one line of JSON per entry, both ways. What each member means is in `docs/FORMAT.md` §7.
//!
//! The root is written as `./`, every other path without slashes at its ends.

use super::entry::{Entry, Extent, Kind, safe_path};
use super::{header, sparse};
use crate::error::{Context, Failure, Kind as FailureKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as B64;
use serde::Deserialize;
use std::borrow::Cow;
use std::io::{BufRead, Write};

/// Appends the line of an entry to `out`.
pub fn write(entry: &Entry, out: &mut Vec<u8>) {
    out.push(b'{');
    let path: &[u8] = if entry.path.is_empty() { b"./" } else { &entry.path };
    bytes_member(out, "p", path);
    out.extend_from_slice(b",\"t\":\"");
    out.push(entry.kind.letter());
    out.push(b'"');
    number(out, ",\"m\":", entry.mode.into());
    number(out, ",\"u\":", entry.uid.into());
    number(out, ",\"g\":", entry.gid.into());
    if entry.size != 0 {
        number(out, ",\"s\":", entry.size);
    }
    out.extend_from_slice(b",\"mt\":[");
    if entry.mtime.0 < 0 {
        out.push(b'-');
    }
    number(out, "", entry.mtime.0.unsigned_abs());
    number(out, ",", entry.mtime.1.into());
    out.push(b']');
    number(out, ",\"hb\":", entry.header);
    if entry.stored != entry.size {
        number(out, ",\"z\":", entry.stored);
    }
    if let Some(hash) = entry.hash {
        let mut text = [0; 32];
        hex::encode_to_slice(hash, &mut text).expect("16 bytes are 32 digits");
        out.extend_from_slice(b",\"h\":\"");
        out.extend_from_slice(&text);
        out.push(b'"');
    }
    if !entry.link.is_empty() {
        out.push(b',');
        bytes_member(out, "l", &entry.link);
    }
    for (index, extent) in entry.sparse.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"sp\":[" } else { b"," });
        let _ = write!(out, "[{},{}]", extent.offset, extent.length);
    }
    if !entry.sparse.is_empty() {
        out.push(b']');
    }
    if entry.changed {
        out.extend_from_slice(b",\"x\":1");
    }
    out.extend_from_slice(b"}\n");
}

pub fn write_end(entries: u64) -> Vec<u8> {
    format!("{{\"end\":{entries}}}\n").into_bytes()
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    out.extend_from_slice(key.as_bytes());
    // Half a dozen of these for each entry: formatting would cost more than the rest of the line.
    let (mut digits, mut at, mut rest) = ([0; 20], 20, value);
    while at == 20 || rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

/// `"p":"text"`, or `"pb":"base64"` for bytes that are no text.
fn bytes_member(out: &mut Vec<u8>, key: &str, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.extend_from_slice(b"\":");
            serde_json::to_writer(out, text).expect("text becomes JSON, and memory takes it");
        }
        Err(_) => {
            let _ = write!(out, "b\":\"{}\"", B64.encode(bytes));
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    end: Option<u64>,
    #[serde(borrow)]
    p: Option<Cow<'a, str>>,
    pb: Option<Cow<'a, str>>,
    t: Option<char>,
    #[serde(default)]
    m: u32,
    #[serde(default)]
    u: u32,
    #[serde(default)]
    g: u32,
    #[serde(default)]
    s: u64,
    #[serde(default)]
    mt: (i64, u32),
    #[serde(default)]
    hb: u64,
    z: Option<u64>,
    h: Option<Cow<'a, str>>,
    l: Option<Cow<'a, str>>,
    lb: Option<Cow<'a, str>>,
    #[serde(default)]
    sp: Vec<(u64, u64)>,
    #[serde(default)]
    x: u8,
}

/// Reads a whole catalogue, an entry at a time; refuses one that is cut, malformed, or names what is outside the root.
/// `take` is given each entry and the offset in the tar stream at which it begins.
pub fn read(from: Box<dyn BufRead + Send + '_>, mut take: impl FnMut(u64, Entry) -> Result<()>) -> Result<()> {
    let mut entries = Entries::of(from);
    while let Some((offset, entry)) = entries.next()? {
        take(offset, entry)?;
    }
    Ok(())
}

/// The same for whoever asks for one entry after the other.
pub struct Entries<'a> {
    from: Box<dyn BufRead + Send + 'a>,
    line: Vec<u8>,
    count: u64,
    offset: u64,
}

impl<'a> Entries<'a> {
    pub fn of(from: Box<dyn BufRead + Send + 'a>) -> Self {
        Entries { from, line: Vec::new(), count: 0, offset: 0 }
    }

    /// `None` after the last; not to be asked again then.
    pub fn next(&mut self) -> Result<Option<(u64, Entry)>> {
        self.line.clear();
        self.from.read_until(b'\n', &mut self.line).context(|| "cannot read the catalogue".into())?;
        if self.line.is_empty() {
            return Err(damaged("it has no end marker"));
        }
        let parsed: Line<'_> =
            serde_json::from_slice(&self.line).map_err(|e| damaged("a line of it is malformed").because(e))?;
        if let Some(end) = parsed.end {
            if end != self.count {
                return Err(damaged(&format!("it has {} entries and says {end}", self.count)));
            }
            return Ok(None);
        }
        let (entry, offset) = (entry(parsed)?, self.offset);
        self.offset = offset.checked_add(entry.length()).ok_or_else(|| damaged("its lengths are impossible"))?;
        self.count += 1;
        Ok(Some((offset, entry)))
    }
}

fn entry(line: Line<'_>) -> Result<Entry> {
    let bytes = |text: Option<Cow<'_, str>>, coded: Option<Cow<'_, str>>| match (text, coded) {
        (Some(text), None) => Ok(text.into_owned().into_bytes()),
        (None, Some(coded)) => {
            B64.decode(coded.as_bytes()).map_err(|e| damaged("a name in it is malformed").because(e))
        }
        (None, None) => Ok(Vec::new()),
        _ => Err(damaged("an entry of it has two names")),
    };
    let kind = line.t.and_then(|letter| Kind::from_letter(u8::try_from(letter).ok()?));
    let kind = kind.ok_or_else(|| damaged("an entry of it has an unknown type"))?;
    let sparse: Vec<Extent> = line.sp.iter().map(|&(offset, length)| Extent { offset, length }).collect();
    let hash = line.h.map(|text| {
        let mut hash = [0; 16];
        hex::decode_to_slice(text.as_bytes(), &mut hash)
            .map(|()| hash)
            .map_err(|_| damaged("a hash in it is malformed"))
    });
    let stored = line.z.unwrap_or(if kind == Kind::File { line.s } else { 0 });
    let limit = 1 << 62;
    if line.mt.1 >= 1_000_000_000 || line.hb > limit || stored > limit || !sparse::is_valid(&sparse, line.s) {
        return Err(damaged("a number in it is impossible"));
    }
    let entry = Entry {
        path: safe_path(&bytes(line.p, line.pb)?)?.to_vec(),
        kind,
        mode: line.m & 0o7777,
        uid: line.u,
        gid: line.g,
        size: line.s,
        mtime: line.mt,
        link: bytes(line.l, line.lb)?,
        sparse,
        header: line.hb,
        stored,
        hash: hash.transpose()?,
        changed: line.x != 0,
        ..Entry::default()
    };
    if kind == Kind::HardLink {
        safe_path(&entry.link)?;
    }
    Ok(entry)
}

fn damaged(what: &str) -> Failure {
    let failure = header::damaged(what);
    Failure::new(FailureKind::Verification, format!("the catalogue of the point is damaged: {what}"))
        .hint(failure.next_step().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn read_all(text: &[u8]) -> Result<Vec<(u64, Entry)>> {
        let mut entries = Vec::new();
        read(Box::new(Cursor::new(text.to_vec())), |at, entry| {
            entries.push((at, entry));
            Ok(())
        })?;
        Ok(entries)
    }

    fn some_entry() -> impl Strategy<Value = Entry> {
        let name =
            prop::collection::vec(any::<u8>().prop_filter("no name has these", |b| *b != 0 && *b != b'/'), 4..20);
        (name, any::<u32>(), 0u64..1 << 50, any::<i64>(), 0u32..1_000_000_000, any::<[u8; 16]>()).prop_map(
            |(path, uid, size, seconds, nanoseconds, hash)| Entry {
                path,
                uid,
                size,
                stored: size,
                header: 1536,
                mtime: (seconds, nanoseconds),
                hash: Some(hash),
                ..Entry::default()
            },
        )
    }

    proptest! {
        #[test]
        fn a_catalogue_survives(entries in prop::collection::vec(some_entry(), 0..8)) {
            let mut text = Vec::new();
            entries.iter().for_each(|entry| write(entry, &mut text));
            text.extend(write_end(entries.len() as u64));
            let (mut at, mut expected) = (0, Vec::new());
            for entry in entries {
                let length = entry.length();
                expected.push((at, entry));
                at += length;
            }
            prop_assert_eq!(read_all(&text).unwrap(), expected);
        }

        #[test]
        fn foreign_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read_all(&bytes).is_err());
        }
    }

    #[test]
    fn a_line_looks_as_documented() {
        let mut line = Vec::new();
        let sparse = vec![Extent { offset: 0, length: 10 }, Extent { offset: 5000, length: 0 }];
        write(
            &Entry {
                path: b"a\"\n\xc3\xa4".to_vec(),
                mode: 0o640,
                size: 5000,
                stored: 522,
                header: 2048,
                mtime: (-1, 5),
                hash: Some([0xab; 16]),
                sparse,
                changed: true,
                ..Entry::default()
            },
            &mut line,
        );
        let expected = r#"{"p":"a\"\nä","t":"f","m":416,"u":0,"g":0,"s":5000,"mt":[-1,5],"hb":2048,"z":522,"h":"abababababababababababababababab","sp":[[0,10],[5000,0]],"x":1}"#;
        assert_eq!(String::from_utf8(line).unwrap().trim_end(), expected);
        let mut root = Vec::new();
        write(&Entry { kind: Kind::Directory, header: 512, ..Entry::default() }, &mut root);
        assert!(root.starts_with(b"{\"p\":\"./\",\"t\":\"d\""));
    }

    #[test]
    fn a_cut_catalogue_is_refused() {
        let mut text = Vec::new();
        write(&Entry { path: b"a".to_vec(), header: 512, ..Entry::default() }, &mut text);
        assert!(read_all(&text).unwrap_err().to_string().contains("no end marker"));
        text.extend(write_end(2));
        assert!(read_all(&text).unwrap_err().to_string().contains("1 entries and says 2"));
    }

    #[test]
    fn what_leaves_the_root_is_refused() {
        for path in ["", "/etc/x", "../x", "a/../../x"] {
            let text = format!("{{\"p\":{path:?},\"t\":\"f\",\"hb\":512}}\n{{\"end\":1}}\n");
            assert!(read_all(text.as_bytes()).unwrap_err().to_string().contains("unsafe path"), "{path}");
        }
        let text = "{\"p\":\"a\",\"t\":\"h\",\"l\":\"../x\",\"hb\":512}\n{\"end\":1}\n";
        assert!(read_all(text.as_bytes()).unwrap_err().to_string().contains("unsafe path"));
    }
}
