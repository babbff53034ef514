//! The files of a bundle: in a directory, or in one tar file that is read where it lies.

use crate::durable::{self, TempFile};
use crate::error::{Context, Failure, Kind, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Larger files are in no bundle that bkp made.
const LARGEST: u64 = 256 << 20;
/// And so many are in none.
const MOST: usize = 1 << 20;

/// Where a bundle is written to.
pub enum Out {
    Directory(PathBuf),
    /// Takes its name when it is complete.
    Tar {
        archive: Box<tar::Builder<TempFile>>,
        path: PathBuf,
    },
}

impl Out {
    /// A new directory, or a new file where the name ends in `.tar`. Nothing that is there is touched.
    pub fn new(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        if path.extension().is_some_and(|extension| extension == "tar") {
            if path.exists() {
                return Err(is_there(path));
            }
            let file = TempFile::create_in(durable::parent_of(path), 0o600).context(cannot)?;
            return Ok(Out::Tar { archive: Box::new(tar::Builder::new(file)), path: path.to_owned() });
        }
        match std::fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(is_there(path));
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => durable::create_private_directory(path).context(cannot)?,
            Err(e) => return Err(Failure::from_io(e, cannot)),
        }
        Ok(Out::Directory(path.to_owned()))
    }

    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        match self {
            Out::Directory(directory) => {
                let path = directory.join(name);
                let cannot = || format!("cannot write {}", path.display());
                durable::create_private_directory(durable::parent_of(&path)).context(cannot)?;
                durable::write_new(&path, bytes, 0o600).context(cannot)
            }
            Out::Tar { archive, path } => {
                let mut header = tar::Header::new_ustar();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                header.set_mtime(0);
                archive.append_data(&mut header, name, bytes).context(|| format!("cannot write {}", path.display()))
            }
        }
    }

    pub fn put_json(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        self.put(name, &json(value)?)
    }

    /// It is complete.
    pub fn finish(self) -> Result<()> {
        let Out::Tar { archive, path } = self else { return Ok(()) };
        let file = archive.into_inner().context(|| format!("cannot write {}", path.display()))?;
        match file.commit_new(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(is_there(&path)),
            done => done.context(|| format!("cannot write {}", path.display())),
        }
    }
}

fn is_there(path: &Path) -> Failure {
    Failure::new(Kind::Refused, format!("{} is there already", path.display()))
        .hint("Name a directory that is new or empty, or a new file ending in .tar")
}

pub fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| Failure::failed("cannot write JSON").because(e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The files of a bundle that is read. Names are those in the bundle, and lead nowhere else.
pub enum Files {
    Directory(PathBuf),
    Tar { file: File, path: PathBuf, entries: BTreeMap<String, (u64, u64)> },
}

impl Files {
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot read {}", path.display());
        if std::fs::metadata(path).context(cannot)?.is_dir() {
            return Ok(Files::Directory(path.to_owned()));
        }
        let damaged = |e: std::io::Error| {
            Failure::new(Kind::Verification, format!("{} is no bundle of evidence", path.display()))
                .because(e)
                .hint("It is a directory or a tar file that was made with: bkp evidence export")
        };
        let mut archive = tar::Archive::new(File::open(path).context(cannot)?);
        let mut entries = BTreeMap::new();
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let name = entry.path().map_err(damaged)?.to_string_lossy().trim_start_matches("./").to_owned();
            if entry.header().entry_type().is_file() {
                entries.insert(name, (entry.raw_file_position(), entry.size()));
            }
            if entries.len() > MOST {
                return Err(damaged(std::io::Error::other("it holds too many files")));
            }
        }
        let file = File::open(path).context(cannot)?;
        Ok(Files::Tar { file, path: path.to_owned(), entries })
    }

    /// Names of the files in one directory of the bundle, in order.
    pub fn list(&self, directory: &str) -> Result<Vec<String>> {
        let mut names = match self {
            Files::Directory(root) => match std::fs::read_dir(root.join(directory)) {
                Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
                entries => {
                    let entries = entries.context(|| format!("cannot list {}", root.join(directory).display()))?;
                    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
                }
            },
            Files::Tar { entries, .. } => {
                let prefix = format!("{directory}/");
                let within = entries.keys().filter_map(|name| name.strip_prefix(&prefix));
                within.filter(|name| !name.contains('/')).map(str::to_owned).collect()
            }
        };
        names.sort();
        Ok(names)
    }

    /// Nothing where there is no such file.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let (file, at, size) = match self {
            Files::Directory(root) => match File::open(root.join(name)) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                file => {
                    let file = file.context(|| self.cannot(name))?;
                    let size = file.metadata().context(|| self.cannot(name))?.len();
                    (&{ file }, 0, size)
                }
            },
            Files::Tar { file, entries, .. } => match entries.get(name) {
                Some((at, size)) => (file, *at, *size),
                None => return Ok(None),
            },
        };
        if size > LARGEST {
            return Err(Failure::new(
                Kind::Verification,
                format!("{name} is larger than any file bkp puts into a bundle"),
            ));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        file.read_exact_at(&mut bytes, at).context(|| self.cannot(name))?;
        Ok(Some(bytes))
    }

    fn cannot(&self, name: &str) -> String {
        match self {
            Files::Directory(root) => format!("cannot read {}", root.join(name).display()),
            Files::Tar { path, .. } => format!("cannot read {name} in {}", path.display()),
        }
    }
}
