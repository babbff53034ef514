//! Hides what may be a secret in a line that a message shows.
//!
//! A secret written inline is wrong, and then it is in the very line that is to be shown, perhaps below a misspelled key or
//! in a file that does not parse. So this looks at the text alone, and hides rather too much than too little: values of keys
//! that sound secret, what stands indented below such a key, and user names with passwords in URLs. References stay.

const HIDDEN: char = '*';

/// Words that make a key sound secret.
const SECRET_WORDS: [&str; 8] = ["secret", "passw", "passphrase", "token", "key", "credential", "clave", "contras"];

/// Line `number` (from 0) of `text`, with everything hidden that may be a secret. The number of characters stays the same.
pub fn line(text: &str, number: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(line) = lines.get(number) else { return String::new() };
    if belongs_to_a_secret(&lines[..number], line) { hide_all(line) } else { hide_user_info(&hide_values(line)) }
}

/// Whether a block scalar or a list below a secret key holds the line.
fn belongs_to_a_secret(before: &[&str], line: &str) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = indent(line);
    let above = before.iter().rev().filter(|l| !l.trim().is_empty());
    let Some(parent) = above.into_iter().find(|l| indent(l) < own) else { return false };
    match parent.trim_end().rsplit_once(':') {
        Some((key, rest)) => {
            sounds_secret(last_word(key)) && (rest.trim().is_empty() || rest.trim().starts_with(['|', '>', '"', '\'']))
        }
        None => false,
    }
}

fn last_word(text: &str) -> &str {
    let text = text.trim_end().trim_end_matches(['"', '\'']);
    let start = text.rfind(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').map_or(0, |n| n + 1);
    text.get(start..).unwrap_or(text)
}

fn sounds_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    !key.ends_with("_file") && SECRET_WORDS.iter().any(|word| key.contains(word))
}

fn hide_all(text: &str) -> String {
    text.chars().map(|c| if c.is_whitespace() { c } else { HIDDEN }).collect()
}

/// Hides from each `key:` or `key=` that sounds secret to the end of the line, unless a reference follows.
fn hide_values(line: &str) -> String {
    for (at, separator) in line.char_indices().filter(|(_, c)| *c == ':' || *c == '=') {
        if !sounds_secret(last_word(&line[..at])) {
            continue;
        }
        let value = &line[at + separator.len_utf8()..];
        let plain = value.trim_start().trim_start_matches(['"', '\'']);
        if plain.is_empty() || plain.starts_with("ref+") || is_variable(plain) {
            continue;
        }
        return format!("{}{}", &line[..at + separator.len_utf8()], hide_all(value));
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
            ("url: s3://AKIA:hunter2@host/b", "url: s3://************@host/b"),
            ("run: [mysqldump, --password=hunter2]", "run: [mysqldump, --password=********"),
        ];
        for (given, expected) in table {
            assert_eq!(line(given, 0), expected);
        }
        assert_eq!(line("password: |\n  hunter2\n  hunter3", 2), "  *******");
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
    }
}
