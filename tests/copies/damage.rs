//! Damage in one store does not spread to another, and is mended from one that is whole.

use crate::support::host::{Host, texts};
use crate::{host_with, standing};
use std::fs;
use std::path::{Path, PathBuf};

/// Changes one byte in the middle and leaves size and name.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn in_copy(host: &Host, object: &Path) -> PathBuf {
    host.path("second").join(object.strip_prefix(host.store()).unwrap())
}

#[test]
fn what_is_damaged_in_the_repository_is_not_copied_as_good() {
    for kind in ["s", "p", "x", "b", "points"] {
        let host = host_with(&["second"]);
        host.run(&["backup", "--no-copy"]).ends(0);
        let bad = host.objects(kind).remove(0);
        damage(&bad);
        let answer = host.run(&["copy", "--create", "second", "--json"]).ends(4);
        let copy = answer.says("is not copied").json()["copies"][0].clone();
        assert_eq!(copy["failed"].as_array().unwrap().len(), 1, "{kind}: {copy}");
        assert_eq!(copy["points"].as_array().unwrap().len(), 2, "{kind}: {copy}");
        assert!(!in_copy(&host, &bad).exists(), "{kind}");
        host.run(&["check", "--copy", "second"]).ends(0).says("no problem found");
        let behind = standing(&host, "second");
        assert_eq!((&behind["points"], &behind["missing"]), (&2.into(), &1.into()), "{kind}: {behind}");
    }
}

#[test]
fn what_is_damaged_in_one_store_is_put_right_from_another() {
    let host = host_with(&["second"]);
    host.run(&["copy", "--create", "second"]).ends(0);
    host.run(&["backup"]).ends(0);
    let objects: Vec<PathBuf> = ["s", "p", "b", "points"].iter().map(|kind| host.objects(kind).remove(0)).collect();
    let before: Vec<Vec<u8>> = objects.iter().map(|object| fs::read(object).unwrap()).collect();

    objects.iter().for_each(|object| damage(object));
    host.run(&["check"]).ends(4).says("bkp copy --from second --repair repository");
    host.read(&["export", "app", "-o", &host.text("app.raw")]).fails_somehow();
    host.run(&["copy", "--from", "second", "--repair", "repository"]).ends(0);
    assert!(objects.iter().zip(&before).all(|(object, bytes)| fs::read(object).unwrap() == *bytes));
    host.is_well();

    objects.iter().for_each(|object| damage(&in_copy(&host, object)));
    host.run(&["check", "--copy", "second"]).ends(4).says("bkp copy --repair second");
    assert_eq!(standing(&host, "second")["standing"], "damaged");
    host.run(&["status"]).ends(3).says("DAMAGED");
    // Damage there is no damage here.
    host.run(&["check"]).ends(0);
    host.run(&["copy", "--repair", "second"]).ends(0);
    assert!(objects.iter().zip(&before).all(|(object, bytes)| fs::read(in_copy(&host, object)).unwrap() == *bytes));
    host.run(&["check", "--copy", "second"]).ends(0);
    host.run(&["copies"]).ends(0).says("2 of 2 copies good");
}

#[test]
fn a_restore_that_meets_damage_names_the_copy_that_has_the_point() {
    let host = host_with(&["second"]);
    host.run(&["copy", "--create", "second"]).ends(0);
    host.run(&["backup", "app"]).ends(0);
    damage(&host.objects("s")[0]);
    let to = host.text("app.db");
    let hint = format!("The copy second has this point: bkp restore app --to {to} --from second");
    host.read(&["restore", "app", "--to", &to]).fails(4, "is damaged", &hint);
    host.read(&["restore", "app", "--to", &to, "--from", "second"]).ends(0);
    assert_eq!(texts(Path::new(&to)), vec!["old"; 300]);
}

#[test]
fn a_point_that_nobody_signed_and_an_exchanged_key_do_not_reach_the_copy() {
    let host = host_with(&["second"]);
    host.run(&["copy", "--create", "second"]).ends(0);
    host.run(&["backup", "app"]).ends(0);
    // Somebody who can write to the repository, and holds no key of a writer.
    let point = host.objects("points").remove(0);
    let forged = point.with_file_name("20300101T000000Z-0badc0de");
    fs::copy(&point, &forged).unwrap();
    let key = host.store().join("keys/epoch-0001.age");
    let good = fs::read(&key).unwrap();
    fs::write(&key, "rubbish").unwrap();
    host.run(&["copy"]).ends(4).says("is not copied").says("keys/epoch-0001.age").says("is damaged");
    assert!(!in_copy(&host, &forged).exists());
    assert_eq!(fs::read(in_copy(&host, &key)).unwrap(), good);
    host.read(&["restore", "app", "--from", "second", "--to", &host.text("app.db")]).ends(0);
}
