//! What one statement of a dump is: which kind of object it makes, its name, and which other databases it names.
//!
//! Reads words, names and signs; marks of versioned code (`/*!50003 … */`) are looked through. Unknown statements are
//! [`Meaning::Other`], and nobody guesses.

/// One word, name or sign. Strings keep no content.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// As it was written: compare without case.
    Word(String),
    Name(String),
    Text,
    Sign(char),
}

impl Token {
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    fn name(&self) -> Option<String> {
        match self {
            Token::Name(name) | Token::Word(name) => Some(name.clone()),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    CreateDatabase(String),
    Use(String),
    Table(String),
    Sequence(String),
    /// Sets a sequence to where it was.
    SequenceValue,
    View(String),
    /// What a view is until the tables and views that it needs are there.
    StandIn(String),
    Trigger {
        name: String,
        table: String,
    },
    /// A procedure, function, package or event: the word, and its name.
    Program(&'static str, String),
    /// Sets something for the objects that follow.
    Setting,
    /// Keeps a setting or puts one back, locks, drops: of no use here.
    Passing,
    Other,
}

pub fn tokens(text: &[u8]) -> Vec<Token> {
    let text = String::from_utf8_lossy(text);
    let characters: Vec<char> = text.chars().collect();
    let (mut at, mut found) = (0, Vec::new());
    while let Some(character) = characters.get(at) {
        let rest = &characters[at..];
        at += match character {
            '/' if rest.starts_with(&['/', '*', '!']) || rest.starts_with(&['/', '*', 'M', '!']) => {
                let mark = rest.iter().position(|c| *c == '!').unwrap_or(0) + 1;
                mark + rest[mark..].iter().take_while(|c| c.is_ascii_digit()).count()
            }
            '/' if rest.starts_with(&['/', '*']) => position(rest, 2, &['*', '/']),
            '*' if rest.starts_with(&['*', '/']) => 2,
            '#' => position(rest, 1, &['\n']),
            '-' if rest.starts_with(&['-', '-', ' ']) => position(rest, 2, &['\n']),
            '\'' | '"' | '`' => {
                let (content, length) = quoted(rest);
                // Double quotes hold names where `sql_mode` is ANSI or ORACLE, and elsewhere text that harms nobody.
                found.push(if *character == '\'' { Token::Text } else { Token::Name(content) });
                length
            }
            c if c.is_alphanumeric() || "_$".contains(*c) => {
                let word: String = rest.iter().take_while(|c| c.is_alphanumeric() || "_$".contains(**c)).collect();
                let length = word.chars().count();
                found.push(Token::Word(word));
                length
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token::Sign(*c));
                }
                1
            }
        };
    }
    found
}

/// Just after the next `end`, or the end of it all.
fn position(text: &[char], from: usize, end: &[char]) -> usize {
    (from..text.len()).find(|at| text[*at..].starts_with(end)).map_or(text.len(), |at| at + end.len())
}

/// What is between the quotes that `text` begins with, and how long it is with them.
fn quoted(text: &[char]) -> (String, usize) {
    let (quote, mut content, mut at) = (text[0], String::new(), 1);
    while let Some(character) = text.get(at) {
        if *character == '\\' && quote != '`' {
            at += 1;
        } else if *character == quote {
            if text.get(at + 1) != Some(&quote) {
                return (content, at + 1);
            }
            at += 1;
        }
        content.extend(text.get(at));
        at += 1;
    }
    (content, text.len())
}

pub fn meaning(text: &[u8]) -> Meaning {
    // A definition says what it is near its beginning.
    let tokens = tokens(&text[..text.len().min(4096)]);
    let Some(first) = tokens.first() else { return Meaning::Passing };
    if first.is("CREATE") {
        return created(&tokens);
    }
    if first.is("USE") {
        return tokens.get(1).and_then(Token::name).map_or(Meaning::Other, Meaning::Use);
    }
    if first.is("SET") {
        return setting(&tokens);
    }
    if first.is("DO") && tokens.get(1).is_some_and(|t| t.is("SETVAL")) {
        return Meaning::SequenceValue;
    }
    let passing = ["DROP", "LOCK", "UNLOCK"].iter().any(|word| first.is(word));
    // Around triggers of a database that had another collation once.
    let database = tokens.get(1).is_some_and(|t| t.is("DATABASE"));
    let alters = first.is("ALTER") && (database || tokens.last().is_some_and(|t| t.is("KEYS")));
    if passing || alters { Meaning::Passing } else { Meaning::Other }
}

/// `SET @old = …` keeps, `SET x = @old` puts back; both belong to a session that reads the dump from end to end.
fn setting(tokens: &[Token]) -> Meaning {
    let at = Token::Sign('@');
    let keeps = tokens.get(1) == Some(&at) && tokens.get(2) != Some(&at);
    let equals = tokens.iter().position(|t| *t == Token::Sign('='));
    let puts_back = equals.is_some_and(|e| tokens.get(e + 1) == Some(&at) && tokens.get(e + 2) != Some(&at));
    if keeps || puts_back { Meaning::Passing } else { Meaning::Setting }
}

fn created(tokens: &[Token]) -> Meaning {
    const KINDS: [&str; 9] =
        ["DATABASE", "TABLE", "SEQUENCE", "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "PACKAGE", "EVENT"];
    // `CREATE DEFINER=`event`@`%` VIEW`: names are no words.
    let Some(at) = tokens.iter().position(|t| KINDS.iter().any(|kind| t.is(kind))) else { return Meaning::Other };
    let kind = KINDS.iter().find(|kind| tokens[at].is(kind)).copied().unwrap_or_default();
    let skipped = ["IF", "NOT", "EXISTS", "BODY"];
    let mut after = at + 1;
    while tokens.get(after).is_some_and(|t| skipped.iter().any(|word| t.is(word))) {
        after += 1;
    }
    let Some(mut name) = tokens.get(after).and_then(Token::name) else { return Meaning::Other };
    if tokens.get(after + 1) == Some(&Token::Sign('.')) {
        name = tokens.get(after + 2).and_then(Token::name).unwrap_or(name);
    }
    match kind {
        "DATABASE" => Meaning::CreateDatabase(name),
        "TABLE" => Meaning::Table(name),
        "SEQUENCE" => Meaning::Sequence(name),
        // A stand-in, for views that others need before their tables are there, names no algorithm.
        "VIEW" if !tokens[..at].iter().any(|t| t.is("ALGORITHM")) => Meaning::StandIn(name),
        "VIEW" => Meaning::View(name),
        "TRIGGER" => {
            let on = tokens[after..].iter().position(|t| t.is("ON")).map(|found| after + found + 1);
            let table = on.and_then(|on| match tokens.get(on + 1) {
                Some(Token::Sign('.')) => tokens.get(on + 2).and_then(Token::name),
                _ => tokens.get(on).and_then(Token::name),
            });
            table.map_or(Meaning::Other, |table| Meaning::Trigger { name, table })
        }
        kind => Meaning::Program(kind, name),
    }
}

/// Whether a table refers to one of another database, or to something of its own by its database's name.
pub fn names_a_database(text: &[u8]) -> bool {
    let name = |token: &Token| matches!(token, Token::Name(_));
    tokens(text).windows(3).any(|three| name(&three[0]) && three[1] == Token::Sign('.') && name(&three[2]))
}

/// Which of `databases` the statement names as in `database.table`.
pub fn databases_named<'d>(text: &[u8], databases: &[&'d str]) -> Vec<&'d str> {
    let tokens = tokens(text);
    let qualifiers: Vec<String> =
        tokens.windows(2).filter(|pair| pair[1] == Token::Sign('.')).filter_map(|pair| pair[0].name()).collect();
    databases.iter().filter(|database| qualifiers.iter().any(|q| q == *database)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_dumps_are_understood() {
        let cases: &[(&str, Meaning)] = &[
            (
                "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `a``b` /*!40100 DEFAULT … */",
                Meaning::CreateDatabase("a`b".into()),
            ),
            ("USE `a`", Meaning::Use("a".into())),
            ("CREATE TABLE `t` (\n `trigger` int)", Meaning::Table("t".into())),
            ("/*!50001 CREATE VIEW `v` AS SELECT \n 1 AS `id`*/", Meaning::StandIn("v".into())),
            (
                "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`table`@`%` SQL SECURITY DEFINER */\n/*!50001 VIEW `v` AS select 1 */",
                Meaning::View("v".into()),
            ),
            (
                "/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`%`*/ /*!50003 TRIGGER `tr` BEFORE INSERT ON `t` FOR EACH ROW SET @a=1 */",
                Meaning::Trigger { name: "tr".into(), table: "t".into() },
            ),
            (
                "/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`%`*/ /*!50003 TRIGGER tr1 AFTER DELETE ON shop.child FOR EACH ROW BEGIN END \n*/",
                Meaning::Trigger { name: "tr1".into(), table: "child".into() },
            ),
            ("CREATE DEFINER=`a`@`%` PROCEDURE `p`()\nSELECT 1", Meaning::Program("PROCEDURE", "p".into())),
            ("CREATE DEFINER=`a`@`%` PACKAGE BODY `p` AS", Meaning::Program("PACKAGE", "p".into())),
            ("/*!40101 SET @saved_cs_client     = @@character_set_client */", Meaning::Passing),
            ("/*!50106 SET TIME_ZONE= @save_time_zone */", Meaning::Passing),
            ("/*!50003 SET sql_mode              = 'ANSI' */", Meaning::Setting),
            ("/*!40000 ALTER TABLE `t` DISABLE KEYS */", Meaning::Passing),
            ("DO SETVAL(`s1`, 1, 0)", Meaning::SequenceValue),
            ("ANALYZE TABLE x", Meaning::Other),
        ];
        for (text, expected) in cases {
            assert_eq!(&meaning(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn names_of_other_databases_are_found() {
        let body = b"INSERT INTO shop.log SELECT 'old.x', `w e`.`t`.a FROM `w e` . `t` -- gone.x\n";
        assert_eq!(databases_named(body, &["shop", "w e", "old", "gone"]), ["shop", "w e"]);
    }
}
