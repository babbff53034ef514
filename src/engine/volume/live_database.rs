//! Recognizes the data directory of a database server, and whether one works on it now.
//!
//! Files of a server that works cannot be copied one after the other: the copy would be of no instant at all. A directory is
//! known by the files that each server cannot do without, also some levels down, where images keep it. Whether a server is
//! at work is told by its own lock file, by a lock or a working directory that the kernel shows, and by the container engine:
//! the kernel shows nothing of other containers to a bkp that is in one itself.

use super::walk::Rules;
use crate::exec::docker::{Docker, MountKind, State};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// PostgreSQL 18 has its data in `18/docker`, Bitnami in `data`, and a directory above may be what is backed up.
const DEPTH: usize = 3;
/// A data directory has few names above it; a tree of documents has many.
const ENTRIES: usize = 4000;

struct Server {
    name: &'static str,
    /// One of these sets of files is there.
    files: &'static [&'static [&'static str]],
    programs: &'static [&'static str],
    /// Whether the directory itself tells that the server works.
    tells: fn(&Path) -> bool,
}

const SERVERS: [Server; 4] = [
    Server {
        name: "PostgreSQL",
        files: &[&["PG_VERSION", "global/pg_control"]],
        programs: &["postgres", "postmaster"],
        tells: |root| root.join("postmaster.pid").exists(),
    },
    Server {
        name: "MongoDB",
        files: &[&["WiredTiger"], &["WiredTiger.wt"]],
        programs: &["mongod"],
        tells: |root| {
            let named = std::fs::metadata(root.join("mongod.lock")).is_ok_and(|lock| lock.len() > 0);
            named || locked(&root.join("WiredTiger.lock"))
        },
    },
    Server {
        name: "MySQL or MariaDB",
        files: &[&["ibdata1"], &["mysql.ibd"]],
        programs: &["mysqld", "mariadbd"],
        tells: |root| ["ibdata1", "mysql.ibd", "aria_log_control"].iter().any(|file| locked(&root.join(file))),
    },
    Server {
        name: "Redis or Valkey",
        files: &[&["dump.rdb"], &["appendonlydir"], &["appendonly.aof"]],
        programs: REDIS,
        tells: |root| works_in(root, REDIS),
    },
];

const REDIS: &[&str] = &["redis-server", "valkey-server", "keydb-server"];

/// A server at work in the volume.
#[derive(Debug)]
pub struct AtWork {
    pub server: &'static str,
    pub directory: PathBuf,
}

/// The server that works on files which `rules` take, when there is one. `volume` is the name of the Docker volume.
pub fn at_work(root: &Path, volume: Option<&str>, rules: &Rules) -> Option<AtWork> {
    let mut budget = ENTRIES;
    let mut directories = vec![(PathBuf::new(), 0)];
    while let Some((below, depth)) = directories.pop() {
        let directory = root.join(&below);
        let taken = |file: &&str| rules.take(&below.join(file)) && directory.join(file).exists();
        let is_of = |server: &&Server| server.files.iter().any(|files| files.iter().all(&taken));
        if let Some(server) = SERVERS.iter().find(is_of)
            && ((server.tells)(&directory) || container_works(&directory, volume, server))
        {
            return Some(AtWork { server: server.name, directory });
        }
        if depth < DEPTH {
            let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten().take(budget);
            let seen: Vec<_> = entries.collect();
            budget -= seen.len();
            let inside = seen.iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            directories.extend(inside.map(|entry| (below.join(entry.file_name()), depth + 1)));
        }
    }
    None
}

/// Whether the kernel holds a lock for anybody on this file.
fn locked(path: &Path) -> bool {
    let (Ok(metadata), Ok(locks)) = (std::fs::metadata(path), std::fs::read_to_string("/proc/locks")) else {
        return false;
    };
    let inode = format!(":{}", metadata.ino());
    locks
        .lines()
        .any(|line| line.split_whitespace().any(|word| word.matches(':').count() == 2 && word.ends_with(&inode)))
}

/// Whether one of `programs` has `directory` as its working directory: Redis goes there, and locks nothing.
fn works_in(directory: &Path, programs: &[&str]) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let Some(wanted) = identity(directory) else { return false };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_program = processes.filter(|process| {
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        programs.contains(&name.trim_end())
    });
    of_program.into_iter().any(|process| identity(&process.path().join("cwd")) == Some(wanted))
}

/// Whether a running container may write there and runs such a server. One that does not show what it runs may.
fn container_works(directory: &Path, volume: Option<&str>, server: &Server) -> bool {
    let Ok(docker) = Docker::connect() else { return false };
    let touches = |source: &Path| directory.starts_with(source) || source.starts_with(directory);
    let writing = docker.containers().unwrap_or_default().into_iter().filter(|container| {
        let mut mounts = container.mounts.iter().filter(|m| m.writable && m.kind != MountKind::Memory);
        container.state == State::Running
            && mounts.any(|m| touches(&m.source) || volume.is_some() && m.volume.as_deref() == volume)
    });
    let is_server = |name: &String| server.programs.contains(&name.as_str());
    writing.into_iter().any(|c| docker.programs(&c.id).is_none_or(|programs| programs.iter().any(is_server)))
}
