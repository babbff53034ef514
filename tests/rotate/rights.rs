//! What bkp is let do in Vault: the lines of docs/ROTATION.md and a role are enough, and whatever is missing is told before anything
//! is begun.

use super::servers::Mariadb;
use super::support::vault::Vault;
use super::world::World;
use serde_json::json;
use std::fs;

/// The policy of the page, for the paths of this world.
fn lines(world: &World) -> Vec<String> {
    let page = include_str!("../../docs/ROTATION.md");
    let (_, after) = page.split_once("vault policy write bkp-rotate - <<'HCL'\n").unwrap();
    let (lines, _) = after.split_once("HCL").unwrap();
    let here = lines.replace("kv/data/bkp/rot/", &format!("kv/data/bkp/{}/", world.name));
    here.replace("kv/data/shop/database", &format!("kv/data/{}", world.name)).lines().map(str::to_owned).collect()
}

/// From now on bkp logs in by a role that has the policy of that name, and no other.
fn logs_in_as_a_role(world: &World) {
    let role_id = world.vault.role(&world.name, json!({}));
    fs::write(world.host.path("secret-id"), world.vault.secret_id(&world.name)).unwrap();
    let main = world.host.path("etc/bkp.yaml");
    let text = fs::read_to_string(&main).unwrap();
    let token = format!("token_file: {}", world.host.text("token"));
    let role = format!("approle: {{ role_id: {role_id}, secret_id_file: {} }}", world.host.text("secret-id"));
    assert!(text.contains(&token));
    fs::write(main, text.replace(&token, &role)).unwrap();
    fs::remove_file(world.host.path("token")).unwrap();
}

#[test]
fn the_lines_of_the_page_are_enough_and_each_is_needed() {
    let part = "rights in Vault";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let world = World::new(vault, server);
    world.has_no_clients();
    logs_in_as_a_role(&world);
    let all = lines(&world);
    assert_eq!(all.len(), 2, "{all:?}");
    for (missing, path) in [(0, format!("kv/data/bkp/{}/shop-db", world.name)), (1, format!("kv/data/{}", world.name))]
    {
        let others: Vec<_> =
            all.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, line)| line.as_str()).collect();
        // Without the right to read what is published, nothing else would be looked at.
        let read = format!("path \"kv/data/{}\" {{ capabilities = [\"read\"] }}", world.name);
        let line = if missing == 1 { &read } else { "" };
        vault.policy(&world.name, &format!("{}\n{line}\n", others.join("\n")));
        for arguments in [&["shop-db"][..], &["shop-db", "--dry-run"]] {
            // Without the first, what is under way cannot be read, and that is asked before anything else.
            let said = if missing == 0 { "Vault" } else { "may not create, update" };
            world.rotate(arguments).fails(12, said, &path).says("create");
        }
    }
    assert_eq!((world.published(), world.states()), (world.old.clone(), Vec::new()), "nothing was begun");

    vault.policy(&world.name, &all.join("\n"));
    world.rotate(&["shop-db", "--dry-run"]).ends(0).says(&format!("may create, read, update kv/data/{}", world.name));
    world.rotate(&["shop-db"]).ends(0).says("shop-db is rotated");
    world.one_password_works(&world.old);
}
