//! Names and values as SQL wants them. Everything that goes into a statement goes through here.

/// An identifier, quoted whether it needs it or not.
pub fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A string, also where `standard_conforming_strings` is off.
pub fn text(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// An array of strings.
pub fn texts<'t>(all: impl IntoIterator<Item = &'t str>) -> String {
    let all: Vec<String> = all.into_iter().map(text).collect();
    format!("array[{}]::text[]", all.join(", "))
}

/// `database.schema.table` for people and fingerprints: quoted only where a dot or the like would mislead.
pub fn path(parts: &[&str]) -> String {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let shown: Vec<String> =
        parts.iter().map(|part| if plain(part) { (*part).to_owned() } else { name(part) }).collect();
    shown.join(".")
}

/// A database as clients take it: otherwise a name with `=` in it would be read as more than a name.
pub fn connection(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Settings whose value is a list of names, which is kept as one text.
const LISTS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// `SET name TO value` of a setting as `pg_db_role_setting` keeps it: `search_path="$user", public`.
pub fn setting(kept: &str) -> Option<String> {
    let (variable, value) = kept.split_once('=')?;
    let list = LISTS.contains(&variable.to_ascii_lowercase().as_str());
    let value = match value {
        "" => "''".to_owned(),
        _ if list => elements(value).iter().map(|element| text(element)).collect::<Vec<_>>().join(", "),
        _ => text(value),
    };
    // Settings of extensions have two parts.
    let variable = variable.split('.').map(name).collect::<Vec<_>>().join(".");
    Some(format!("SET {variable} TO {value}"))
}

fn elements(list: &str) -> Vec<String> {
    let (mut all, mut element, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = list.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => element.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut element)),
            ' ' if !quoted => {}
            _ => element.push(c),
        }
    }
    all.push(element);
    all
}

/// At most 63 bytes are left of a longer name, without anybody being told: `base` is cut so that `end` stays.
pub fn fitted(base: &str, end: &str) -> String {
    let room = 63_usize.saturating_sub(end.len());
    format!("{}{end}", &base[..base.floor_char_boundary(room)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_cannot_be_left() {
        assert_eq!(name("a\"b"), "\"a\"\"b\"");
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(text("a\\'b"), " E'a\\\\''b'");
        assert_eq!(connection("a'b\\c d=e"), "dbname='a\\'b\\\\c d=e'");
    }

    #[test]
    fn paths_are_told_apart() {
        assert_eq!(path(&["shop", "public", "orders_2"]), "shop.public.orders_2");
        assert_ne!(path(&["a.b", "c"]), path(&["a", "b.c"]));
    }

    #[test]
    fn settings_are_lists_or_one_text() {
        let list = setting("search_path=\"$user\", public, \"a \"\"b, c\"").unwrap();
        assert_eq!(list, "SET \"search_path\" TO '$user', 'public', 'a \"b, c'");
        assert_eq!(setting("my.value=a, b").unwrap(), "SET \"my\".\"value\" TO 'a, b'");
        assert_eq!(setting("search_path=").unwrap(), "SET \"search_path\" TO ''");
    }

    #[test]
    fn long_names_keep_their_end() {
        let fitted = fitted(&"ñ".repeat(40), "_replaced");
        assert!(fitted.len() <= 63 && fitted.ends_with("ñ_replaced"));
    }
}
