//! The golden vectors of the evidence: bundles that must be verified for ever, and bad ones with what each must be found to be.
//!
//! `tests/vectors/evidence.txt` lists them; `evidence/key.pem` is the host's key. A verifier in another language can be tested with
//! the same files. `BKP_WRITE_VECTORS=1 cargo test --test evidence` makes missing ones; existing ones are never written again.

use super::*;
use std::path::Path;

const FILES: [&str; 6] = ["bundle.json", "bundle.sig.json", "journal", "seals", "anchors", "rehearsals"];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/evidence")
}

#[test]
fn every_vector_fits_or_is_found_to_be_tampered_with() {
    if std::env::var_os("BKP_WRITE_VECTORS").is_some() && !directory().exists() {
        write_all();
    }
    let list = fs::read_to_string(directory().with_extension("txt")).unwrap();
    let cases: Vec<_> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(cases.len() >= 8, "{list}");
    let key = fs::read_to_string(directory().join("key.txt")).unwrap();
    let host = Host::bare();
    for case in cases {
        let (file, expected) = case.split_once(" | ").unwrap();
        let file = directory().join(file);
        let answer = host.run(&["evidence", "verify", "--json", file.to_str().unwrap(), "--key", key.trim()]);
        match expected {
            "good" => drop(answer.ends(0)),
            expected => assert_eq!(found(answer.ends(4)).join(", "), expected, "{case}"),
        }
    }
}

fn write_all() {
    let host = host();
    let bundle = bundles::exported(&host);
    host.run(&["evidence", "anchor"]).ends(0);
    fs::remove_dir_all(&bundle).unwrap();
    host.run(&["evidence", "export", host.text("bundle").as_str()]).ends(0);
    fs::create_dir_all(directory()).unwrap();
    fs::write(directory().join("key.txt"), format!("{}\n", bundles::key(&host))).unwrap();
    let pem = bundle.join("keys").read_dir().unwrap().next().unwrap().unwrap().path();
    fs::copy(pem, directory().join("key.pem")).unwrap();
    let mut segments: Vec<PathBuf> = bundle.join("journal").read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    segments.sort();
    let (first, last) = (&segments[0], segments.last().unwrap());
    let (all, tail) = (lines(first), lines(last));
    pack(&bundle, "good.tar");
    let bad = |name: &str, path: &PathBuf, lines: &[String]| {
        let before = fs::read(path).unwrap();
        write(path, lines);
        pack(&bundle, name);
        fs::write(path, before).unwrap();
    };
    bad("removed.tar", first, &[&all[..7], &all[8..]].concat());
    bad("edited.tar", first, &[&all[..5], &[all[5].replace("app", "ape")], &all[6..]].concat());
    let forged_one = forged(&all[5].replace("app", "ape"), None);
    bad("edited-with-its-check.tar", first, &[&all[..5], &[forged_one], &all[6..]].concat());
    let anew = rechained(&[&all[..5], &[all[5].replace("app", "ape")], &all[6..]].concat(), 5);
    bad("rewritten.tar", first, &anew);
    bad("moved.tar", first, &[&all[..7], &[all[8].clone(), all[7].clone()], &all[9..]].concat());
    bad("inserted.tar", first, &[&all[..8], &[forged(&all[7].replace("app", "ape"), None)], &all[8..]].concat());
    bad("cut-off.tar", last, &tail[..tail.len() - 1]);
    fs::remove_file(first).unwrap();
    pack(&bundle, "segment-gone.tar");
}

fn pack(bundle: &Path, name: &str) {
    let mut archive = tar::Builder::new(fs::File::create(directory().join(name)).unwrap());
    for file in FILES {
        let path = bundle.join(file);
        let names = match path.is_dir() {
            true => path
                .read_dir()
                .unwrap()
                .map(|e| format!("{file}/{}", e.unwrap().file_name().to_str().unwrap()))
                .collect(),
            false => vec![file.to_owned()],
        };
        for name in names {
            let bytes = fs::read(bundle.join(&name)).unwrap();
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, &bytes[..]).unwrap();
        }
    }
    archive.finish().unwrap();
    // What each comes to was looked at, and is what the list says from then on.
    let host = Host::bare();
    let key = fs::read_to_string(directory().join("key.txt")).unwrap();
    let file = directory().join(name);
    let answer = host.run(&["evidence", "verify", "--json", file.to_str().unwrap(), "--key", key.trim()]);
    let found = found(answer);
    let list = directory().with_extension("txt");
    let mut text = fs::read_to_string(&list)
        .unwrap_or_else(|_| "# A bundle, and what verification must find in it. The key is evidence/key.txt.\n".into());
    let expected = if found.is_empty() { "good".to_owned() } else { found.join(", ") };
    text.push_str(&format!("{name} | {expected}\n"));
    fs::write(&list, text).unwrap();
}
