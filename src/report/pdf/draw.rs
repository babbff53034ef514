//! Puts sheets down with krilla, and tells it their structure.

use super::font::Fonts;
use super::sheet::{BOTTOM, Child, Color, HEIGHT, LEFT, Mark, Part, Piece, RIGHT, Role, Sheets, Style, WIDTH};
use crate::error::{Failure, Result};
use crate::report::document::Document;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use krilla::SerializeSettings;
use krilla::color::rgb;
use krilla::configure::{Accessibility, Archival, ConfigurationBuilder};
use krilla::destination::XyzDestination;
use krilla::geom::{PathBuilder, Point, Rect};
use krilla::metadata::{DateTime, Metadata};
use krilla::num::NormalizedF32;
use krilla::outline::{Outline, OutlineNode};
use krilla::page::PageSettings;
use krilla::paint::{Fill, FillRule, Stroke, StrokeDash};
use krilla::surface::Surface;
use krilla::tagging::{
    Artifact, ArtifactType, ContentTag, Identifier, ListNumbering, TableHeaderScope, Tag, TagGroup, TagTree,
};
use std::num::NonZeroU16;

pub fn draw(document: &Document, sheets: &Sheets, fonts: &Fonts, made_at: Timestamp) -> Result<Vec<u8>> {
    let failed = |why: String| Failure::failed("the PDF could not be made").because(why);
    let configuration = ConfigurationBuilder::new()
        .with_archival_validator(Archival::A2_A)
        .with_accessibility_validator(Accessibility::UA1)
        .finish()
        .map_err(|error| failed(format!("{error:?}")))?;
    let settings = SerializeSettings { configuration, enable_tagging: true, ..SerializeSettings::default() };
    let mut pdf = krilla::Document::new_with(settings);
    let mut identifiers: Vec<Option<Identifier>> = vec![None; sheets.leaves];
    let page = PageSettings::from_wh(WIDTH, HEIGHT).ok_or_else(|| failed("the size of the page".into()))?;
    for (number, sheet) in sheets.sheets.iter().enumerate() {
        let mut page = pdf.start_page_with(page.clone());
        let mut surface = page.surface();
        sheet.pieces.iter().for_each(|piece| put(&mut surface, piece, fonts, &mut identifiers));
        footer(&mut surface, document, fonts, (number + 1, sheets.sheets.len()));
        surface.finish();
        page.finish();
    }
    let mut tree = TagTree::new().with_lang(Some(document.language.tag().to_owned()));
    for part in &sheets.parts {
        tree.push(group(part, &identifiers));
    }
    pdf.set_tag_tree(tree);
    let mut outline = Outline::new();
    for (sheet, y, title) in &sheets.sections {
        let place = XyzDestination::new(*sheet, Point::from_xy(LEFT, (y - 8.0).max(0.0)));
        outline.push_child(OutlineNode::new(title.to_string(), place));
    }
    pdf.set_outline(outline);
    pdf.set_metadata(metadata(document, made_at));
    pdf.finish().map_err(|error| failed(format!("{error:?}")))
}

fn metadata(document: &Document, made_at: Timestamp) -> Metadata {
    let at = made_at.to_zoned(TimeZone::UTC);
    let small = |number: i8| u8::try_from(number).unwrap_or_default();
    let date = DateTime::new(u16::try_from(at.year()).unwrap_or_default())
        .month(small(at.month()))
        .day(small(at.day()))
        .hour(small(at.hour()))
        .minute(small(at.minute()))
        .second(small(at.second()))
        .utc_offset_hour(0)
        .utc_offset_minute(0);
    Metadata::new()
        .title(document.title.to_string())
        .description(document.subtitle.to_string())
        .language(document.language.tag().to_owned())
        .creator(format!("bkp {}", env!("CARGO_PKG_VERSION")))
        .creation_date(date)
}

fn put(surface: &mut Surface<'_>, piece: &Piece, fonts: &Fonts, identifiers: &mut [Option<Identifier>]) {
    let tag = match piece.leaf {
        Some(_) => ContentTag::Other,
        None => ContentTag::Artifact(Artifact::with_kind(ArtifactType::Layout)),
    };
    let identifier = surface.start_tagged(tag);
    piece.marks.iter().for_each(|one| mark(surface, one, fonts));
    surface.end_tagged();
    if let Some(leaf) = piece.leaf {
        identifiers[leaf] = Some(identifier);
    }
}

fn color(color: Color) -> rgb::Color {
    let (red, green, blue) = color.rgb();
    rgb::Color::new(red, green, blue)
}

fn fill(of: Color) -> Fill {
    Fill { paint: color(of).into(), opacity: NormalizedF32::ONE, rule: FillRule::NonZero }
}

