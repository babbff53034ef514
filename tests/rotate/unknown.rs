//! Consumers that nobody told of are found before a password is rotated, and are not locked out by mistake.

use super::deliveries::Stack;
use std::fs;

/// `web` is told of. Each of the others has the password in another way; `nightly` has no container.
const SERVICES: &str = r#"services:
  web:
    COMMON
    healthcheck: { disable: true }
    entrypoint: [sleep, infinity]
    environment: { DB_PASSWORD: "${DB_PASSWORD}" }
  worker:
    COMMON
    healthcheck: { disable: true }
    entrypoint: [sleep, infinity]
    environment: { DATABASE_URL: "mysql://app:${DB_PASSWORD}@127.0.0.1/app", TZ: UTC }
  reader:
    COMMON
    healthcheck: { disable: true }
    entrypoint: [sleep, infinity]
    volumes: ["./secrets/my.cnf:/etc/my.cnf:ro", "./shop:/shop"]
  argued:
    COMMON
    healthcheck: { disable: true }
    entrypoint: [bash, -c, "sleep infinity", "--password=${DB_PASSWORD}"]
  nightly:
    COMMON
    healthcheck: { disable: true }
    profiles: [nightly]
    entrypoint: [sleep, infinity]
    environment: { X: "${DB_PASSWORD:?}" }
  bystander:
    COMMON
    healthcheck: { disable: true }
    entrypoint: [sleep, infinity]
    environment: { TZ: UTC }
    env_file: [by-hand.env]
"#;

const CONSUMERS: &str = r#"      web:
        env_file: DIRECTORY/.env
        variable: DB_PASSWORD
        compose: { directory: DIRECTORY, service: web }
        check: ["true"]
"#;

#[test]
fn whoever_was_not_told_of_is_found_and_not_locked_out_by_mistake() {
    let Some(stack) = Stack::start("consumers that nobody told of", SERVICES, CONSUMERS) else { return };
    let (world, old) = (&stack.world, stack.world.old.clone());
    fs::write(world.host.path("secret"), &old).unwrap();
    fs::write(stack.path(".env"), format!("DB_PASSWORD={old}\n")).unwrap();
    fs::write(stack.path("by-hand.env"), format!("# was DB={old}\nNOTHING=1\n")).unwrap();
    fs::write(stack.path("secrets/my.cnf"), format!("[client]\npassword = \"{old}\"\n")).unwrap();
    stack.compose(&["up", "--detach"]);
    fs::write(stack.path("by-hand.env"), format!("LEFT_OVER={old}\n")).unwrap();

    let container = |name: &str| format!("{}-{name}-1", stack.project);
    let expected = [
        ("container", container("argued"), "an argument of its command".to_owned()),
        ("container", container("reader"), format!("file {}", stack.path("secrets/my.cnf").display())),
        ("container", container("worker"), "variable DATABASE_URL".to_owned()),
        ("file", stack.path("by-hand.env").display().to_string(), "a file of a Compose project".to_owned()),
        ("service", "nightly".to_owned(), format!("variable DB_PASSWORD of {}", stack.path(".env").display())),
    ];
    let plan = stack.rotate(&["shop-db", "--dry-run", "--json"]).ends(13).json();
    let mut found: Vec<_> = plan["unknown"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap().to_owned();
            (text("thing"), text("name"), text("place"))
        })
        .collect();
    found.sort();
    assert_eq!(found, expected.clone().map(|(thing, name, place)| (thing.to_owned(), name, place)));
    let shown = stack.rotate(&["shop-db", "--dry-run"]).ends(13);
    let shown = shown.says("not told of").says(&format!("container {} (variable DATABASE_URL)", container("worker")));
    shown.says("--despite-unknown");
    stack.rotate(&["shop-db"]).fails(13, "is used by what is not among its consumers", "`known`");
    assert_eq!(world.published(), old, "nothing was begun");
    world.target.log_in(&old).unwrap();

    // Known, each by its name, and one by the beginning of it.
    let path = world.host.path("etc/policies.d/shop.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let known = format!(
        "    known: [nightly, {}, {}, '{}*']\n",
        container("argued"),
        container("worker"),
        container("read").trim_end_matches("-1")
    );
    fs::write(&path, text.replace("    consumers:\n", &format!("{known}    consumers:\n"))).unwrap();
    stack.rotate(&["shop-db"]).fails(13, "by-hand.env", "--despite-unknown").says_not("worker");
    stack.rotate(&["shop-db", "--despite-unknown"]).ends(0).says("by-hand.env");
    let new = stack.one_password_works(&old);
    assert_eq!(fs::read_to_string(stack.path(".env")).unwrap(), format!("DB_PASSWORD={new}\n"));
}
