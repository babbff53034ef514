//! What somebody does who took over the host, the repository or the bundle, and wants to hear that everything fits.

use super::bundles::{exported, key, offline, recipe};
use super::*;
use std::path::Path;

/// A host that anchors in a copy and a file, three times, with a rehearsal before each.
fn anchored() -> Host {
    let host = host();
    anchors::configured(&host, &format!("      - copy: far\n      - file: {}\n", host.text("heads.jsonl")));
    host.run(&["copy", "--create", "far"]).ends(0);
    for _ in 0..3 {
        rehearsed(&host, &[]);
        host.run(&["evidence", "anchor"]).ends(0);
    }
    host.run(&["evidence", "verify"]).ends(0).says("everything fits");
    host
}

/// The last one of its kind in the repository.
fn newest(host: &Host, kind: &str) -> PathBuf {
    host.objects(kind).pop().unwrap()
}

fn heads(host: &Host) -> Vec<u64> {
    let number = |path: PathBuf| path.file_stem()?.to_str()?.rsplit_once('-')?.1.parse().ok();
    host.objects("heads").into_iter().filter_map(number).collect()
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, serde_json::to_vec_pretty(&value).unwrap()).unwrap();
}

#[test]
fn a_bundle_without_its_signature_says_nothing_of_where_it_ends() {
    let host = anchored();
    let bundle = host.path("bundle");
    host.run(&["evidence", "export", &host.text("bundle")]).ends(0);
    let pem = bundle.join("keys").read_dir().unwrap().next().unwrap().unwrap().path();
    fs::copy(pem, host.path("key.pem")).unwrap();
    assert_eq!(recipe(&host), Some(0));
    // The last two segments go, with everything that names them, and the bundle says that it was made before.
    let all: Vec<PathBuf> = segments(&host);
    let kept = lines(&all[1]).last().unwrap().clone();
    let to: Value = serde_json::from_str(&kept).unwrap();
    for path in &all[2..] {
        let name = path.file_name().unwrap().to_str().unwrap();
        let _ = fs::remove_file(bundle.join("journal").join(name));
        let _ = fs::remove_file(bundle.join("seals").join(format!("{name}.json")));
    }
    for directory in ["anchors", "rehearsals"] {
        for entry in fs::read_dir(bundle.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let number: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            if number > to["seq"].as_u64().unwrap() {
                fs::remove_file(path).unwrap();
            }
        }
    }
    fs::remove_file(bundle.join("bundle.sig.json")).unwrap();
    edit_json(&bundle.join("bundle.json"), |manifest| {
        manifest["to"] = to["seq"].clone();
        manifest["hash"] = hash(&kept).into();
        manifest["created"] = to["at"].clone();
        manifest["files"] = serde_json::json!({});
    });
    let (path, key, heads) = (host.text("bundle"), key(&host), host.text("heads.jsonl"));
    // Nobody says where it ends. With a head of the auditor's own it is known that it ended later.
    offline(&[&path, "--key", &key]).ends(3).says("bundle.json is not signed");
    for more in [&[][..], &["--unsigned"]] {
        let arguments = [&[path.as_str(), "--key", &key, "--anchor", &heads], more].concat();
        let found = found(offline(&arguments).ends(4));
        assert!(found.iter().any(|found| found.starts_with("cut_off")), "{found:?}");
    }
    assert_eq!(recipe(&host), Some(4));
}

#[test]
fn an_anchor_that_is_newer_than_the_bundle_is_not_passed_over() {
    let host = anchored();
    host.run(&["evidence", "export", &host.text("bundle.tar")]).ends(0);
    host.run(&["evidence", "anchor"]).ends(0);
    let (bundle, key, heads) = (host.text("bundle.tar"), key(&host), host.text("heads.jsonl"));
    offline(&[&bundle, "--key", &key]).ends(0);
    offline(&[&bundle, "--key", &key, "--anchor", &heads]).ends(3).says("only a newer bundle can be compared with it");
}

#[test]
fn sealed_segments_that_were_deleted_from_the_repository_are_missed_by_its_heads() {
    let host = anchored();
    fs::remove_file(newest(&host, "journal")).unwrap();
    let answer = host.read(&["evidence", "verify", "--stored", "--json"]).ends(4);
    assert!(found(answer).iter().any(|found| found.starts_with("cut_off")));
}

#[test]
fn what_was_sealed_and_is_gone_is_told_and_put_there_again() {
    let host = anchored();
    let stored = host.objects("journal");
    fs::remove_file(&stored[1]).unwrap();
    fs::remove_file(&host.objects("rehearsals")[0]).unwrap();
    let found = found(verified(&host, &[]).ends(4));
    assert_eq!(found.iter().filter(|found| found.starts_with("seal_gone")).count(), 2, "{found:?}");
    host.read(&["evidence", "verify", "--stored"]).ends(4);
    host.run(&["evidence", "anchor"]).ends(0);
    host.run(&["evidence", "verify"]).ends(0);
    host.read(&["evidence", "verify", "--stored"]).ends(0);
}

