//! Trees to be backed up, and a description of a tree that owes nothing to the engine under test.
#![allow(dead_code)] // each test binary uses its own part of this

use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// A place for one test, gone after it.
pub struct Sandbox {
    root: tempfile::TempDir,
    scratch: PathBuf,
}

impl Sandbox {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let scratch = root.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        Sandbox { root, scratch }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

pub fn tool(program: &str, arguments: &[&str], path: &Path) {
    let status = Command::new(program).args(arguments).arg(path).status().unwrap();
    assert!(status.success(), "{program} {arguments:?} {}", path.display());
}

/// A tree with every kind of entry this user may make.
pub fn everything(sandbox: &Sandbox) -> PathBuf {
    let root = sandbox.path("source");
    let at = |name: &str| root.join(name);
    fs::create_dir(&root).unwrap();
    fs::create_dir(at("dir")).unwrap();
    fs::create_dir(at("empty-dir")).unwrap();
    fs::write(at("small"), "small").unwrap();
    fs::write(at("empty"), "").unwrap();
    let noise: Vec<u8> = (0u32..1_500_001).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(at("big"), &noise).unwrap();
    fs::write(at("big-2-aligned"), &noise[..262_144]).unwrap();
    fs::write(at("big-3"), &noise[5..262_150]).unwrap();
    fs::write(at("just-small"), &noise[..262_143]).unwrap();
    fs::write(at("hard"), "hard").unwrap();
    fs::hard_link(at("hard"), at("dir/hard-too")).unwrap();
    sparse(&at("sparse-big"), 40_000_000, &[(0, &noise[..400_000]), (20_000_000, &noise[..300_000])]);
    sparse(&at("sparse-small"), 5_000_000, &[(1_000_000, &noise[..5000])]);
    sparse(&at("only-a-hole"), 3_000_000, &[]);
    std::os::unix::fs::symlink("small", at("link")).unwrap();
    std::os::unix::fs::symlink("/no/such/".repeat(20), at("dangling")).unwrap();
    std::os::unix::fs::symlink("ä\n", at("link-ä")).unwrap();
    fs::write(at("unicode-ä"), "ä").unwrap();
    fs::write(at("new\nline"), "n").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"invalid-\xff\xfe")), "i").unwrap();
    fs::write(root.join("l".repeat(255)), "long").unwrap();
    fs::create_dir_all(root.join("long/".to_owned() + &"p".repeat(200) + "/" + &"q".repeat(200))).unwrap();
    rustix::fs::mkfifoat(CWD, at("fifo"), Mode::from_raw_mode(0o640)).unwrap();
    drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
    if rustix::process::geteuid().is_root() {
        let device = |name: &str, kind, numbers: (u32, u32)| {
            let number = rustix::fs::makedev(numbers.0, numbers.1);
            rustix::fs::mknodat(CWD, at(name), kind, Mode::from_raw_mode(0o600), number).unwrap();
        };
        device("null", FileType::CharacterDevice, (1, 3));
        device("loop", FileType::BlockDevice, (7, 300));
        std::os::unix::fs::lchown(at("small"), Some(3_000_000), Some(4_000_000)).unwrap();
        std::os::unix::fs::lchown(at("link"), Some(1234), Some(1235)).unwrap();
        rustix::fs::lsetxattr(at("link"), "trusted.note", b"on a link", XattrFlags::empty()).unwrap();
        tool("setcap", &["cap_net_raw+ep"], &at("just-small"));
    }
    tool("setfattr", &["-n", "user.colour", "-v", "0x00ff0a3d"], &at("small"));
    tool("setfattr", &["-n", "user.on-a-directory", "-v", "yes"], &at("dir"));
    tool("setfacl", &["-m", "u:1234:rw,g:99:r"], &at("big"));
    tool("setfacl", &["-m", "u:1234:rwx", "-m", "d:u:1234:rx"], &at("dir"));
    fs::set_permissions(at("empty"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(at("big-3"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(at("empty-dir"), fs::Permissions::from_mode(0o1777)).unwrap();
    tool("touch", &["-d", "1969-12-31T23:59:58.25Z"], &at("empty"));
    tool("touch", &["-h", "-d", "2001-02-03T04:05:06.123456789Z"], &at("link"));
    tool("touch", &["-d", "2200-01-01T00:00:00Z"], &at("just-small"));
    tool("touch", &["-d", "1999-01-01T00:00:00.000000001Z"], &at("dir"));
    root
}

fn sparse(path: &Path, size: u64, pieces: &[(u64, &[u8])]) {
    let file = fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    pieces.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
}

/// Small files of about 2 KiB, a hundred in a directory.
pub fn many(root: &Path, files: usize) {
    fs::create_dir_all(root).unwrap();
    for directory in 0..files.div_ceil(100) {
        let path = root.join(format!("d{directory:03}"));
        fs::create_dir(&path).unwrap();
        for file in 0..100.min(files - directory * 100) {
            let text = format!("{directory} {file} ").repeat(100 + file * 5);
            fs::write(path.join(format!("f{file:04}")), text).unwrap();
        }
    }
}

/// Directories one in another, each with a file; their path is longer than the kernel takes in one call.
pub fn deep(root: &Path, levels: usize, name: &str) {
    let mut directory = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    for level in 0..levels {
        rustix::fs::mkdirat(&directory, name, Mode::RWXU).unwrap();
        directory = rustix::fs::openat(&directory, name, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = rustix::fs::openat(&directory, "zz-file", flags, Mode::RWXU).unwrap();
        rustix::io::write(file, level.to_string().as_bytes()).unwrap();
    }
}

/// Waits until nothing in the tree is so new that the racy rule would distrust it.
pub fn settle(root: &Path) {
    let newest = entries(root)
        .iter()
        .map(|path| fs::symlink_metadata(path).unwrap())
        .map(|found| SystemTime::UNIX_EPOCH + Duration::new(found.ctime() as u64, found.ctime_nsec() as u32))
        .max()
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(10);
    while SystemTime::now().duration_since(newest).is_ok_and(|age| age < Duration::from_millis(2050)) {
        assert!(Instant::now() < limit, "the clock stands still");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// All paths, the root first.
fn entries(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_owned()];
    if root.symlink_metadata().unwrap().is_dir() {
        let mut inner: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap()).collect();
        inner.sort_by_key(|entry| entry.file_name());
        inner.iter().for_each(|entry| {
            assert!(entry.ino() > 0);
            all.extend(entries(&entry.path()));
        });
    }
    all
}

/// Everything that a restore must bring back.
#[derive(Debug, PartialEq)]
pub struct Described {
    path: String,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    links: u64,
    device: u64,
    size: u64,
    content: Option<String>,
    target: Option<PathBuf>,
    xattrs: Vec<(String, Vec<u8>)>,
}

/// Describes a tree without its sockets.
pub fn describe(root: &Path) -> Vec<Described> {
    let paths = entries(root).into_iter();
    let wanted = paths.filter(|path| !fs::symlink_metadata(path).unwrap().file_type().is_socket());
    wanted.map(|path| describe_one(root, &path)).collect()
}

/// The same, where a hard link may have become a file.
pub fn describe_without_links(root: &Path) -> Vec<Described> {
    let mut described = describe(root);
    described.iter_mut().filter(|one| one.content.is_some()).for_each(|one| one.links = 1);
    described
}

fn describe_one(root: &Path, path: &Path) -> Described {
    let found = fs::symlink_metadata(path).unwrap();
    let content = || {
        let bytes = fs::read(path).unwrap();
        blake3::hash(&bytes).to_hex().to_string()
    };
    Described {
        path: format!("{:?}", path.strip_prefix(root).unwrap()),
        mode: found.mode(),
        owner: (found.uid(), found.gid()),
        mtime: (found.mtime(), found.mtime_nsec()),
        links: if found.is_dir() { 1 } else { found.nlink() },
        device: found.rdev(),
        size: if found.is_dir() { 0 } else { found.len() },
        content: found.is_file().then(content),
        target: found.file_type().is_symlink().then(|| fs::read_link(path).unwrap()),
        xattrs: xattrs(path),
    }
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let mut all = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        all.push((String::from_utf8_lossy(name).into_owned(), value[..length].to_vec()));
    }
    all.sort();
    all
}

/// Runs `body` as a user without rights. Root becomes one in a child process that runs the test `name` again; what it
/// asserts is asserted there, and `None` comes back here.
pub fn as_nobody<T>(sandbox: &Sandbox, name: &str, body: impl FnOnce() -> T) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        return Some(body());
    }
    let shared = sandbox.path("as-nobody");
    fs::create_dir(&shared).unwrap();
    tool("chmod", &["0777"], &shared);
    let program = shared.join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    tool("chmod", &["0755"], sandbox.root());
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", name])
        .env("TMPDIR", &shared)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    None
}

/// A file system of its own, as long as the value lives.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn tmpfs(at: &Path) -> Option<Self> {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(at).status().ok()?;
        status.success().then(|| Mounted(at.to_owned()))
    }

    pub fn resize(at: &Path, size: &str) {
        let option = format!("remount,size={size}");
        tool("mount", &["-o", &option], at);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Root in a container without the right to mount.
pub fn mounts_are_forbidden() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() & (1 << 21) == 0
}
