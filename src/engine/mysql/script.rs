//! A dump, cut into statements while it passes by.
//!
//! Rows (`INSERT INTO …`) are most of a dump and may be as long as memory: they are handed on in pieces and never kept. In
//! what the clients write, a value never holds a newline, so a statement of rows ends at the first `;` before one.
//! Everything else is read with quotes, comments and `DELIMITER` in mind. Comments before a statement are dropped, and so
//! is the first line that puts MariaDB's client into its sandbox. Nothing here knows what a statement means.

use crate::error::{Failure, Kind, Result};
use std::io::BufRead;

/// Definitions are small; what is longer is no dump.
const LONGEST: usize = 64 << 20;
const ROWS: &[u8] = b"INSERT INTO ";

pub trait Visitor {
    /// A whole statement, without its delimiter.
    fn statement(&mut self, text: &[u8], delimiter: &str) -> Result<()>;

    /// A piece of a statement of rows, its `;` and newline included.
    fn rows(&mut self, piece: &[u8], begins: bool, ends: bool) -> Result<()>;
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Plain,
    /// Inside of quotes of this kind.
    Quoted(u8),
    /// After `/*`: a comment, or code for some versions?
    Opening,
    LineComment,
    BlockComment,
    /// Inside the rows; whether the last byte was a `;`.
    Rows(bool),
}

pub struct Scanner {
    statement: Vec<u8>,
    mode: Mode,
    delimiter: String,
    escaped: bool,
    /// The `sql_mode` in force says that a backslash is a character like others.
    plain_backslash: bool,
    /// Where in the statement the comment began.
    comment: usize,
    rows_length: u64,
    /// Bytes of the longest statement: a server must accept that much at once.
    pub longest: u64,
}

impl Scanner {
    pub fn new() -> Self {
        Scanner {
            statement: Vec::new(),
            mode: Mode::Plain,
            delimiter: ";".to_owned(),
            escaped: false,
            plain_backslash: false,
            comment: 0,
            rows_length: 0,
            longest: 0,
        }
    }

