//! The roles of a rotation as the server has them: whether two logins may take turns, what is missing for it as statements, and
//! how they are brought back as they were.

use super::client::Clients;
use super::session::Session;
use super::sql::{self, name, text};
use crate::error::{Failure, Kind, Result};
use crate::secret::Secret;
use serde::Deserialize;
use std::fmt::Write;

/// Since then, who makes roles may only change those that it was given with the right to administer them.
const ADMINISTERED: u32 = 16;

/// Who changes passwords here.
#[derive(Deserialize)]
struct Own {
    name: String,
    is_super: bool,
    creates: bool,
    sees: bool,
    ends: bool,
}

#[derive(Deserialize)]
struct Role {
    name: String,
    is_super: bool,
    is_owner: bool,
    is_member: bool,
    is_administered: bool,
    expired: bool,
    /// Within a day.
    expires: bool,
    until: Option<String>,
    /// How many sessions it may have at once; nobody counts where it is negative.
    at_once: i64,
    settings: Vec<String>,
    owns: u64,
    has_rights: u64,
    sessions: u64,
}

/// The owner and the two that are its members; the owner may be one of them.
pub(super) struct Pair<'a> {
    pub owner: &'a str,
    pub logins: &'a [String; 2],
}

fn own(session: &mut Session<'_>) -> Result<Own> {
    let question = "select rolname as name, rolsuper as is_super, rolcreaterole or rolsuper as creates, \
        rolsuper or pg_has_role(oid, 'pg_read_all_stats', 'usage') as sees, \
        rolsuper or pg_has_role(oid, 'pg_signal_backend', 'usage') as ends from pg_roles where rolname = current_user";
    session.rows(question)?.pop().ok_or_else(|| Failure::failed("PostgreSQL does not know who bkp is"))
}

fn roles(session: &mut Session<'_>, owner: &str, names: &[&str]) -> Result<Vec<Role>> {
    // What a role owns or was granted stands in a catalogue that all databases share.
    let question = format!(
        "select r.rolname as name, r.rolsuper as is_super, r.rolname = {owner} as is_owner, \
           coalesce(pg_has_role(r.oid, (select oid from pg_roles where rolname = {owner}), 'member'), false) as is_member, \
           pg_has_role(current_user, r.oid, 'member with admin option') as is_administered, \
           coalesce(r.rolvaliduntil <= now(), false) as expired, \
           coalesce(r.rolvaliduntil <= now() + interval '1 day', false) as expires, \
           to_char(nullif(r.rolvaliduntil, 'infinity'), 'YYYY-MM-DD HH24:MI TZ') as until, r.rolconnlimit as at_once, \
           coalesce((select s.setconfig from pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = 0), '{{}}') as settings, \
           (select count(*) from pg_shdepend d where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'o') as owns, \
           (select count(*) from pg_shdepend d where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'a') as has_rights, \
           (select count(*) from pg_stat_activity a where a.usesysid = r.oid) as sessions \
         from pg_roles r where r.rolname = any ({})",
        sql::texts(names.iter().copied()),
        owner = text(owner),
    );
    session.rows(&question)
}

/// Whether the pair can take turns, with `current` in force. Gives notes for people.
pub(super) fn check_pair(
    clients: &Clients,
    session: &mut Session<'_>,
    pair: &Pair<'_>,
    current: &str,
    location: &str,
) -> Result<Vec<String>> {
    let own = own(session)?;
    let names = [pair.owner, &pair.logins[0], &pair.logins[1]];
    let there = roles(session, pair.owner, &names)?;
    let missing = missing(clients, &own, pair, &there);
    if !missing.is_empty() {
        let what =
            format!("{} and {} cannot take turns for {} at {location} yet", pair.logins[0], pair.logins[1], pair.owner);
        return Err(Failure::new(Kind::Refused, what).hint(format!("As a superuser: {}", missing.join(" "))));
    }
    let logins: Vec<&Role> = there.iter().filter(|role| pair.logins.contains(&role.name)).collect();
    for role in &logins {
        check_login(role, &own, pair, current)?;
    }
    let open = logins.iter().find(|role| role.name == current).map_or(0, |role| role.sessions);
    let mut notes = Vec::new();
    for role in logins {
        notes.extend(lets_in_all(role, open)?);
    }
    let pending = if pair.logins[0] == current { &pair.logins[1] } else { &pair.logins[0] };
    notes.extend(check_verifiers(session, &own, pending)?);
    Ok(notes)
}

/// What bkp itself may take of the sessions that a role may have at once.
const OWN: i64 = 2;

