//! What a client of PostgreSQL leaves out or lets through although it ends well.

use crate::server::{Pg, network, only, secret, shared};
use crate::support::docker::Container;
use crate::{Postgres, dump};
use bkp::engine::Engine;
use bkp::error::Kind;

#[test]
fn what_pg_dump_says_it_left_out_is_a_warning() {
    let Some(server) = shared() else { return };
    let name = format!("omit_{}", bkp::durable::random_hex(3));
    server.ask("", &format!("create database {name}"));
    server.ask("", &format!("create role {name} login password 'pw-omit'; grant pg_read_all_data to {name}"));
    server.ask(
        &name,
        "create table t (id int primary key references t); insert into t values (1); \
         create subscription far connection 'dbname=x' publication p with (connect = false)",
    );
    let settings = network("127.0.0.1", server.port(), &name, "pw-omit");
    let (dumped, _) = dump(only(settings, &[&name])).unwrap();
    let [warning] = dumped.warnings.as_slice() else { panic!("{:?}", dumped.warnings) };
    assert!(
        warning.starts_with(&format!("pg_dump says of {name}: ")) && warning.contains("subscriptions"),
        "{warning}"
    );
    server.ask(&name, "alter subscription far set (slot_name = none); drop subscription far");
    let (dumped, _) = dump(only(server.settings(), &[&name])).unwrap();
    assert_eq!((dumped.warnings, dumped.notes), (vec![], vec![]));
}

#[test]
fn the_second_line_of_a_password_is_no_statement() {
    let Some(container) = Container::postgres().start("PostgreSQL in a container") else { return };
    let mut inside = container.settings();
    inside.server.password = Some(secret("one\ncreate table second_line ();"));
    let mut outside = network(&container.ip().to_string(), container.port(), "postgres", "");
    outside.server.password = inside.server.password.clone();
    for settings in [inside, outside] {
        let failure = Postgres::new(settings).preflight().unwrap_err();
        assert_eq!(failure.kind(), Kind::Key);
        assert!(failure.to_string().contains("several lines") && !failure.full().contains("second_line"), "{failure}");
    }
    assert_eq!(container.ask("", "select count(*) from pg_class where relname = 'second_line'"), "0");
}
