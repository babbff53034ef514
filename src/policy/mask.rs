//! Hides what may be a secret in a line that a message shows.
//!
//! A secret written inline is wrong, and then it is in the very line that is to be shown, perhaps below a misspelled key or
//! in a file that does not parse. So of a line only its keys are shown, its references, and the one value that the
//! message is about; and of that not what stands in an address beside the server, nor what follows a word that sounds secret.

use std::ops::Range;

const HIDDEN: char = '*';

/// Words that make a key sound secret.
const SECRET_WORDS: [&str; 7] = ["secret", "pass", "token", "key", "credential", "clave", "contras"];

/// What a key ends with, or would if it were typed well.
fn ends_a_key(c: char) -> bool {
    c.is_whitespace() || "{[,:=".contains(c)
}

/// Line `number` (from 0) of `text`, with every value hidden but the one at `marked` (in characters), where that is a single
/// value. The number of characters stays the same.
pub fn line(text: &str, number: usize, marked: Range<usize>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(line) = lines.get(number) else { return String::new() };
    if goes_on_with_a_text(&lines[..number], line) {
        return hide_all(line);
    }
    let (keys, words) = (hide_all_values(line), by_words(text, number));
    let meant: String = line.chars().skip(marked.start).take(marked.len()).collect();
    if is_structure(&meant) {
        return keys;
    }
    let shown: Vec<char> = hide_in_address(&words).chars().collect();
    let of = |(at, c)| if marked.contains(&at) { shown.get(at).copied().unwrap_or(HIDDEN) } else { c };
    keys.chars().enumerate().map(of).collect()
}

/// The line with everything hidden that sounds secret. The number of characters stays the same.
pub fn by_words(text: &str, number: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(line) = lines.get(number) else { return String::new() };
    if belongs_to_a_secret(&lines[..number], line) { hide_all(line) } else { hide_in_address(&hide_values(line)) }
}

/// A list, a mapping, or the first of its lines.
fn is_structure(meant: &str) -> bool {
    meant.starts_with(['{', '[', '|', '>']) || meant.starts_with("- ") || key_at(meant).is_some()
}

/// Whether the line is inside a text that began on a line above.
fn goes_on_with_a_text(before: &[&str], line: &str) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut above = before.iter().rev().filter(|l| !l.trim().is_empty());
    let begins = |value: &str| match value.chars().next() {
        Some('|' | '>') => true,
        Some(quote @ ('"' | '\'')) => !value[1..].contains(quote),
        _ => false,
    };
    let value_of = |line: &&&str| -> bool {
        let line = line.trim_start().trim_start_matches("- ");
        begins(key_at(line).map_or(line, |end| line[end..].trim_start()))
    };
    let nearest = above.clone().next().is_some_and(|nearest| value_of(&nearest));
    nearest || above.find(|l| indent(l) < indent(line)).is_some_and(|parent| value_of(&parent))
}

/// Where the key ends that stands at the beginning, its colon included.
fn key_at(text: &str) -> Option<usize> {
    let (name, quoted) = match text.chars().next()? {
        quote @ ('"' | '\'') => (text[1..].find(quote)? + 2, true),
        _ => (text.find(|c: char| c.is_whitespace() || ":{}[],\"'&*!|>".contains(c))?, false),
    };
    let rest = text[name..].strip_prefix(':')?;
    let ends = rest.is_empty() || rest.starts_with(char::is_whitespace) || quoted;
    (ends && name > 0).then_some(name + 1)
}

/// Hides all but keys, references, and the signs that hold a line together. What follows a key is its value, whatever it looks
/// like: a line whose end is missing has the next one in it.
fn hide_all_values(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    let mut depth = 0usize;
    let mut key_may_come = true;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '{' | '[' => {
                depth += 1;
                key_may_come = true;
                1
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                1
            }
            ',' => {
                key_may_come = depth > 0;
                1
            }
            '-' if rest.starts_with("- ") && shown.trim().trim_matches('-').trim().is_empty() => 1,
            _ if first.is_whitespace() => first.len_utf8(),
            _ if key_may_come => {
                key_may_come = false;
                key_at(rest).unwrap_or(0)
            }
            _ => 0,
        };
        if length > 0 {
            shown.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        let value = &rest[..value_length(rest, depth > 0)];
        let plain = value.trim_matches(['"', '\'']);
        let stays = plain.starts_with("ref+") && !plain.contains(char::is_whitespace) || is_variable(value);
        shown.push_str(&if stays { value.to_owned() } else { hide_all(value) });
        rest = &rest[value.len()..];
    }
    shown
}

/// How long the value is that begins here.
fn value_length(text: &str, in_flow: bool) -> usize {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => text[1..].find(quote).map_or(text.len(), |n| n + 2),
        _ if in_flow => text.find([',', '}', ']']).unwrap_or(text.len()),
        _ => text.len(),
    }
}