/// Whether so many sessions fit in, and bkp beside them, and as long as that is so.
fn lets_in_all(role: &Role, open: u64) -> Result<Vec<String>> {
    let (login, quoted) = (&role.name, name(&role.name));
    let mut notes = Vec::new();
    if let Some(until) = &role.until {
        let what = format!("{login} lets in until {until} (VALID UNTIL), and nobody after that");
        if role.expires {
            return Err(Failure::new(Kind::Refused, what).hint(format!("ALTER ROLE {quoted} VALID UNTIL 'infinity';")));
        }
        notes.push(format!("{what}, with whichever password"));
    }
    if role.is_super || role.at_once < 0 {
        return Ok(notes);
    }
    let (at_once, wanted) = (role.at_once, i64::try_from(open).unwrap_or(i64::MAX).saturating_add(OWN));
    let what = format!("{login} is let in {at_once} times at once (CONNECTION LIMIT)");
    if at_once < wanted {
        let what = format!("{what}, and {open} sessions and those of bkp do not fit in: somebody could be kept out");
        return Err(
            Failure::new(Kind::Refused, what).hint(format!("ALTER ROLE {quoted} CONNECTION LIMIT {wanted}; or more"))
        );
    }
    notes.push(format!("{what}, and each login of bkp is one of them for a moment"));
    Ok(notes)
}

/// What somebody with all rights has to say first.
fn missing(clients: &Clients, own: &Own, pair: &Pair<'_>, there: &[Role]) -> Vec<String> {
    let mut all = Vec::new();
    let owner = name(pair.owner);
    let known = |login: &str| there.iter().find(|role| role.name == login);
    if known(pair.owner).is_none() && !pair.logins.iter().any(|login| login == pair.owner) {
        all.push(format!("CREATE ROLE {owner} NOLOGIN;"));
    }
    for login in pair.logins {
        let (role, quoted) = (known(login), name(login));
        match role {
            None if login == pair.owner => all.push(format!("CREATE ROLE {quoted} NOLOGIN;")),
            None => all.push(format!("CREATE ROLE {quoted} NOLOGIN IN ROLE {owner};")),
            Some(role) if !role.is_member => all.push(format!("GRANT {owner} TO {quoted};")),
            Some(_) => {}
        }
        let becomes = role.is_some_and(|role| role.settings.contains(&format!("role={}", pair.owner)));
        if login != pair.owner && !becomes {
            all.push(format!("ALTER ROLE {quoted} SET role = {};", text(pair.owner)));
        }
    }
    all.extend(rights(clients, own, pair.logins, there));
    if !own.sees {
        all.push(format!("GRANT pg_read_all_stats TO {};", name(&own.name)));
    }
    all
}

fn rights(clients: &Clients, own: &Own, logins: &[String], there: &[Role]) -> Vec<String> {
    let mut all = Vec::new();
    if !own.creates {
        all.push(format!("ALTER ROLE {} CREATEROLE;", name(&own.name)));
    }
    if !own.is_super && clients.major() >= ADMINISTERED {
        let is_administered = |login: &&String| there.iter().any(|role| role.name == **login && role.is_administered);
        let wanted: Vec<String> =
            logins.iter().filter(|login| !is_administered(login)).map(|login| name(login)).collect();
        if !wanted.is_empty() {
            let (wanted, own) = (wanted.join(", "), name(&own.name));
            all.push(format!("GRANT {wanted} TO {own} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;"));
        }
    }
    all
}

fn check_login(role: &Role, own: &Own, pair: &Pair<'_>, current: &str) -> Result<()> {
    let (login, quoted, owner) = (&role.name, name(&role.name), name(pair.owner));
    let refused = |what: String| Failure::new(Kind::Refused, what);
    if role.is_super && !own.is_super {
        return Err(refused(format!("{login} is a superuser, whose password only another one may change"))
            .hint(format!("An application needs no superuser: ALTER ROLE {quoted} NOSUPERUSER;")));
    }
    if role.expired {
        return Err(refused(format!("{login} lets nobody in any more: its VALID UNTIL has passed"))
            .hint(format!("ALTER ROLE {quoted} VALID UNTIL 'infinity';")));
    }
    if !role.is_owner && role.owns > 0 {
        return Err(refused(format!("{login} itself owns {} things, which the other one could not change", role.owns))
            .hint(format!("In each database: REASSIGN OWNED BY {quoted} TO {owner};")));
    }
    if !role.is_owner && role.has_rights > 0 {
        return Err(refused(format!("{login} itself was granted rights, which the other one does not have"))
            .hint(format!("Grant them to {owner} instead, and revoke these: \\l and \\dp of psql show them")));
    }
    if login != current && role.sessions > 0 {
        return Err(refused(format!("somebody is logged in as {login}, which is about to get a new password")).hint(
            format!("Move them to {current} first: SELECT * FROM pg_stat_activity WHERE usename = {}", text(login)),
        ));
    }
    Ok(())
}

/// What only a superuser may look at.
fn check_verifiers(session: &mut Session<'_>, own: &Own, pending: &str) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if !own.ends {
        notes.push(format!("--emergency could not end old sessions: GRANT pg_signal_backend TO {}", name(&own.name)));
    }
    if !own.is_super {
        return Ok(notes);
    }
    let question = format!(
        "select coalesce(bool_or(rolpassword is not null), false) as taken from pg_authid where rolname = {}",
        text(pending)
    );
    if session.row(&question)?["taken"] == true {
        let what = format!("{pending} has a password that bkp did not set");
        return Err(Failure::new(Kind::Refused, what)
            .hint(format!("When nobody uses it: ALTER ROLE {} NOLOGIN PASSWORD NULL;", name(pending))));
    }
    Ok(notes)
}

