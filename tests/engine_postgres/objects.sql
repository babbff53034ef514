-- One of every kind of object that PostgreSQL has and a dump must bring back.
create schema sales authorization app_owner;
create schema "Odd schema; drop" ;
create extension pgcrypto;
create extension hstore;
create extension citext with schema sales;
create type sales.state as enum ('new', 'paid', 'it''s sent');
create type sales.address as (street text, number int);
create domain sales.email as text check (value ~ '@');
create type sales.price_range as range (subtype = numeric);
create collation sales.plain from "C";

create table sales.customers (
  id bigint generated always as identity primary key,
  name text not null, mail sales.email unique, nick sales.citext, home sales.address, tags text[], extra hstore,
  since timestamptz not null default now(), vat numeric(12, 4), shout text generated always as (upper(name)) stored
);
comment on table sales.customers is 'who buys; "quoted" and ''quoted''';
comment on column sales.customers.vat is 'rate';
insert into sales.customers (name, mail, nick, home, tags, extra, since, vat)
select 'customer ' || i, i || '@example.org', 'Nick' || i, row('Straße ' || i, i)::sales.address,
  array['a', null, 'b"c', E'd\\e'], hstore('k', i::text), '2024-02-29 12:34:56.789+05:30'::timestamptz + i * interval '1 minute', i / 7.0
from generate_series(1, 500) i;

create table sales.orders (
  id serial primary key, customer bigint not null references sales.customers on delete cascade,
  status sales.state not null default 'new', amount numeric, placed date, note text,
  constraint positive check (amount >= 0 or amount = 'NaN')
);
insert into sales.orders (customer, status, amount, placed, note)
select 1 + i % 500, (enum_range(null::sales.state))[1 + i % 3], case when i % 100 = 0 then 'NaN' else i * 1.10 end, date '2020-01-01' + i % 2000,
  case i % 4 when 0 then null when 1 then '' when 2 then E'tab\tnew\nline \\. \\N end' else repeat('ñ€🐘', i % 50) end
from generate_series(1, 20000) i;
create index orders_by_note on sales.orders using hash (note) where note is not null;
create index orders_expression on sales.orders (lower(note) desc nulls last, id) include (amount);
create statistics sales.orders_statistics (dependencies) on customer, status from sales.orders;
cluster sales.orders using orders_pkey;

create table types (
  i2 smallint, i4 integer, i8 bigint, r real, d double precision, n numeric, m money, b boolean, c char(5), v varchar(9), t text,
  bin bytea, j json, jb jsonb, x xml, u uuid, ip inet, net cidr, mac macaddr, bits bit varying, ts timestamp, tz timestamptz,
  day date, clock time, clockz timetz, span interval, p point, poly polygon, ints int[], nested int[][], nr numrange, ir int4multirange,
  tsv tsvector, tsq tsquery, price sales.price_range, reg regclass, lsn pg_lsn, id oid
);
insert into types values
  (-32768, -2147483648, -9223372036854775808, 'NaN', '-Infinity', 'NaN', -12.34, true, 'ab', 'vär', E'quote'' "x" \\ back',
   '\x00ff0a5c27', '{"a" : 1, "a": 2}', '{"b": [1, null, "\u00e9"]}', '<a b="1">x</a>', '00112233-4455-6677-8899-aabbccddeeff',
   '::1/128', '10.0.0.0/8', '08:00:2b:01:02:03', B'10110', '4713-01-01 00:00:00 BC', '2024-03-31 02:30:00.123456+02', 'infinity',
   '24:00:00', '12:00:00+05:45', '-1 year 2 mons -3 days 04:05:06.789', '(1.1,2.2)', '((0,0),(1,1),(1,0))', '{1,NULL,3}', '{{1,2},{3,4}}',
   '[1.1,2.2)', '{[1,3),[5,8)}', 'a:1A fat:2B', 'fat & rat', '[1,2]', 'sales.orders', '16/B374D848', 42),
  (null, 0, 1, 16777217.1, 0.1 + 0.2, 1e-300, null, false, '', '', '', '', 'null', 'null', null, null, null, null, null, '', null, null,
   '-infinity', null, null, null, null, null, '{}', '{}', 'empty', '{}', '', null, 'empty', null, null, null);