/// Whether the line is the value of a key on a line above: what follows a bare key, goes on with a value, or stands
/// indented below.
fn belongs_to_a_secret(before: &[&str], line: &str) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut above = before.iter().rev().filter(|l| !l.trim().is_empty());
    let Some(nearest) = above.clone().next() else { return false };
    let bare = nearest.trim().trim_end_matches([':', '"', '\'']);
    let value_follows = nearest.trim_end().ends_with(':') || line.trim_start().starts_with(':');
    let key_alone = value_follows || !bare.contains(char::is_whitespace);
    if key_alone && sounds_secret(key_before(bare)) || !line.contains(':') && hide_values(nearest) != **nearest {
        return true;
    }
    let parent = above.find(|l| indent(l) < indent(line)).and_then(|parent| parent.trim_end().rsplit_once(':'));
    parent.is_some_and(|(key, rest)| {
        sounds_secret(key_before(key)) && (rest.trim().is_empty() || rest.trim().starts_with(['|', '>', '"', '\'']))
    })
}

/// The key that ends here, with whatever was mistyped in it.
fn key_before(text: &str) -> &str {
    let text = text.trim_end().trim_end_matches(['"', '\'']);
    text.rsplit(ends_a_key).next().unwrap_or(text)
}

fn sounds_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    !key.ends_with("_file") && !key.starts_with('/') && SECRET_WORDS.iter().any(|word| key.contains(word))
}

fn hide_all(text: &str) -> String {
    text.chars().map(|c| if c.is_whitespace() { c } else { HIDDEN }).collect()
}

/// Hides what follows a word that sounds secret, unless it is a reference.
fn hide_values(line: &str) -> String {
    for (key_end, delimiter) in line.char_indices().filter(|(_, c)| ends_a_key(*c)) {
        let (key, value) = line.split_at(key_end + delimiter.len_utf8());
        let plain = value.trim_start().trim_start_matches(['"', '\'']);
        if sounds_secret(key_before(&line[..key_end])) && !plain.starts_with("ref+") && !is_variable(plain) {
            return format!("{key}{}", hide_all(value));
        }
    }
    line.into()
}

