//! What a point says there is to make: databases with their tables, views, triggers and programs, each as a piece of
//! script that needs nothing of what came before it in the dump.

use super::super::catalog::{Catalog, Program};
use super::super::programs;
use super::super::script::{Scanner, Visitor};
use super::super::session::{Session, name, text};
use super::super::statement::{Meaning, meaning, tokens};
use crate::engine::Part;
use crate::error::{Failure, Kind, Result};
use std::io::{ErrorKind, Read};

/// What every object begins with; its own settings follow.
const SETTINGS: &str =
    "SET NAMES utf8mb4;\nSET SESSION time_zone = '+00:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES';\n";
const PIECE: usize = 256 << 10;

#[derive(Clone, Debug)]
pub struct Object {
    pub name: String,
    /// The word that creates it, and drops it.
    pub kind: &'static str,
    /// Of a trigger.
    pub table: Option<String>,
    /// Settings and statement, for a session that uses the database.
    pub script: Vec<u8>,
}

impl Object {
    /// Whether an event runs by itself.
    fn is_enabled(&self) -> bool {
        let tokens = tokens(&self.script);
        tokens.iter().take_while(|token| !token.is("DO")).any(|token| token.is("ENABLE"))
    }
}

#[derive(Clone, Debug, Default)]
pub struct Database {
    pub name: String,
    /// What follows the name in `CREATE DATABASE`.
    pub options: Vec<u8>,
    /// Tables and sequences, in the order of the dump.
    pub tables: Vec<Object>,
    pub stand_ins: Vec<Object>,
    pub views: Vec<Object>,
    pub triggers: Vec<Object>,
    /// Routines, then events.
    pub programs: Vec<Object>,
}

#[derive(Debug, Default)]
pub struct Definitions {
    pub databases: Vec<Database>,
    current: Option<usize>,
    settings: Vec<u8>,
}

impl Definitions {
    pub fn read(&mut self, data: &mut dyn Read) -> Result<()> {
        (self.current, self.settings) = (None, Vec::new());
        let mut scanner = Scanner::new();
        let mut buffer = vec![0; PIECE];
        loop {
            match data.read(&mut buffer) {
                Ok(0) => return scanner.finish(),
                Ok(read) => scanner.push(&buffer[..read], self)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Failure::from_io(error, || "cannot read the definitions of the point".into()));
                }
            }
        }
    }

    /// What a server has now, without the text of its tables. Views that are broken are no obstacle.
    pub fn of_server(session: &mut Session<'_>, catalog: &Catalog) -> Result<Self> {
        let mut definitions = Definitions::default();
        for database in &catalog.databases {
            let quoted = name(database);
            let create = session.rows(&format!("SHOW CREATE DATABASE {quoted}"))?;
            let create = create.into_iter().flatten().nth(1).unwrap_or_default();
            let mut sql = format!("{create};\nUSE {quoted};\n");
            session.run(&format!("USE {quoted}"))?;
            let schema = text(database);
            let of = |column: &str, table: &str, rest: &str| {
                format!("SELECT {column} FROM information_schema.{table} WHERE {rest} = {schema}")
            };
            for view in session.column(&of("table_name", "views", "table_schema"))? {
                let create = session.rows(&format!("SHOW CREATE VIEW {}", name(&view)))?;
                let create = create.into_iter().flatten().nth(1).unwrap_or_default();
                sql.push_str(&format!("{create};\n"));
            }
            let triggers = session
                .column(&format!("{} ORDER BY action_order", of("trigger_name", "triggers", "trigger_schema")))?;
            let programs =
                triggers.into_iter().map(|name| Program { database: database.clone(), kind: "TRIGGER", name });
            let all: Vec<Program> =
                programs.chain(catalog.programs.iter().filter(|p| p.database == *database).cloned()).collect();
            sql.push_str(&programs::write(session, &all)?.sql);
            definitions.read(&mut sql.as_bytes())?;
            let kinds = session.rows(&format!(
                "{} AND table_type <> 'VIEW'",
                of("DISTINCT table_name, table_type", "tables", "table_schema")
            ))?;
            for row in kinds {
                let [name, kind] = <[String; 2]>::try_from(row).unwrap_or_default();
                let kind = if kind == "SEQUENCE" { "SEQUENCE" } else { "TABLE" };
                let tables = &mut definitions.database(database).tables;
                if !tables.iter().any(|t| t.name == name) {
                    tables.push(Object { name, kind, table: None, script: Vec::new() });
                }
            }
        }
        Ok(definitions)
    }

    /// What of it is wanted.
    pub fn only(mut self, part: &Part) -> Result<Self> {
        let missing = |what: String| Failure::usage(format!("the point holds no {what}"));
        match part {
            Part::Whole => return Ok(self),
            Part::Path(_) => return Err(Failure::usage("a database has no paths").hint("Name a database or a table")),
            Part::Database(wanted) => self.databases.retain(|database| database.name == *wanted),
            Part::Table { database: wanted, table } => {
                self.databases.retain(|database| database.name == *wanted);
                for database in &mut self.databases {
                    database.tables.retain(|t| t.name == *table);
                    database.triggers.retain(|t| t.table.as_ref() == Some(table));
                    (database.stand_ins, database.views, database.programs) = Default::default();
                    if database.tables.is_empty() {
                        return Err(missing(format!("table {table} in database {wanted}")));
                    }
                }
            }
        }
        match (self.databases.is_empty(), part) {
            (true, Part::Database(wanted) | Part::Table { database: wanted, .. }) => {
                Err(missing(format!("database {wanted}")))
            }
            _ => Ok(self),
        }
    }

    fn database(&mut self, name: &str) -> &mut Database {
        let at = self.databases.iter().position(|d| d.name == name).unwrap_or_else(|| {
            self.databases.push(Database { name: name.to_owned(), ..Database::default() });
            self.databases.len() - 1
        });
        self.current = Some(at);
        &mut self.databases[at]
    }

    fn object(
        &mut self,
        name: String,
        kind: &'static str,
        text: &[u8],
        delimiter: &str,
    ) -> Result<(&mut Database, Object)> {
        let mut script = SETTINGS.as_bytes().to_vec();
        script.append(&mut self.settings);
        append(&mut script, text, delimiter);
        let at =
            self.current.ok_or_else(|| Failure::new(Kind::Verification, format!("{kind} {name} is in no database")))?;
        Ok((&mut self.databases[at], Object { name, kind, table: None, script }))
    }
}

