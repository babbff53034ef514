//! A glance around: what the container engine tells, and into directories: empty or not, files of a database server, SQLite databases.
//!
//! Looks at names and first bytes of a bounded number of files, and follows no symbolic link. What cannot be read counts as not there.

use super::Host;
use crate::error::Result;
use crate::exec::docker::{Description, Docker, Volume};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How far a glance goes.
const DEPTH: usize = 4;
const ENTRIES: usize = 5000;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    pub empty: bool,
    /// Kind of the server whose data directory this is.
    pub database: Option<&'static str>,
    /// SQLite databases, relative to the directory.
    pub sqlite: Vec<PathBuf>,
    /// Of the file system that it is on.
    pub device: Option<u64>,
}

/// What is on the engine's host now.
pub struct Around {
    docker: Docker,
    containers: Vec<Description>,
    volumes: Vec<Volume>,
}

impl Around {
    pub fn look() -> Result<Self> {
        let docker = Docker::connect()?;
        let (containers, mut volumes) = (docker.containers()?, docker.volumes()?);
        for volume in &mut volumes {
            // One that cannot be reached now is shown as if it were empty.
            volume.mountpoint = volume.place().unwrap_or_else(|_| volume.mountpoint.clone());
        }
        Ok(Around { docker, containers, volumes })
    }

    pub fn show<T>(&self, to: impl FnOnce(&Host<'_>) -> T) -> T {
        let programs = |container: &Description| self.docker.programs(&container.id);
        let (containers, volumes) = (&self.containers, &self.volumes);
        to(&Host { containers, volumes, contents: &contents, programs: &programs })
    }
}

pub fn contents(directory: &Path) -> Contents {
    let mut sqlite = Vec::new();
    let mut budget = ENTRIES;
    walk(directory, Path::new(""), DEPTH, &mut budget, &mut sqlite);
    sqlite.sort();
    let unreadable = std::fs::read_dir(directory).is_err();
    let device = std::fs::metadata(directory).ok().map(|metadata| metadata.dev());
    Contents { empty: budget == ENTRIES && !unreadable, database: database(directory), sqlite, device }
}

/// There, or where images keep it: in `data` (Bitnami), in `18/docker` (PostgreSQL).
fn database(directory: &Path) -> Option<&'static str> {
    let versions = std::fs::read_dir(directory).into_iter().flatten().flatten().take(100);
    let versions = versions.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u8>().is_ok()));
    let inside = versions.map(|entry| entry.path().join("docker"));
    [directory.to_owned(), directory.join("data")].into_iter().chain(inside).find_map(|directory| kind(&directory))
}

fn kind(directory: &Path) -> Option<&'static str> {
    let has = |name: &str| directory.join(name).exists();
    match () {
        () if has("PG_VERSION") => Some("postgres"),
        () if has("ibdata1") || has("mysql.ibd") => Some("mysql"),
        () if has("WiredTiger") => Some("mongo"),
        () if has("dump.rdb") || has("appendonlydir") || has("appendonly.aof") => Some("redis"),
        () => None,
    }
}

fn walk(root: &Path, below: &Path, depth: usize, budget: &mut usize, sqlite: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(root.join(below)) else { return };
    for entry in entries.flatten() {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let path = below.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 1 => walk(root, &path, depth - 1, budget, sqlite),
            Ok(kind) if kind.is_file() && is_sqlite(&root.join(&path)) => sqlite.push(path),
            _ => {}
        }
    }
}

/// A copy is opened for a moment: closing a descriptor of a database drops the locks of *this* process only, and it has none.
fn is_sqlite(path: &Path) -> bool {
    let mut magic = [0; 16];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"SQLite format 3\0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_glance_tells() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        assert!(contents(directory.path()).empty);
        std::fs::create_dir_all(at("instance")).expect("a directory");
        std::fs::write(at("instance/app.db"), b"SQLite format 3\0 and more").expect("a file");
        std::fs::write(at("text"), b"SQLite format").expect("a file");
        let found = contents(directory.path());
        let device = std::fs::metadata(directory.path()).ok().map(|m| m.dev());
        assert_eq!(found, Contents { empty: false, database: None, sqlite: vec!["instance/app.db".into()], device });
        std::fs::write(at("PG_VERSION"), b"15").expect("a file");
        assert_eq!(contents(directory.path()).database, Some("postgres"));
        std::fs::remove_file(at("PG_VERSION")).expect("it is there");
        std::fs::create_dir_all(at("18/docker")).expect("a directory");
        std::fs::write(at("18/docker/PG_VERSION"), b"18").expect("a file");
        assert_eq!(contents(directory.path()).database, Some("postgres"));
        assert!(!contents(Path::new("/no/such/directory")).empty, "what cannot be read may hold anything");
    }
}