    pub fn push(&mut self, bytes: &[u8], visitor: &mut dyn Visitor) -> Result<()> {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            if let Mode::Rows(semicolon) = self.mode {
                rest = self.pass_rows(rest, semicolon, visitor)?;
            } else {
                self.take(*byte, visitor)?;
                rest = after;
            }
        }
        Ok(())
    }

    /// Fails when the text ends within a statement.
    pub fn finish(&self) -> Result<()> {
        if self.statement.trim_ascii().is_empty() && !matches!(self.mode, Mode::Rows(_)) {
            return Ok(());
        }
        Err(Failure::new(Kind::Verification, "the dump ends within a statement"))
    }

    fn pass_rows<'b>(&mut self, bytes: &'b [u8], semicolon: bool, visitor: &mut dyn Visitor) -> Result<&'b [u8]> {
        let (mut at, mut last_was_semicolon) = (0, semicolon);
        loop {
            let mut rest = &bytes[at..];
            let skipped = rest.skip_until(b'\n').unwrap_or(rest.len());
            let end = at + skipped;
            let newline = skipped > 0 && bytes[end - 1] == b'\n';
            let before = if skipped >= 2 { bytes[end - 2] == b';' } else { last_was_semicolon };
            if newline && before {
                self.rows_length += end as u64;
                self.longest = self.longest.max(self.rows_length);
                self.mode = Mode::Plain;
                visitor.rows(&bytes[..end], false, true)?;
                return Ok(&bytes[end..]);
            }
            if end == bytes.len() {
                self.rows_length += end as u64;
                let last = bytes[end - 1];
                self.mode = Mode::Rows(last == b';');
                visitor.rows(bytes, false, false)?;
                return Ok(&[]);
            }
            (at, last_was_semicolon) = (end, false);
        }
    }

    fn take(&mut self, byte: u8, visitor: &mut dyn Visitor) -> Result<()> {
        if self.statement.is_empty() && self.mode == Mode::Plain && byte.is_ascii_whitespace() {
            return Ok(());
        }
        self.statement.push(byte);
        if self.statement.len() > LONGEST {
            return Err(Failure::new(Kind::Verification, "a statement of the dump has no end"));
        }
        match self.mode {
            Mode::Quoted(quote) => self.quoted(byte, quote),
            Mode::LineComment if byte == b'\n' => self.end_comment(),
            Mode::BlockComment if byte == b'/' && self.statement.len() >= self.comment + 4 => {
                if self.statement.ends_with(b"*/") {
                    self.end_comment();
                }
            }
            Mode::Opening => {
                // `/*!40101 …` and `/*M!101100 …` are code; `/*M!999999\- …` is not, for any server.
                self.mode = match byte {
                    b'!' => Mode::Plain,
                    b'M' if self.statement.ends_with(b"/*M") => Mode::Opening,
                    _ => Mode::BlockComment,
                }
            }
            Mode::Plain => return self.plain(byte, visitor),
            Mode::LineComment | Mode::BlockComment | Mode::Rows(_) => {}
        }
        Ok(())
    }

    fn quoted(&mut self, byte: u8, quote: u8) {
        let escapes = quote != b'`' && !self.plain_backslash;
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' && escapes {
            self.escaped = true;
        } else if byte == quote {
            self.mode = Mode::Plain;
        }
    }

    fn end_comment(&mut self) {
        self.mode = Mode::Plain;
        if self.comment == 0 {
            self.statement.clear();
        }
    }

    fn plain(&mut self, byte: u8, visitor: &mut dyn Visitor) -> Result<()> {
        let length = self.statement.len();
        match byte {
            b'\'' | b'"' | b'`' => self.mode = Mode::Quoted(byte),
            b'#' => (self.mode, self.comment) = (Mode::LineComment, length - 1),
            b'*' if self.statement.ends_with(b"/*") => (self.mode, self.comment) = (Mode::Opening, length - 2),
            b'\\' if self.statement.ends_with(b"/*M!999999\\") => {
                (self.mode, self.comment) = (Mode::BlockComment, length - 11);
            }
            b'\n' if self.statement == b"--\n" => self.statement.clear(),
            b' ' | b'\t' if self.statement[..length - 1].ends_with(b"--") => {
                (self.mode, self.comment) = (Mode::LineComment, length - 3);
            }
            b'\n' if self.statement.starts_with(b"DELIMITER ") => {
                self.delimiter = String::from_utf8_lossy(&self.statement[10..]).trim().to_owned();
                self.statement.clear();
                return Ok(());
            }
            _ => {}
        }
        if byte.is_ascii_whitespace()
            && self.statement.starts_with(ROWS)
            && self.statement[..length - 1].ends_with(b" VALUES")
        {
            self.mode = Mode::Rows(false);
            self.rows_length = length as u64;
            return visitor.rows(&std::mem::take(&mut self.statement), true, false);
        }
        if self.statement.ends_with(self.delimiter.as_bytes()) && !self.statement.starts_with(b"DELIMITER ") {
            self.end_statement(visitor)?;
        }
        Ok(())
    }

    fn end_statement(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        let statement = std::mem::take(&mut self.statement);
        let text = statement[..statement.len() - self.delimiter.len()].trim_ascii_end();
        if contains(text, b"sql_mode") && !contains(text, b"CREATE") {
            self.plain_backslash = contains(text, b"NO_BACKSLASH_ESCAPES");
        }
        if text.is_empty() {
            return Ok(());
        }
        self.longest = self.longest.max(text.len() as u64);
        visitor.statement(text, &self.delimiter)
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen {
        statements: Vec<String>,
        rows: Vec<String>,
    }

    impl Visitor for Seen {
        fn statement(&mut self, text: &[u8], delimiter: &str) -> Result<()> {
            self.statements.push(format!("{}|{delimiter}", String::from_utf8_lossy(text)));
            Ok(())
        }

        fn rows(&mut self, piece: &[u8], begins: bool, _ends: bool) -> Result<()> {
            if begins {
                self.rows.push(String::new());
            }
            self.rows.last_mut().unwrap().push_str(std::str::from_utf8(piece).unwrap());
            Ok(())
        }
    }

    const DUMP: &str = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n--\n-- it's; here\n\n/*!40101 SET NAMES utf8mb4 */;\n\
        --\n-- Current Database: `a;b`\n--\nUSE `a;b`;\nCREATE TABLE `t\n``;` (\n  `a` int COMMENT 'x;\\';'\n);\n\
        INSERT INTO `t\n``;` (`VALUES `, `b`) VALUES\n(1,'a;\\nb);'),\n(2,'--');\nINSERT INTO `u` VALUES (1,'\\');'),(2,NULL);\n\
        DELIMITER ;;\n/*!50003 CREATE*/ /*!50003 TRIGGER `x` BEGIN /* it's ; */ SELECT ';;'; -- don't\n END */;;\nDELIMITER ;\n\
        SET x=1 ;\n/*!40111 SET SQL_NOTES=@OLD */;\n\n-- Dump completed\n";

    #[test]
    fn a_dump_is_cut_the_same_way_in_pieces_of_any_length() {
        for length in [1, 2, 3, 7, 64, 4096] {
            let (mut scanner, mut seen) = (Scanner::new(), Seen::default());
            for piece in DUMP.as_bytes().chunks(length) {
                scanner.push(piece, &mut seen).unwrap();
            }
            scanner.finish().unwrap();
            let expected = [
                "/*!40101 SET NAMES utf8mb4 */|;",
                "USE `a;b`|;",
                "CREATE TABLE `t\n``;` (\n  `a` int COMMENT 'x;\\';'\n)|;",
                "/*!50003 CREATE*/ /*!50003 TRIGGER `x` BEGIN /* it's ; */ SELECT ';;'; -- don't\n END */|;;",
                "SET x=1|;",
                "/*!40111 SET SQL_NOTES=@OLD */|;",
            ];
            assert_eq!(seen.statements, expected, "pieces of {length}");
            let rows = [
                "INSERT INTO `t\n``;` (`VALUES `, `b`) VALUES\n(1,'a;\\nb);'),\n(2,'--');\n",
                "INSERT INTO `u` VALUES (1,'\\');'),(2,NULL);\n",
            ];
            assert_eq!(seen.rows, rows, "pieces of {length}");
            assert_eq!(scanner.longest, expected[3].len() as u64 - 3);
        }
    }

    #[test]
    fn a_dump_that_ends_within_a_statement_is_told() {
        for cut in ["CREATE TABLE `t` (", "INSERT INTO `t` VALUES (1", "INSERT INTO `t` VALUES (1,2);"] {
            let mut scanner = Scanner::new();
            scanner.push(cut.as_bytes(), &mut Seen::default()).unwrap();
            assert_eq!(scanner.finish().unwrap_err().kind(), Kind::Verification, "{cut}");
        }
    }
}
