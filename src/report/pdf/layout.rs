//! Sets a document on sheets, from top to bottom: a heading stays with what follows, a chart stays whole, a table goes on under
//! its headings on the next sheet.

use super::font::Fonts;
use super::sheet::{BOTTOM, Child, Color, HEIGHT, LEFT, Mark, Part, Piece, RIGHT, Role, Sheet, Sheets, Style, TOP};
use super::table;
use crate::report::document::chart::{self, Anchor, Chart};
use crate::report::document::{Block, Document, Section};
use crate::report::text::Text;
use crate::watch::Language;

pub const BODY: Style = Style { size: 9.0, bold: false, color: Color::Ink };
const LEADING: f32 = 1.38;

pub struct Setter<'a> {
    pub fonts: &'a Fonts,
    pub sheets: Vec<Sheet>,
    /// Where the next thing goes.
    pub y: f32,
    leaves: usize,
    sections: Vec<(usize, f32, Text)>,
}

pub fn set(document: &Document, fonts: &Fonts) -> Sheets {
    let mut setter = Setter { fonts, sheets: vec![Sheet::default()], y: TOP, leaves: 0, sections: Vec::new() };
    let mut parts = setter.front(document);
    let contents = setter.contents(document);
    let sections = document.sections.iter().enumerate();
    let sections: Vec<Part> = sections.map(|(number, section)| setter.section(number + 1, section)).collect();
    setter.number_contents(&contents, &mut parts);
    parts.extend(sections);
    Sheets { sheets: setter.sheets, parts, sections: setter.sections, leaves: setter.leaves }
}

/// Where the list of contents is to be, once the numbers of its pages are known.
struct Contents {
    title: Text,
    y: f32,
    entries: Vec<Text>,
}

const ENTRY: f32 = 14.5;

impl<'a> Setter<'a> {
    pub fn left_on_sheet(&self) -> f32 {
        BOTTOM - self.y
    }

    pub fn next_sheet(&mut self) {
        self.sheets.push(Sheet::default());
        self.y = TOP;
    }

    /// Begins another sheet where there is less left than this.
    pub fn need(&mut self, height: f32) {
        if self.left_on_sheet() < height && self.y > TOP {
            self.next_sheet();
        }
    }

    /// Puts marks down on the sheet at hand that are a leaf of the structure.
    pub fn put(&mut self, marks: Vec<Mark>) -> usize {
        let leaf = self.leaves;
        self.leaves += 1;
        self.add(Piece { marks, leaf: Some(leaf) });
        leaf
    }

    /// What only adorns.
    pub fn adorn(&mut self, marks: Vec<Mark>) {
        self.add(Piece { marks, leaf: None });
    }

    fn add(&mut self, piece: Piece) {
        self.sheets.last_mut().expect("there is always a sheet").pieces.push(piece);
    }

    pub fn leading(style: Style) -> f32 {
        style.size * LEADING
    }

    /// Text from `x` on, as wide as this, on as many sheets as it takes.
    pub fn text(&mut self, text: &str, style: Style, x: f32, width: f32) -> Vec<usize> {
        let lines = self.fonts.face(style.bold).lines(text, style.size, width);
        let mut leaves = Vec::new();
        for line in lines {
            self.need(Setter::leading(style));
            let mark = Mark::Text { x, y: self.y + style.size, text: line, style };
            leaves.push(self.put(vec![mark]));
            self.y += Setter::leading(style);
        }
        leaves
    }

    fn front(&mut self, document: &Document) -> Vec<Part> {
        let title = Style { size: 20.0, bold: true, color: Color::Accent };
        let mut parts = vec![Part::of(Role::Title, self.text(document.title.as_str(), title, LEFT, RIGHT - LEFT))];
        let subtitle = Style { size: 11.5, bold: false, color: Color::Soft };
        parts.push(Part::of(Role::Paragraph, self.text(document.subtitle.as_str(), subtitle, LEFT, RIGHT - LEFT)));
        self.y += 10.0;
        parts.push(self.pairs(&document.facts));
        parts
    }

