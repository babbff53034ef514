//! What is particular to a directory: modes, foreign things in the tree, full disks, left-overs.

use crate::contract::{content, key};
use bkp::error::{Failure, Kind};
use bkp::store::directory::Directory;
use bkp::store::{Location, Settings, Store, StoreError, Watch, create, open, probe, read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

fn fresh() -> (tempfile::TempDir, PathBuf, Directory) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("store");
    let store = Directory::create(&root).unwrap();
    (scratch, root, store)
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_written_is_private() {
    let (_scratch, root, store) = fresh();
    store.put(&key("a/b/c"), content(10, 1), None).unwrap();
    let upload = store.upload(&key("a/up"), None).unwrap();
    upload.part(1, 0, content(10, 1)).unwrap();
    upload.finish().unwrap();
    assert_eq!(["", "a", "a/b", ".tmp"].map(|name| mode(&root.join(name))), [0o700; 4]);
    assert_eq!(["a/b/c", "a/up"].map(|name| mode(&root.join(name))), [0o600; 2]);
}

#[test]
fn a_dropped_upload_leaves_no_file() {
    let (_scratch, root, store) = fresh();
    let upload = store.upload(&key("a/x"), None).unwrap();
    upload.part(1, 0, content(100_000, 1)).unwrap();
    assert_eq!(std::fs::read_dir(root.join(".tmp")).unwrap().count(), 1);
    drop(upload);
    assert_eq!(std::fs::read_dir(root.join(".tmp")).unwrap().count(), 0);
}

#[test]
fn foreign_things_in_the_tree_are_no_objects() {
    use std::os::unix::ffi::OsStrExt;
    let (scratch, root, store) = fresh();
    store.put(&key("a/real"), content(10, 1), None).unwrap();
    std::fs::write(scratch.path().join("outside"), "secret").unwrap();
    symlink(scratch.path().join("outside"), root.join("a/link")).unwrap();
    symlink("nowhere", root.join("a/dangling")).unwrap();
    symlink("..", root.join("a/loop")).unwrap();
    std::fs::write(root.join("a/.hidden"), "x").unwrap();
    std::fs::write(root.join("a/with space\n"), "x").unwrap();
    std::fs::write(root.join("a").join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    std::fs::create_dir(root.join("a/empty")).unwrap();
    std::fs::create_dir(root.join("lost+found")).unwrap();
    let fifo = root.join("a/fifo");
    crate::support::run("mkfifo", &[fifo.to_str().unwrap()], scratch.path());
    let _socket = std::os::unix::net::UnixListener::bind(root.join("a/socket")).unwrap();

    let names: Vec<_> = store.list("").unwrap().into_iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(names, ["a/real"]);
    for name in ["a/link", "a/dangling", "a/fifo", "a/socket", "a/empty", "a/real/below"] {
        assert!(matches!(store.get(&key(name), None).map(|_| ()), Err(StoreError::NotFound(_))), "{name}");
        assert!(matches!(store.head(&key(name)), Err(StoreError::NotFound(_))), "{name}");
    }
}

#[test]
fn a_directory_that_somebody_removed_is_made_again() {
    let (_scratch, root, store) = fresh();
    store.put(&key("a/b/one"), content(10, 1), None).unwrap();
    std::fs::remove_dir_all(root.join("a")).unwrap();
    assert!(store.put(&key("a/b/two"), content(10, 2), None).unwrap_err().transient());
    store.put(&key("a/b/two"), content(10, 2), None).unwrap();
    assert_eq!(read(&store, &key("a/b/two")).unwrap(), content(10, 2));
}

#[test]
fn left_overs_are_cleared_after_a_day() {
    let (_scratch, root, store) = fresh();
    store.put(&key("x"), content(1, 1), None).unwrap();
    let (old, new) = (root.join(".tmp/.bkp-tmp-old"), root.join(".tmp/.bkp-tmp-new"));
    for path in [&old, &new] {
        std::fs::write(path, "left over").unwrap();
    }
    let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 86_400);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(two_days_ago).unwrap();
    open(&Settings::new(Location::Directory(root))).unwrap();
    assert!(!old.exists() && new.exists());
}

/// In a name space of its own a small file system can be mounted.
#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=256k tmpfs \"$1\" && shift && exec \"$@\"";
    let me = std::env::current_exe().unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(scratch.path())
        .arg(me)
        .args(["directory::inside_a_small_file_system", "--exact", "--nocapture"])
        .env("BKP_TEST_SMALL", scratch.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare:") || text.contains("mount:") {
        return crate::support::not_run("a full disk", "a small file system cannot be mounted; run the tests as root");
    }
    assert!(output.status.success() && text.contains("the small file system was full"), "{text}");
}

/// The other half of the test above, which starts it.
#[test]
fn inside_a_small_file_system() {
    let Some(root) = std::env::var_os("BKP_TEST_SMALL") else { return };
    let root = PathBuf::from(root).join("store");
    let store = Directory::create(&root).unwrap();
    store.put(&key("small"), content(1000, 1), None).unwrap();
    let error = store.put(&key("big"), content(1 << 20, 1), None).unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    assert!(Failure::from(error).next_step().unwrap().contains("Free some space"));
    let upload = store.upload(&key("up"), None).unwrap();
    assert!(matches!(upload.part(1, 0, content(1 << 20, 1)), Err(StoreError::Full(_))));
    drop(upload);
    assert_eq!(std::fs::read_dir(root.join(".tmp")).unwrap().count(), 0);
    assert_eq!(store.list("").unwrap().len(), 1);
    println!("the small file system was full");
}

#[test]
fn a_file_in_place_of_the_directory_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let settings = Settings::new(Location::Directory(file.path().into()));
    let failure = bkp::store::open(&settings).err().unwrap();
    assert_eq!(failure.kind(), Kind::NoRepository);
    assert!(failure.to_string().contains("is not a directory"), "{failure}");
    assert!(create(&settings, Watch::default()).is_err());
}

#[test]
fn a_probe_tells_the_truth_of_a_directory() {
    let (_scratch, root, _store) = fresh();
    let found = probe::probe(&Settings::new(Location::Directory(root)), jiff::Timestamp::now()).unwrap();
    assert_eq!(found, probe::DIRECTORY);
    assert!(found.conditional_put && !found.object_lock);
}
