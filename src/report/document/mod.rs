//! The report as a document: sections of paragraphs, tables and charts, in one language, before it is known how it is written
//! down. HTML, PDF and Markdown show the same document.
//!
//! [`compose`] is pure. Every text in it has been through [`Text`], so that no name steers anything.

pub mod chart;
mod clauses;
mod exceptions;
mod former;
mod integrity;
mod overview;
mod policies;
mod restores;
mod rotations;
mod runs;
mod safekeeping;
mod scope;
mod trust;

use super::basis::Basis;
use super::frameworks::Framework;
use super::say::Say;
use super::text::Text;
use crate::watch::Language;
pub use chart::Chart;

#[derive(Clone, Debug)]
pub struct Document {
    pub language: Language,
    pub title: Text,
    pub subtitle: Text,
    /// What stands on the first page: period, host, repository.
    pub facts: Vec<(Text, Text)>,
    pub sections: Vec<Section>,
    pub footer: Text,
}

#[derive(Clone, Debug)]
pub struct Section {
    pub title: Text,
    pub blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
pub enum Block {
    Paragraph(Text),
    /// What must not be read over.
    Notice(Text),
    Heading(Text),
    List(Vec<Text>),
    Pairs(Vec<(Text, Text)>),
    Table(Table),
    Chart(Chart),
    /// Commands, one a line.
    Commands(Vec<Text>),
    /// Who prepared it, who reviewed it: lines to write on.
    Signatures(Vec<Vec<Text>>),
}

#[derive(Clone, Debug)]
pub struct Table {
    pub caption: Text,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    /// Said instead of a table without rows.
    pub empty: Text,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub title: Text,
    /// How much of the width it takes, beside the others.
    pub weight: u16,
    pub number: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    pub text: Text,
    pub tone: Tone,
}

/// What a thing means. Never told by colour alone: the words say it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Well,
    Warn,
    Bad,
    Soft,
}

impl Cell {
    pub fn of(text: impl Into<Text>) -> Self {
        Cell { text: text.into(), tone: Tone::Plain }
    }

    pub fn toned(text: impl Into<Text>, tone: Tone) -> Self {
        Cell { text: text.into(), tone }
    }

    pub fn soft(text: impl Into<Text>) -> Self {
        Cell::toned(text, Tone::Soft)
    }
}

impl Table {
    /// Columns as title and weight; a title that ends in `>` is of numbers.
    pub fn new(caption: &str, empty: &str, columns: &[(&str, u16)]) -> Self {
        let column = |(title, weight): &(&str, u16)| Column {
            title: Text::of(title.trim_end_matches('>')),
            weight: *weight,
            number: title.ends_with('>'),
        };
        Table {
            caption: caption.into(),
            columns: columns.iter().map(column).collect(),
            rows: Vec::new(),
            empty: empty.into(),
        }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }
}

impl Section {
    fn new(title: &str) -> Self {
        Section { title: title.into(), blocks: Vec::new() }
    }

    fn paragraph(&mut self, text: impl Into<Text>) {
        self.blocks.push(Block::Paragraph(text.into()));
    }

    fn notice(&mut self, text: impl Into<Text>) {
        self.blocks.push(Block::Notice(text.into()));
    }

    fn heading(&mut self, text: &str) {
        self.blocks.push(Block::Heading(text.into()));
    }

    fn pairs(&mut self, pairs: Vec<(&str, String)>) {
        self.blocks.push(Block::Pairs(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect()));
    }

    fn table(&mut self, table: Table) {
        self.blocks.push(Block::Table(table));
    }

    /// Longer tables than anybody reads are cut, and what they had is told.
    fn cut_tables(&mut self, say: Say<'_>) {
        const MOST: usize = 1000;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for mut block in self.blocks.drain(..) {
            let mut more = 0;
            if let Block::Table(table) = &mut block {
                more = table.rows.len().saturating_sub(MOST);
                table.rows.truncate(MOST);
            }
            blocks.push(block);
            if more > 0 {
                blocks.push(Block::Notice(Text::from(format!(
                    "{} {}",
                    say.number(more as u64),
                    say.t(
                        "more are in the reports of the formats CSV and JSON for the same period.",
                        "más figuran en los informes en formato CSV y JSON del mismo periodo."
                    )
                ))));
            }
        }
        self.blocks = blocks;
    }
}

