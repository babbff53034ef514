//! A YAML file as a tree that knows where everything stands.
//!
//! serde-saphyr parses; here its events become [`Node`]s, so that one wrong value does not hide the next one, which a
//! streaming parse into types would do. Scalars keep the text as it was written: `no`, `0755` and `1.10` stay what they are.
//! Duplicate keys and variables are dealt with here. There is no `Debug`: a node may hold a secret written inline.

use super::problem::{Document, Place, Problem};
use super::variables::{self, Lookup};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error, Location, Spanned, UserMessageFormatter};
use std::fmt;

pub struct Node {
    pub place: Place,
    pub kind: Kind,
}

pub enum Kind {
    Nothing,
    Scalar {
        text: String,
        /// Written without quotes.
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// A problem with it was found already.
    Broken,
}

pub struct Key {
    pub place: Place,
    pub text: String,
}

impl Node {
    /// What its key `name` says, where it is a mapping that has one.
    pub fn named(&self) -> Option<&str> {
        let Kind::Map(entries) = &self.kind else { return None };
        let (_, name) = entries.iter().find(|(key, _)| key.text == "name")?;
        match &name.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// Parses a document. Without a tree, at least one problem was added.
pub fn parse(document: &Document, lookup: Lookup, problems: &mut Vec<Problem>) -> Option<Node> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Raw>(&document.text, options) {
        Ok(raw) => Some(Building { document, lookup, problems }.node(raw)),
        Err(error) => {
            problems.push(syntax_problem(document, &error));
            None
        }
    }
}

fn syntax_problem(document: &Document, error: &Error) -> Problem {
    let error = error.without_snippet();
    let start = error.location().map_or(0, |at| document.offset(at.line() as usize, at.column() as usize));
    let message = match error {
        Error::MultipleDocuments { .. } => "a second document begins here".into(),
        Error::UnknownAnchor { .. } => "nothing above is marked with this name".into(),
        _ => without_position(&error.render_with_formatter(&PlainMessages)).to_string(),
    };
    let line_start = document.text[..start].rfind('\n').map_or(0, |n| n + 1);
    let line = document.text[line_start..].lines().next().unwrap_or("");
    // The parser repeats what it read, which may be a secret; signs are none.
    let message = match message.split_once('`') {
        Some((before, said)) if said.contains(char::is_alphanumeric) => before.trim_end().to_string(),
        _ => message,
    };
    let help = match error {
        _ if line[..line.len() - line.trim_start().len()].contains('\t') => {
            "YAML is indented with spaces, never with tabs"
        }
        Error::MultipleDocuments { .. } => "put each policy into a file of its own and remove the `---`",
        Error::UnknownAnchor { .. } => "put quotes around a text that begins with `*`",
        _ if line.contains("${") => "put quotes around a value with ${…} when it stands between { } or [ ]",
        _ if message.contains("mapping values") => {
            "put quotes around a text that holds `: `, or correct the indentation"
        }
        _ if message.contains("unexpected character") => "put quotes around a text that begins with a sign",
        _ => return document.problem_unseen(Place { start, end: start }, message),
    };
    document.problem_unseen(Place { start, end: start }, message).help(help)
}

/// [`Document::problem`] says where; the parser's own words for it are dropped.
fn without_position(message: &str) -> &str {
    match message.rsplit_once(" at line ") {
        Some((message, position)) if position.bytes().all(|b| b.is_ascii_digit() || b", column".contains(&b)) => {
            message
        }
        _ => message,
    }
}

/// Messages for people who do not know the parser.
struct PlainMessages;

impl serde_saphyr::MessageFormatter for PlainMessages {
    fn format_message<'a>(&self, error: &'a Error) -> std::borrow::Cow<'a, str> {
        UserMessageFormatter.format_message(error)
    }
}

fn place_of(location: Location) -> Place {
    let span = location.span();
    let start = span.byte_offset().unwrap_or(0) as usize;
    Place { start, end: start + span.byte_len().unwrap_or(0) as usize }
}

/// A node as serde-saphyr tells it.
struct Raw(Spanned<RawKind>);

