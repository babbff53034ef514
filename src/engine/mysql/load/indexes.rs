//! Indexes that are made after the rows are in: sorting a whole index once is far cheaper than putting every row into
//! its place, and an index that is larger than the server's memory makes the latter slower with every row.
//!
//! Of InnoDB tables with many rows only. The primary key stays, and so does whatever a table or a foreign key needs in
//! order to be there at all. Foreign keys wait as well, for they need indexes. Their order is kept.

use super::super::client::Flavour;
use super::super::session::name;
use super::super::statement::{Token, tokens};
use super::Load;
use super::definitions::{Object, using};
use crate::error::{Failure, Result};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// With fewer rows the statement that adds them costs more than it spares.
const MANY: u64 = 20_000;
const CLIENTS: usize = 4;

/// Tables and columns that foreign keys refer to.
pub type Referred = BTreeSet<(String, String)>;

/// One table's definition without what is added later, and what that is.
#[derive(Debug, PartialEq)]
pub struct Divided {
    pub script: Vec<u8>,
    pub later: Vec<String>,
}

/// An `ALTER TABLE` that waits for the rows.
pub struct Later {
    pub target: String,
    pub table: String,
    pub additions: Vec<String>,
    pub rows: u64,
}

pub fn referred<'t>(tables: impl Iterator<Item = &'t Object>) -> Referred {
    let mut all = Referred::new();
    for table in tables {
        let Some(body) = Body::find(&table.script) else { continue };
        for item in body.items(&table.script) {
            let tokens = tokens(item.text(&table.script));
            let Some(at) = tokens.iter().position(|t| is(t, "REFERENCES")) else { continue };
            let columns = tokens[at..].iter().position(|t| *t == Token::Sign('(')).map_or(tokens.len(), |n| at + n);
            let Some(Token::Name(table)) = tokens.get(columns - 1) else { continue };
            all.extend(names(&tokens[columns..]).map(|column| (table.clone(), column)));
        }
    }
    all
}

/// Takes out of a definition what can be added when the rows are there; `None` when there is nothing.
pub fn divide(table: &Object, rows: u64, referred: &Referred) -> Option<Divided> {
    let script = &table.script;
    let body = Body::find(script).filter(|_| rows >= MANY && table.kind == "TABLE")?;
    let options: Vec<Token> = tokens(&script[body.end..]);
    let innodb = options.windows(3).any(|t| is(&t[0], "ENGINE") && t[1] == Token::Sign('=') && is(&t[2], "InnoDB"));
    let items = body.items(script);
    let kinds: Vec<ItemKind> = items.iter().map(|item| ItemKind::of(item.text(script))).collect();
    let history = options.iter().any(|t| is(t, "VERSIONING")) || kinds.contains(&ItemKind::Period);
    // A generated number needs an index at all times.
    let numbered = kinds.iter().find_map(|kind| match kind {
        ItemKind::Numbered(column) => Some(column),
        _ => None,
    });
    let primary = kinds.iter().find_map(|kind| match kind {
        ItemKind::Primary(columns) => columns.first(),
        _ => None,
    })?;
    if !innodb || history || numbered.is_some_and(|column| column != primary) {
        return None;
    }
    let is_referred = |columns: &[String]| columns.iter().any(|c| referred.contains(&(table.name.clone(), c.clone())));
    // One that stays keeps those before it, because the server lists what is added last.
    let last_kept = |unique: bool| {
        let kept = |kind: &ItemKind| match kind {
            ItemKind::Key { unique: this, columns, plain } => *this == unique && (!plain || is_referred(columns)),
            _ => false,
        };
        kinds.iter().rposition(kept)
    };
    let (last_unique, last_other) = (last_kept(true), last_kept(false));
    let waits = |at: usize| match &kinds[at] {
        ItemKind::Key { unique, .. } => Some(at) > if *unique { last_unique } else { last_other },
        ItemKind::Foreign => true,
        _ => false,
    };
    let (later, now): (Vec<usize>, Vec<usize>) = (0..items.len()).partition(|at| waits(*at));
    if later.iter().all(|at| kinds[*at] == ItemKind::Foreign) {
        return None;
    }
    let of = |at: &usize| String::from_utf8_lossy(items[*at].text(script)).into_owned();
    let mut divided = script[..body.begin].to_vec();
    divided.extend_from_slice(now.iter().map(of).collect::<Vec<_>>().join(",\n").as_bytes());
    divided.extend_from_slice(&script[body.end..]);
    // A definition that is no text stays as it is.
    std::str::from_utf8(script).ok()?;
    Some(Divided { script: divided, later: later.iter().map(of).collect() })
}

