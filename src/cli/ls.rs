//! `bkp ls`: the files in a backup of a tree, or the streams of another one. Written line by line, whatever the size.

use super::environment::Environment;
use super::format::size;
use super::globals::FromCopy;
use super::output::{gone_is_fine, plain};
use super::points;
use super::show::find;
use super::{Ran, format};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::repo::read::PointReader;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::io::{self, BufRead, BufWriter, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bkp ls documents --identity recovery-key.txt
  bkp ls 4f3a9c1e contracts/2026 --identity recovery-key.txt
  bkp ls documents --long --identity recovery-key.txt")]
pub struct Arguments {
    /// A point, or a source for its newest point
    #[arg(value_name = "POINT")]
    point: String,
    /// Only this file or what is below this directory
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Mode, owner, size and time too
    #[arg(long, short)]
    long: bool,
    #[command(flatten)]
    from: FromCopy,
}

/// A line of the catalogue (`docs/FORMAT.md` §7), as far as it is shown.
#[derive(Deserialize)]
struct Entry {
    p: Option<String>,
    pb: Option<String>,
    #[serde(default)]
    t: String,
    #[serde(default)]
    m: u32,
    #[serde(default)]
    u: u64,
    #[serde(default)]
    g: u64,
    #[serde(default)]
    s: u64,
    mt: Option<(i64, i32)>,
    l: Option<String>,
    lb: Option<String>,
    end: Option<u64>,
}

fn bytes_of(text: &Option<String>, encoded: &Option<String>) -> Option<Vec<u8>> {
    match (text, encoded) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some(encoded)) => BASE64.decode(encoded).ok(),
        (None, None) => None,
    }
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let repository = env.repository_or(self.from.from.as_deref())?;
        let access = env.reading(&repository)?;
        let catalog = points::read_for(env, &repository, &access, &self.point)?;
        let point = find(&catalog, &self.point, env.now)?;
        env.reads(point);
        let reader = PointReader::open(&repository, point, &access.keys_for(point), &env.cancel)?;
        let mut out = BufWriter::new(io::stdout().lock());
        let written =
            if point.tree.is_some() { self.tree(env, &reader, &mut out) } else { streams(env, &reader, &mut out) };
        let written = written.and_then(|()| out.flush().context(|| "cannot write".into()));
        match written {
            Err(failure) if is_gone(&failure) => Ok(None),
            other => other.map(|()| None),
        }
    }

    fn tree(&self, env: &Environment, reader: &PointReader<'_>, out: &mut impl Write) -> Result<()> {
        let zone = env.zone()?;
        let mut found = false;
        let mut ended = false;
        let what = || "cannot write to standard output".to_owned();
        if env.output.json {
            write!(out, "{{\"point\":{:?},\"entries\":[", reader.point.point).context(what)?;
        }
        for line in reader.catalogue()?.lines() {
            env.cancel.check()?;
            let line = line.map_err(|e| Failure::from_io(e, || "cannot read the catalogue".into()))?;
            let entry: Entry = serde_json::from_str(&line)
                .map_err(|e| Failure::new(Kind::Verification, "the catalogue is damaged").because(e))?;
            if entry.end.is_some() {
                ended = true;
                continue;
            }
            let path = bytes_of(&entry.p, &entry.pb).unwrap_or_default();
            let path = PathBuf::from(std::ffi::OsString::from_vec(path));
            if !self.wants(&path) {
                continue;
            }
            if env.output.json {
                let separator = if found { ",\n" } else { "\n" };
                write!(out, "{separator}{}", json(&entry, &path)).context(what)?;
            } else {
                writeln!(out, "{}", self.line(&entry, &path, zone)).context(what)?;
            }
            found = true;
        }
        if env.output.json {
            writeln!(out, "\n]}}").context(what)?;
        }
        if !ended {
            return Err(Failure::new(Kind::Verification, "the catalogue is cut"));
        }
        match (&self.path, found) {
            (Some(path), false) => {
                Err(Failure::usage(format!("point {} has no {}", reader.point.id(), path.display()))
                    .hint("Paths are relative to the root of the volume; list it all without PATH"))
            }
            _ => Ok(()),
        }
    }

    fn wants(&self, path: &Path) -> bool {
        let Some(wanted) = &self.path else { return true };
        let wanted = wanted.strip_prefix("/").or_else(|_| wanted.strip_prefix("./")).unwrap_or(wanted);
        wanted.as_os_str().is_empty() || wanted == Path::new(".") || path.starts_with(wanted)
    }

    fn line(&self, entry: &Entry, path: &Path, zone: &TimeZone) -> String {
        let mut name = plain(&path.to_string_lossy());
        if entry.t == "d" && !name.ends_with('/') {
            name.push('/');
        }
        if !self.long {
            return name;
        }
        if let Some(target) = bytes_of(&entry.l, &entry.lb) {
            let arrow = if entry.t == "h" { "=>" } else { "->" };
            name.push_str(&format!(" {arrow} {}", plain(&String::from_utf8_lossy(&target))));
        }
        let at = entry.mt.and_then(|(s, ns)| Timestamp::new(s, ns).ok());
        let at = at.map_or_else(|| "-".to_owned(), |at| format::instant(at, zone));
        let kind = if entry.t == "f" { "-" } else { &entry.t };
        let mode = permissions(entry.m);
        format!("{kind}{mode} {:>6} {:>6} {:>10}  {at}  {name}", entry.u, entry.g, size(entry.s))
    }
}