#[test]
fn the_file_is_asked_also_where_the_repository_is_not() {
    let host = anchored();
    // Everything from the last segment but one on is taken away.
    let all = segments(&host);
    all[all.len() - 2..].iter().for_each(|path| fs::remove_file(path).unwrap());
    let is_cut_off = |answer: Answer| {
        let found = found(answer.ends(4));
        assert!(found.iter().any(|found| found.starts_with("cut_off")), "{found:?}");
    };
    is_cut_off(verified(&host, &["--offline"]));
    let (repository, away) = (host.path("store"), host.path("away"));
    fs::rename(&repository, &away).unwrap();
    is_cut_off(verified(&host, &[]));
    // With the file away too, nothing is known: that is no success.
    fs::remove_dir_all(host.path("far")).unwrap();
    fs::write(host.path("heads.jsonl"), "").unwrap();
    fs::rename(&away, &repository).unwrap();
    is_cut_off(verified(&host, &[]));
}

#[test]
fn nobody_to_ask_is_no_success() {
    let host = anchored();
    fs::rename(host.path("store"), host.path("away")).unwrap();
    host.run(&["evidence", "verify"]).ends(3).says("NOT KNOWN  repository was not asked").says("anchor");
    fs::rename(host.path("far"), host.path("further")).unwrap();
    host.run(&["evidence", "verify"]).ends(3).says("NOT KNOWN  far was not asked");
}

#[test]
fn another_key_of_this_host_in_the_repository_is_a_finding() {
    let host = anchored();
    let stranger = anchored();
    let writers = host.path("store/writers").read_dir().unwrap().next().unwrap().unwrap().path();
    edit_json(&writers, |info| info["verify_key"] = key(&stranger).into());
    assert!(found(verified(&host, &[]).ends(4)).contains(&"signature 0..0".to_owned()));
    host.run(&["evidence", "verify"]).ends(4).says("has another key than the one known here");
}

#[test]
fn anchors_that_were_taken_and_are_gone_are_findings() {
    let host = anchored();
    let newest_head = *heads(&host).last().unwrap();
    let gone = format!("anchor_gone {newest_head}..{newest_head}");
    fs::remove_file(host.path("heads.jsonl")).unwrap();
    assert_eq!(found(verified(&host, &[]).ends(4)), std::slice::from_ref(&gone));
    host.run(&["evidence", "verify"]).ends(4).says("file does not hold it any more");
    // All that the repository had of it, too.
    for kind in ["journal", "heads", "rehearsals"] {
        host.objects(kind).iter().for_each(|path| fs::remove_file(path).unwrap());
    }
    let found_there = found(verified(&host, &[]).ends(4));
    assert!(found_there.contains(&gone), "{found_there:?}");
    assert!(found_there.iter().any(|found| found.starts_with("seal_gone")), "{found_there:?}");
}

#[test]
fn a_head_that_says_it_is_of_this_host_and_is_not_signed_by_it_is_a_finding() {
    let host = anchored();
    let file = host.path("heads.jsonl");
    let text = fs::read_to_string(&file).unwrap().replace("\"sig\":\"", "\"sig\":\"X");
    fs::write(&file, text).unwrap();
    let found_here = found(verified(&host, &[]).ends(4));
    assert!(found_here.iter().any(|found| found.starts_with("signature")), "{found_here:?}");
    // Heads of other hosts may stand in the same file.
    let other = anchored();
    fs::copy(other.path("heads.jsonl"), &file).unwrap();
    let found_here = found(verified(&host, &[]).ends(4));
    assert!(found_here.iter().all(|found| found.starts_with("anchor_gone")), "{found_here:?}");
}

#[test]
fn a_place_that_is_not_configured_any_more_is_asked_for() {
    let host = anchored();
    anchors::configured(&host, &format!("      - {{ name: new, file: {} }}\n", host.text("new.jsonl")));
    host.run(&["evidence", "verify"]).ends(3).says("file is not configured any more");
    // Until another place has a newer head.
    host.run(&["evidence", "anchor"]).ends(0);
    host.run(&["evidence", "verify"]).ends(0).says("file is not configured any more");
}

#[test]
fn a_statement_in_the_place_of_another_one_is_found() {
    let host = host();
    let bundle = exported(&host);
    let pem = bundle.join("keys").read_dir().unwrap().next().unwrap().unwrap().path();
    fs::copy(pem, host.path("key.pem")).unwrap();
    assert_eq!(recipe(&host), Some(0));
    let mut statements: Vec<PathBuf> =
        bundle.join("rehearsals").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    statements.sort();
    let (first, second) = (fs::read(&statements[0]).unwrap(), fs::read(&statements[1]).unwrap());
    let (path, key) = (host.text("bundle"), key(&host));
    let is_found = |what: &str| {
        let found = found(offline(&[&path, "--key", &key]).ends(4));
        assert!(found.iter().any(|found| found.starts_with("statement")), "{what}: {found:?}");
        assert_eq!(recipe(&host), Some(4), "{what}");
    };
    fs::write(&statements[1], &first).unwrap();
    is_found("the one that passed in the place of the one that failed");
    fs::remove_file(&statements[1]).unwrap();
    is_found("the one that failed taken out");
    // Also where nobody signed which belong to it.
    fs::remove_file(bundle.join("bundle.sig.json")).unwrap();
    fs::write(&statements[1], &first).unwrap();
    is_found("exchanged in a bundle that is not signed");
    fs::write(&statements[1], &second).unwrap();
    offline(&[&path, "--key", &key, "--unsigned"]).ends(0);
}
