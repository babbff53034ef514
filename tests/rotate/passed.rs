//! Who is known to have passed, and who begins anew: a consumer that is only looked at, where it should have been restarted, would be
//! locked out when the old password goes.

use super::servers::Mariadb;
use super::support::vault::Vault;
use super::world::World;
use std::fs;

/// Told by one file, and a program that has read it when it was restarted last.
fn consumer(world: &World, name: &str, check: &str) -> String {
    let (file, saw) = (world.env_file("web").display().to_string(), world.host.text(&format!("saw-{name}")));
    format!(
        "      {name}:\n        env_file: {file}\n        variable: DATABASE_URL\n        command: [sh, -c, 'cat > /dev/null; cp {file} {saw}']\n        check: [sh, -c, '{check}']\n        patience: 1s\n"
    )
}

fn saw(world: &World, name: &str) -> String {
    fs::read_to_string(world.host.path(&format!("saw-{name}"))).unwrap()
}

#[test]
fn who_is_told_by_one_file_begins_anew_whenever_it_is_exchanged() {
    let part = "consumers of one file";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let world = World::new(vault, server);
    let of = |name: &str, check: &str| consumer(&world, name, check);
    world.consumers_are(&[of("web", "true"), of("worker", "true")].concat());
    let before = fs::read_to_string(world.env_file("web")).unwrap();

    // Both have passed, and a deployment puts back what was there, with both programs.
    world.dies_at("rotate:unused", &["shop-db"]);
    for path in [world.env_file("web"), world.host.path("saw-web"), world.host.path("saw-worker")] {
        fs::write(path, &before).unwrap();
    }
    world.rotate(&["resume", "shop-db"]).ends(0);
    let after = fs::read_to_string(world.env_file("web")).unwrap();
    assert_ne!(after, before);
    assert_eq!((saw(&world, "web"), saw(&world, "worker")), (after.clone(), after.clone()));

    // The first one does not come up with the new one, and the second one is restarted by somebody meanwhile.
    let (file, worker) = (world.env_file("web").display().to_string(), world.host.text("saw-worker"));
    let password = world.published();
    let check = format!("grep -qF {password} {file} || {{ cp {file} {worker}; false; }}");
    world.consumers_are(&[of("web", &check), of("worker", "true")].concat());
    super::kills::wait_for_distance(&world);
    world.rotate(&["shop-db"]).fails(1, "the old password is in force: web", "rotate again");
    assert_eq!((saw(&world, "web"), saw(&world, "worker")), (after.clone(), after));
}

#[test]
fn what_a_vault_that_was_put_back_says_of_consumers_is_not_believed() {
    let part = "who passed, by a Vault that was put back";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let world = World::new(vault, server);
    let of = |name: &str| {
        format!("      {name}:\n        command: [sh, -c, 'cat > {}']\n", world.host.text(&format!("saw-{name}")))
    };
    world.consumers_are(&[of("web"), of("worker")].concat());
    world.dies_at("rotate:moved#2", &["shop-db"]);
    let (record, password) = (world.record(), world.published());
    assert!(saw(&world, "web").contains(&password));
    world.rotate(&["rollback", "shop-db"]).ends(0).says("as it was before");
    assert!(saw(&world, "web").contains(&world.old));

    vault.write(&format!("bkp/{}/shop-db", world.name), record);
    vault.write(&world.name, serde_json::json!({ "user": "app", "password": password }));
    world.rotate(&["resume", "shop-db"]).ends(0);
    for name in ["web", "worker"] {
        assert!(saw(&world, name).contains(&password), "{name} was not told again");
    }
    world.target.log_in(&password).unwrap();
    world.target.log_in(&world.old).unwrap_err();
}
