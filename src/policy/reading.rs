//! From the tree to the shapes of [`super::raw`], by serde, without stopping at the first thing that is wrong.
//!
//! The trick: every value in a shape is a [`Field`], which knows where it stands and swallows the failure of its value after
//! it was noted. Unknown keys are noted and passed over. So one pass finds everything, and a shape that came out whole is
//! good as far as keys and types go; what values mean is checked in [`super::convert`].

use super::problem::{Document, Place, Problem, did_you_mean};
use super::tree::{Key, Kind, Node};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

/// A value and where it stands. Without a value, its problem has been noted.
pub struct Field<T> {
    pub place: Place,
    pub value: Option<T>,
}

/// A mapping whose keys are names the user chose, in the order of the file.
pub struct Named<T>(pub Vec<(Field<String>, Field<T>)>);

/// A list, or one value instead of a list with that one.
pub struct OneOrMore<T>(pub Vec<Field<T>>);

/// What goes along while one document is read.
pub struct Reader<'a> {
    pub document: &'a Document,
    pub problems: RefCell<Vec<Problem>>,
    /// Mappings with a key that nobody knows, by where they begin: it may be the misspelled one that is missing.
    misspelled: RefCell<Vec<usize>>,
    /// The first reference to Vault.
    pub wants_vault: RefCell<Option<Place>>,
}

impl<'a> Reader<'a> {
    pub fn new(document: &'a Document) -> Self {
        Reader {
            document,
            problems: RefCell::default(),
            misspelled: RefCell::default(),
            wants_vault: RefCell::default(),
        }
    }

    /// Notes that a mapping lacks a key, unless a key was noted there that may be meant to be it.
    pub fn note_missing(&self, mapping: Place, message: impl Into<String>, help: impl Into<String>) {
        if !self.misspelled.borrow().contains(&mapping.start) {
            self.note(self.document.problem(mapping, message).help(help));
        }
    }

    pub fn note(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    pub fn read<T: for<'de> Deserialize<'de>>(&self, node: &Node) -> Field<T> {
        let value =
            T::deserialize(NodeReader { node, reader: self }).map_err(|wrong| self.note_wrong(wrong, node.place));
        Field { place: node.place, value: value.ok() }
    }

    fn note_wrong(&self, wrong: Wrong, place: Place) {
        if let Wrong::New(message, help) = wrong {
            // A single value where keys belong may be anything.
            let is_misplaced = help == LINES || help == LIST;
            let problem = match is_misplaced {
                true => self.document.problem_unseen(place, message),
                false => self.document.problem(place, message),
            };
            self.note(if help.is_empty() { problem } else { problem.help(help) });
        }
    }
}

const LIST: &str = "write it as [one, two], or one below the other with `- ` in front";
const LINES: &str = "write `key: value` lines below it, indented";

/// Why a value could not be read.
#[derive(Debug)]
enum Wrong {
    Noted,
    New(String, &'static str),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Noted => f.write_str("noted already"),
            Wrong::New(message, _) => f.write_str(message),
        }
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Wrong::New(message.to_string(), "")
    }
}

#[derive(Clone, Copy)]
struct NodeReader<'a, 'd> {
    node: &'a Node,
    reader: &'a Reader<'d>,
}