#[derive(Debug, PartialEq)]
enum ItemKind {
    Primary(Vec<String>),
    /// `plain` ones may be made at any time.
    Key {
        unique: bool,
        columns: Vec<String>,
        plain: bool,
    },
    Foreign,
    /// A column whose values the server counts up.
    Numbered(String),
    Period,
    Other,
}

impl ItemKind {
    fn of(text: &[u8]) -> ItemKind {
        let tokens = tokens(text);
        let first = |word: &str| tokens.first().is_some_and(|t| is(t, word));
        let columns = || names(&tokens[tokens.iter().position(|t| *t == Token::Sign('(')).unwrap_or(0)..]).collect();
        let has = |word: &str| tokens.iter().any(|t| is(t, word));
        match tokens.first() {
            Some(Token::Name(column)) if has("AUTO_INCREMENT") => ItemKind::Numbered(column.clone()),
            Some(Token::Name(_)) => ItemKind::Other,
            _ if first("PRIMARY") => ItemKind::Primary(columns()),
            _ if first("PERIOD") => ItemKind::Period,
            _ if first("KEY") || first("UNIQUE") => {
                let plain = !has("HASH") && !has("OVERLAPS");
                ItemKind::Key { unique: first("UNIQUE"), columns: columns(), plain }
            }
            _ if first("SPATIAL") => ItemKind::Key { unique: false, columns: columns(), plain: false },
            _ if first("CONSTRAINT") && has("REFERENCES") => ItemKind::Foreign,
            _ => ItemKind::Other,
        }
    }
}

fn is(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.eq_ignore_ascii_case(word))
}

fn names(tokens: &[Token]) -> impl Iterator<Item = String> + '_ {
    tokens.iter().filter_map(|token| match token {
        Token::Name(name) => Some(name.clone()),
        _ => None,
    })
}

/// What stands between the parentheses of the `CREATE TABLE` that a script ends with.
struct Body {
    begin: usize,
    end: usize,
}

struct Item {
    begin: usize,
    end: usize,
}

impl Item {
    fn text<'s>(&self, script: &'s [u8]) -> &'s [u8] {
        script[self.begin..self.end].trim_ascii()
    }
}

impl Body {
    fn find(script: &[u8]) -> Option<Body> {
        let create = b"CREATE TABLE ";
        let at = (0..script.len()).find(|at| script[*at..].starts_with(create))?;
        let mut body = Body { begin: 0, end: 0 };
        walk(script, at, |at, depth, byte| match (byte, depth) {
            (b'(', 0) if body.begin == 0 => body.begin = at + 1,
            (b')', 1) if body.end == 0 => body.end = at,
            _ => {}
        });
        (body.end > body.begin).then_some(body)
    }

    fn items(&self, script: &[u8]) -> Vec<Item> {
        let (mut items, mut begin) = (Vec::new(), self.begin);
        walk(&script[..self.end], self.begin, |at, depth, byte| {
            if byte == b',' && depth == 0 {
                items.push(Item { begin, end: at });
                begin = at + 1;
            }
        });
        items.push(Item { begin, end: self.end });
        items
    }
}

/// Goes through what is not quoted; tells how many parentheses are open before each byte.
fn walk(script: &[u8], from: usize, mut visit: impl FnMut(usize, usize, u8)) {
    let (mut at, mut depth) = (from, 0_usize);
    while let Some(&byte) = script.get(at) {
        visit(at, depth, byte);
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'\'' | b'"' | b'`' => {
                at += 1;
                while script.get(at).is_some_and(|inner| *inner != byte) {
                    at += 1 + usize::from(script[at] == b'\\' && byte != b'`');
                }
            }
            _ => {}
        }
        at += 1;
    }
}

