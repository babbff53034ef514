//! A whole stack replaced by what it was: who stops meanwhile, what is kept, and a restore that is killed in the middle.

use crate::cli::{Bkp, eventually};
use crate::support::docker::engine::Volume;
use crate::support::docker::{Container, Stack};
use crate::{PART, mountpoint, state, unique};
use jiff::Timestamp;

/// Two servers, a volume, and two programs of which one needs the other. The programs write into the volume when they start.
fn started() -> Option<(Volume, Stack, Bkp)> {
    let name = unique("letters");
    let volume = Volume::new(&name);
    let program = || Container::redis().volume(&format!("{name}:/srv"));
    let wanted = [
        ("db", Container::mariadb().env("MYSQL_DATABASE", "shop")),
        ("orders", Container::postgres().env("POSTGRES_DB", "orders")),
        ("api", program()),
        ("gateway", program().label("com.docker.compose.depends_on", "api:service_started:false")),
    ];
    let stack = Stack::start(PART, wanted)?;
    stack["db"].query("shop", "create table goods (name text); insert into goods values ('pears')");
    stack["orders"].query("orders", "create table items (what text); insert into items values ('one')");
    std::fs::write(mountpoint(&name).join("letter.txt"), "dear").unwrap();
    let host = Bkp::with_repository();
    let password = host.write("secret", stack["db"].password());
    let policy = format!(
        "policy: test\nstack: {}\nsources:\n  \
         db: {{ mysql: {{ service: db, user: root, password_file: {} }} }}\n  \
         orders: {{ postgres: {{ service: orders, user: postgres }} }}\n  \
         letters: {{ volume: {{ name: {name} }} }}\n",
        stack.prefix(),
        password.display()
    );
    host.configure("", &policy);
    let backup = host.run(&["backup", "--stack", stack.prefix()]);
    assert!([0, 3].contains(&backup.code), "{}", backup.stderr);
    stack["db"].query("shop", "delete from goods");
    stack["orders"].query("orders", "delete from items");
    std::fs::write(mountpoint(&name).join("letter.txt"), "damaged").unwrap();
    Some((volume, stack, host))
}

fn is_as_it_was(volume: &Volume, stack: &Stack) {
    assert_eq!(stack["db"].query("shop", "select name from goods"), "pears");
    assert_eq!(stack["orders"].query("orders", "select what from items"), "one");
    assert_eq!(std::fs::read_to_string(mountpoint(&volume.name).join("letter.txt")).unwrap(), "dear");
}

/// How many safety backups there are of a source.
fn safety(host: &Bkp, source: &str) -> usize {
    let document = host.json(&["points", "--all", "--source", source]);
    document["points"].as_array().unwrap().iter().filter(|point| point["purpose"] == "safety").count()
}

fn in_place(stack: &Stack) -> Vec<&str> {
    vec!["restore", "--stack", stack.prefix(), "--in-place", "--confirm", stack.prefix(), "--identity", "key.txt"]
}

#[test]
fn a_stack_is_replaced_while_its_programs_stand_still() {
    let Some((volume, stack, host)) = started() else { return };
    let starts =
        || ["api", "gateway"].map(|name| stack[name].inspect("{{.State.StartedAt}}").parse::<Timestamp>().unwrap());
    let begun = starts();
    host.run_with_key(&["restore", "--stack", stack.prefix(), "--in-place"])
        .expect_code(13)
        .says(&["this replaces everything", "--confirm"]);
    assert_eq!(std::fs::read_to_string(mountpoint(&volume.name).join("letter.txt")).unwrap(), "damaged");

    let ran = host.run(&in_place(&stack));
    assert!([0, 3].contains(&ran.code), "{}", ran.stderr);
    is_as_it_was(&volume, &stack);
    ran.says(&["INSTANT", "LOST", "BEHIND", "The instants lie", "(REPLACED)"]);
    let stopped = format!("Stopped meanwhile: {0}-gateway, {0}-api", stack.prefix());
    ran.says(&[&stopped, "3 sources"]);
    for name in ["db", "orders", "letters"] {
        assert_eq!(safety(&host, name), 1, "{name}");
    }
    let again = starts();
    assert!(begun.iter().max() < again.iter().min(), "they were stopped and started again: {begun:?} {again:?}");
    assert!(again[0] < again[1], "the gateway needs the api, which starts first: {again:?}");
    assert_eq!((state(&stack["api"]), state(&stack["gateway"])), ("running".into(), "running".into()));
    let order: Vec<usize> = ["db: ", "orders: ", "letters: "].iter().map(|s| ran.stderr.find(s).unwrap()).collect();
    assert!(order[0] < order[1] && order[1] < order[2], "servers come before files:\n{}", ran.stderr);
}

#[test]
fn a_killed_restore_of_a_stack_lets_its_programs_go_on_and_is_taken_up_again() {
    let Some((volume, stack, host)) = started() else { return };
    let status = host.command(&in_place(&stack)).env("BKP_CRASH_AT", "stack:one-restored").status().unwrap();
    assert!(!status.success(), "it was not killed");
    assert_eq!(stack["db"].query("shop", "select name from goods"), "pears");
    assert_eq!(stack["orders"].query("orders", "select count(*) from items"), "0", "the second one was not begun");
    for name in ["api", "gateway"] {
        eventually("the programs go on", || state(&stack[name]) == "running");
    }
    stack["db"].query("shop", "insert into goods values ('since then')");
    let again = host.run(&in_place(&stack));
    assert!([0, 3].contains(&again.code), "{}", again.stderr);
    again.says(&["db: was restored before"]);
    assert_eq!(stack["db"].query("shop", "select name from goods"), "pears\nsince then", "it is not restored twice");
    stack["db"].query("shop", "delete from goods where name = 'since then'");
    is_as_it_was(&volume, &stack);
    assert_eq!((safety(&host, "db"), safety(&host, "orders")), (1, 1));
}
