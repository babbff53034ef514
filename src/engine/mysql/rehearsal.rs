//! What a rehearsal asks of MySQL and MariaDB: a fresh server of the same flavour, with the settings that decide how data is
//! kept, and everything compared that the source was seen to have.
//!
//! An image's entry point first starts a server without a network to set it up: only the one after it counts as ready.

use super::client::{Client, Flavour};
use super::observed_objects::{self, is_of_installation};
use super::session::name;
use super::{Details, Settings, catalog, fingerprint};
use crate::engine::rehearsal::{
    Comparison, ContainerRecipe, Entrance, Ground, ProcessRecipe, Question, Reach, Rehearsable, Scratch, Site, Subject,
    counted, must_be_fresh,
};
use crate::engine::{Server, Settings as AnySettings};
use crate::error::{Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::exec::{Command, Place};
use crate::secret::Secret;
use std::collections::BTreeSet;
use std::ffi::OsString;

pub struct Rehearsal;

/// Fast, and without any promise that data survives: nothing in here is to last.
const UNSAFE: &[&str] = &[
    "--loose-skip-log-bin",
    "--loose-innodb-flush-log-at-trx-commit=0",
    "--loose-sync-binlog=0",
    "--loose-innodb-doublewrite=0",
    // The kernel has a number of these for all servers of a host together, and the source may need them.
    "--loose-innodb-use-native-aio=0",
    "--loose-performance-schema=OFF",
    "--loose-mysqlx=OFF",
    "--max-allowed-packet=1G",
    "--event-scheduler=OFF",
];
/// What decides how data is kept, and cannot be changed afterwards.
const SAME: [&str; 5] =
    ["lower_case_table_names", "innodb_page_size", "character_set_server", "collation_server", "sql_mode"];
/// What a server takes by itself, in bytes.
const EMPTY: u64 = 400 << 20;

impl Rehearsable for Rehearsal {
    fn ground(&self, _: &Subject<'_>) -> Result<Ground> {
        Ok(Ground::Server)
    }

    fn container(&self, subject: &Subject<'_>, password: &Secret) -> Result<ContainerRecipe> {
        let host = if subject.with_application { "%" } else { "localhost" };
        Ok(ContainerRecipe {
            arguments: arguments(subject)?,
            environment: vec![("MYSQL_ROOT_HOST".to_owned(), host.to_owned())],
            secrets: vec![("MYSQL_ROOT_PASSWORD".to_owned(), password.clone())],
            data: "/var/lib/mysql".into(),
            room: subject.bytes.saturating_mul(3).saturating_add(EMPTY),
            ..ContainerRecipe::default()
        })
    }

    fn process(&self, subject: &Subject<'_>, site: &Site<'_>, password: &Secret) -> Result<Option<ProcessRecipe>> {
        let data = site.directory.join("data");
        let datadir: OsString = [OsString::from("--datadir="), data.clone().into_os_string()].into_iter().collect();
        let mariadb = Details::of(subject.origin)?.flavour == Flavour::Mariadb;
        let same = arguments(subject)?;
        let (programs, program, options): (Vec<&str>, &str, Vec<OsString>) = match mariadb {
            true => {
                let options = ["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"];
                (vec!["mariadbd"], "mariadb-install-db", options.map(Into::into).into())
            }
            false => (vec!["mysqld"], "mysqld", ["--no-defaults", "--initialize-insecure"].map(Into::into).into()),
        };
        // A server that starts removes what other servers have among their temporary files, if it looks in the same directory.
        let environment = vec![("TMPDIR".into(), site.directory.to_owned().into_os_string())];
        let mut before = Command { program: program.into(), arguments: options, environment, ..Command::default() };
        before.arguments.push(datadir.clone());
        before.arguments.extend(same.iter().filter(|argument| !argument.starts_with("--sql")).map(Into::into));
        let init = site.directory.join("init.sql");
        let mut arguments: Vec<OsString> = vec!["--no-defaults".into(), datadir, "--skip-networking".into()];
        for (option, path) in [
            ("--socket=", site.socket.to_owned()),
            ("--pid-file=", site.directory.join("pid")),
            ("--init-file=", init.clone()),
            ("--tmpdir=", site.directory.to_owned()),
        ] {
            arguments.push([OsString::from(option), path.into_os_string()].into_iter().collect());
        }
        arguments.extend(same.into_iter().map(Into::into));
        let mut script = format!("ALTER USER 'root'@'localhost' IDENTIFIED BY '{}';\n", password.expose());
        if mariadb {
            // Accounts for each name of this host, which an installation makes by itself: those of the source are to come.
            script.push_str("DELETE FROM mysql.global_priv WHERE user IN ('root', '') AND host <> 'localhost';\n");
            script.push_str("FLUSH PRIVILEGES;\n");
        }
        Ok(Some(ProcessRecipe {
            programs,
            directories: Vec::new(),
            before: vec![before],
            arguments,
            files: vec![(init, Secret::new(script))],
            by_socket: true,
            alone: false,
        }))
    }

    fn settings(&self, _: &Subject<'_>, reach: Option<&Reach>) -> AnySettings {
        let server = reach.map(|reach| Server {
            place: reach.place.clone(),
            host: reach.host.clone(),
            port: reach.port,
            socket: reach.socket.clone(),
            user: Some("root".to_owned()),
            password: Some(reach.password.clone()),
            ..Server::default()
        });
        let server = server.unwrap_or_default();
        AnySettings::Mysql(Settings { server, databases: Vec::new(), exclude: Vec::new(), lock_tables: false })
    }

    fn ready(&self, settings: &AnySettings, cancel: &Cancel) -> Result<()> {
        let settings = of(settings)?;
        let (_, mut session) = Client::connect(&settings.server, cancel)?;
        let setting_up = session.one("SELECT @@global.skip_networking")? == "1";
        if setting_up && settings.server.place != Place::Host {
            return Err(Failure::new(Kind::TryLater, "the image is still setting the server up"));
        }
        session.close()
    }

    fn must_be_empty(&self, settings: &AnySettings, cancel: &Cancel) -> Result<()> {
        let (_, mut session) = Client::connect(&of(settings)?.server, cancel)?;
        let found = catalog::databases(&mut session)?;
        must_be_fresh(found.first().map(|database| format!("a database {database}")))
    }

    fn compare(&self, subject: &Subject<'_>, scratch: &Scratch, context: Context<'_>) -> Result<Comparison> {
        let (client, mut session) = Client::connect(&of(scratch.settings())?.server, context.cancel)?;
        let databases = catalog::databases(&mut session)?;
        let catalog = catalog::Catalog::read(&mut session, &client, databases)?;
        let was = subject.origin.fingerprint();
        let mut comparison = Comparison::default();
        let method = fingerprint::method(&client.version, true);
        if was.method == method {
            let is = fingerprint::measure(&mut session, &client.version, &catalog.tables)?.fingerprint;
            let rounded: BTreeSet<String> =
                catalog.tables.iter().filter(|table| !table.floats.is_empty()).map(|table| table.path()).collect();
            let names: BTreeSet<&String> = was.parts.keys().chain(is.parts.keys()).collect();
            for part in names {
                let (then, now) = (was.parts.get(part), is.parts.get(part));
                let same_count = then.zip(now).is_some_and(|(then, now)| then.count == now.count);
                if then != now && same_count && rounded.contains(part) {
                    comparison.compared += 1;
                    comparison
                        .unbound
                        .push(format!("{part} has FLOAT columns, whose values every dump by the client rounds"));
                    continue;
                }
                comparison.part(part, then, now, |then, now| counted(then, now, "rows"));
            }
        } else {
            comparison
                .unbound
                .push(format!("contents were counted as `{}`, and here it would be `{method}`", was.method));
        }
        let loose = Details::of(subject.origin)?.not_transactional;
        if !loose.is_empty() {
            let text = format!(
                "no snapshot holds these tables still, so their contents were not compared: {}",
                catalog::some(&loose)
            );
            comparison.unbound.push(text);
        }
        if !was.objects.is_empty() {
            let mut is = observed_objects::read(&mut session, &catalog.databases)?;
            if was.objects.keys().any(|object| object.starts_with("account ")) {
                is.extend(observed_objects::of_accounts(&mut session, &client, &|database, name| {
                    catalog.has(database, name)
                })?);
            }
            let names: BTreeSet<&String> = was.objects.keys().chain(is.keys()).collect();
            for object in names.into_iter().filter(|object| !is_of_installation(object)) {
                comparison.part(object, was.objects.get(object), is.get(object), |_, _| "another definition".into());
            }
        }
        session.close()?;
        Ok(comparison)
    }

    fn entrance(&self) -> Option<Entrance> {
        Some(Entrance { port: 3306, user: Some("root") })
    }

    fn ask(&self, scratch: &Scratch, question: &Question, cancel: &Cancel) -> Result<String> {
        let Question::Sql { database, query } = question else {
            return Err(question.is_not_for("MySQL or MariaDB"));
        };
        let (_, mut session) = Client::connect(&of(scratch.settings())?.server, cancel)?;
        if let Some(database) = database {
            session.run(&format!("USE {}", name(database)))?;
        }
        let rows = session.rows(query.trim().trim_end_matches(';'))?;
        let first = rows.into_iter().next().ok_or_else(|| Failure::failed("the query gave no row"))?;
        Ok(first.into_iter().next().unwrap_or_default())
    }
}

fn of(settings: &AnySettings) -> Result<&Settings> {
    match settings {
        AnySettings::Mysql(settings) => Ok(settings),
        _ => Err(Failure::failed("this is no MySQL or MariaDB")),
    }
}

fn arguments(subject: &Subject<'_>) -> Result<Vec<String>> {
    let details = Details::of(subject.origin)?;
    let mut all: Vec<String> = UNSAFE.iter().map(|argument| (*argument).to_owned()).collect();
    for variable in SAME {
        if let Some(value) = details.variables.get(variable).filter(|value| !value.is_empty()) {
            all.push(format!("--{}={value}", variable.replace('_', "-")));
        }
    }
    Ok(all)
}