impl<'a, 'd> NodeReader<'a, 'd> {
    fn entries(self, entries: &'a [(Key, Node)], known: Option<&'static [&'static str]>) -> Entries<'a, 'd> {
        Entries { start: self.node.place.start, entries: entries.iter(), value: None, known, reader: self.reader }
    }

    fn expected<T>(self, what: &str) -> Result<T, Wrong> {
        let found = match &self.node.kind {
            Kind::Broken => return Err(Wrong::Noted),
            Kind::Nothing => "nothing",
            Kind::Scalar { .. } => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping of keys",
        };
        let help = match (&self.node.kind, what) {
            (Kind::Nothing, _) => "give a value, or remove the key",
            (Kind::Scalar { .. }, "a list") => LIST,
            (Kind::Scalar { .. }, "a mapping of keys") => LINES,
            _ => "",
        };
        Err(Wrong::New(format!("expected {what}, found {found}"), help))
    }

    fn number(self) -> Result<u64, Wrong> {
        let Kind::Scalar { text, plain } = &self.node.kind else { return self.expected("a whole number") };
        let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        match text.parse() {
            Ok(number) if canonical && *plain => Ok(number),
            Ok(_) if canonical => Err(Wrong::New("expected a whole number, found a text".into(), "remove the quotes")),
            _ => Err(Wrong::New("expected a whole number, such as 7".into(), "")),
        }
    }
}

impl<'de> Deserializer<'de> for NodeReader<'_, '_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.kind {
            Kind::Scalar { text, .. } => visitor.visit_str(text),
            _ => self.expected("a text"),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.kind {
            Kind::Scalar { text, plain: true } if text == "true" => visitor.visit_bool(true),
            Kind::Scalar { text, plain: true } if text == "false" => visitor.visit_bool(false),
            _ => self.expected("`true` or `false`"),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_u64(self.number()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.kind {
            Kind::List(items) => visitor.visit_seq(Items { items: items.iter(), reader: self.reader }),
            _ => self.expected("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.kind {
            Kind::Map(entries) => visitor.visit_map(self.entries(entries, None)),
            _ => self.expected("a mapping of keys"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match &self.node.kind {
            Kind::Map(entries) => visitor.visit_map(self.entries(entries, Some(known))),
            _ => self.expected("a mapping of keys"),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match &self.node.kind {
            Kind::Scalar { text, .. } if variants.contains(&text.as_str()) => {
                visitor.visit_enum(IntoDeserializer::<Wrong>::into_deserializer(text.as_str()))
            }
            Kind::Scalar { text, .. } => {
                let suggestion = did_you_mean(text, variants.iter().copied());
                Err(Wrong::New(format!("expected {}{suggestion}", words(variants, "or")), ""))
            }
            _ => self.expected(&words(variants, "or")),
        }
    }

    /// [`OneOrMore`] asks for this.
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        let items = match &self.node.kind {
            Kind::List(items) => items,
            _ => std::slice::from_ref(self.node),
        };
        visitor.visit_seq(Items { items: items.iter(), reader: self.reader })
    }

    /// [`Field`] asks for this: first the place, then the value, whose failure ends here.
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_seq(PlacedValue { node: self, step: 0 })
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char string bytes byte_buf unit unit_struct
        tuple_struct identifier ignored_any
    }
}

struct PlacedValue<'a, 'd> {
    node: NodeReader<'a, 'd>,
    step: u8,
}

impl<'de> SeqAccess<'de> for PlacedValue<'_, '_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        self.step += 1;
        let place = self.node.node.place;
        match self.step {
            1 => seed.deserialize((place.start as u64).into_deserializer()).map(Some),
            2 => seed.deserialize((place.end as u64).into_deserializer()).map(Some),
            _ => Ok(seed.deserialize(self.node).map_err(|wrong| self.node.reader.note_wrong(wrong, place)).ok()),
        }
    }
}

struct Items<'a, 'd> {
    items: std::slice::Iter<'a, Node>,
    reader: &'a Reader<'d>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some(node) = self.items.next() else { return Ok(None) };
        seed.deserialize(NodeReader { node, reader: self.reader }).map(Some)
    }
}

struct Entries<'a, 'd> {
    start: usize,
    entries: std::slice::Iter<'a, (Key, Node)>,
    value: Option<&'a Node>,
    /// The keys of a shape; others are noted and passed over.
    known: Option<&'static [&'static str]>,
    reader: &'a Reader<'d>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        for (key, value) in self.entries.by_ref() {
            self.value = Some(value);
            let Some(known) = self.known else {
                // Names the user chose: with their place, so read as if they were values.
                let kind = Kind::Scalar { text: key.text.clone(), plain: true };
                let node = Node { place: key.place, kind };
                return seed.deserialize(NodeReader { node: &node, reader: self.reader }).map(Some);
            };
            if known.contains(&key.text.as_str()) {
                let key: StrDeserializer<'_, Wrong> = key.text.as_str().into_deserializer();
                return seed.deserialize(key).map(Some);
            }
            self.reader.misspelled.borrow_mut().push(self.start);
            let quoted = self.reader.document.quote_key(key.place, &key.text);
            let message = format!("unknown key {quoted}{}", did_you_mean(&key.text, known.iter().copied()));
            let problem = self.reader.document.problem_unseen(key.place, message);
            self.reader.note(problem.help(format!("known here: {}", known.join(", "))));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let node = self.value.take().ok_or(Wrong::Noted)?;
        seed.deserialize(NodeReader { node, reader: self.reader })
    }
}