/// `${NAME}` and nothing else; a default could be the secret.
fn is_variable(value: &str) -> bool {
    let inner = value.trim_end().trim_end_matches(['"', '\'']).strip_prefix("${").and_then(|v| v.strip_suffix('}'));
    inner.is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

/// Hides in `scheme://user:password@host/path?query` what may open a door: all but the server, and in a bucket or a directory the path.
fn hide_in_address(line: &str) -> String {
    // A space that was mistyped into one makes words of it.
    let with_address = line.contains("://");
    line.split_inclusive(char::is_whitespace).map(|word| hide_in_word(word, with_address)).collect()
}

const WITH_OPEN_PATHS: [&str; 2] = ["s3", "file"];

fn hide_in_word(word: &str, with_address: bool) -> String {
    if word.trim_start_matches(['"', '\'', '{', '[', '(']).starts_with("ref+") {
        return word.to_owned();
    }
    let (scheme, rest) = match word.find("://") {
        Some(at) => word.split_at(at + 3),
        None => ("", word),
    };
    let user = rest.rfind('@').filter(|_| with_address || rest.contains(':')).unwrap_or(0);
    let (user, rest) = rest.split_at(user);
    let name = scheme.trim_end_matches("://").rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let is_open = scheme.is_empty() || WITH_OPEN_PATHS.contains(&name);
    let has_path = !scheme.is_empty() || rest.find('/') < rest.find('?');
    let end = |c: char| (c == '?' && has_path) || (c == '/' && !is_open);
    let after = rest.char_indices().find(|(at, c)| *at > 0 && end(*c)).map_or(rest.len(), |(at, _)| at + 1);
    let (server, rest) = rest.split_at(after);
    let (path, closing) = rest.split_at(without_closing(rest).len());
    let server = if scheme.is_empty() { server.to_owned() } else { hide_no_port(server) };
    format!("{scheme}{}{server}{}{closing}", hide_all(user), hide_all(path))
}

fn without_closing(text: &str) -> &str {
    text.trim_end_matches(|c: char| c.is_whitespace() || "\"',}])/?".contains(c))
}

/// What follows the colon and is no number is a password whose `@` is missing.
fn hide_no_port(server: &str) -> String {
    match server.split_once(':').filter(|_| !server.contains('[')) {
        Some((host, port)) if !without_closing(port).bytes().all(|b| b.is_ascii_digit()) => {
            let (port, closing) = port.split_at(without_closing(port).len());
            format!("{host}:{}{closing}", hide_all(port))
        }
        _ => server.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line as shown when the message is about `meant`.
    fn about(text: &str, meant: &str) -> String {
        let number = text.lines().position(|line| line.contains(meant)).unwrap();
        let line_of = text.lines().nth(number).unwrap();
        let start = line_of[..line_of.find(meant).unwrap()].chars().count();
        line(text, number, start..start + meant.chars().count())
    }

    #[test]
    fn of_a_line_only_its_keys_and_what_is_meant_are_shown() {
        let table = [
            ("  pasword: hunter2", "pasword", "  pasword: *******"),
            ("app: { mysql: { usr: hunter2, path: /x } }", "usr", "app: { mysql: { usr: *******, path: ** } }"),
            ("schedule: \"every day\" # hunter2", "\"every day\"", "schedule: \"every day\" * *******"),
            (
                "copies: [{ name: a, url: hunter2 }]",
                "[{ name: a, url: hunter2 }]",
                "copies: [{ name: *, url: ******* }]",
            ),
            ("- 'pwd': 'hun, ter2'", "'pwd'", "- 'pwd': ***** *****"),
            ("endpoint: http://user:hunter2@h:9", "http://user:hunter2@h:9", "endpoint: http://************@h:9"),
            (
                "{ url: \"s3://b/x\", at: \"http://u:hunter2@h\" }",
                "\"s3://b/x\"",
                "{ url: \"s3://b/x\", at: ******************** }",
            ),
            (
                "url: htps://hooks.example/T0/hunter2",
                "htps://hooks.example/T0/hunter2",
                "url: htps://hooks.example/**********",
            ),
            ("url: https://h/?t=hunter2", "https://h/?t=hunter2", "url: https://h/**********"),
            ("smtp: me:hunter2@mail.example", "me:hunter2@mail.example", "smtp: **********@mail.example"),
            ("smtp: smtp://me:hunter2m.example", "smtp://me:hunter2m.example", "smtp: smtp://me:****************"),
            (
                "smtp: smtp://me:hun ter2@m.example",
                "smtp://me:hun ter2@m.example",
                "smtp: smtp://me:*** ****@m.example",
            ),
            ("  secret_key: hunter2memory: lots", ":", "  secret_key: ************** ****"),
            ("{ a: hunter2b: lots, c: x }", "c", "{ a: ********* ****, c: * }"),
            ("path: ${DATA}", "path", "path: ${DATA}"),
            ("key: ref+file:///run/x, y: hunter2", "key", "key: ****************** ** *******"),
        ];
        for (text, meant, expected) in table {
            assert_eq!(about(text, meant), expected, "{text}");
        }
        assert_eq!(line("{ secret_key: hunter2", 0, 0..0), "{ secret_key: *******");
        assert_eq!(line("pasword hunter2", 0, 0..0), "******* *******");
        assert_eq!(line("pasword: |\n  a: hunter2", 1, 0..0), "  ** *******");
        assert_eq!(line("pasword: \"one\n  a: hunter2\"", 1, 0..0), "  ** ********");
        assert_eq!(line("{ pasword: hun,ter2: 3 }", 0, 0..0), "{ pasword: ***,ter2: * }");
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let table = [
            ("  secret_key: hunter2", "  secret_key: *******"),
            ("  secret_kye: hunter2 # mine", "  secret_kye: ******* * ****"),
            ("{ url: s3://b, secret_key: \"hun ter\", x: 1 }", "{ url: s3://b, secret_key: **** ***** ** * *"),
            ("secret_key: ${X:-hunter2}", "secret_key: *************"),
            ("  secret_key hunter2", "  secret_key *******"),
            ("{ 'secret_key': hunter2 }", "{ 'secret_key': ******* *"),
            ("{ secret_k#ey: hunter2 }", "{ secret_k#ey: ******* *"),
            ("{ secret_k,ey: hunter2 }", "{ secret_k,*** ******* *"),
            ("url: s3://AKIA:hunter2@host/b", "url: s3://************@host/b"),
            ("run: [mysqldump, --password=hunter2]", "run: [mysqldump, --password=********"),
        ];
        for (given, expected) in table {
            assert_eq!(by_words(given, 0), expected);
        }
        assert_eq!(by_words("password: |\n  hunter2\n  hunter3", 2), "  *******");
        assert_eq!(by_words("  secret_key\n: hunter2", 1), "* *******");
        assert_eq!(by_words("{ url: s3://b, secret_key\n: hunter2 }", 1), "* ******* *");
        assert_eq!(by_words("secret_key: hun\nter2", 1), "****");
        assert_eq!(by_words("password: \"first\n  hunter3\"", 1), "  ********");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "secret_key: ref+env://X",
            "secret_key_file: /run/x",
            "path: /srv/app.db",
            "secret_key: ${S3_SECRET}",
            "secret_key:",
        ] {
            assert_eq!(by_words(text, 0), text);
        }
        assert_eq!(by_words("a:\n  path: /x", 1), "  path: /x");
        let flow = "{ access_key: ref+env://S3_KEY, path: /srv/keys/a.db, name: x }";
        assert_eq!(by_words(flow, 0), flow);
    }
}