/// As `ls -l` writes it: `rwxr-x--x`, with s and t for the special bits.
fn permissions(mode: u32) -> String {
    let mut text = String::with_capacity(9);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn json(entry: &Entry, path: &Path) -> serde_json::Value {
    let mut value = serde_json::json!({
        "path": path.to_string_lossy(),
        "type": match entry.t.as_str() {
            "d" => "directory",
            "f" => "file",
            "l" => "symlink",
            "h" => "hardlink",
            "p" => "fifo",
            "c" => "character_device",
            "b" => "block_device",
            other => other,
        },
        "mode": entry.m,
        "uid": entry.u,
        "gid": entry.g,
        "size": entry.s,
    });
    if path.to_str().is_none() {
        value["path_base64"] = BASE64.encode(path.as_os_str().as_bytes()).into();
    }
    if let Some(at) = entry.mt.and_then(|(s, ns)| Timestamp::new(s, ns).ok()) {
        value["modified_at"] = at.to_string().into();
    }
    if let Some(target) = bytes_of(&entry.l, &entry.lb) {
        value["target"] = String::from_utf8_lossy(&target).into_owned().into();
    }
    value
}

fn streams(env: &Environment, reader: &PointReader<'_>, out: &mut impl Write) -> Result<()> {
    let streams = &reader.point.streams;
    if env.output.json {
        let list: Vec<_> = streams.iter().map(|s| serde_json::json!({ "name": s.name, "bytes": s.bytes })).collect();
        return env.output.document(&serde_json::json!({ "point": reader.point.point, "streams": list }));
    }
    for stream in streams {
        gone_is_fine(writeln!(out, "{:>10}  {}", size(stream.bytes), plain(&stream.name)))?;
    }
    Ok(())
}

/// The reader of standard output went away.
fn is_gone(failure: &Failure) -> bool {
    let source = std::error::Error::source(failure).and_then(|e| e.downcast_ref::<io::Error>());
    source.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_ls_does() {
        let shown = [
            (0o644, "rw-r--r--"),
            (0o4755, "rwsr-xr-x"),
            (0o2640, "rw-r-S---"),
            (0o1777, "rwxrwxrwt"),
            (0, "---------"),
        ];
        for (mode, text) in shown {
            assert_eq!(permissions(mode), text);
        }
    }
}
