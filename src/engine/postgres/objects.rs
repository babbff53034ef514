//! What belongs to the data of a database and is none: definitions, owners and grants, each by its name with a digest.
//!
//! Read from the server's own words for them, so that two servers of one major version say the same. What came with the server or
//! with an extension is not looked at; nor are comments, statistics, and what a dump leaves out, such as invalid indexes.

use super::session::Session;
use super::sql;
use crate::error::Result;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Object {
    kind: String,
    path: Vec<String>,
    /// Behind the path, as it is.
    more: Option<String>,
    definition: Option<String>,
}

/// Privileges as `app=SELECT,INSERT*`, the owner's own among them, whether or not somebody ever granted anything.
macro_rules! grants {
    ($acl:literal, $kind:literal, $owner:literal) => {
        concat!(
            "lateral (select coalesce(pg_get_userbyid(nullif(a.grantee, 0)), 'public') as grantee,
            string_agg(a.privilege_type || case when a.is_grantable then '*' else '' end, ',' order by a.privilege_type) as privileges
          from aclexplode(coalesce(", $acl, ", acldefault('", $kind, "', ", $owner, "))) a group by a.grantee) g"
        )
    };
}

const OBJECTS: &str = concat!(
    "
with space as (select * from pg_namespace n where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'),
  class as (select c.*, n.nspname from pg_class c join space n on n.oid = c.relnamespace where c.relpersistence <> 't'
    and not exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')),
  routine as (select p.*, n.nspname from pg_proc p join space n on n.oid = p.pronamespace
    where not exists (select from pg_depend e where e.classid = 'pg_proc'::regclass and e.objid = p.oid and e.deptype in ('e', 'i')))
select 'schema' as kind, array[nspname] as path, null::text as more, pg_get_userbyid(nspowner)::text as definition from space
union all
select 'table', array[nspname, relname], null, concat_ws(' ', relkind, relpersistence, pg_get_userbyid(relowner),
    relrowsecurity, relforcerowsecurity, pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid), reloptions,
    (select string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
        to_jsonb(a)->>'attgenerated', (select collname from pg_collation where oid = a.attcollation), pg_get_expr(d.adbin, d.adrelid)), ', ' order by a.attname)
      from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid = class.oid and a.attnum > 0 and not a.attisdropped))
  from class where relkind in ('r', 'p', 'f')
union all
select case relkind when 'v' then 'view' else 'materialized view' end, array[nspname, relname], null,
    concat_ws(' ', pg_get_userbyid(relowner), reloptions, pg_get_viewdef(oid)) from class where relkind in ('v', 'm')
union all
select 'sequence', array[c.nspname, c.relname], null, concat_ws(' ', pg_get_userbyid(c.relowner), s.seqtypid::regtype, s.seqstart,
    s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle) from class c join pg_sequence s on s.seqrelid = c.oid
union all
select 'index', array[c.nspname, c.relname], null, pg_get_indexdef(i.indexrelid) from pg_index i join class c on c.oid = i.indexrelid
    join pg_class t on t.oid = i.indrelid where i.indisready and (i.indisvalid or t.relkind = 'p')
union all
select 'constraint', array[c.nspname, c.relname, k.conname], null, pg_get_constraintdef(k.oid) from pg_constraint k
    join class c on c.oid = k.conrelid where k.contype in ('c', 'f', 'p', 'u', 'x') and coalesce((to_jsonb(k)->>'conparentid')::int8, 0) = 0
union all
select 'trigger', array[c.nspname, c.relname, t.tgname], null, concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid)) from pg_trigger t
    join class c on c.oid = t.tgrelid where not t.tgisinternal and coalesce((to_jsonb(t)->>'tgparentid')::int8, 0) = 0
union all
select 'rule', array[c.nspname, c.relname, r.rulename], null, pg_get_ruledef(r.oid) from pg_rewrite r
    join class c on c.oid = r.ev_class where r.rulename <> '_RETURN'
union all
select 'policy', array[c.nspname, c.relname, p.polname], null, concat_ws(' ', p.polcmd, p.polpermissive,
    (select string_agg(coalesce(pg_get_userbyid(nullif(r, 0)), 'public'), ',' order by 1) from unnest(p.polroles) r),
    pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) from pg_policy p join class c on c.oid = p.polrelid
union all
select case prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end, array[nspname, proname],
    '(' || pg_get_function_identity_arguments(oid) || ')', concat_ws(' ', pg_get_userbyid(proowner),
    case when prokind = 'a' then pg_get_function_result(oid) else pg_get_functiondef(oid) end) from routine
union all
select case t.typtype when 'e' then 'enum' else 'domain' end, array[n.nspname, t.typname], null, concat_ws(' ',
    pg_get_userbyid(t.typowner), format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault,
    (select string_agg(e.enumlabel, ',' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid),
    (select string_agg(pg_get_constraintdef(k.oid), ',' order by k.conname) from pg_constraint k where k.contypid = t.oid))
  from pg_type t join space n on n.oid = t.typnamespace where t.typtype in ('e', 'd')
    and not exists (select from pg_depend e where e.classid = 'pg_type'::regclass and e.objid = t.oid and e.deptype = 'e')
union all
select 'extension', array[extname], null, null from pg_extension where extname <> 'plpgsql'
union all
select 'event trigger', array[evtname], null, concat_ws(' ', evtevent, evtenabled, evtfoid::regproc) from pg_event_trigger t
    where not exists (select from pg_depend e where e.classid = 'pg_event_trigger'::regclass and e.objid = t.oid and e.deptype = 'e')
union all
select 'publication', array[pubname], null, concat_ws(' ', puballtables, pubinsert, pubupdate, pubdelete) from pg_publication
union all
select 'grant on schema', array[n.nspname], ' to ' || g.grantee, g.privileges from space n, ",
    grants!("n.nspacl", "n", "n.nspowner"),
    "
union all
select 'grant on', array[c.nspname, c.relname], ' to ' || g.grantee, g.privileges from class c, ",
    grants!("c.relacl", "r", "c.relowner"),
    " where c.relkind in ('r', 'p', 'v', 'm', 'f')
union all
select 'grant on', array[c.nspname, c.relname, a.attname], ' to ' || g.grantee, g.privileges from class c
    join pg_attribute a on a.attrelid = c.oid and a.attacl is not null, ",
    grants!("a.attacl", "c", "c.relowner"),
    "
union all
select 'grant on sequence', array[c.nspname, c.relname], ' to ' || g.grantee, g.privileges from class c, ",
    grants!("c.relacl", "s", "c.relowner"),
    " where c.relkind = 'S'
union all
select 'grant on routine', array[p.nspname, p.proname], '(' || pg_get_function_identity_arguments(p.oid) || ') to ' || g.grantee,
    g.privileges from routine p, ",
    grants!("p.proacl", "f", "p.proowner")
);

/// Of the session's database, which is called `database`.
pub fn of(session: &mut Session<'_>, database: &str) -> Result<BTreeMap<String, String>> {
    let mut objects = BTreeMap::new();
    for object in session.rows::<Object>(OBJECTS)? {
        let path: Vec<&str> = std::iter::once(database).chain(object.path.iter().map(String::as_str)).collect();
        let name = format!("{} {}{}", object.kind, sql::path(&path), object.more.unwrap_or_default());
        let definition = object.definition.unwrap_or_default();
        objects.insert(name, blake3::hash(definition.as_bytes()).to_hex()[..16].to_owned());
    }
    Ok(objects)
}