    fn contents(&mut self, document: &Document) -> Contents {
        let title = match document.language {
            Language::English => "Contents",
            Language::Spanish => "Índice",
        };
        let entries: Vec<Text> = document.sections.iter().map(|section| section.title.clone()).collect();
        let contents = Contents { title: title.into(), y: self.y + 14.0, entries };
        self.y += 40.0 + ENTRY * document.sections.len() as f32;
        contents
    }

    /// What belongs to the structure, on the first sheet.
    fn put_first(&mut self, marks: Vec<Mark>) -> usize {
        let leaf = self.leaves;
        self.leaves += 1;
        self.sheets[0].pieces.push(Piece { marks, leaf: Some(leaf) });
        leaf
    }

    /// After the facts of the front.
    fn number_contents(&mut self, contents: &Contents, parts: &mut Vec<Part>) {
        let fonts: &'a Fonts = self.fonts;
        let (face, title) = (&fonts.regular, Style { size: 11.0, bold: true, color: Color::Accent });
        let heading = Mark::Text { x: LEFT, y: contents.y + 8.0, text: contents.title.to_string(), style: title };
        parts.push(Part::of(Role::Paragraph, [self.put_first(vec![heading])]));
        let mut list = Part::new(Role::Contents);
        for (number, title) in contents.entries.iter().enumerate() {
            let y = contents.y + 26.0 + ENTRY * number as f32;
            let set = |text: String, x: f32, color| Mark::Text { x, y, text, style: Style { color, ..BODY } };
            let page = self.sections.get(number).map_or(0, |(sheet, ..)| sheet + 1).to_string();
            let text = face.shown(&format!("{}. {title} ", number + 1)).into_owned();
            let (after, before) = (LEFT + face.width(&text, BODY.size), RIGHT - face.width(&page, BODY.size));
            let dots = ".".repeat(((before - after - 6.0).max(0.0) / face.width(".", BODY.size)) as usize);
            let dots = set(dots, after, Color::Line);
            let entry = vec![set(text, LEFT, Color::Ink), set(page, before, Color::Ink)];
            list.push(Part::of(Role::Entry, [self.put_first(entry)]));
            self.sheets[0].pieces.push(Piece { marks: vec![dots], leaf: None });
        }
        parts.push(list);
    }

    fn section(&mut self, number: usize, section: &Section) -> Part {
        // The first one begins beside nothing else.
        if number == 1 {
            self.next_sheet()
        } else {
            self.need(150.0)
        }
        if self.y > TOP {
            self.y += 18.0;
        }
        let mut part = Part::new(Role::Section);
        let title = format!("{number}. {}", section.title);
        self.sections.push((self.sheets.len() - 1, self.y, Text::from(title.as_str())));
        let style = Style { size: 13.5, bold: true, color: Color::Accent };
        part.push(Part::of(Role::Heading(1, title.clone()), self.text(&title, style, LEFT, RIGHT - LEFT)));
        let y = self.y + 1.0;
        let line = Mark::Line { points: vec![(LEFT, y), (RIGHT, y)], width: 1.2, color: Color::Accent, dashed: false };
        self.adorn(vec![line]);
        self.y += 9.0;
        for (at, block) in section.blocks.iter().enumerate() {
            let followed = section.blocks.get(at + 1);
            self.block(block, followed, &mut part);
        }
        part
    }

