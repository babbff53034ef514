//! Hides what may be a secret in a line that a message shows.
//!
//! A secret written inline is wrong, and then it is in the very line that is to be shown, perhaps below a misspelled key or
//! in a file that does not parse. So this looks at the text alone, and hides rather too much than too little: values of keys
//! that sound secret, what stands indented below such a key, and user names with passwords in URLs. References stay.

const HIDDEN: char = '*';

/// Words that make a key sound secret.
const SECRET_WORDS: [&str; 7] = ["secret", "pass", "token", "key", "credential", "clave", "contras"];

/// What a key ends with, or would if it were typed well.
fn ends_a_key(c: char) -> bool {
    c.is_whitespace() || "{[,:=".contains(c)
}

/// Line `number` (from 0) of `text`, with everything hidden that may be a secret. The number of characters stays the same.
pub fn line(text: &str, number: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(line) = lines.get(number) else { return String::new() };
    if belongs_to_a_secret(&lines[..number], line) { hide_all(line) } else { hide_user_info(&hide_values(line)) }
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

/// Hides `user:password` in `scheme://user:password@host`.
fn hide_user_info(line: &str) -> String {
    let Some(start) = line.find("://").map(|n| n + 3) else { return line.into() };
    let rest = &line[start..];
    let authority = rest.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => format!("{}{}{}", &line[..start], hide_all(&rest[..at]), &rest[at..]),
        None => line.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(line(given, 0), expected);
        }
        assert_eq!(line("password: |\n  hunter2\n  hunter3", 2), "  *******");
        assert_eq!(line("  secret_key\n: hunter2", 1), "* *******");
        assert_eq!(line("{ url: s3://b, secret_key\n: hunter2 }", 1), "* ******* *");
        assert_eq!(line("secret_key: hun\nter2", 1), "****");
        assert_eq!(line("password: \"first\n  hunter3\"", 1), "  ********");
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
            assert_eq!(line(text, 0), text);
        }
        assert_eq!(line("a:\n  path: /x", 1), "  path: /x");
        let flow = "{ access_key: ref+env://S3_KEY, path: /srv/keys/a.db, name: x }";
        assert_eq!(line(flow, 0), flow);
    }
}
