//! The ways back: beside the original, in its place, one database, one table; and what a failure leaves.

use crate::server::{Over, Pg, full, only, shared};
use crate::{ODD, assert_tidy, called, database, dump, fingerprint, load, load_keeping, load_over, same};
use bkp::engine::{Confirmed, Naming, Part, Target};
use bkp::error::Kind;

fn live() -> Target {
    Target::Live(Confirmed::by_name("x", "x").unwrap())
}

#[test]
fn a_database_comes_back_beside_the_original() {
    let Some(server) = full() else { return };
    let (dumped, origin) = dump(only(server.settings(), &["shop", ODD])).unwrap();
    let failure = load(server.settings(), &origin, &called("one"), Part::Whole).unwrap_err();
    assert!(failure.next_step().unwrap().contains("which database"), "{failure:?}");
    load(server.settings(), &origin, &called("shop beside"), database("shop")).unwrap();
    let copy = fingerprint(&only(server.settings(), &["shop beside"]));
    let renamed = |name: &String| name.replace("\"shop beside\".", "shop.");
    for (name, part) in &copy.parts {
        assert_eq!(dumped.fingerprint.parts.get(&renamed(name)), Some(part), "{name}");
    }
    assert_eq!(copy.parts.len(), dumped.fingerprint.parts.len() - 1);
    let refused = load(server.settings(), &origin, &called("shop beside"), database("shop")).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(refused.to_string().contains("shop beside"), "{refused}");
    let refused = load(server.settings(), &origin, &same(), Part::Whole).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    let long = load(server.settings(), &origin, &called(&"x".repeat(64)), database("shop")).unwrap_err();
    assert_eq!(long.kind(), Kind::Usage);
    server.ask("", "drop database \"shop beside\"");
    assert_tidy(server);
}

#[test]
fn one_table_comes_back_with_all_that_belongs_to_it() {
    let Some(server) = full() else { return };
    let (dumped, origin) = dump(only(server.settings(), &["shop"])).unwrap();
    let table = |name: &str| Part::Table { database: "shop".into(), table: name.into() };
    load(server.settings(), &origin, &called("t_orders"), table("sales.orders")).unwrap();
    let found = fingerprint(&only(server.settings(), &["t_orders"]));
    assert_eq!(found.parts["t_orders.sales.orders"], dumped.fingerprint.parts["shop.sales.orders"]);
    assert_eq!(server.ask("t_orders", "select count(*) from pg_class where relkind = 'r' and oid > 16384"), "1");
    let indexes = "select indexname from pg_indexes where tablename = 'orders' order by 1";
    assert_eq!(server.ask("t_orders", indexes), server.ask("shop", indexes));
    let next = server.ask("t_orders", "insert into sales.orders (customer, amount) values (1, 1) returning id");
    let last: u64 = server.ask("shop", "select last_value from sales.orders_id_seq").parse().unwrap();
    assert_eq!(next.parse::<u64>().unwrap(), last + 1, "the default and its sequence came along");

    load(server.settings(), &origin, &called("t_parts"), table("measurements")).unwrap();
    assert_eq!(server.ask("t_parts", "select count(*) from measurements"), "4000");
    assert_eq!(server.ask("t_parts", "select count(*) from pg_inherits"), server.ask("shop", "select count(*) from pg_inherits i join pg_class c on c.oid = inhrelid where c.relname like 'measurements%'"));

    load(server.settings(), &origin, &called("t_customers"), table("customers")).unwrap();
    assert_eq!(
        server.ask("t_customers", "insert into sales.customers (name) values ('x') returning id, shout"),
        "501\tX"
    );
    let failure = load(server.settings(), &origin, &called("t_none"), table("no_such")).unwrap_err();
    assert_eq!(failure.kind(), Kind::Usage);
    let failure = load(server.settings(), &origin, &live(), table("sales.orders")).unwrap_err();
    assert_eq!(failure.kind(), Kind::Usage);
    server.ask("", "drop database t_orders; drop database t_parts; drop database t_customers");
    assert_tidy(server);
}

#[test]
fn in_place_the_old_content_steps_aside_under_open_connections() {
    let Some(server) = shared() else { return };
    server.ask("", "create database \"in place\"; alter database \"in place\" set work_mem = '3MB'");
    server.ask("in place", "create table t (i int); insert into t select generate_series(1, 1000)");
    let settings = only(server.settings(), &["in place"]);
    let (dumped, origin) = dump(settings.clone()).unwrap();
    server.ask("in place", "truncate t; create table later (i int)");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Somebody who comes again as often as he is thrown out.
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = server.try_query("in place", "select pg_sleep(2)");
            }
        });
        let _over = Over(&done);
        crate::support::wait_for("a connection", 20, || {
            (server.ask("", "select count(*) from pg_stat_activity where datname = 'in place'") != "0").then_some(())
        });
        let loaded = load_keeping(settings.clone(), &origin, &live(), Part::Whole, true);
        let loaded = loaded.unwrap();
        assert!(loaded.warnings.iter().any(|w| w.contains("in place_replaced_")), "{:?}", loaded.warnings);
    });
    assert_eq!(fingerprint(&settings), dumped.fingerprint);
    assert_eq!(server.ask("in place", "show work_mem"), "3MB");
    let kept: Vec<String> =
        server.databases().into_iter().filter(|name| name.starts_with("in place_replaced_")).collect();
    assert_eq!(server.ask(&kept[0], "select count(*) from t, later"), "0");

    server.ask("in place", "insert into t values (4711)");
    let loaded = load_over(settings.clone(), &origin, &live(), Part::Whole, Some(&dumped.fingerprint)).unwrap();
    assert!(loaded.warnings.iter().any(|w| w.contains("not what the safety backup holds")), "{:?}", loaded.warnings);
    let since = |name: &&String| name.starts_with("in place_replaced_") && !kept.contains(name);
    let databases = server.databases();
    let since = databases.iter().find(since).unwrap();
    assert_eq!(server.ask(since, "select count(*) from t where i = 4711"), "1");
    server.ask("", &format!("drop database \"{since}\""));

    server.ask("in place", "drop table t");
    load(settings.clone(), &origin, &live(), Part::Whole).unwrap();
    assert_eq!(fingerprint(&settings), dumped.fingerprint);
    let names: Vec<String> = server.databases().into_iter().filter(|name| name.starts_with("in place")).collect();
    assert_eq!(names, ["in place".to_owned(), kept[0].clone()], "unless it is wanted, the old content is dropped");
    assert_tidy(server);
}

