//! The report as one HTML file that needs nothing else: no script, no font, no address. It prints well, and reads well aloud.
//!
//! Everything is escaped by maud; styles and charts are in the file. Colours keep a contrast of 4.5:1 on white, and no
//! meaning is told by colour alone.

use super::document::chart::{Anchor, Mark};
use super::document::{Block, Cell, Chart, Document, Section, Table, Tone};
use super::text::Text;
use crate::watch::Language;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("html.css");

pub fn page(document: &Document) -> String {
    let contents = match document.language {
        Language::English => "Contents",
        Language::Spanish => "Índice",
    };
    let markup = html! {
        (DOCTYPE)
        html lang=(document.language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (document.title) " – " (document.subtitle) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (document.title) }
                    p class="subtitle" { (document.subtitle) }
                    (pairs(&document.facts))
                }
                nav aria-label=(contents) {
                    h2 { (contents) }
                    ol {
                        @for (number, section) in document.sections.iter().enumerate() {
                            li { a href=(format!("#s{}", number + 1)) { (section.title) } }
                        }
                    }
                }
                main {
                    @for (number, section) in document.sections.iter().enumerate() { (part(number + 1, section)) }
                }
                footer { p { (document.footer) } }
            }
        }
    };
    markup.into_string()
}

impl maud::Render for Text {
    fn render_to(&self, buffer: &mut String) {
        self.as_str().render_to(buffer);
    }
}

fn part(number: usize, section: &Section) -> Markup {
    html! {
        section id=(format!("s{number}")) aria-labelledby=(format!("h{number}")) {
            h2 id=(format!("h{number}")) { (number) ". " (section.title) }
            @for block in &section.blocks { (of_block(block)) }
        }
    }
}

fn of_block(block: &Block) -> Markup {
    match block {
        Block::Paragraph(text) => html! { p { (text) } },
        Block::Notice(text) => html! { p class="notice" { (text) } },
        Block::Heading(text) => html! { h3 { (text) } },
        Block::List(lines) => html! { ul { @for line in lines { li { (line) } } } },
        Block::Pairs(all) => pairs(all),
        Block::Table(one) => table(one),
        Block::Chart(one) => chart(one),
        Block::Commands(lines) => html! { pre { @for line in lines { (line) "\n" } } },
        Block::Signatures(blocks) => html! {
            div class="signatures" {
                @for lines in blocks {
                    div class="signature" {
                        @for (number, line) in lines.iter().enumerate() {
                            @if number == 0 { p class="who" { (line) } }
                            @else { p class="line" { span { (line) } } }
                        }
                    }
                }
            }
        },
    }
}

fn pairs(all: &[(Text, Text)]) -> Markup {
    html! { dl { @for (name, value) in all { div { dt { (name) } dd { (value) } } } } }
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Well => "well",
        Tone::Warn => "warn",
        Tone::Bad => "bad",
        Tone::Soft => "soft",
    }
}

fn table(table: &Table) -> Markup {
    if table.rows.is_empty() {
        return html! { p class="empty" { b { (table.caption) } ". " (table.empty) } };
    }
    let weights: u32 = table.columns.iter().map(|column| u32::from(column.weight)).sum();
    let width = |weight: u16| format!("width:{:.2}%", f64::from(weight) * 100.0 / f64::from(weights.max(1)));
    html! {
        div class="wide" {
            table {
                caption { (table.caption) }
                colgroup { @for column in &table.columns { col style=(width(column.weight)); } }
                thead {
                    tr { @for column in &table.columns { th scope="col" class=[column.number.then_some("number")] { (column.title) } } }
                }
                tbody {
                    @for row in &table.rows {
                        tr { @for (cell, column) in row.iter().zip(&table.columns) { (of_cell(cell, column.number)) } }
                    }
                }
            }
        }
    }
}

fn of_cell(cell: &Cell, number: bool) -> Markup {
    let class = match (cell.tone, number) {
        (Tone::Plain, false) => None,
        (Tone::Plain, true) => Some("number".to_owned()),
        (tone, false) => Some(class(tone).to_owned()),
        (tone, true) => Some(format!("{} number", class(tone))),
    };
    html! { td class=[class] { (cell.text) } }
}

fn chart(chart: &Chart) -> Markup {
    html! {
        figure {
            figcaption { (chart.title) }
            svg viewBox=(format!("0 0 {} {}", chart.width, chart.height)) role="img" aria-label=(chart.description) {
                @for mark in &chart.marks { (of_mark(mark)) }
            }
            p class="described" { (chart.description) }
        }
    }
}

fn of_mark(mark: &Mark) -> Markup {
    let n = |value: &f32| format!("{value:.1}");
    match mark {
        Mark::Rectangle { x, y, width, height, tone, title } => html! {
            rect x=(n(x)) y=(n(y)) width=(n(width)) height=(n(height)) class=(class(*tone)) { title { (title) } }
        },
        Mark::Line { points, tone, dashed } => {
            let points = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
            let class = format!("{}{}", class(*tone), if *dashed { " dashed" } else { "" });
            html! { polyline points=(points) class=(class) {} }
        }
        Mark::Dot { x, y, tone, title } => html! {
            circle cx=(n(x)) cy=(n(y)) r="3" class=(class(*tone)) { title { (title) } }
        },
        Mark::Label { x, y, text, anchor } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            html! { text x=(n(x)) y=(n(y)) text-anchor=(anchor) { (text) } }
        }
    }
}