/// A statement as a client wants it.
fn append(script: &mut Vec<u8>, text: &[u8], delimiter: &str) {
    if delimiter == ";" {
        script.extend_from_slice(text);
        script.extend_from_slice(b";\n");
    } else {
        script.extend_from_slice(format!("DELIMITER {delimiter}\n").as_bytes());
        script.extend_from_slice(text);
        script.extend_from_slice(format!("\n{delimiter}\nDELIMITER ;\n").as_bytes());
    }
}

impl Visitor for Definitions {
    fn statement(&mut self, text: &[u8], delimiter: &str) -> Result<()> {
        match meaning(text) {
            Meaning::CreateDatabase(database) => {
                let quoted = name(&database).into_bytes();
                let at = text.windows(quoted.len()).position(|window| window == quoted).unwrap_or(0);
                self.database(&database).options = text[at + quoted.len()..].to_vec();
            }
            Meaning::Use(database) => _ = self.database(&database),
            Meaning::Setting => append(&mut self.settings, text, ";"),
            Meaning::Table(name) => {
                let (database, object) = self.object(name, "TABLE", text, delimiter)?;
                database.tables.push(object);
            }
            Meaning::Sequence(name) => {
                let (database, object) = self.object(name, "SEQUENCE", text, delimiter)?;
                database.tables.push(object);
            }
            Meaning::SequenceValue => {
                let (database, value) = self.object(String::new(), "SEQUENCE", text, delimiter)?;
                if let Some(sequence) = database.tables.last_mut() {
                    sequence.script.extend_from_slice(&value.script);
                }
            }
            Meaning::StandIn(name) => {
                let (database, object) = self.object(name, "VIEW", text, delimiter)?;
                database.stand_ins.push(object);
            }
            Meaning::View(name) => {
                let (database, object) = self.object(name, "VIEW", text, delimiter)?;
                database.views.push(object);
            }
            Meaning::Trigger { name, table } => {
                let (database, object) = self.object(name, "TRIGGER", text, delimiter)?;
                database.triggers.push(Object { table: Some(table), ..object });
            }
            Meaning::Program(kind, name) => {
                let (database, object) = self.object(name, kind, text, delimiter)?;
                database.programs.push(object);
            }
            Meaning::Passing => {}
            Meaning::Other => {
                let words: String = String::from_utf8_lossy(text).chars().take(40).collect();
                return Err(Failure::new(
                    Kind::Refused,
                    format!("the dump holds a statement that bkp does not know: {words}…"),
                )
                .hint("Load it by hand: docs/RECOVERY.md"));
            }
        }
        Ok(())
    }