impl Load<'_> {
    /// Adds what waited for the rows, several tables at once, the longest first.
    pub fn add_indexes(&self, mut later: Vec<Later>) -> Result<()> {
        later.sort_by_key(|one| std::cmp::Reverse(one.rows));
        let queue = Mutex::new(VecDeque::from(later));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| {
                        while let Some(one) = next() {
                            if let Err(failure) = self.feed(self.addition(&one)) {
                                // Nobody begins another one.
                                queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                                return Err(failure);
                            }
                        }
                        Ok(())
                    })
                })
                .collect();
            let ended = clients.into_iter().map(|c| c.join());
            let results: Vec<Result<()>> =
                ended.map(|r| r.unwrap_or_else(|_| Err(Failure::failed("a client's thread broke off")))).collect();
            results.into_iter().collect()
        })
    }

    fn addition(&self, later: &Later) -> Vec<u8> {
        let mut script = using(&later.target);
        script.extend_from_slice(
            b"SET NAMES utf8mb4;\nSET SESSION sql_mode = 'ALLOW_INVALID_DATES', lock_wait_timeout = 86400;\n",
        );
        // Less to merge.
        if self.client.version.at_least(Flavour::Mysql, (8, 0, 27)) {
            script.extend_from_slice(b"SET SESSION innodb_ddl_buffer_size = 33554432;\n");
        }
        let additions: Vec<String> = later.additions.iter().map(|addition| format!("ADD {addition}")).collect();
        script.extend_from_slice(format!("ALTER TABLE {} {};\n", name(&later.table), additions.join(", ")).as_bytes());
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(script: &str) -> Object {
        Object { name: "t".into(), kind: "TABLE", table: None, script: script.into() }
    }

    const SCRIPT: &str = "SET NAMES utf8mb4;\nCREATE TABLE `t` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  \
        `a,(` varchar(9) DEFAULT 'it''s, \\'(' COMMENT 'KEY `x` (`y`),\\n',\n  `o` int,\n  PRIMARY KEY (`id`),\n  UNIQUE KEY `u` (`o`),\n  \
        KEY `k` (`a,(`(3),`o` DESC) /*!80000 INVISIBLE */,\n  KEY `f` ((lower(`a,(`))),\n  FULLTEXT KEY `w` (`a,(`),\n  \
        CONSTRAINT `c` FOREIGN KEY (`o`) REFERENCES `p` (`q`),\n  CONSTRAINT `d` CHECK ((`o` > 1))\n) ENGINE=InnoDB COMMENT='a)b';\n";

    #[test]
    fn what_no_row_needs_waits() {
        let divided = divide(&table(SCRIPT), MANY, &Referred::new()).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&divided.script),
            "SET NAMES utf8mb4;\nCREATE TABLE `t` (`id` int NOT NULL AUTO_INCREMENT,\n\
             `a,(` varchar(9) DEFAULT 'it''s, \\'(' COMMENT 'KEY `x` (`y`),\\n',\n`o` int,\nPRIMARY KEY (`id`),\n\
             FULLTEXT KEY `w` (`a,(`),\nCONSTRAINT `d` CHECK ((`o` > 1))) ENGINE=InnoDB COMMENT='a)b';\n"
        );
        let expected = [
            "UNIQUE KEY `u` (`o`)",
            "KEY `k` (`a,(`(3),`o` DESC) /*!80000 INVISIBLE */",
            "KEY `f` ((lower(`a,(`)))",
            "CONSTRAINT `c` FOREIGN KEY (`o`) REFERENCES `p` (`q`)",
        ];
        assert_eq!(divided.later, expected);
        assert!(divide(&table(SCRIPT), MANY - 1, &Referred::new()).is_none());
    }

    #[test]
    fn what_others_refer_to_stays_with_those_before_it() {
        let other = table("CREATE TABLE `z` (`i` int, CONSTRAINT `r` FOREIGN KEY (`i`) REFERENCES `s`.`t` (`a,(`));");
        let divided = divide(&table(SCRIPT), MANY, &referred([&other].into_iter())).unwrap();
        // The unique key is of another kind: kinds are listed apart. An expression may be of that column as well.
        assert_eq!(divided.later, ["UNIQUE KEY `u` (`o`)", "CONSTRAINT `c` FOREIGN KEY (`o`) REFERENCES `p` (`q`)"]);
    }

    #[test]
    fn a_table_that_cannot_do_without_is_left_whole() {
        let whole = [
            SCRIPT.replace("InnoDB", "MyISAM"),
            SCRIPT.replace("PRIMARY KEY (`id`)", "KEY `i` (`id`)"),
            SCRIPT.replace("PRIMARY KEY (`id`)", "PRIMARY KEY (`o`,`id`)"),
            SCRIPT.replace("COMMENT='a)b'", "WITH SYSTEM VERSIONING"),
            SCRIPT.replace("  KEY", "  SPATIAL KEY").replace("UNIQUE KEY `u` (`o`),", ""),
        ];
        for script in whole {
            assert_eq!(divide(&table(&script), MANY, &Referred::new()), None, "{script}");
        }
    }
}
