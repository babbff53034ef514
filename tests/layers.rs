//! The architecture, checked: who may import whom, who renames files, how long things may be.
//!
//! Reads the sources as tokens (comments, strings and test code left out). Each rule has a bad sample below that it
//! must catch, so that a rule that no longer sees anything fails too.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in #[test] functions only

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The layers, as the map in `src/lib.rs` has them: a module imports only from rows above its own.
const LAYERS: &[&[&str]] = &[
    &["error", "clock", "host", "durable", "backoff"],
    &["secret", "event"],
    &["store", "exec"],
    &["repo", "engine"],
    &["policy", "journal"],
    &["job"],
    &["schedule", "evidence"],
    &["watch", "report", "notify", "http"],
    &["daemon"],
    &["cli"],
    &["main"],
];

/// Edges inside one layer that are meant: every module fails with the same error type and asks the same clock, and the
/// pages show what `watch` makes of the journal.
const WITHIN_A_LAYER: &[(&str, &str)] = &[("durable", "error"), ("durable", "clock"), ("http", "watch")];

const FILE_LINES: usize = 450;
const FUNCTION_LINES: usize = 60;
const MODULE_DOC_LINES: usize = 15;

#[test]
fn the_sources_keep_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    assert!(files.len() > 10, "only {} files found under src: the check looks in the wrong place", files.len());
    let mut report = String::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap();
        for breach in breaches(name, &std::fs::read_to_string(&file).unwrap()) {
            writeln!(report, "{breach}").unwrap();
        }
    }
    assert!(report.is_empty(), "the rules of the architecture are broken:\n{report}");
}

#[test]
fn the_map_in_the_library_names_the_same_layers() {
    let library = include_str!("../src/lib.rs");
    let mut declared = BTreeMap::new();
    for line in library.lines() {
        let cells: Vec<_> = line.trim_start_matches("//!").split('|').map(str::trim).collect();
        if let [_, layer, modules, ..] = cells[..]
            && let Ok(layer) = layer.parse::<usize>()
        {
            for module in modules.split('`').skip(1).step_by(2) {
                declared.insert(module.trim_end_matches('/').to_owned(), layer);
            }
        }
    }
    for module in library.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')) {
        assert_eq!(
            declared.get(module).copied(),
            layer_of(module),
            "src/lib.rs: `{module}` stands in another layer in the map than in tests/layers.rs"
        );
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

// --- the rules ---

/// Every breach in one file, as `file:line: rule`. `name` is relative to the root of the project, as `src/repo/pack.rs`.
fn breaches(name: &str, text: &str) -> Vec<String> {
    let inside = name.strip_prefix("src/").unwrap_or(name).trim_end_matches(".rs");
    let mut module: Vec<&str> = inside.split('/').collect();
    if matches!(module.last(), Some(&"mod" | &"lib")) {
        module.pop();
    }
    if module.last().is_some_and(|m| *m == "tests" || m.ends_with("_tests")) || module.contains(&"tests") {
        return Vec::new();
    }
    let (tokens, test_lines) = without_tests(tokens(text));
    let code = without_attributes(&tokens);
    let mut found = Vec::new();
    documentation(text, name, &mut found);
    lengths(text, &code, test_lines, &mut found);
    calls(name, &module, &code, &mut found);
    if let Some(top) = module.first() {
        edges(top, module.len(), &code, &mut found);
    }
    found.into_iter().map(|(line, rule)| format!("{name}:{line}: {rule}")).collect()
}

type Found = Vec<(usize, String)>;

fn documentation(text: &str, name: &str, found: &mut Found) {
    let lines = text.lines().take_while(|l| l.starts_with("//!")).count();
    if lines == 0 {
        found.push((1, "a module begins with `//!`: its purpose, its invariants, what it does not do".into()));
    } else if lines > MODULE_DOC_LINES && name != "src/lib.rs" {
        found.push((lines, format!("{lines} lines of module documentation; {MODULE_DOC_LINES} are enough")));
    }
    for (number, line) in text.lines().enumerate() {
        if ["TODO", "FIXME", "XXX"].iter().any(|mark| line.contains(&format!("// {mark}"))) {
            found.push((number + 1, "unfinished work is an issue, not a comment".into()));
        }
    }
}

fn lengths(text: &str, code: &[Token], test_lines: usize, found: &mut Found) {
    let lines = text.lines().count() - test_lines;
    if lines > FILE_LINES {
        let rule = format!("{lines} lines without tests; split by ability above {FILE_LINES}");
        found.push((lines, rule));
    }
    for (at, pair) in code.windows(2).enumerate() {
        let [keyword, name] = pair else { continue };
        if keyword.text != "fn" || !name.is_word() {
            continue;
        }
        let end = code.get(end_of_item(code, at)).map_or(keyword.line, |t| t.line);
        let lines = end - keyword.line;
        if lines > FUNCTION_LINES {
            let rule = format!("function `{}` has {lines} lines; {FUNCTION_LINES} are enough", name.text);
            found.push((keyword.line, rule));
        }
    }
}

fn calls(name: &str, module: &[&str], code: &[Token], found: &mut Found) {
    let job = layer_of("job").unwrap();
    let quiet = module.first().and_then(|m| layer_of(m)).is_some_and(|layer| layer < job);
    for (at, token) in code.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |i| code[i].text.as_str());
        let after = code.get(at + 1).map_or("", |t| t.text.as_str());
        let rule = match token.text.as_str() {
            "rename" | "renameat" | "renameat_with" | "persist_noclobber"
                if name != "src/durable.rs" && before == "::" =>
            {
                "only src/durable.rs renames files"
            }
            // The same in disguise: it renames the file into place.
            "NamedTempFile" | "TempPath" if name != "src/durable.rs" => {
                "only src/durable.rs renames files: take its TempFile"
            }
            "bollard" if !name.starts_with("src/exec/docker/") => "only src/exec/docker/ names bollard",
            "now" if name != "src/clock.rs" && before == "::" && code[at.saturating_sub(2)].text == "Timestamp" => {
                "only src/clock.rs asks what time it is"
            }
            "unwrap" if before == "." && after == "(" => {
                "no `unwrap` outside tests: `expect` with the reason, or an error"
            }
            "todo" | "dbg" | "unimplemented" | "panic" if after == "!" => {
                "no `todo!`, `dbg!`, `unimplemented!` or `panic!` outside tests"
            }
            "print" | "println" | "eprint" | "eprintln" if after == "!" && quiet => "nothing below job/ prints",
            _ => continue,
        };
        found.push((token.line, rule.into()));
    }
}