    fn block(&mut self, block: &Block, followed: Option<&Block>, part: &mut Part) {
        match block {
            Block::Paragraph(text) => {
                part.push(Part::of(Role::Paragraph, self.text(text.as_str(), BODY, LEFT, RIGHT - LEFT)));
                self.y += 6.0;
            }
            Block::Notice(text) => part.push(self.notice(text)),
            Block::Heading(text) => {
                self.need(if matches!(followed, Some(Block::Pairs(_))) { 130.0 } else { 80.0 });
                self.y += 6.0;
                let style = Style { size: 10.5, bold: true, color: Color::Ink };
                let leaves = self.text(text.as_str(), style, LEFT, RIGHT - LEFT);
                part.push(Part::of(Role::Heading(2, text.to_string()), leaves));
                self.y += 3.0;
            }
            Block::List(lines) => part.push(self.list(lines)),
            Block::Pairs(pairs) => part.push(self.pairs(pairs)),
            Block::Table(one) if one.rows.is_empty() => {
                let text = format!("{}. {}", one.caption, one.empty);
                part.push(Part::of(Role::Paragraph, self.text(&text, BODY, LEFT, RIGHT - LEFT)));
                self.y += 8.0;
            }
            Block::Table(one) => part.push(table::set(self, one)),
            Block::Chart(chart) => self.chart(chart, part),
            Block::Commands(lines) => {
                let style = Style { color: Color::Accent, ..BODY };
                for line in lines {
                    part.push(Part::of(
                        Role::Paragraph,
                        self.text(line.as_str(), style, LEFT + 12.0, RIGHT - LEFT - 12.0),
                    ));
                }
                self.y += 8.0;
            }
            Block::Signatures(blocks) => part.push(self.signatures(blocks)),
        }
    }

    fn notice(&mut self, text: &Text) -> Part {
        let width = RIGHT - LEFT - 20.0;
        let lines = self.fonts.regular.lines(text.as_str(), BODY.size, width).len() as f32;
        let height = lines * Setter::leading(BODY) + 10.0;
        let fits = height < BOTTOM - TOP;
        if fits {
            self.need(height);
            let (y, bar) = (self.y, 3.0);
            self.adorn(vec![
                Mark::Box { x: LEFT, y, width: RIGHT - LEFT, height, color: Color::Notice },
                Mark::Box { x: LEFT, y, width: bar, height, color: Color::Warn },
            ]);
            self.y += 5.0;
        }
        let part = Part::of(Role::Paragraph, self.text(text.as_str(), BODY, LEFT + 12.0, width));
        self.y += 13.0;
        part
    }

    fn list(&mut self, lines: &[Text]) -> Part {
        let mut list = Part::new(Role::List);
        for line in lines {
            self.need(Setter::leading(BODY));
            let dot = Mark::Text { x: LEFT + 6.0, y: self.y + BODY.size, text: "•".into(), style: BODY };
            self.adorn(vec![dot]);
            list.push(Part::of(Role::Item, self.text(line.as_str(), BODY, LEFT + 18.0, RIGHT - LEFT - 18.0)));
            self.y += 2.0;
        }
        self.y += 6.0;
        list
    }

    fn pairs(&mut self, pairs: &[(Text, Text)]) -> Part {
        const NAMES: f32 = 140.0;
        let mut group = Part::new(Role::Group);
        for (name, value) in pairs {
            let soft = Style { color: Color::Soft, ..BODY };
            let names = self.fonts.regular.lines(name.as_str(), BODY.size, NAMES - 8.0);
            let values = self.fonts.regular.lines(value.as_str(), BODY.size, RIGHT - LEFT - NAMES);
            self.need(names.len().max(values.len()).min(40) as f32 * Setter::leading(BODY) + 4.0);
            let (sheet, y) = (self.sheets.len(), self.y);
            let mut leaves = self.text(name.as_str(), soft, LEFT, NAMES - 8.0);
            let after = if self.sheets.len() == sheet { self.y } else { TOP };
            if self.sheets.len() == sheet {
                self.y = y;
            }
            leaves.extend(self.text(value.as_str(), BODY, LEFT + NAMES, RIGHT - LEFT - NAMES));
            self.y = if self.sheets.len() == sheet { self.y.max(after) } else { self.y } + 2.0;
            let line = Mark::Line {
                points: vec![(LEFT, self.y), (RIGHT, self.y)],
                width: 0.5,
                color: Color::Line,
                dashed: false,
            };
            self.adorn(vec![line]);
            self.y += 2.5;
            group.push(Part::of(Role::Paragraph, leaves));
        }
        self.y += 8.0;
        group
    }

