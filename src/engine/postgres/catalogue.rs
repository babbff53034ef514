//! What a server has, as its catalogue tells it: databases and roles with what `pg_dump` does not keep of them, the tables
//! of a database, and how many objects of each kind a dump of it must hold.
//!
//! Kept in a point as its details, so that a restore needs nothing of the source. Columns that only newer servers have are
//! read through JSON and are absent on older ones.

use super::session::Session;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Objects with a lower number came with the server.
const FIRST_OF_USERS: u32 = 16384;

/// A point's own memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct Details {
    /// Of the server, as `150018`.
    pub version: u32,
    pub databases: Vec<Database>,
    pub roles: Vec<Role>,
    /// `ALTER ROLE ALL SET`.
    pub settings: Vec<String>,
    pub tablespaces: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct Database {
    pub name: String,
    pub stream: String,
    pub owner: String,
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// `c` libc, `i` ICU, `b` built in.
    pub provider: String,
    pub locale: Option<String>,
    pub icu_rules: Option<String>,
    pub tablespace: String,
    pub connection_limit: i64,
    pub is_template: bool,
    pub comment: Option<String>,
    /// Absent where nobody ever granted or revoked.
    pub grants: Option<Vec<Grant>>,
    pub settings: Vec<RoleSettings>,
    pub extensions: Vec<Extension>,
    /// All that own or may do something in it.
    pub roles: Vec<String>,
    pub bytes: u64,
    pub consistent_at: Option<jiff::Timestamp>,
    #[serde(skip_serializing)]
    pub allows_connections: bool,
    #[serde(skip_serializing)]
    pub may_connect: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Grant {
    /// None: everybody.
    pub grantee: Option<String>,
    pub privilege: String,
    pub grantable: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct RoleSettings {
    /// None: everybody's.
    pub role: Option<String>,
    pub values: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Extension {
    pub name: String,
    pub version: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Role {
    pub name: String,
    pub superuser: bool,
    pub inherit: bool,
    pub create_role: bool,
    pub create_db: bool,
    pub login: bool,
    pub replication: bool,
    pub bypass_rls: bool,
    pub connection_limit: i64,
    pub valid_until: Option<String>,
    pub comment: Option<String>,
    pub settings: Vec<String>,
    pub member_of: Vec<Membership>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Membership {
    pub role: String,
    pub admin: bool,
    /// Since PostgreSQL 16.
    pub inherit: Option<bool>,
    pub set: Option<bool>,
}

/// Something with rows, or a view of them.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Table {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// As in `pg_class`: `r` table, `p` partitioned, `S` sequence, `m` materialized view, `v` view, `f` foreign.
    pub kind: String,
    pub readable: bool,
    /// Row-level security would hide rows from this user.
    pub hidden: bool,
    pub of_extension: bool,
}

impl Table {
    /// It has rows of its own that a dump holds.
    pub fn has_rows(&self) -> bool {
        self.kind == "r" && !self.of_extension
    }

    pub fn is_sequence(&self) -> bool {
        self.kind == "S" && !self.of_extension
    }

    pub fn quoted(&self) -> String {
        format!("{}.{}", super::sql::name(&self.schema), super::sql::name(&self.name))
    }
}

const DATABASES: &str = "
select d.datname as name, '' as stream, pg_get_userbyid(d.datdba) as owner, pg_encoding_to_char(d.encoding) as encoding,
  d.datcollate as collate, d.datctype as ctype, coalesce(to_jsonb(d)->>'datlocprovider', 'c') as provider,
  coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale') as locale, to_jsonb(d)->>'daticurules' as icu_rules,
  t.spcname as tablespace, d.datconnlimit as connection_limit, d.datistemplate as is_template,
  d.datallowconn as allows_connections, has_database_privilege(d.oid, 'CONNECT') as may_connect,
  shobj_description(d.oid, 'pg_database') as comment,
  case when d.datacl is not null then (select coalesce(jsonb_agg(jsonb_build_object('grantee',
    case when a.grantee <> 0 then pg_get_userbyid(a.grantee) end, 'privilege', a.privilege_type, 'grantable', a.is_grantable)), '[]')
    from aclexplode(d.datacl) a) end as grants,
  (select coalesce(jsonb_agg(jsonb_build_object('role', case when s.setrole <> 0 then pg_get_userbyid(s.setrole) end,
    'values', s.setconfig) order by s.setrole), '[]') from pg_db_role_setting s where s.setdatabase = d.oid) as settings,
  (select coalesce(jsonb_agg(distinct r.rolname), '[]') from pg_shdepend x join pg_roles r on r.oid = x.refobjid
    where x.dbid = d.oid and x.refclassid = 'pg_authid'::regclass) as roles
from pg_database d left join pg_tablespace t on t.oid = d.dattablespace
where d.datname <> 'template0' order by d.datname";

const ROLES: &str = "
select r.rolname as name, r.rolsuper as superuser, r.rolinherit as inherit, r.rolcreaterole as create_role,
  r.rolcreatedb as create_db, r.rolcanlogin as login, r.rolreplication as replication, r.rolbypassrls as bypass_rls,
  r.rolconnlimit as connection_limit, r.rolvaliduntil::text as valid_until, shobj_description(r.oid, 'pg_authid') as comment,
  coalesce((select to_jsonb(s.setconfig) from pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = 0), '[]') as settings,
  (select coalesce(jsonb_agg(jsonb_build_object('role', pg_get_userbyid(m.roleid), 'admin', m.admin_option,
    'inherit', to_jsonb(m)->'inherit_option', 'set', to_jsonb(m)->'set_option') order by pg_get_userbyid(m.roleid)), '[]')
    from pg_auth_members m where m.member = r.oid) as member_of
from pg_roles r where r.rolname !~ '^pg_' order by r.rolname";

const SETTINGS_OF_ALL: &str =
    "select unnest(setconfig) as value from pg_db_role_setting where setrole = 0 and setdatabase = 0";

const TABLESPACES: &str = "select spcname as value from pg_tablespace where spcname !~ '^pg_' order by 1";

const TABLES: &str = "
select c.oid::int8 as oid, n.nspname as schema, c.relname as name, c.relkind as kind,
  has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT') as readable,
  c.relrowsecurity and row_security_active(c.oid) as hidden,
  exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e') as of_extension
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'm', 'v', 'S', 'f') and c.relpersistence <> 't'
  and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
order by n.nspname, c.relname";

const EXTENSIONS: &str =
    "select extname as name, extversion as version from pg_extension where extname <> 'plpgsql' order by 1";

/// The kinds as `pg_dump` calls them, and how many the database has..
const COUNTS: &str = "
with own_class as (select c.* from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and c.relpersistence <> 't'
    and not exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')),
  own_function as (select p.prokind from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    and not exists (select from pg_depend e where e.classid = 'pg_proc'::regclass and e.objid = p.oid and e.deptype in ('e', 'i')))
select (select count(*) from own_class where relkind in ('r', 'p')) as \"TABLE\",
  (select count(*) from own_class where relkind = 'v') as \"VIEW\",
  (select count(*) from own_class where relkind = 'm') as \"MATERIALIZED VIEW\",
  (select count(*) from own_class where relkind = 'S') as \"SEQUENCE\",
  (select count(*) from own_class where relkind = 'f') as \"FOREIGN TABLE\",
  (select count(*) from own_function where prokind in ('f', 'w')) as \"FUNCTION\",
  (select count(*) from own_function where prokind = 'p') as \"PROCEDURE\",
  (select count(*) from own_function where prokind = 'a') as \"AGGREGATE\",
  (select count(*) from pg_trigger t join own_class c on c.oid = t.tgrelid
    where not t.tgisinternal and coalesce((to_jsonb(t)->>'tgparentid')::int8, 0) = 0) as \"TRIGGER\",
  (select count(*) from pg_policy p join own_class c on c.oid = p.polrelid) as \"POLICY\",
  (select count(*) from pg_index i join own_class c on c.oid = i.indrelid where i.indisready and (i.indisvalid or c.relkind = 'p')
    and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))) as \"INDEX\",
  (select count(*) from pg_extension where oid >= 16384) as \"EXTENSION\",
  (select count(*) from pg_event_trigger t where not exists (select from pg_depend e
    where e.classid = 'pg_event_trigger'::regclass and e.objid = t.oid and e.deptype = 'e')) as \"EVENT TRIGGER\",
  (select count(*) from pg_publication) as \"PUBLICATION\"";

const INVALID_INDEXES: &str = "
select n.nspname || '.' || c.relname as value from pg_index i join pg_class c on c.oid = i.indexrelid
  join pg_class t on t.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
where not (i.indisvalid and i.indisready) and t.relkind <> 'p' and n.nspname !~ '^pg_' order by 1";

#[derive(Deserialize)]
struct One {
    value: String,
}

pub fn strings(session: &mut Session<'_>, query: &str) -> Result<Vec<String>> {
    Ok(session.rows::<One>(query)?.into_iter().map(|one| one.value).collect())
}

/// Everything of the whole server; `session` may be in any database.
pub fn details(session: &mut Session<'_>, version: u32) -> Result<Details> {
    Ok(Details {
        version,
        databases: session.rows(DATABASES)?,
        roles: session.rows(ROLES)?,
        settings: strings(session, SETTINGS_OF_ALL)?,
        tablespaces: strings(session, TABLESPACES)?,
    })
}

pub fn tables(session: &mut Session<'_>) -> Result<Vec<Table>> {
    session.rows(TABLES)
}

pub fn extensions(session: &mut Session<'_>) -> Result<Vec<Extension>> {
    session.rows(EXTENSIONS)
}

/// How many objects of each kind a whole dump of the session's database holds at least.
pub fn counts(session: &mut Session<'_>) -> Result<BTreeMap<String, u64>> {
    Ok(session.rows(COUNTS)?.pop().unwrap_or_default())
}

pub fn invalid_indexes(session: &mut Session<'_>) -> Result<Vec<String>> {
    strings(session, INVALID_INDEXES)
}

/// Whether the session's database has nothing that anybody made.
pub fn is_untouched(session: &mut Session<'_>) -> Result<bool> {
    let any = |table: &str| format!("exists (select from {table} where oid >= {FIRST_OF_USERS})");
    let tables = ["pg_class", "pg_proc", "pg_type", "pg_namespace", "pg_extension", "pg_largeobject_metadata"];
    let question = format!("select not ({}) as untouched", tables.map(any).join(" or "));
    Ok(session.row(&question)?["untouched"] == true)
}

/// Whether the user may do everything.
pub fn is_superuser(session: &mut Session<'_>) -> Result<bool> {
    Ok(session.row("select rolsuper as yes from pg_roles where rolname = current_user")?["yes"] == true)
}