/// `a, b or c`
pub fn words(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [init @ .., end] => {
            format!("{} {last} `{end}`", init.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
            type Value = Field<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a place and a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Field<T>, A::Error> {
                let start: u64 = access.next_element()?.unwrap_or(0);
                let end: u64 = access.next_element()?.unwrap_or(0);
                Ok(Field { place: Place { start: start as usize, end: end as usize }, value: access.next_element()? })
            }
        }

        deserializer.deserialize_tuple(3, FieldVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Named<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named(entries))
            }
        }

        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ItemsVisitor<T> {
            type Value = OneOrMore<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<OneOrMore<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(OneOrMore(items))
            }
        }

        deserializer.deserialize_newtype_struct("OneOrMore", ItemsVisitor(PhantomData))
    }
}

/// In the schema, a field is its value.
impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        std::collections::BTreeMap::<String, T>::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMore_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (one, more) = (generator.subschema_for::<T>(), generator.subschema_for::<Vec<T>>());
        schemars::json_schema!({ "anyOf": [one, more] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tree;

    #[derive(serde::Deserialize)]
    struct Shape {
        on: Option<Field<bool>>,
        number: Option<Field<u64>>,
        names: Option<Field<Named<String>>>,
        some: Option<Field<OneOrMore<String>>>,
    }

    fn read(text: &str) -> (Shape, Vec<String>) {
        let document = Document { path: "/x.yaml".into(), text: text.into() };
        let node = tree::parse(&document, &|_| None, &mut Vec::new()).unwrap();
        let reader = Reader::new(&document);
        let shape = reader.read::<Shape>(&node).value.unwrap();
        let told = reader.problems.borrow().iter().map(|p| p.message.clone()).collect();
        (shape, told)
    }

    #[test]
    fn truth_is_never_guessed() {
        assert_eq!(read("on: true").0.on.unwrap().value, Some(true));
        assert_eq!(read("on: false").0.on.unwrap().value, Some(false));
        for text in ["on: no", "on: yes", "on: 'true'", "on: 1", "on: True", "on:"] {
            let (shape, told) = read(text);
            assert_eq!(shape.on.unwrap().value, None, "{text}");
            assert!(told[0].starts_with("expected `true` or `false`, found"), "{text}: {told:?}");
        }
    }

    #[test]
    fn one_value_stands_for_a_list_of_one() {
        let some = |text: &str| {
            let (shape, told) = read(text);
            let items = shape.some.unwrap().value.unwrap().0.into_iter().map(|field| field.value.unwrap_or_default());
            (items.collect::<Vec<_>>(), told)
        };
        assert_eq!(some("some: a"), (vec!["a".to_owned()], vec![]));
        assert_eq!(some("some: [a, b]"), (vec!["a".to_owned(), "b".to_owned()], vec![]));
        assert_eq!(some("some: []"), (vec![], vec![]));
        assert_eq!(some("some: { a: b }").1, ["expected a text, found a mapping of keys"]);
        assert_eq!(some("some: [a, [b]]").1, ["expected a text, found a list"]);
    }

    #[test]
    fn a_wrong_value_leaves_the_others_readable() {
        let (shape, told) = read("on: maybe\nnumber: 7\nnames: { a: x, b: [y], c: z }\nother: 1\n");
        assert_eq!(shape.number.unwrap().value, Some(7));
        let names = shape.names.unwrap().value.unwrap().0;
        let names: Vec<_> = names.into_iter().map(|(key, value)| (key.value.unwrap(), value.value)).collect();
        assert_eq!(names, [("a".into(), Some("x".into())), ("b".into(), None), ("c".into(), Some("z".into()))]);
        assert_eq!(
            told,
            [
                "expected `true` or `false`, found a single value",
                "expected a text, found a list",
                "unknown key `other`"
            ]
        );
    }
}
