//! The report as PDF: tagged, so that it can be read aloud (PDF/UA-1), fit to be kept (PDF/A-2a), with its fonts in it.
//!
//! Two steps: [`layout`] sets the document on sheets and notes which piece belongs to which part of it; `draw` puts the sheets
//! down with krilla and hands it that structure. krilla checks both standards, and what breaks them is an error, not a file.

mod draw;
mod font;
mod layout;
mod sheet;
mod table;

use super::document::Document;
use crate::error::{Failure, Result};
use jiff::Timestamp;

/// The whole file.
pub fn file(document: &Document, made_at: Timestamp) -> Result<Vec<u8>> {
    let fonts = font::Fonts::load().ok_or_else(|| Failure::failed("the fonts of bkp itself cannot be read"))?;
    let sheets = layout::set(document, &fonts);
    draw::draw(document, &sheets, &fonts, made_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::chart::{HeatMap, Trend};
    use crate::report::document::{Block, Cell, Section, Table, Tone};
    use crate::report::text::Text;
    use crate::watch::Language;

    fn document(blocks: Vec<Block>) -> Document {
        Document {
            language: Language::Spanish,
            title: Text::of("Evidencia de copias de seguridad"),
            subtitle: Text::of("1 de octubre al 31 de diciembre"),
            facts: vec![(Text::of("Equipo"), Text::of("web-01"))],
            sections: vec![Section { title: Text::of("Años, ñandúes y «comillas»"), blocks }],
            footer: Text::of("bkp"),
        }
    }

    fn made(document: &Document) -> Vec<u8> {
        file(document, "2026-11-30T00:00:00Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn every_block_is_set_and_both_standards_hold() {
        let mut table = Table::new("Tabla", "vacía", &[("Qué", 3), ("Cuánto>", 1)]);
        for number in 0..200 {
            table.row(vec![
                Cell::of("una celda con bastante texto ".repeat(number % 7)),
                Cell::toned(number.to_string(), Tone::Bad),
            ]);
        }
        let heat = HeatMap {
            rows: vec![(Text::of("app"), vec![(Tone::Well, Text::of("x")); 92])],
            ticks: vec![(0, Text::of("2026-10-01"))],
            legend: vec![(Tone::Bad, Text::of("fallida"))],
        };
        let trend = Trend {
            values: vec![(0.0, 1.0, Tone::Well, Text::of("a")), (1.0, 2.0, Tone::Bad, Text::of("b"))],
            objective: Some(1.5),
            joined: true,
            ticks: vec![],
            scale: |v| v.to_string(),
        };
        let blocks = vec![
            Block::Paragraph(Text::of("Texto")),
            Block::Notice(Text::of("Atención")),
            Block::Heading(Text::of("Título")),
            Block::List(vec![Text::of("uno"), Text::of("dos")]),
            Block::Pairs(vec![(Text::of("a"), Text::of("b"))]),
            Block::Table(table),
            Block::Table(Table::new("Otra", "nada", &[("x", 1)])),
            Block::Chart(heat.draw(Text::of("Mapa"), Text::of("descripción"))),
            Block::Chart(trend.draw(Text::of("Curva"), Text::of("descripción"))),
            Block::Commands(vec![Text::of("bkp journal verify")]),
            Block::Signatures(vec![vec![Text::of("Elaborado por"), Text::of("Firma")]; 2]),
        ];
        let pdf = made(&document(blocks));
        assert!(pdf.starts_with(b"%PDF-1.7"));
    }

    #[test]
    fn no_text_is_too_strange_or_too_long() {
        let hostile = ["日本語 🦀 \u{5d0}\u{5d1}", "", " ", "\u{301}", &"x".repeat(5000), &"palabra ".repeat(3000)];
        let mut table = Table::new("t", "", &[("a", 1), ("b", 40)]);
        for text in hostile {
            table.row(vec![Cell::of(text), Cell::of(text)]);
        }
        let paragraphs = hostile.iter().map(|text| Block::Paragraph(Text::of(text)));
        assert!(!made(&document(paragraphs.chain([Block::Table(table)]).collect())).is_empty());
    }
}
