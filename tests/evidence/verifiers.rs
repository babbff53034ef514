//! Hosts that are no writers, and stores that are away: the journal is signed and anchored all the same.

use super::bundles::{key, offline, recipe};
use super::*;

/// A host that rehearses what another one backed up, and only reads.
fn verifier(of: &Host, to: &str) -> Host {
    let host = Host::bare();
    host.configure(&format!(
        "repository: {{ url: \"{}\" }}\nrehearse: {{ identity_file: {} }}\nhttp: {{ listen: off }}\nevidence:\n  anchor:\n    schedule: \"@daily\"\n    to:\n{to}",
        of.url,
        of.text("recovery-key.txt")
    ));
    host.run(&["rehearse", "--random"]).ends(0);
    host
}

#[test]
fn a_host_that_only_reads_has_evidence_of_its_own() {
    let (writer, authority) = (host(), anchors::Authority::start());
    let heads = writer.path("verifier-heads.jsonl");
    let to = format!(
        "      - file: {}\n      - timestamp: {{ url: \"{}\", ca_file: {} }}\n",
        heads.display(),
        authority.url,
        authority.file("ca.pem")
    );
    let host = verifier(&writer, &to);
    // Nothing is signed by a key that nobody asked for.
    host.run(&["evidence", "anchor"]).fails(12, "no writer", "bkp evidence key --new");
    host.run(&["evidence", "export", &host.text("bundle")]).ends(12).says("bkp evidence key --new");
    let told = host.run(&["evidence", "key", "--new", "--json"]).ends(0).json();
    let own = told["key"].as_str().unwrap().to_owned();
    host.run(&["evidence", "key", "--new"]).fails(13, "has a key of its own already", "bkp evidence key");
    fs::write(host.path("verifier.key"), host.run(&["evidence", "key"]).ends(0).out).unwrap();

    host.run(&["evidence", "anchor"]).ends(0);
    assert_eq!(fs::read_to_string(&heads).unwrap().lines().count(), 1);
    host.run(&["evidence", "verify"]).ends(0).says("everything fits").says("time stamp");
    host.run(&["evidence", "export", &host.text("bundle")]).ends(0);
    let bundle = host.text("bundle");
    for whose in [own.clone(), host.text("verifier.key")] {
        let document = offline(&[&bundle, "--key", &whose, "--anchor", heads.to_str().unwrap()]).ends(0).json();
        assert_eq!((document["rehearsals"].clone(), document["attested"].clone()), (1.into(), 1.into()));
    }
    offline(&[&bundle, "--key", &key(&writer)]).ends(4);
    assert!(host.path("bundle/anchors").read_dir().unwrap().any(|e| e.unwrap().path().extension().unwrap() == "tsr"));
    fs::write(host.path("key.pem"), told["pem"].as_str().unwrap()).unwrap();
    assert_eq!(recipe(&host), Some(0));
    // The repository is as it was, and the point that was restored is named by its hash.
    assert_eq!(writer.objects("heads").len(), 0);
    let statement = host.path("bundle/rehearsals").read_dir().unwrap().next().unwrap().unwrap().path();
    let statement: Value = serde_json::from_slice(&fs::read(statement).unwrap()).unwrap();
    use base64::Engine;
    let payload = base64::engine::general_purpose::STANDARD.decode(statement["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(statement["subject"].as_array().unwrap().len(), 2, "{statement}");

    // What is taken away is missed here, too.
    fs::remove_dir_all(host.path("state/evidence/heads")).unwrap();
    assert!(found(verified(&host, &[]).ends(4)).iter().all(|found| found.starts_with("anchor_gone")));
    let all = segments(&host);
    fs::remove_file(all.last().unwrap()).unwrap();
    let kept = lines(&all[0]);
    write(&all[0], &kept[..kept.len() - 2]);
    assert!(found(verified(&host, &[]).ends(4)).iter().any(|found| found.starts_with("cut_off")));
}

#[test]
fn a_host_that_makes_backups_signs_with_the_key_it_writes_with() {
    let host = host();
    host.run(&["evidence", "key", "--new"]).fails(13, "this host makes backups", "bkp evidence key");
    let told = host.run(&["evidence", "key"]).ends(0).out;
    assert!(told.trim_end().ends_with(&key(&host)), "{told}");
}

#[test]
fn each_place_takes_the_head_although_the_repository_is_away() {
    let host = host();
    anchors::configured(&host, &format!("      - copy: far\n      - file: {}\n", host.text("heads.jsonl")));
    host.run(&["copy", "--create", "far"]).ends(0);
    fs::rename(host.path("store"), host.path("away")).unwrap();
    let failed = host.run(&["evidence", "anchor", "--json"]).ends(1).json();
    let taken = |document: &Value| {
        let places = document["places"].as_array().unwrap().clone();
        places.iter().map(|place| (place["place"].clone(), place["ok"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(
        taken(&failed),
        [("repository".into(), false.into()), ("far".into(), true.into()), ("file".into(), true.into())]
    );
    host.run(&["evidence", "verify"]).ends(3).says("anchor      record").says("fits: file").says("fits: far");
    // What is cut off meanwhile is missed.
    let (all, upto) = (segments(&host), failed["head"]["seq"].as_u64().unwrap());
    let kept = lines(&all[0]);
    let newer = fs::read(&all[1]).unwrap();
    fs::remove_file(&all[1]).unwrap();
    write(&all[0], &kept[..kept.len() - 1]);
    assert!(found(verified(&host, &[]).ends(4)).contains(&format!("cut_off {upto}..{upto}")));
    write(&all[0], &kept);
    fs::write(&all[1], newer).unwrap();
    // Once it is there again, so is all of it.
    fs::rename(host.path("away"), host.path("store")).unwrap();
    host.run(&["status"]).ends(3).says("The last anchor failed").says("bkp evidence anchor");
    host.run(&["evidence", "anchor"]).ends(0);
    host.run(&["evidence", "verify"]).ends(0);
    host.run(&["status"]).says_not("The last anchor failed");
}
