//! Another key for a reader whose old one is of ssh, with dumps in chunks over two data epochs: read without bkp, and from a copy.

use super::{as_stranger, new_key, rotate, vouch};
use crate::support;
use crate::support::host::{Host, database, texts};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the script in a repository gives to this key, of a source or one of its points; nothing where it refuses.
fn by_script(repository: &Path, script: &str, key: &Path, words: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new(if script == "restore.sh" { "sh" } else { "python3" });
    command.arg(repository.join("restore").join(script)).arg("-i").arg(key).arg("-r").arg(repository);
    let output = command.args(["stream", "app"]).args(words).env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{script} with {}: {said}", key.display());
    (output.status.success() && said.contains("Complete and verified")).then_some(output.stdout)
}

/// The public half of a new key of ssh in `ana.txt`.
fn ssh_key(host: &Host) -> String {
    let path = host.text("ana.txt");
    support::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "ana@laptop", "-f", &path], host.root());
    fs::read_to_string(format!("{path}.pub")).unwrap().trim().to_owned()
}

#[test]
fn dumps_in_chunks_and_a_copy_open_to_the_new_key() {
    for tool in ["age", "zstd", "python3", "openssl", "ssh-keygen"] {
        if Command::new(tool).arg("--help").output().is_err() {
            return support::not_run("another key for a reader, and scripts", &format!("apt-get install {tool}"));
        }
    }
    let host = Host::new();
    let copy = host.path("second");
    let copies = format!("copies:\n  - {{ name: second, url: \"file://{}\" }}\n", copy.display());
    host.configure(&format!("repository: {{ url: \"{}\" }}\n{copies}", host.url));
    host.sources(&[format!("app: {{ sqlite: {{ path: \"{}\" }}, layout: dedup }}", host.text("data/app.db"))]);
    host.run(&["copy", "--create", "second"]).ends(0);
    host.read(&["keys", "add", "ana", &ssh_key(&host)]).ends(0);
    database(&host.path("data/app.db"), 20_000, "old");
    host.run(&["backup"]).ends(0);
    host.next_second();
    database(&host.path("data/app.db"), 20_100, "old");
    let new = new_key(&host, "ana-2027.txt");
    let said = rotate(&host, &new, &["--json"]).ends(0).json();
    assert_eq!((&said["done"]["refused"][0], &said["done"]["untried"][0]), (&"ana".into(), &serde_json::Value::Null));
    // The new point has chunks of the one before, and packs of its own.
    let open = &said["done"]["still_open"][0]["series"][0];
    assert_eq!((&open["points"], &open["in_part"]), (&2.into(), &1.into()), "{said}");
    host.run(&["copy", "second"]).ends(0);

    vouch(&host, &["ana-2027.txt"]);
    let (ana, ana_2027) = (host.path("ana.txt"), host.path("ana-2027.txt"));
    let to = host.path("read.db");
    for repository in [host.store(), copy.clone()] {
        for script in ["restore.sh", "restore.py"] {
            for (point, rows) in host.points("app").iter().zip([20_100, 20_000]) {
                let point = point["point"].as_str().unwrap();
                fs::write(&to, by_script(&repository, script, &ana_2027, &[point]).expect("it opens")).unwrap();
                assert_eq!(texts(&to), vec!["old"; rows], "{script}");
            }
            assert_eq!(by_script(&repository, script, &ana, &[]), None, "{script}");
        }
    }
    let url = format!("file://{}", copy.display());
    let from_copy =
        |key: &str, name: &str| as_stranger(&host, key, &["restore", "app", "--repo", &url, "--to", &host.text(name)]);
    from_copy("ana-2027.txt", "copied.db").ends(0);
    assert_eq!(texts(&host.path("copied.db")), vec!["old"; 20_100]);
    from_copy("ana.txt", "no.db").fails(12, "this identity does not belong to this repository", "bkp keys list");
}
