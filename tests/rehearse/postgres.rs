//! PostgreSQL, rehearsed in a container and as a process of this host.

use super::seeded;
use super::support::docker::Container;
use super::support::host::Host;
use super::support::host_server::HostServer;
use super::{journal_is_whole, nothing_is_left, only};
use bkp::engine::postgres::Settings;
use bkp::engine::{Dumped, Server};
use bkp::exec::Place;
use bkp::exec::docker::Selector;
use std::fs;
use std::sync::Mutex;

const PART: &str = "rehearsals of PostgreSQL";

/// Something of every kind that can be lost.
const OBJECTS: &str = "
create role app login; create role readers; grant readers to app;
create table customers (id int primary key, name text not null unique, born date check (born > '1800-01-01'));
create table orders (id bigint generated always as identity primary key, customer int references customers, amount float8);
create index by_amount on orders (amount); create sequence tickets start 40;
create view rich as select * from orders where amount > 10;
create function stamp() returns trigger language plpgsql as $$ begin new.name = trim(new.name); return new; end $$;
create trigger trimmed before insert on customers for each row execute function stamp();
create type mood as enum ('sad', 'ok'); alter table orders enable row level security;
create policy own on orders for select to app using (customer = 1);
grant select, insert on customers to app; grant select (amount) on orders to readers;
insert into customers select i, 'name ' || i, '1990-01-01' from generate_series(1, 500) i;
insert into orders (customer, amount) select i, i / 3.0 from generate_series(1, 500) i; select nextval('tickets');";

fn container() -> Option<(Host, Container)> {
    let server = Container::postgres().start(PART)?;
    server.query("", "create database shop");
    server.query("shop", OBJECTS);
    let host = Host::new();
    host.sources(&[format!("shop: {{ postgres: {{ container: {} }} }}", server.name())]);
    Some((host, server))
}

fn settings(server: &Container) -> Settings {
    let place = Place::Container(Selector::Name(server.name().into()));
    Settings { server: Server { place, ..Server::default() }, databases: vec![], exclude: vec![] }
}

#[test]
fn data_that_outgrows_the_memory_of_its_scratch_server_is_told_with_what_to_raise() {
    let Some((host, server)) = container() else { return };
    // Small where the log is one to copy from, and larger than all memory there is where it is the least, as on a scratch server.
    let rows = "case current_setting('wal_level') when 'minimal' then 4000000 else 10 end";
    let view = format!("select repeat(md5(i::text), 30) as text from generate_series(1, {rows}) i");
    server.query("shop", &format!("create materialized view grows as {view}"));
    host.configure(&format!("repository: {{ url: \"{}\" }}\nrehearse: {{ memory: 1100MiB }}\n", host.url));
    host.run(&["backup"]).ends(0);
    let document = host.read(&["rehearse", "--json"]).ends(4).json();
    let (message, hint) = (only(&document)["message"].as_str().unwrap(), only(&document)["hint"].as_str().unwrap());
    assert!(message.contains("no room left: its data is in memory, and may take 825 MiB"), "{message}");
    assert!(hint.contains("rehearse: { memory:"), "{hint}");
    nothing_is_left(&host);
    journal_is_whole(&host);
}

#[test]
fn it_comes_back_equal_in_a_container_of_its_image() {
    let Some((host, server)) = container() else { return };
    host.run(&["backup"]).ends(0);
    // What happens to the source afterwards is no fault.
    server.query("shop", "drop table orders cascade; delete from customers");
    let document = host.read(&["rehearse", "--json"]).ends(0).json();
    let found = only(&document);
    assert_eq!((&found["reached"], &found["target"]["kind"]), (&"equal".into(), &"container".into()), "{found}");
    assert!(found["target"]["isolation"].as_str().unwrap().contains("without network"), "{found}");
    assert!(found["compared"].as_u64().unwrap() > 25, "{found}");
    assert_eq!(server.query("shop", "select count(*) from customers"), "0", "the source is as it was");
    nothing_is_left(&host);
    journal_is_whole(&host);
}

#[test]
fn it_comes_back_equal_as_a_process() {
    let Some(server) = HostServer::postgres().start(PART) else { return };
    server.query("", "create database shop");
    server.query("shop", OBJECTS);
    let host = Host::new();
    fs::write(host.path("data/password"), server.password()).unwrap();
    let password = host.text("data/password");
    host.sources(&[format!(
        "shop: {{ postgres: {{ host: 127.0.0.1, port: {}, user: postgres, password_file: \"{password}\" }} }}",
        server.port()
    )]);
    host.run(&["backup"]).ends(0);
    let document = host.read(&["rehearse", "--json"]).ends(0).json();
    let found = only(&document);
    assert_eq!((&found["reached"], &found["target"]["kind"]), (&"equal".into(), &"process".into()), "{found}");
    nothing_is_left(&host);
}

