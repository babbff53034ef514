//! Canonical extended JSON, as archives keep options and indexes in it: every number with its type, every field in its place.
//!
//! Read by the deserializer of the BSON crate, which keeps the order; written here, because that crate's own writer would
//! sort the fields, and the order of an index's keys is its meaning.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::{Bson, Document};
use std::fmt::Write;

pub(super) fn parse(text: &str) -> serde_json::Result<Document> {
    serde_json::from_str(text)
}

pub(super) fn canonical(document: &Document) -> String {
    let mut text = String::new();
    write_document(&mut text, document);
    text
}

fn write_document(text: &mut String, document: &Document) {
    text.push('{');
    for (number, (key, value)) in document.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        write_string(text, key);
        text.push(':');
        write_value(text, value);
    }
    text.push('}');
}

fn write_value(text: &mut String, value: &Bson) {
    match value {
        Bson::Document(document) => write_document(text, document),
        Bson::Array(values) => {
            text.push('[');
            for (number, value) in values.iter().enumerate() {
                if number > 0 {
                    text.push(',');
                }
                write_value(text, value);
            }
            text.push(']');
        }
        Bson::String(string) => write_string(text, string),
        Bson::Boolean(true) => text.push_str("true"),
        Bson::Boolean(false) => text.push_str("false"),
        Bson::Null => text.push_str("null"),
        other => write_typed(text, other),
    }
}

/// What JSON has no word for: an object with one field that names the type.
fn write_typed(text: &mut String, value: &Bson) {
    let mut typed = |name: &str, value: &str| {
        text.push_str("{\"");
        text.push_str(name);
        text.push_str("\":");
        text.push_str(value);
        text.push('}');
    };
    match value {
        Bson::Int32(number) => typed("$numberInt", &quoted(&number.to_string())),
        Bson::Int64(number) => typed("$numberLong", &quoted(&number.to_string())),
        Bson::Double(number) => typed("$numberDouble", &quoted(&double(*number))),
        Bson::Decimal128(number) => typed("$numberDecimal", &quoted(&number.to_string())),
        Bson::ObjectId(id) => typed("$oid", &quoted(&id.to_hex())),
        Bson::DateTime(at) => {
            typed("$date", &format!("{{\"$numberLong\":{}}}", quoted(&at.timestamp_millis().to_string())));
        }
        Bson::Timestamp(at) => typed("$timestamp", &format!("{{\"t\":{},\"i\":{}}}", at.time, at.increment)),
        Bson::Binary(binary) => {
            let subtype = u8::from(binary.subtype);
            let bytes = quoted(&STANDARD.encode(&binary.bytes));
            typed("$binary", &format!("{{\"base64\":{bytes},\"subType\":\"{subtype:02x}\"}}"));
        }
        Bson::RegularExpression(regex) => {
            let (pattern, options) = (quoted(regex.pattern.as_str()), quoted(regex.options.as_str()));
            typed("$regularExpression", &format!("{{\"pattern\":{pattern},\"options\":{options}}}"));
        }
        Bson::JavaScriptCode(code) => typed("$code", &quoted(code)),
        Bson::JavaScriptCodeWithScope(code) => {
            let scope = canonical(&code.scope);
            typed("$code", &format!("{},\"$scope\":{scope}", quoted(&code.code)));
        }
        Bson::Symbol(symbol) => typed("$symbol", &quoted(symbol)),
        Bson::MinKey => typed("$minKey", "1"),
        Bson::MaxKey => typed("$maxKey", "1"),
        _ => typed("$undefined", "true"),
    }
}

/// With a point or an exponent, so that it stays what it is.
fn double(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{number:?}")
    }
}

fn quoted(string: &str) -> String {
    let mut text = String::new();
    write_string(&mut text, string);
    text
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            control if control < ' ' => {
                write!(text, "\\u{:04x}", u32::from(control)).expect("a string takes what is written");
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn what_is_written_is_read_again_with_its_types_and_its_order() {
        let document = doc! {
            "z": 1, "a": 2_i64, "m": 1.0, "exponent": 1e300, "minus": -0.0, "text": "quote \" back \\ line \n ñ 🙂 \u{1}",
            "nested": { "y": { "$gt": 1 }, "b": [null, true, { "k": -1 }] },
            "id": bson::oid::ObjectId::from_bytes([7; 12]),
            "at": bson::DateTime::from_millis(-1),
            "ts": bson::Timestamp { time: 5, increment: 6 },
            "bin": bson::Binary { subtype: BinarySubtype::UserDefined(0x81), bytes: vec![1, 2, 255] },
            "dec": "123.4500".parse::<bson::Decimal128>().unwrap(),
            "code": Bson::JavaScriptCode("f()".into()),
            "scoped": Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code: "g()".into(), scope: doc! { "x": 1 } }),
            "min": Bson::MinKey, "max": Bson::MaxKey, "symbol": Bson::Symbol("s".into()),
            "regex": { "$regex": "^a", "$options": "i" },
        };
        let again = parse(&canonical(&document)).unwrap();
        assert_eq!(again, document);
        assert_eq!(again.keys().collect::<Vec<_>>(), document.keys().collect::<Vec<_>>());
    }

    #[test]
    fn the_text_is_what_mongodump_writes() {
        let index = doc! { "v": 2, "key": { "b": 1, "a": -1.0 }, "name": "b_1" };
        let text =
            r#"{"v":{"$numberInt":"2"},"key":{"b":{"$numberInt":"1"},"a":{"$numberDouble":"-1.0"}},"name":"b_1"}"#;
        assert_eq!(canonical(&index), text);
    }

    use bson::spec::BinarySubtype;
}