/// `crate::x`, `crate::{x, y::z}`, and as many `super::` as lead out of the top-level module `top`.
fn edges(top: &str, depth: usize, code: &[Token], found: &mut Found) {
    let is = |at: usize, text: &str| code.get(at).is_some_and(|t: &Token| t.text == text);
    let Some(own) = layer_of(top) else {
        found.push((1, format!("module `{top}` has no layer: add it to LAYERS in tests/layers.rs and to src/lib.rs")));
        return;
    };
    for at in 0..code.len() {
        let mut next = at;
        if (is(at, "crate") || (top == "main" && is(at, "bkp"))) && is(at + 1, "::") {
            next += 2;
        } else if is(at, "super") && !(at > 0 && is(at - 1, "::")) {
            let mut ups = 0;
            while is(next, "super") && is(next + 1, "::") {
                ups += 1;
                next += 2;
            }
            if ups < depth {
                continue;
            }
        } else {
            continue;
        }
        for target in first_names(&code[next..]) {
            let allowed = target.text == top
                || WITHIN_A_LAYER.contains(&(top, target.text.as_str()))
                || layer_of(&target.text).is_some_and(|layer| layer < own);
            if !allowed {
                let rule = format!("`{top}` may not import `{}`: it is not in a layer below", target.text);
                found.push((target.line, rule));
            }
        }
    }
}

/// The name at the beginning of a path, or each name of a group `{a, b::{c}, d}`.
fn first_names(code: &[Token]) -> Vec<&Token> {
    match code.first() {
        Some(token) if token.is_word() => vec![token],
        Some(token) if token.text == "{" => {
            let end = matching(code, 0);
            let (mut depth, mut names) = (0, Vec::new());
            for (at, token) in code[..end].iter().enumerate() {
                match token.text.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ if depth == 1 && token.is_word() && matches!(code[at - 1].text.as_str(), "{" | ",") => {
                        names.push(token)
                    }
                    _ => {}
                }
            }
            names
        }
        _ => Vec::new(),
    }
}

// --- reading Rust as tokens ---