/// Of one role that keeps its name.
pub(super) fn check_one(
    clients: &Clients,
    session: &mut Session<'_>,
    login: &str,
    location: &str,
) -> Result<Vec<String>> {
    let own = own(session)?;
    let there = roles(session, login, &[login])?;
    let Some(role) = there.first() else {
        return Err(Failure::usage(format!("there is no role `{login}` at {location}"))
            .hint("Correct `account`; list them: \\du"));
    };
    let logins = [login.to_owned()];
    let pair = Pair { owner: login, logins: &[login.to_owned(), login.to_owned()] };
    check_login(role, &own, &pair, login)?;
    match rights(clients, &own, &logins, &there) {
        missing if missing.is_empty() => lets_in_all(role, role.sessions),
        missing => {
            let what = format!("{} may not change the password of {login}", own.name);
            Err(Failure::new(Kind::Key, what).hint(format!("As a superuser: {}", missing.join(" "))))
        }
    }
}

#[derive(Deserialize)]
struct Definition {
    name: String,
    options: String,
    roles: Vec<String>,
    settings: Vec<String>,
}

/// Statements that bring the roles back, verifiers included where bkp may read them.
pub(super) fn definition(session: &mut Session<'_>, names: &[&str]) -> Result<Secret> {
    let own = own(session)?;
    let question = format!(
        "select r.rolname as name, concat_ws(' ', \
           case when rolsuper then 'SUPERUSER' else 'NOSUPERUSER' end, case when rolinherit then 'INHERIT' else 'NOINHERIT' end, \
           case when rolcreaterole then 'CREATEROLE' else 'NOCREATEROLE' end, case when rolcreatedb then 'CREATEDB' else 'NOCREATEDB' end, \
           case when rolcanlogin then 'LOGIN' else 'NOLOGIN' end, case when rolreplication then 'REPLICATION' else 'NOREPLICATION' end, \
           case when rolbypassrls then 'BYPASSRLS' else 'NOBYPASSRLS' end, 'CONNECTION LIMIT ' || rolconnlimit, \
           'VALID UNTIL ' || quote_literal(rolvaliduntil)) as options, \
           array(select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid order by 1) as roles, \
           coalesce((select s.setconfig from pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = 0), '{{}}') as settings \
         from pg_roles r where r.rolname = any ({}) order by 1",
        sql::texts(names.iter().copied())
    );
    let mut text = String::new();
    for role in session.rows::<Definition>(&question)? {
        let quoted = name(&role.name);
        let _ = writeln!(text, "CREATE ROLE {quoted};\nALTER ROLE {quoted} WITH {};", role.options);
        for granted in &role.roles {
            let _ = writeln!(text, "GRANT {} TO {quoted};", name(granted));
        }
        for setting in role.settings.iter().filter_map(|kept| sql::setting(kept)) {
            let _ = writeln!(text, "ALTER ROLE {quoted} {setting};");
        }
        if own.is_super {
            let verifier = session
                .row(&format!("select rolpassword as it from pg_authid where rolname = {}", self::text(&role.name)))?;
            if let Some(verifier) = verifier["it"].as_str() {
                let _ = writeln!(text, "ALTER ROLE {quoted} PASSWORD {};", self::text(verifier));
            }
        } else {
            let _ = writeln!(text, "-- the verifier of {quoted} may only be read by a superuser");
        }
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(at_once: i64, until: Option<&str>, expires: bool) -> Role {
        Role {
            name: "app".into(),
            is_super: false,
            is_owner: false,
            is_member: true,
            is_administered: true,
            expired: false,
            expires,
            until: until.map(str::to_owned),
            at_once,
            settings: Vec::new(),
            owns: 0,
            has_rights: 0,
            sessions: 0,
        }
    }

    #[test]
    fn there_must_be_room_for_everybody_and_time() {
        let said = |role: Role, open| match lets_in_all(&role, open) {
            Ok(notes) => notes.join("; "),
            Err(failure) => format!("refused: {}", failure.full()),
        };
        assert_eq!(said(role(-1, None, false), 100), "");
        assert!(said(role(1, None, false), 0).starts_with("refused: app is let in 1 times at once (CONNECTION LIMIT)"));
        assert!(said(role(5, None, false), 4).starts_with("refused: "));
        assert!(said(role(5, None, false), 3).starts_with("app is let in 5 times at once"));
        let until = Some("2026-12-01 02:00 UTC");
        assert!(said(role(-1, until, true), 0).starts_with("refused: app lets in until 2026-12-01 02:00 UTC"));
        assert!(said(role(-1, until, false), 0).starts_with("app lets in until 2026-12-01 02:00 UTC"));
        assert_eq!(said(Role { is_super: true, ..role(0, None, false) }, 5), "");
    }
}
