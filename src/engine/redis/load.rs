//! A fresh data directory for a server, from a point.
//!
//! Everything is written and walked beside its place and compared with the fingerprint; one rename makes it visible. A server
//! that has `appendonly yes` ignores `dump.rdb`, so for those the same data is also the base of an append-only file. bkp
//! starts no server here, and gives files no other owner.

use super::dump::{self, CONFIGURATION, DATA};
use super::facts::Stored;
use super::rdb::Census;
use crate::durable;
use crate::engine::{LoadRun, Loaded, OnDifference, Origin, Part, transfer};
use crate::error::{Context as _, Failure, Kind, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const PIECE: usize = 256 << 10;

pub fn into_new(origin: &dyn Origin, target: &Path, run: &LoadRun<'_>) -> Result<Loaded> {
    only_whole(run)?;
    run.context.cancel.check()?;
    transfer::must_be_free(target)?;
    let parent = durable::parent_of(target);
    let directory = tempfile::Builder::new()
        .prefix(durable::TEMPORARY_PREFIX)
        .tempdir_in(parent)
        .context(|| format!("cannot write into {}", parent.display()))
        .map_err(|failure| failure.hint("The directory of the target must exist and be writable"))?;
    durable::crash_point("restore:target-begun");
    let census = fill(origin, directory.path(), run)?;
    durable::crash_point("restore:before-live");
    durable::move_new(directory.path(), target).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new(Kind::Refused, format!("{} is there already; nothing was changed", target.display()))
                .hint("Choose another --to, or move it away first")
        }
        _ => Failure::from_io(error, || format!("cannot create {}", target.display())),
    })?;
    // It has another name now.
    let _ = directory.keep();
    durable::crash_point("restore:after-live");
    let mut loaded = loaded(&census);
    loaded.warnings.extend(about_append_only(origin.details()).map(str::to_owned));
    Ok(loaded)
}

/// A server that looks for its data elsewhere would start empty, and write that over what was restored.
fn about_append_only(details: &serde_json::Value) -> Option<&'static str> {
    let named = details["appendfilename"].is_string();
    match details["appendonly"].as_str() {
        None => Some(
            "the point does not say whether its server had `appendonly yes`, as it was not permitted to ask (+config|get, \
             +info): start a server with `appendonly no` on this directory first, or it may start empty",
        ),
        Some("yes") if !named => Some(
            "the server had `appendonly yes`, but its names for the files are not known: they have the usual ones. If \
             `appendfilename` or `appenddirname` is another, rename them before the server starts, or it starts empty",
        ),
        Some(_) => None,
    }
}

pub fn only_whole(run: &LoadRun<'_>) -> Result<()> {
    match run.part {
        Part::Whole => Ok(()),
        _ => Err(Failure::usage("a point of Redis is restored whole: its data is one file")
            .hint("Restore it into a new directory with --to, start a server there, and copy what is wanted with DUMP and RESTORE")),
    }
}

pub fn loaded(census: &Census) -> Loaded {
    let mut warnings = Vec::new();
    if census.expired > 0 {
        warnings.push(format!(
            "{} keys or fields of hashes have passed their expiry meanwhile: a server drops them when it loads this; \
             to look at them, start one with --replicaof 127.0.0.1 1",
            census.expired
        ));
    }
    Loaded { bytes: census.bytes, items: census.keys(), warnings, ..Loaded::default() }
}

/// A name out of a point, unless it could lead elsewhere.
pub fn plain_name<'a>(origin: &'a dyn Origin, key: &str, default: &'a str) -> &'a str {
    let name = origin.details()[key].as_str().unwrap_or_default();
    if name.is_empty() || name.starts_with('.') || name.contains('/') { default } else { name }
}

/// Writes the files of a server into an empty directory.
pub fn fill(origin: &dyn Origin, directory: &Path, run: &LoadRun<'_>) -> Result<Census> {
    let data = directory.join(plain_name(origin, "dbfilename", DATA));
    let census = receive(origin, &data, run)?;
    if origin.details()["appendonly"] == "yes" {
        append_only(origin, directory, &data)?;
    }
    let users = stored(origin)?.users;
    if !users.is_empty() {
        let text = users.join("\n") + "\n";
        durable::write_new(&directory.join("users.acl"), text.as_bytes(), 0o600).context(|| cannot(directory))?;
    }
    durable::sync_directory(directory).context(|| cannot(directory))?;
    durable::crash_point("restore:data-written");
    Ok(census)
}

pub fn stored(origin: &dyn Origin) -> Result<Stored> {
    let mut text = String::new();
    let unreadable = || "cannot read the stored configuration".to_owned();
    origin.stream(CONFIGURATION)?.read_to_string(&mut text).context(unreadable)?;
    Stored::read(&text)
}

fn cannot(directory: &Path) -> String {
    format!("cannot write into {}", directory.display())
}

fn receive(origin: &dyn Origin, path: &Path, run: &LoadRun<'_>) -> Result<Census> {
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = create().context(|| format!("cannot create {}", path.display()))?;
    let mut data = origin.stream(DATA)?;
    let census = dump::checked(&mut data, run.context, |data| copy(data, &mut file, path))?;
    file.sync_all().context(|| format!("cannot write {}", path.display()))?;
    if run.on_difference == OnDifference::Fail {
        must_be_equal(origin, &census)?;
    }
    Ok(census)
}

pub fn must_be_equal(origin: &dyn Origin, census: &Census) -> Result<()> {
    let told = origin.fingerprint();
    let made = census.fingerprint();
    if told.method == made.method && told.parts != made.parts {
        return Err(Failure::new(Kind::Verification, "the data does not fit its fingerprint; nothing was restored"));
    }
    Ok(())
}

fn copy(data: &mut dyn Read, file: &mut File, path: &Path) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let read = data.read(&mut buffer).context(|| format!("cannot read the data for {}", path.display()))?;
        if read == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..read]).context(|| format!("cannot write {}", path.display()))?;
    }
}

/// The data once more, as an append-only file that has nothing appended yet.
fn append_only(origin: &dyn Origin, directory: &Path, data: &Path) -> Result<()> {
    let name = plain_name(origin, "appendfilename", "appendonly.aof");
    // Servers replace these files and never write into them, so that one content may have two names.
    let link = |to: &Path| std::fs::hard_link(data, to).or_else(|_| whole_copy(data, to));
    if origin.details()["aof_layout"] == "file" {
        // Before Redis 7 commands are appended to the very file.
        return whole_copy(data, &directory.join(name)).context(|| cannot(directory));
    }
    let inside = directory.join(plain_name(origin, "appenddirname", "appendonlydir"));
    let (base, added) = (format!("{name}.1.base.rdb"), format!("{name}.1.incr.aof"));
    let manifest = format!("file {base} seq 1 type b\nfile {added} seq 1 type i\n");
    durable::create_private_directory(&inside)
        .and_then(|()| link(&inside.join(&base)))
        .and_then(|()| durable::write_new(&inside.join(&added), b"", 0o600))
        .and_then(|()| durable::write_new(&inside.join(format!("{name}.manifest")), manifest.as_bytes(), 0o600))
        .and_then(|()| durable::sync_directory(&inside))
        .context(|| cannot(&inside))
}

/// A copy that a power cut does not take away again.
fn whole_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::copy(from, to)?;
    File::open(to)?.sync_all()
}