/// What a section is made from.
#[derive(Clone, Copy)]
struct Writing<'a> {
    basis: &'a Basis,
    say: Say<'a>,
}

pub fn compose(basis: &Basis, framework: Option<&Framework>, language: Language) -> Document {
    let say = Say { language, zone: &basis.period.zone };
    let writing = Writing { basis, say };
    let exceptions = exceptions::of(&writing);
    let mut sections = vec![overview::section(&writing, &exceptions)];
    sections.extend(framework.map(|framework| clauses::section(&writing, framework)));
    sections.extend([
        scope::section(&writing),
        policies::section(&writing),
        runs::section(&writing),
        exceptions::section(&writing, &exceptions),
        restores::section(&writing),
        safekeeping::copies(&writing),
        safekeeping::keys(&writing),
        safekeeping::deletions(&writing),
        trust::clocks(&writing),
        integrity::section(&writing),
        trust::signatures(&writing),
    ]);
    sections.iter_mut().for_each(|section| section.cut_tables(say));
    let title = match framework {
        Some(framework) => format!(
            "{}: {}",
            say.t("Evidence of backup and recovery", "Evidencias de copias de seguridad y recuperación"),
            say.of(framework.name)
        ),
        None => say.t("Report on backup and recovery", "Informe de copias de seguridad y recuperación").to_owned(),
    };
    Document {
        language,
        title: title.into(),
        subtitle: writing.period().into(),
        facts: overview::front(&writing, framework),
        sections,
        footer: format!("bkp {} · {} · {}", env!("CARGO_PKG_VERSION"), basis.host, say.when(basis.made_at)).into(),
    }
}

impl Writing<'_> {
    /// `1 October 2026 to 31 December 2026 (America/Bogota)`
    fn period(&self) -> String {
        let (say, period) = (self.say, &self.basis.period);
        format!("{} {} {} ({})", say.date(period.first_day), say.t("to", "al"), say.date(period.last_day), self.zone())
    }

    fn zone(&self) -> String {
        let zone = &self.basis.period.zone;
        zone.iana_name().unwrap_or(self.say.t("zone of the host", "zona del equipo")).to_owned()
    }

    fn not_recorded(&self) -> &'static str {
        self.say.of(super::say::said("not recorded", "no consta"))
    }

    /// Why something is not in the report.
    fn not_seen(&self, section: &mut Section, what: (&str, &str), why: &str) {
        section.notice(format!(
            "{} {}: {}",
            self.say.t(what.0, what.1),
            self.say.t("could not be seen when this report was made", "no se pudo consultar al elaborar este informe"),
            super::recorded::quoted(why, self.say)
        ));
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// All text of a document, one piece a line.
    pub fn text_of(document: &Document) -> String {
        let mut text = format!("{}\n{}\n", document.title, document.subtitle);
        let pairs = |pairs: &[(Text, Text)]| pairs.iter().map(|(a, b)| format!("{a}: {b}\n")).collect::<String>();
        text += &pairs(&document.facts);
        for section in &document.sections {
            text += &format!("# {}\n", section.title);
            for block in &section.blocks {
                text += &match block {
                    Block::Paragraph(text) | Block::Notice(text) | Block::Heading(text) => format!("{text}\n"),
                    Block::List(lines) | Block::Commands(lines) => lines.iter().map(|l| format!("{l}\n")).collect(),
                    Block::Pairs(all) => pairs(all),
                    Block::Table(table) if table.rows.is_empty() => format!("{}\n", table.empty),
                    Block::Table(table) => table
                        .rows
                        .iter()
                        .map(|row| row.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join(" | ") + "\n")
                        .collect(),
                    Block::Chart(chart) => format!("{}\n", chart.description),
                    Block::Signatures(blocks) => blocks.iter().flatten().map(|t| format!("{t}\n")).collect(),
                };
            }
        }
        text
    }
}
