//! However big or many the data, the program keeps within its memory.

use crate::support::host::{Answer, Host, Running, noise};
use std::fs;

const MOST: u64 = 256;

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
    noise(&host.path("data/docs/big"), 1 << 30, 1);
    noise(&host.path("data/docs/second"), 1 << 29, 2);
    keeps_within_its_memory(&host);
    let [then, now] = ["data/docs/big", "home/to/big"].map(|name| fs::File::open(host.path(name)).unwrap());
    let [then, now] = [then, now].map(|file| blake3::Hasher::new().update_reader(file).unwrap().finalize());
    assert_eq!(then, now);
}

#[test]
fn many_files() {
    let host = Host::new();
    for directory in 0..200 {
        let path = host.path(&format!("data/docs/directory-{directory}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..1000 {
            fs::write(path.join(format!("file-{file}")), format!("{directory} {file}")).unwrap();
        }
    }
    keeps_within_its_memory(&host);
    assert_eq!(fs::read_to_string(host.path("home/to/directory-7/file-77")).unwrap(), "7 77");
    assert_eq!(fs::read_dir(host.path("home/to/directory-199")).unwrap().count(), 1000);
}