/// A point with the data of `now`, and the word of `before` on what the source has.
fn with_the_word_of(host: &Host, settings: &Settings, before: &Mutex<Option<Dumped>>) {
    let settings = bkp::engine::Settings::Postgres(settings.clone());
    seeded::point(host, "shop", &settings, |dumped| {
        let mut before = before.lock().unwrap();
        match &*before {
            Some(before) => dumped.fingerprint = before.fingerprint.clone(),
            None => *before = Some(dumped.clone()),
        }
    });
}

#[test]
fn each_loss_is_named() {
    let Some((host, server)) = container() else { return };
    let (settings, before) = (settings(&server), Mutex::new(None));
    with_the_word_of(&host, &settings, &before);
    host.read(&["rehearse"]).ends(0).says("equal");
    let losses = [
        ("delete from orders where id = 7", "shop.public.orders: 499 rows instead of 500"),
        ("update customers set name = 'name  8' where id = 8", "shop.public.customers: other content"),
        ("drop trigger trimmed on customers", "trigger shop.public.customers.trimmed: missing"),
        (
            "create or replace function stamp() returns trigger language plpgsql as 'begin return new; end'",
            "function shop.public.stamp(): another definition",
        ),
        ("revoke insert on customers from app", "grant on shop.public.customers to app: another definition"),
        ("revoke select (amount) on orders from readers", "grant on shop.public.orders.amount to readers: missing"),
        ("drop index by_amount", "index shop.public.by_amount: missing"),
        (
            "alter table customers drop constraint customers_born_check",
            "constraint shop.public.customers.customers_born_check: missing",
        ),
        ("drop policy own on orders", "policy shop.public.orders.own: missing"),
        ("drop view rich", "view shop.public.rich: missing"),
        ("select setval('tickets', 99)", "shop.(sequences): other content"),
        ("create table lost (id int); drop table lost; drop type mood", "enum shop.public.mood: missing"),
    ];
    for (statement, _) in losses {
        server.query("shop", statement);
    }
    with_the_word_of(&host, &settings, &before);
    let document = host.read(&["rehearse", "--json"]).ends(4).json();
    let found = only(&document);
    assert_eq!(found["reached"], "loaded");
    let differences: Vec<&str> = found["differences"].as_array().unwrap().iter().filter_map(|d| d.as_str()).collect();
    for (statement, told) in losses {
        assert!(differences.contains(&told), "{statement}: {told} is not in {differences:#?}");
    }
    // With the view, what its owner may do with it.
    assert_eq!(differences.len(), losses.len() + 1, "{differences:#?}");
    // A whole table.
    server.query("shop", "drop table orders cascade");
    with_the_word_of(&host, &settings, &before);
    host.read(&["rehearse", "--json"]).ends(4).says("shop.public.orders: missing");
    nothing_is_left(&host);
}

#[test]
fn the_users_own_questions_are_asked_of_what_came_back() {
    let Some((host, server)) = container() else { return };
    let policy = format!(
        "policy: all\nsources:\n  shop: {{ postgres: {{ container: {} }} }}\nrehearse:\n  assert:\n    \
         - {{ source: shop, sql: \"select count(*) from customers\", min: 500 }}\n    \
         - {{ source: shop, sql: \"select sum(amount) from orders;\", max: 10 }}\n",
        server.name()
    );
    fs::write(host.path("etc/policies.d/all.yaml"), policy).unwrap();
    host.run(&["backup"]).ends(0);
    let document = host.read(&["rehearse", "--level", "checked", "--json"]).ends(4).json();
    let asserted = only(&document)["assertions"].as_array().unwrap().clone();
    let holds: Vec<bool> = asserted.iter().map(|asserted| asserted["holds"] == true).collect();
    assert_eq!(holds, [true, false], "{asserted:?}");
}

#[test]
fn a_killed_rehearsal_leaves_a_server_that_the_next_one_or_doctor_removes() {
    let Some((host, server)) = container() else { return };
    host.run(&["backup"]).ends(0);
    for reaped_by in [&["doctor", "--reap"][..], &["rehearse"]] {
        let mut command = host.command(&["rehearse"]);
        command.env("BKP_CRASH_AT", "rehearse:loaded").env("BKP_IDENTITY", host.identity());
        host.finish(host.start(command)).was_killed();
        assert_eq!(super::containers_of(&host).len(), 1);
        host.read(reaped_by);
        nothing_is_left(&host);
    }
    assert_eq!(server.query("shop", "select count(*) from customers"), "500");
}