insert into types (r, d) values (1.17549435e-38, 5e-324), (-0.0, '-0'), (3.4028235e38, 1.7976931348623157e308);

create table measurements (at timestamptz not null, sensor int, value float8) partition by range (at);
create table measurements_2023 partition of measurements for values from ('2023-01-01') to ('2024-01-01');
create table measurements_2024 partition of measurements for values from ('2024-01-01') to ('2025-01-01') partition by hash (sensor);
create table measurements_2024_0 partition of measurements_2024 for values with (modulus 2, remainder 0);
create table measurements_2024_1 partition of measurements_2024 for values with (modulus 2, remainder 1);
create table measurements_rest partition of measurements default;
create index measurements_sensor on measurements (sensor);
insert into measurements select timestamptz '2022-12-01' + i * interval '6 hours', i % 9, random() from generate_series(1, 4000) i;

create table things (id int primary key, name text);
create table vehicles (wheels int, primary key (id)) inherits (things);
insert into things select i, 'thing' from generate_series(1, 10) i;
insert into vehicles select 100 + i, 'car', 4 from generate_series(1, 5) i;

create table "Odd schema; drop"."ta ble ""x"" 'y' 🐘" ("co l'1" int, "select" text, bkp_row text);
insert into "Odd schema; drop"."ta ble ""x"" 'y' 🐘" values (1, E'a\\b', 'r'), (2, null, null);
create table nothing ();
insert into nothing default values;
insert into nothing default values;
create table empty (id int);
create unlogged table quick as select i from generate_series(1, 7) i;
create table rooms (room int, during tstzrange, exclude using gist (during with &&));

create sequence sales.invoice_numbers start 1000 increment by 5 cycle maxvalue 99999 cache 3;
select nextval('sales.invoice_numbers');
create sequence untouched_numbers as smallint start 7;

create view sales.big_orders as select * from sales.orders where amount > 100 with local check option;
create view sales.recursive_view as with recursive r(n) as (select 1 union all select n + 1 from r where n < 5) select n from r;
create materialized view sales.totals as select customer, count(*) n from sales.orders group by customer;
create unique index totals_customer on sales.totals (customer);
create materialized view never_filled as select 1 as one with no data;

create function sales.tax(amount numeric, rate numeric default 0.21) returns numeric language sql immutable parallel safe as $$ select amount * rate $$;
create function sales.touch() returns trigger language plpgsql as $body$ begin new.note := coalesce(new.note, '$$ ; \ '); return new; end $body$;
create procedure sales.cleanup(inout n int) language plpgsql as $$ begin delete from empty; n := n + 1; end $$;
create aggregate sales.product(numeric) (sfunc = numeric_mul, stype = numeric, initcond = '1');
create trigger touch before insert or update of note on sales.orders for each row when (new.amount > 0) execute function sales.touch();
alter table sales.orders disable trigger touch;
create function log_ddl() returns event_trigger language plpgsql as $$ begin null; end $$;
create event trigger watch_ddl on ddl_command_end when tag in ('CREATE TABLE') execute function log_ddl();
create rule no_delete as on delete to things do instead nothing;
create operator sales.=== (leftarg = int, rightarg = int, function = int4eq);
create cast (sales.state as int) with inout;
create text search configuration sales.words (copy = simple);
create foreign data wrapper nowhere;
create server elsewhere foreign data wrapper nowhere options (host 'x');
create foreign table far_away (id int) server elsewhere;

create table secrets (owner text, content text);
insert into secrets values ('app', 'one'), ('other', 'two');
alter table secrets enable row level security;
create policy own_rows on secrets for select to app using (owner = current_user);

select lo_from_bytea(4242, decode(repeat('00ff10', 700000), 'hex'));
select lo_from_bytea(4243, '');
select lo_from_bytea(4244, 'small');
comment on large object 4244 is 'a small one';
grant select on large object 4244 to reporting;

grant usage on schema sales to reporting, app;
grant select on all tables in schema sales to reporting;
grant select (id, name), update (name) on sales.customers to app with grant option;
revoke execute on function sales.tax(numeric, numeric) from public;
alter default privileges for role app_owner in schema sales grant select on tables to reporting;
alter table sales.orders owner to app_owner;
alter table things owner to "Weird ""role"" 🐘";
create publication changes for table sales.orders, things;
comment on schema sales is 'what is sold';