fn mark(surface: &mut Surface<'_>, mark: &Mark, fonts: &Fonts) {
    match mark {
        Mark::Text { x, y, text, style } => text_at(surface, (*x, *y), text, *style, fonts),
        Mark::Box { x, y, width, height, color } => area(surface, Rect::from_xywh(*x, *y, *width, *height), *color),
        Mark::Dot { x, y, color } => area(surface, Rect::from_xywh(x - 2.0, y - 2.0, 4.0, 4.0), *color),
        Mark::Line { points, width, color: of, dashed } => {
            let mut path = PathBuilder::new();
            for (number, (x, y)) in points.iter().enumerate() {
                if number == 0 { path.move_to(*x, *y) } else { path.line_to(*x, *y) }
            }
            let dash = dashed.then(|| StrokeDash { array: vec![4.0, 3.0], offset: 0.0 });
            surface.set_fill(None);
            surface.set_stroke(Some(Stroke { paint: color(*of).into(), width: *width, dash, ..Stroke::default() }));
            if let Some(path) = path.finish() {
                surface.draw_path(&path);
            }
            surface.set_stroke(None);
        }
    }
}

fn area(surface: &mut Surface<'_>, area: Option<Rect>, of: Color) {
    let mut path = PathBuilder::new();
    if let Some(area) = area {
        path.push_rect(area);
    }
    surface.set_stroke(None);
    surface.set_fill(Some(fill(of)));
    if let Some(path) = path.finish() {
        surface.draw_path(&path);
    }
}

fn text_at(surface: &mut Surface<'_>, (x, y): (f32, f32), text: &str, style: Style, fonts: &Fonts) {
    let face = fonts.face(style.bold);
    // Words are told apart by spaces, also where a line ends.
    let text = format!("{text} ");
    surface.set_stroke(None);
    surface.set_fill(Some(fill(style.color)));
    let glyphs = face.glyphs(&text);
    surface.draw_glyphs(Point::from_xy(x, y), &glyphs, face.font.clone(), &text, style.size, false);
}

fn footer(surface: &mut Surface<'_>, document: &Document, fonts: &Fonts, (page, pages): (usize, usize)) {
    let style = Style { size: 7.5, bold: false, color: Color::Soft };
    let (y, numbers) = (BOTTOM + 26.0, format!("{page} / {pages}"));
    surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(ArtifactType::Footer)));
    let text = fonts.regular.shown(document.footer.as_str()).into_owned();
    text_at(surface, (LEFT, y), &text, style, fonts);
    text_at(surface, (RIGHT - fonts.regular.width(&numbers, style.size), y), &numbers, style, fonts);
    surface.end_tagged();
}

fn group(part: &Part, identifiers: &[Option<Identifier>]) -> TagGroup {
    let level = |level: u16| NonZeroU16::new(level).unwrap_or(NonZeroU16::MIN);
    let mut group = match &part.role {
        Role::Title => TagGroup::new(Tag::P),
        Role::Heading(number, title) => TagGroup::new(Tag::Hn(level(*number), Some(title.clone()))),
        Role::Paragraph => TagGroup::new(Tag::P),
        Role::Section => TagGroup::new(Tag::Section),
        Role::List => TagGroup::new(Tag::L(ListNumbering::None)),
        Role::Item => TagGroup::new(Tag::LI),
        Role::Table => TagGroup::new(Tag::Table),
        Role::Caption => TagGroup::new(Tag::Caption),
        Role::Head => TagGroup::new(Tag::THead),
        Role::Body => TagGroup::new(Tag::TBody),
        Role::Row => TagGroup::new(Tag::TR),
        Role::HeadCell => TagGroup::new(Tag::TH(TableHeaderScope::Column)),
        Role::Cell => TagGroup::new(Tag::TD),
        Role::Figure(description) => TagGroup::new(Tag::Figure(Some(description.clone()))),
        Role::Contents => TagGroup::new(Tag::TOC),
        Role::Entry => TagGroup::new(Tag::TOCI),
        Role::Group => TagGroup::new(Tag::Div),
    };
    let within = |part: &Part| matches!(part.role, Role::Item);
    // What a list item says is its body.
    let mut body = TagGroup::new(Tag::LBody);
    for child in &part.children {
        match child {
            Child::Leaf(leaf) => {
                if let Some(identifier) = identifiers[*leaf] {
                    if within(part) { body.push(identifier) } else { group.push(identifier) }
                }
            }
            Child::Part(part) => group.push(self::group(part, identifiers)),
        }
    }
    if within(part) {
        group.push(body);
    }
    group
}