#[derive(Clone, Debug)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// Words, `::` and single signs. Comments, strings and character literals leave nothing.
fn tokens(text: &str) -> Vec<Token> {
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut line, mut found) = (0, 1, Vec::new());
    while at < text.len() {
        let end = match text[at] {
            '/' if text.get(at + 1) == Some(&'/') => position(&text, at, "\n").saturating_sub(1),
            '/' if text.get(at + 1) == Some(&'*') => end_of_block_comment(&text, at),
            '"' => end_of_string(&text, at),
            'r' | 'b' | 'c' if raw_string(&text, at).is_some() => raw_string(&text, at).unwrap(),
            '\'' if text.get(at + 1) == Some(&'\\') => position(&text, at + 3, "'"),
            '\'' if text.get(at + 2) == Some(&'\'') => at + 3,
            c if c.is_alphanumeric() || c == '_' => {
                let end = at + text[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
                found.push(Token { text: text[at..end].iter().collect(), line });
                end
            }
            ':' if text.get(at + 1) == Some(&':') => {
                found.push(Token { text: "::".into(), line });
                at + 2
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token { text: c.into(), line });
                }
                at + 1
            }
        };
        line += text[at..end.min(text.len())].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    found
}

/// Just after the next `what`, or the end.
fn position(text: &[char], from: usize, what: &str) -> usize {
    let what: Vec<char> = what.chars().collect();
    (from..text.len()).find(|at| text[*at..].starts_with(&what)).map_or(text.len(), |at| at + what.len())
}

