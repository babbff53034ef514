//! The report as Markdown: for a ticket, a wiki, or to compare with the one before. Charts are told by their descriptions.
//!
//! Names cannot make markup: what Markdown or HTML would take for a sign is escaped.

use super::document::{Block, Document, Section, Table};
use super::text::Text;
use std::fmt::Write as _;

pub fn page(document: &Document) -> String {
    let mut page = format!("# {}\n\n{}\n\n", escaped(&document.title), escaped(&document.subtitle));
    pairs(&document.facts, &mut page);
    for (number, section) in document.sections.iter().enumerate() {
        part(number + 1, section, &mut page);
    }
    let _ = writeln!(page, "---\n\n{}", escaped(&document.footer));
    page
}

fn part(number: usize, section: &Section, page: &mut String) {
    let _ = writeln!(page, "## {number}. {}\n", escaped(&section.title));
    for block in &section.blocks {
        match block {
            Block::Paragraph(text) => *page += &format!("{}\n\n", escaped(text)),
            Block::Notice(text) => *page += &format!("> {}\n\n", escaped(text)),
            Block::Heading(text) => *page += &format!("### {}\n\n", escaped(text)),
            Block::List(lines) => {
                lines.iter().for_each(|line| *page += &format!("- {}\n", escaped(line)));
                page.push('\n');
            }
            Block::Pairs(all) => pairs(all, page),
            Block::Table(one) => table(one, page),
            Block::Chart(chart) => {
                let _ = writeln!(page, "*{}* {}\n", escaped(&chart.title), escaped(&chart.description));
            }
            Block::Commands(lines) => {
                lines.iter().for_each(|line| *page += &format!("    {line}\n"));
                page.push('\n');
            }
            Block::Signatures(blocks) => {
                for lines in blocks {
                    lines.iter().for_each(|line| *page += &format!("- {}: ______________________\n", escaped(line)));
                    page.push('\n');
                }
            }
        }
    }
}

fn pairs(all: &[(Text, Text)], page: &mut String) {
    for (name, value) in all {
        let _ = writeln!(page, "- {}: {}", escaped(name), escaped(value));
    }
    page.push('\n');
}

fn table(table: &Table, page: &mut String) {
    let _ = writeln!(page, "**{}**\n", escaped(&table.caption));
    if table.rows.is_empty() {
        let _ = writeln!(page, "{}\n", escaped(&table.empty));
        return;
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    *page += &line(table.columns.iter().map(|column| escaped(&column.title)).collect());
    *page += &line(table.columns.iter().map(|column| if column.number { "---:" } else { "---" }.to_owned()).collect());
    for row in &table.rows {
        *page += &line(row.iter().map(|cell| escaped(&cell.text)).collect());
    }
    page.push('\n');
}

fn escaped(text: &Text) -> String {
    let mut escaped = String::with_capacity(text.as_str().len());
    for c in text.as_str().chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                escaped.push('\\');
                escaped.push(c);
            }
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_no_markup() {
        let hostile = Text::of("<script>|a|[x](javascript:y) `b` *c* #d");
        let shown = escaped(&hostile);
        assert_eq!(shown, "&lt;script&gt;\\|a\\|\\[x\\](javascript:y) \\`b\\` \\*c\\* \\#d");
    }
}