    fn rows(&mut self, _piece: &[u8], _begins: bool, _ends: bool) -> Result<()> {
        Ok(())
    }
}

impl Database {
    /// Makes the views, routines, triggers and events of this database in `target`, whose tables are there.
    pub fn finish(&self, target: &str, events_off: bool) -> Vec<u8> {
        let (events, routines): (Vec<_>, Vec<_>) = self.programs.iter().partition(|p| p.kind == "EVENT");
        let mut script = using(target);
        for object in routines.iter().copied().chain(&self.stand_ins) {
            script.extend_from_slice(&object.script);
        }
        for view in &self.views {
            script.extend_from_slice(format!("DROP VIEW IF EXISTS {};\n", name(&view.name)).as_bytes());
            script.extend_from_slice(&view.script);
        }
        for object in &self.triggers {
            script.extend_from_slice(&object.script);
        }
        for event in events {
            script.extend_from_slice(&event.script);
            if events_off && event.is_enabled() {
                script.extend_from_slice(format!("ALTER EVENT {} DISABLE;\n", name(&event.name)).as_bytes());
            }
        }
        script
    }

    /// The statements that switch the events on in `target` that were on; `None` where there are none.
    pub fn enable_events(&self, target: &str) -> Option<String> {
        let events = self.programs.iter().filter(|p| p.kind == "EVENT" && p.is_enabled());
        let statements: Vec<String> =
            events.map(|e| format!("ALTER EVENT {}.{} ENABLE;", name(target), name(&e.name))).collect();
        (!statements.is_empty()).then(|| statements.join(" "))
    }

    /// Everything whose text may name a database.
    pub fn texts(&self) -> impl Iterator<Item = &Object> {
        self.views.iter().chain(&self.triggers).chain(&self.programs)
    }
}

/// The beginning of a script about one database.
pub fn using(database: &str) -> Vec<u8> {
    format!("SET SESSION foreign_key_checks = 0, unique_checks = 0, sql_notes = 0;\nUSE {};\n", name(database))
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_stand_for_themselves() {
        let dump = "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `a` /*!40100 DEFAULT CHARACTER SET latin1 */;\nUSE `a`;\n\
            /*!40101 SET @saved_cs_client     = @@character_set_client */;\n/*!50503 SET character_set_client = utf8mb4 */;\n\
            CREATE TABLE `t` (id int);\n/*!40101 SET character_set_client = @saved_cs_client */;\n\
            CREATE TABLE `u` (id int);\nDELIMITER ;;\n/*!50003 CREATE*/ /*!50003 TRIGGER x AFTER INSERT ON t FOR EACH ROW SET @a=1 */;;\nDELIMITER ;\n";
        let mut definitions = Definitions::default();
        definitions.read(&mut dump.as_bytes()).unwrap();
        let table = Part::Table { database: "a".into(), table: "t".into() };
        let only = definitions.only(&table).unwrap();
        let database = &only.databases[0];
        assert_eq!(String::from_utf8_lossy(&database.options), " /*!40100 DEFAULT CHARACTER SET latin1 */");
        assert_eq!((database.tables.len(), database.triggers.len()), (1, 1));
        let script = String::from_utf8_lossy(&database.tables[0].script).into_owned();
        assert!(
            script.ends_with("/*!50503 SET character_set_client = utf8mb4 */;\nCREATE TABLE `t` (id int);\n"),
            "{script}"
        );
        assert!(!script.contains('@'), "{script}");
        assert!(only.only(&Part::Database("b".into())).is_err());
    }
}