    fn chart(&mut self, chart: &Chart, part: &mut Part) {
        let scale = (RIGHT - LEFT) / chart.width;
        let scale = scale.min((BOTTOM - TOP - 60.0) / chart.height.max(1.0));
        let caption = Style { bold: true, ..BODY };
        let note = Style { size: 7.5, bold: false, color: Color::Soft };
        self.need(chart.height * scale + 46.0);
        let title = self.text(chart.title.as_str(), caption, LEFT, RIGHT - LEFT);
        part.push(Part::of(Role::Paragraph, title));
        let marks = chart.marks.iter().map(|mark| self.mark(mark, scale)).collect();
        let leaf = self.put(marks);
        self.y += chart.height * scale + 2.0;
        part.push(Part { role: Role::Figure(chart.description.to_string()), children: vec![Child::Leaf(leaf)] });
        part.push(Part::of(Role::Caption, self.text(chart.description.as_str(), note, LEFT, RIGHT - LEFT)));
        self.y += 10.0;
    }

    fn mark(&self, mark: &chart::Mark, scale: f32) -> Mark {
        let at = |x: f32, y: f32| (LEFT + x * scale, self.y + y * scale);
        match mark {
            chart::Mark::Rectangle { x, y, width, height, tone, .. } => {
                let (x, y) = at(*x, *y);
                Mark::Box { x, y, width: width * scale, height: height * scale, color: Color::Cell(*tone) }
            }
            chart::Mark::Line { points, tone, dashed } => Mark::Line {
                points: points.iter().map(|(x, y)| at(*x, *y)).collect(),
                width: 0.9,
                color: match tone {
                    crate::report::document::Tone::Plain => Color::Accent,
                    crate::report::document::Tone::Soft => Color::Line,
                    tone => Color::of(*tone),
                },
                dashed: *dashed,
            },
            chart::Mark::Dot { x, y, tone, .. } => {
                let (x, y) = at(*x, *y);
                Mark::Dot { x, y, color: Color::of(*tone) }
            }
            chart::Mark::Label { x, y, text, anchor } => {
                let style = Style { size: 10.0 * scale, bold: false, color: Color::Soft };
                let text = self.fonts.regular.shown(text.as_str()).into_owned();
                let width = self.fonts.regular.width(&text, style.size);
                let (x, y) = at(*x, *y);
                let x = match anchor {
                    Anchor::Start => x,
                    Anchor::Middle => x - width / 2.0,
                    Anchor::End => x - width,
                };
                Mark::Text { x, y, text, style }
            }
        }
    }

    fn signatures(&mut self, blocks: &[Vec<Text>]) -> Part {
        const LINE: f32 = 34.0;
        let longest = blocks.iter().map(Vec::len).max().unwrap_or(0) as f32;
        self.need(longest * LINE + 50.0);
        let (top, gap) = (self.y + 6.0, 30.0);
        let width = (RIGHT - LEFT - gap * (blocks.len().max(1) - 1) as f32) / blocks.len().max(1) as f32;
        let mut group = Part::new(Role::Group);
        for (column, lines) in blocks.iter().enumerate() {
            let x = LEFT + column as f32 * (width + gap);
            for (number, line) in lines.iter().enumerate() {
                let last = number + 1 == lines.len();
                self.y = top + LINE * number as f32 + if last { 30.0 } else { 0.0 };
                let style =
                    Style { bold: number == 0, color: if number == 0 { Color::Ink } else { Color::Soft }, ..BODY };
                group.push(Part::of(Role::Paragraph, self.text(line.as_str(), style, x, width)));
                if number > 0 {
                    let points = vec![(x, self.y), (x + width, self.y)];
                    self.adorn(vec![Mark::Line { points, width: 0.7, color: Color::Ink, dashed: false }]);
                }
            }
        }
        self.y = (top + LINE * longest + 34.0).min(HEIGHT);
        group
    }
}