enum RawKind {
    Nothing,
    /// A number or a truth value: its text is taken from the document.
    Typed,
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(Raw, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_unit<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<RawKind, E> {
        Ok(RawKind::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<RawKind, E> {
        Ok(RawKind::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<RawKind, E> {
        Ok(RawKind::Typed)
    }

    fn visit_i128<E>(self, _: i128) -> Result<RawKind, E> {
        Ok(RawKind::Typed)
    }

    fn visit_u128<E>(self, _: u128) -> Result<RawKind, E> {
        Ok(RawKind::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<RawKind, E> {
        Ok(RawKind::Typed)
    }

    fn visit_str<E>(self, text: &str) -> Result<RawKind, E> {
        Ok(RawKind::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawKind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(RawKind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawKind, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(RawKind::Map(entries))
    }
}

/// Turns what was parsed into nodes, and tells of duplicate keys and bad variables.
struct Building<'a> {
    document: &'a Document,
    lookup: Lookup<'a>,
    problems: &'a mut Vec<Problem>,
}

impl Building<'_> {
    fn node(&mut self, Raw(raw): Raw) -> Node {
        let place = place_of(raw.defined);
        let kind = match raw.value {
            RawKind::Nothing => Kind::Nothing,
            RawKind::Typed => {
                let text = self.document.text.get(place.start..place.end).unwrap_or("").trim();
                Kind::Scalar { text: text.into(), plain: true }
            }
            RawKind::Text(text) => self.scalar(text, place),
            RawKind::List(items) => Kind::List(items.into_iter().map(|item| self.node(item)).collect()),
            RawKind::Map(entries) => self.map(entries),
        };
        Node { place, kind }
    }

    fn scalar(&mut self, text: String, place: Place) -> Kind {
        let written = self.document.text.get(place.start..place.end).unwrap_or("");
        let plain = !written.starts_with(['"', '\'']);
        match variables::expand(&text, self.lookup) {
            Ok(text) => Kind::Scalar { text, plain },
            Err(wrong) => {
                // Where the variable stands in the file: known unless escapes moved it.
                let variable = &text[wrong.at.clone()];
                let at = written.find(variable).map_or(place, |n| {
                    let start = place.start + n;
                    Place { start, end: start + variable.len() }
                });
                // Nobody knows yet what this value is for. Only a name in braces is no secret for sure.
                self.problems.push(match (wrong.is_named, self.document.hides(at)) {
                    (true, false) => self.document.problem(at, wrong.message).help(wrong.help),
                    (false, false) => self.document.problem_unseen(at, wrong.message).help(wrong.help),
                    (_, true) => {
                        let help = "a variable is ${NAME}, a dollar sign is $$; a secret is not written here at all";
                        self.document.problem_unseen(at, "this is not a variable").help(help)
                    }
                });
                Kind::Broken
            }
        }
    }

    fn map(&mut self, entries: Vec<(Raw, Raw)>) -> Kind {
        let mut map: Vec<(Key, Node)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let place = place_of(key.0.defined);
            let text = match key.0.value {
                RawKind::Text(text) => text,
                RawKind::Typed => self.document.text.get(place.start..place.end).unwrap_or("").trim().into(),
                _ => {
                    self.problems.push(self.document.problem(place, "a key is a single word"));
                    continue;
                }
            };
            match map.iter().find(|(known, _)| known.text == text) {
                Some((first, _)) => {
                    let line = self.document.origin(first.place).line;
                    let quoted = self.document.quote_key(place, &text);
                    let problem = self.document.problem_unseen(place, format!("the key {quoted} is here twice"));
                    self.problems.push(problem.help(format!("the first one is in line {line}; keep one of them")));
                }
                None => {
                    let value = self.node(value);
                    map.push((Key { place, text }, value));
                }
            }
        }
        Kind::Map(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_here(text: &str) -> (Option<Node>, Vec<Problem>) {
        let document = Document { path: "/x.yaml".into(), text: text.into() };
        let mut problems = Vec::new();
        let node = parse(&document, &|name| (name == "SET").then(|| "a: [b]".into()), &mut problems);
        (node, problems)
    }

    /// A tree in one line: what each thing was taken for.
    fn told(node: &Node) -> String {
        match &node.kind {
            Kind::Nothing => "nothing".into(),
            Kind::Scalar { text, plain: true } => format!("plain({text})"),
            Kind::Scalar { text, plain: false } => format!("quoted({text})"),
            Kind::List(items) => format!("[{}]", items.iter().map(told).collect::<Vec<_>>().join(", ")),
            Kind::Map(map) => {
                let entries: Vec<_> = map.iter().map(|(key, value)| format!("{}={}", key.text, told(value))).collect();
                format!("{{{}}}", entries.join(", "))
            }
            Kind::Broken => "broken".into(),
        }
    }

    #[test]
    fn scalars_keep_their_text() {
        let table = [
            ("a: no", "{a=plain(no)}"),
            (
                "a: [yes, on, true, 0755, 1.10, 0x1F, 1e3, 1_000, 12:30, 2026-01-02]",
                "{a=[plain(yes), plain(on), plain(true), plain(0755), plain(1.10), plain(0x1F), plain(1e3), plain(1_000), plain(12:30), plain(2026-01-02)]}",
            ),
            (
                "no: 1\n12: é\ntrue: 99999999999999999999999",
                "{no=plain(1), 12=plain(é), true=plain(99999999999999999999999)}",
            ),
            (
                "a: 'no'\nb: \"0755\"\nc: |\n  x\n  y\nd: >-\n  x\n  y",
                "{a=quoted(no), b=quoted(0755), c=plain(x\ny\n), d=plain(x y)}",
            ),
            ("a:\nb: ~\nc: ''", "{a=nothing, b=nothing, c=quoted()}"),
            (
                "a: &x { b: 1 }\nc: *x\nd: { <<: *x, e: 2 }",
                "{a={b=plain(1)}, c={b=plain(1)}, d={e=plain(2), b=plain(1)}}",
            ),
            ("", "nothing"),
            ("# only a comment\n", "nothing"),
        ];
        for (yaml, expected) in table {
            let (node, problems) = parse_here(yaml);
            assert!(problems.is_empty(), "{yaml}: {:?}", problems);
            assert_eq!(told(&node.unwrap()), expected, "{yaml}");
        }
    }

    #[test]
    fn a_variable_cannot_change_the_structure() {
        let (node, _) = parse_here("x: ${SET}\ny: \"${SET}\"");
        assert_eq!(told(&node.unwrap()), "{x=plain(a: [b]), y=quoted(a: [b])}");
    }

    #[test]
    fn one_problem_does_not_hide_the_next() {
        let (node, problems) = parse_here("a: 1\nb: ${NONE}\na: 2\nc: [x, 'é ${NONE2}']\n");
        assert_eq!(told(&node.unwrap()), "{a=plain(1), b=broken, c=[plain(x), broken]}");
        let told: Vec<_> = problems.iter().map(|p| (p.line, p.column, p.message.as_str())).collect();
        assert_eq!(
            told,
            [
                (Some(2), Some(4), "the variable NONE is not set"),
                (Some(3), Some(1), "the key `a` is here twice"),
                (Some(4), Some(11), "the variable NONE2 is not set"),
            ]
        );
    }
}
