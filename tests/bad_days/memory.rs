//! However big or many the data, the program keeps within its memory.
//!
//! With `BKP_TEST_FULL_SIZE=1` it is 20 GiB and a million files instead, which takes 45 GB of disk below `TMPDIR`, or 10 GB
//! where the file system there compresses (btrfs with `compress-force=zstd`).

use crate::support::host::{Answer, Host, Running, noise};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// MiB.
const MOST: u64 = 256;

/// The size everybody's run can afford, or the one that the limit was promised for.
fn sized(small: u64, full: u64) -> u64 {
    if std::env::var_os("BKP_TEST_FULL_SIZE").is_some_and(|value| value == "1") { full } else { small }
}

/// Of eight MiB one does not compress and seven do; none of them comes twice.
fn mixture(path: &Path, mebibytes: u64) {
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut file = File::create(path).unwrap();
    for number in 0..mebibytes {
        let mut piece = vec![0; if number % 8 == 0 { 1 << 20 } else { 1 << 10 }];
        noise.fill(&mut piece);
        file.write_all(&piece.repeat((1 << 20) / piece.len())).unwrap();
    }
}

/// Runs to the end and gives the most memory that was in use meanwhile, in MiB.
fn measured(host: &Host, mut running: Running) -> (Answer, u64) {
    let mut peak = 0;
    while running.child.try_wait().unwrap().is_none() {
        peak = peak.max(running.peak_memory());
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    assert!(peak > 0);
    (host.finish(running).ends(0), peak)
}

fn keeps_within_its_memory(host: &Host) {
    host.sources(&[format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs"))]);
    for arguments in
        [&["backup"][..], &["backup"], &["restore", "docs", "--to", "to"], &["check", "--level", "readable"]]
    {
        let mut command = host.command(arguments);
        command.env("BKP_IDENTITY", host.identity());
        let begun = std::time::Instant::now();
        let (_, peak) = measured(host, host.start(command));
        println!("{arguments:?}: {peak} MiB, {:?}", begun.elapsed());
        assert!(peak <= MOST, "{arguments:?} took {peak} MiB of memory");
    }
}

#[test]
fn a_big_volume() {
    let host = Host::new();
    fs::create_dir(host.path("data/docs")).unwrap();
    mixture(&host.path("data/docs/big"), sized(1 << 10, 39 << 9));
    noise(&host.path("data/docs/second"), 1 << 29, 2);
    keeps_within_its_memory(&host);
    let [then, now] = ["data/docs/big", "home/to/big"].map(|name| File::open(host.path(name)).unwrap());
    let [then, now] = [then, now].map(|file| blake3::Hasher::new().update_reader(file).unwrap().finalize());
    assert_eq!(then, now);
}

#[test]
fn many_files() {
    let host = Host::new();
    let directories = sized(200, 1000);
    for directory in 0..directories {
        let path = host.path(&format!("data/docs/directory-{directory}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..1000 {
            fs::write(path.join(format!("file-{file}")), format!("{directory} {file}")).unwrap();
        }
    }
    keeps_within_its_memory(&host);
    assert_eq!(fs::read_to_string(host.path("home/to/directory-7/file-77")).unwrap(), "7 77");
    assert_eq!(fs::read_dir(host.path(&format!("home/to/directory-{}", directories - 1))).unwrap().count(), 1000);
}
