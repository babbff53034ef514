//! What a scratch target had too little of, memory or room, told from what it and its clients said..

use crate::error::{Failure, Kind};
use std::path::PathBuf;

/// Where a scratch target has its data, and how much may be there.
#[derive(Clone, Debug, PartialEq)]
pub enum Room {
    /// Memory of the container, bytes.
    Memory(u64),
    /// A volume of the container engine.
    Volume,
    /// Somewhere below this directory.
    Directory(PathBuf),
}

/// What servers, clients and the system say when a disk is full.
const NO_ROOM: [&str; 8] = [
    "no space left",
    "disk full",
    "disk quota exceeded",
    "errno: 28",
    "error 28",
    "os error 28",
    "error number 28",
    "error: 28",
];
/// And when there is no memory. A process of a server that is killed by signal 9 while others go on was killed for want of it.
const NO_MEMORY: [&str; 6] = [
    "cannot allocate memory",
    "out of memory",
    "terminated by signal 9",
    "signal 9: killed",
    "can't allocate",
    "needs more memory than it has",
];

/// Puts into words what was too small, how large it is, and where more is given; another failure stays as it is.
pub fn explained(failure: Failure, said: &str, room: &Room, memory: u64) -> Failure {
    let heard = format!("{}\n{said}", failure.full()).to_lowercase();
    let has = |words: &[&str]| words.iter().any(|words| heard.contains(words));
    let (text, hint) = match (has(&NO_ROOM), has(&NO_MEMORY), room) {
        (true, _, Room::Memory(bytes)) => (
            format!("the scratch server has no room left: its data is in memory, and may take {}", mebibytes(*bytes)),
            MORE_MEMORY.to_owned(),
        ),
        (true, _, Room::Volume) => (
            "the scratch server has no room left: its data is in a volume, on the disk of the container engine".to_owned(),
            "Make room where the engine keeps its volumes (docker info: Docker Root Dir; docker system df), or rehearse on a host with a larger disk".to_owned(),
        ),
        (true, _, Room::Directory(directory)) => (
            format!("the scratch target has no room left in {}{}", directory.display(), free(directory)),
            "Make room there; or let bkp have its temporary files (TMPDIR) and its cache on a larger disk".to_owned(),
        ),
        (false, true, Room::Directory(_)) => (
            "the scratch server has no memory left on this host".to_owned(),
            "Rehearse when less is going on, or on a host with more memory".to_owned(),
        ),
        (false, true, _) => (
            format!("the scratch server needs more memory than the {} that it may use", mebibytes(memory)),
            MORE_MEMORY.to_owned(),
        ),
        (false, false, _) => return failure,
    };
    Failure::new(Kind::Failed, text).hint(hint).because(failure.full())
}

const MORE_MEMORY: &str =
    "Give it more, such as `rehearse: { memory: 4GiB }` in the main file, or rehearse on a larger host";

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// How much there is, where that can be told.
fn free(directory: &std::path::Path) -> String {
    let found = rustix::fs::statvfs(directory).ok();
    let free = |found: rustix::fs::StatVfs| {
        format!(
            " ({} of {} free)",
            mebibytes(found.f_bavail * found.f_frsize),
            mebibytes(found.f_blocks * found.f_frsize)
        )
    };
    found.map(free).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(said: &str, room: &Room) -> (String, String) {
        let failure = explained(Failure::failed("the client lost its connection"), said, room, 64 << 20);
        (failure.to_string(), failure.next_step().unwrap_or_default().to_owned())
    }

    #[test]
    fn what_was_too_small_is_told_with_its_size_and_where_to_raise_it() {
        let (text, hint) =
            told("mysqld: Error writing file (Errcode: 28 \"No space left on device\")", &Room::Memory(48 << 20));
        assert_eq!(text, "the scratch server has no room left: its data is in memory, and may take 48 MiB");
        assert!(hint.contains("rehearse: { memory:"), "{hint}");
        let (text, hint) = told("could not extend file: No space left on device", &Room::Volume);
        assert!(text.contains("a volume") && hint.contains("docker system df"), "{text} {hint}");
        let (text, _) = told("OS error: 28, No space left on device", &Room::Directory("/nowhere".into()));
        assert_eq!(text, "the scratch target has no room left in /nowhere");
        let (text, hint) = told("server process (PID 61) was terminated by signal 9: Killed", &Room::Volume);
        assert_eq!(text, "the scratch server needs more memory than the 64 MiB that it may use");
        assert!(hint.contains("rehearse: { memory:"), "{hint}");
    }

    #[test]
    fn other_failures_stay_as_they_are() {
        let (text, hint) = told("ERROR 1064 (42000): You have an error", &Room::Volume);
        assert_eq!((text.as_str(), hint.as_str()), ("the client lost its connection", ""));
    }
}