#[test]
fn roles_that_lack_are_named_with_what_makes_them() {
    let Some(server) = full() else { return };
    let Some(other) = shared() else { return };
    let (_, origin) = dump(only(server.settings(), &["shop"])).unwrap();
    let target = Target::NewDatabases(Naming::Suffix("_r".into()));
    let failure = load(other.settings(), &origin, &target, Part::Whole).unwrap_err();
    assert_eq!(failure.kind(), Kind::Refused);
    assert!(failure.next_step().unwrap().contains("CREATE ROLE \"app_owner\";"), "{failure:?}");
    assert!(!other.databases().contains(&"shop_r".to_owned()));
    assert_tidy(other);
}

#[test]
fn what_cannot_be_loaded_is_refused_before_anything_is_written() {
    let Some(server) = full() else { return };
    let (_, origin) = dump(only(server.settings(), &["shop"])).unwrap();
    let mut newer = origin.clone();
    newer.details["version"] = 990_001.into();
    let failure = load(server.settings(), &newer, &called("n"), Part::Whole).unwrap_err();
    assert_eq!(failure.kind(), Kind::Refused);
    assert!(failure.to_string().contains("PostgreSQL 99"), "{failure}");
    let mut other = origin.clone();
    other.details["databases"][0]["extensions"][0] = serde_json::json!({ "name": "postgis", "version": "3.4" });
    let failure = load(server.settings(), &other, &called("n"), Part::Whole).unwrap_err();
    assert!(failure.to_string().contains("postgis 3.4"), "{failure}");
    assert!(!server.databases().contains(&"n".to_owned()));
    assert_tidy(server);
}

#[test]
fn what_is_cut_or_not_as_counted_gets_no_name() {
    let Some(server) = full() else { return };
    let (_, origin) = dump(only(server.settings(), &["shop"])).unwrap();
    let mut cut = origin.clone();
    let archive = cut.streams.get_mut("shop.dump").unwrap();
    archive.truncate(archive.len() * 2 / 3);
    let failure = load(server.settings(), &cut, &called("cut"), Part::Whole).unwrap_err();
    assert_eq!(failure.kind(), Kind::Verification, "{failure:?}");
    let mut other = origin;
    other.fingerprint.parts.get_mut("shop.public.things").unwrap().digest = "7".into();
    let failure = load(server.settings(), &other, &called("other"), Part::Whole).unwrap_err();
    assert_eq!(failure.kind(), Kind::Verification);
    assert!(failure.to_string().contains("shop.public.things"), "{failure}");
    let names = server.databases();
    assert!(!names.contains(&"cut".to_owned()) && !names.contains(&"other".to_owned()), "{names:?}");
    assert_tidy(server);
}

#[test]
fn a_restore_that_fails_half_way_leaves_what_lives_untouched() {
    let Some(server) = shared() else { return };
    server.ask("", "create database half; create role half_way login");
    // pg_dump gives it away without a word, and pg_restore cannot take it: the search path is another one there.
    server.ask(
        "half",
        "create table t (i int); insert into t values (1); create table rates (r int); insert into rates values (5); \
         create function rate() returns int language sql as 'select max(r) from rates'; \
         create table u (i int check (i < rate())); insert into u values (2)",
    );
    let settings = only(server.settings(), &["half"]);
    let (_, origin) = dump(settings.clone()).unwrap();
    server.ask("half", "insert into t values (2)");
    server.ask("", "drop role half_way");
    let now = fingerprint(&settings);
    let failure = load(settings.clone(), &origin, &live(), Part::Whole).unwrap_err();
    assert!(failure.full().contains("relation \"rates\" does not exist"), "{}", failure.full());
    assert_eq!(fingerprint(&settings), now);
    assert_tidy(server);
    let came = "select count(*) from pg_roles where rolname = 'half_way'";
    assert_eq!(server.ask("", came), "0", "a role that this restore made is no use without it");
    let failure = load(settings, &origin, &called("half_2"), Part::Whole).unwrap_err();
    assert!(failure.to_string().contains("database half cannot be loaded"), "{failure}");
    assert!(!server.databases().contains(&"half_2".to_owned()));
    assert_tidy(server);
}