fn end_of_block_comment(text: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < text.len() {
        match text[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_string(text: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The end of `r"…"`, `br#"…"#` and their like, when one begins here.
fn raw_string(text: &[char], from: usize) -> Option<usize> {
    if from > 0 && (text[from - 1].is_alphanumeric() || text[from - 1] == '_') {
        return None;
    }
    let mut at = from + usize::from(matches!(text[from], 'b' | 'c'));
    if text.get(at) != Some(&'r') {
        return (text.get(at) == Some(&'"')).then(|| end_of_string(text, at));
    }
    at += 1;
    let hashes = text[at..].iter().take_while(|c| **c == '#').count();
    (text.get(at + hashes) == Some(&'"')).then(|| position(text, at + hashes + 1, &format!("\"{}", "#".repeat(hashes))))
}

/// Drops what `#[cfg(test)]` stands before, and says how many lines that was.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, usize) {
    let (mut at, mut lines, mut kept) = (0, 0, Vec::new());
    while at < tokens.len() {
        let marks = ["#", "[", "cfg", "(", "test", ")", "]"];
        if tokens.len() >= at + marks.len() && (0..marks.len()).all(|i| tokens[at + i].text == marks[i]) {
            let mut item = at;
            while tokens.get(item).is_some_and(|t| t.text == "#") {
                item = matching(&tokens, item + 1) + 1;
            }
            let end = end_of_item(&tokens, item).min(tokens.len() - 1);
            lines += tokens[end].line - tokens[at].line + 1;
            at = end + 1;
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    (kept, lines)
}

fn without_attributes(tokens: &[Token]) -> Vec<Token> {
    let (mut at, mut kept) = (0, Vec::new());
    while at < tokens.len() {
        let inner = usize::from(tokens.get(at + 1).is_some_and(|t| t.text == "!"));
        if tokens[at].text == "#" && tokens.get(at + 1 + inner).is_some_and(|t| t.text == "[") {
            at = matching(tokens, at + 1 + inner) + 1;
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The sign that closes the one at `open`.
fn matching(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// The `;` or the closing brace of the item that begins at `from`.
fn end_of_item(tokens: &[Token], from: usize) -> usize {
    let mut at = from;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at,
            "{" => return matching(tokens, at),
            "(" | "[" => at = matching(tokens, at) + 1,
            _ => at += 1,
        }
    }
    at
}

// --- the rules catch what they are for ---

/// The one breach of a sample that has a module documentation put before it.
fn caught(name: &str, sample: &str) -> String {
    let found = breaches(name, &format!("//! Sample.\n{sample}"));
    assert_eq!(found.len(), 1, "{name}: one breach expected in\n{sample}\nfound {found:#?}");
    found.into_iter().next().unwrap()
}

fn clean(name: &str, sample: &str) {
    assert_eq!(breaches(name, &format!("//! Sample.\n{sample}")), Vec::<String>::new(), "{sample}");
}

#[test]
fn an_import_from_a_layer_above_or_beside_is_caught() {
    assert_eq!(
        caught("src/repo/pack.rs", "use crate::error::Result;\nuse crate::engine::Sink;"),
        "src/repo/pack.rs:3: `repo` may not import `engine`: it is not in a layer below"
    );
    caught("src/engine/volume/walk.rs", "use crate::repo;");
    caught("src/engine/volume/walk.rs", "fn f() { crate::repo::write::pack(); }");
    caught("src/engine/volume/walk.rs", "use super::super::super::repo::Pack;");
    caught("src/store/s3.rs", "use crate::{error::{Result, Failure}, job::backup};");
    caught("src/store/mod.rs", "impl crate::exec::Exec for X {}");
    caught("src/error.rs", "use super::durable;");
    caught("src/novelty.rs", "fn f() {}");
    clean("src/engine/volume/walk.rs", "use super::super::Sink; use crate::store::{self, Store};");
    clean("src/job/backup.rs", "use crate::{engine, repo::{self, write}, event::Event as engine_event};");
    clean("src/durable.rs", "use crate::error::Result;");
    clean("src/main.rs", "fn main() { bkp::cli::main(); }");
    clean("src/repo/mod.rs", "/// Unlike [`crate::engine`].\nconst A: &str = \"crate::engine\"; // crate::job");
}

#[test]
fn a_rename_outside_its_module_is_caught() {
    assert!(
        caught("src/store/directory.rs", "fn f() { std::fs::rename(a, b); }")
            .ends_with("only src/durable.rs renames files")
    );
    caught("src/store/directory.rs", "use std::fs::rename;");
    caught("src/store/directory.rs", "use tempfile::NamedTempFile;");
    clean("src/durable.rs", "fn f() { std::fs::rename(a, b); }");
    clean("src/store/directory.rs", "#[serde(rename = \"a\", rename_all = \"b\")]\nstruct A;");
}

#[test]
fn a_look_at_the_clock_past_its_module_is_caught() {
    caught("src/job/backup.rs", "fn f() { let now = jiff::Timestamp::now(); }");
    clean("src/clock.rs", "fn f() { Timestamp::now(); }");
    clean("src/job/backup.rs", "fn f() { Instant::now(); crate::clock::now(); }");
}

#[test]
fn a_foreign_crate_in_the_wrong_place_is_caught() {
    caught("src/job/backup.rs", "use bollard::Docker;");
    clean("src/exec/docker/mod.rs", "use bollard::Docker;");
}

#[test]
fn what_belongs_into_tests_or_to_the_command_line_is_caught() {
    caught("src/job/backup.rs", "fn f() { a.unwrap(); }");
    caught("src/job/backup.rs", "fn f() { let c = '\\''; a.unwrap(); }");
    caught("src/job/backup.rs", "fn f<'a>() { todo!() }");
    caught("src/job/backup.rs", "fn f() { dbg!(1); }");
    caught("src/job/backup.rs", "fn f() { panic!(\"x\"); }");
    caught("src/job/backup.rs", "// TODO later\nfn f() {}");
    caught("src/repo/pack.rs", "fn f() { eprintln!(\"{a}\"); }");
    clean("src/cli/mod.rs", "fn f() { println!(\"{a}\"); }");
    clean("src/job/backup.rs", "fn f() { a.unwrap_or(b).expect(\"why\"); }");
    clean("src/job/backup.rs", "#[cfg(test)]\nmod tests {\n#[test]\nfn f() { a.unwrap(); println!(\"}\"); }\n}");
    clean("src/job/backup/tests.rs", "fn f() { a.unwrap(); }");
    caught("src/job/backup.rs", "#[cfg(test)]\nmod tests { fn f() { a.unwrap(); } }\nfn g() { b.unwrap(); }");
    clean("src/job/backup.rs", "const A: &str = r#\"\" .unwrap() \"#; const B: u8 = b'\"'; const C: char = '\"';");
}

#[test]
fn what_is_too_long_is_caught() {
    let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    a();\n".repeat(lines));
    assert!(caught("src/job/backup.rs", &body(FUNCTION_LINES)).contains("function `f` has 61 lines"));
    clean("src/job/backup.rs", &body(FUNCTION_LINES - 1));
    caught("src/job/backup.rs", &"const A: u8 = 0;\n".repeat(FILE_LINES));
    clean("src/job/backup.rs", &"const A: u8 = 0;\n".repeat(FILE_LINES - 1));
    let test = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "const A: u8 = 0;\n".repeat(FILE_LINES));
    clean("src/job/backup.rs", &test);
}

#[test]
fn a_module_without_a_purpose_is_caught() {
    assert_eq!(breaches("src/job/backup.rs", "fn f() {}\n").len(), 1);
    caught("src/job/backup.rs", &"//! More.\n".repeat(MODULE_DOC_LINES));
    clean("src/lib.rs", &"//! More.\n".repeat(MODULE_DOC_LINES + 10));
}
