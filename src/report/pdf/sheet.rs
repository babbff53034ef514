//! What is on the pages, and the structure that it has: the result of the layout, before anything is drawn.

use crate::report::document::Tone;
use crate::report::text::Text;

pub const WIDTH: f32 = 595.28;
pub const HEIGHT: f32 = 841.89;
pub const LEFT: f32 = 45.0;
pub const RIGHT: f32 = 550.0;
pub const TOP: f32 = 48.0;
pub const BOTTOM: f32 = 786.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    pub size: f32,
    pub bold: bool,
    pub color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    Ink,
    Soft,
    Accent,
    Well,
    Warn,
    Bad,
    Line,
    Head,
    Notice,
    Cell(Tone),
}

impl Color {
    pub fn of(tone: Tone) -> Self {
        match tone {
            Tone::Plain => Color::Ink,
            Tone::Soft => Color::Soft,
            Tone::Well => Color::Well,
            Tone::Warn => Color::Warn,
            Tone::Bad => Color::Bad,
        }
    }

    /// Red, green, blue. On white, text keeps a contrast of 4.5:1.
    pub fn rgb(self) -> (u8, u8, u8) {
        match self {
            Color::Ink => (0x1c, 0x24, 0x30),
            Color::Soft => (0x5a, 0x64, 0x72),
            Color::Accent => (0x1f, 0x4e, 0x79),
            Color::Well => (0x1d, 0x6b, 0x3a),
            Color::Warn => (0x8a, 0x52, 0x00),
            Color::Bad => (0xa3, 0x16, 0x2a),
            Color::Line => (0xd8, 0xde, 0xe5),
            Color::Head => (0xee, 0xf2, 0xf6),
            Color::Notice => (0xfd, 0xf6, 0xea),
            Color::Cell(Tone::Plain) => (0xed, 0xf0, 0xf3),
            Color::Cell(Tone::Soft) => (0xb4, 0xbd, 0xc8),
            Color::Cell(Tone::Well) => (0x4d, 0x9e, 0x6b),
            Color::Cell(Tone::Warn) => (0xe0, 0xa2, 0x3b),
            Color::Cell(Tone::Bad) => (0xc5, 0x35, 0x4a),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Mark {
    /// Its baseline begins here.
    Text {
        x: f32,
        y: f32,
        text: String,
        style: Style,
    },
    Box {
        x: f32,
        y: f32,
        width: f32,
        height: f32,
        color: Color,
    },
    Line {
        points: Vec<(f32, f32)>,
        width: f32,
        color: Color,
        dashed: bool,
    },
    Dot {
        x: f32,
        y: f32,
        color: Color,
    },
}

/// Marks that are put down together.
#[derive(Clone, Debug)]
pub struct Piece {
    pub marks: Vec<Mark>,
    /// Nothing for what only adorns, or repeats.
    pub leaf: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub struct Sheet {
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    Title,
    /// A section, or a heading inside one.
    Heading(u16, String),
    Paragraph,
    Section,
    List,
    Item,
    Table,
    Caption,
    Head,
    Body,
    Row,
    HeadCell,
    Cell,
    /// What it shows.
    Figure(String),
    Contents,
    Entry,
    Group,
}

#[derive(Clone, Debug)]
pub enum Child {
    Leaf(usize),
    Part(Part),
}

/// A part of the document, in the order of reading.
#[derive(Clone, Debug)]
pub struct Part {
    pub role: Role,
    pub children: Vec<Child>,
}

impl Part {
    pub fn new(role: Role) -> Self {
        Part { role, children: Vec::new() }
    }

    pub fn of(role: Role, leaves: impl IntoIterator<Item = usize>) -> Self {
        Part { role, children: leaves.into_iter().map(Child::Leaf).collect() }
    }

    pub fn push(&mut self, part: Part) {
        self.children.push(Child::Part(part));
    }
}

/// Everything, set.
#[derive(Debug)]
pub struct Sheets {
    pub sheets: Vec<Sheet>,
    pub parts: Vec<Part>,
    /// Where each section begins: sheet, height and title.
    pub sections: Vec<(usize, f32, Text)>,
    pub leaves: usize,
}
