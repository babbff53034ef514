//! Tables on sheets. A row stays whole unless it is longer than a sheet; on each further sheet the headings are repeated, as an
//! adornment: who has it read aloud hears them once.

use super::layout::Setter;
use super::sheet::{BOTTOM, Child, Color, LEFT, Mark, Part, RIGHT, Role, Style, TOP};
use crate::report::document::{Cell, Table, Tone};

const PADDING: f32 = 4.0;
const CELL: Style = Style { size: 7.6, bold: false, color: Color::Ink };
const HEAD: Style = Style { size: 7.6, bold: true, color: Color::Ink };

struct Grid {
    /// Left edge and width of each column.
    columns: Vec<(f32, f32)>,
}

pub fn set(setter: &mut Setter<'_>, table: &Table) -> Part {
    let grid = Grid::of(table);
    let mut part = Part::new(Role::Table);
    let caption = Style { size: 9.0, bold: true, color: Color::Ink };
    let titles = heads(setter, table, &grid);
    let head_height = height_of(&titles, HEAD);
    let first = table.rows.first().map_or(0.0, |row| height_of(&cells(setter, table, &grid, row), CELL));
    setter.need((20.0 + head_height + first).min(BOTTOM - TOP));
    part.push(Part::of(Role::Caption, setter.text(table.caption.as_str(), caption, LEFT, RIGHT - LEFT)));
    setter.y += 3.0;
    let mut head = Part::new(Role::Head);
    head.push(head_row(setter, table, &grid, &titles, false));
    part.push(head);
    let mut body = Part::new(Role::Body);
    for row in &table.rows {
        body.push(body_row(setter, table, &grid, (row, &titles)));
    }
    part.push(body);
    setter.y += 12.0;
    part
}

impl Grid {
    fn of(table: &Table) -> Self {
        let all: f32 = table.columns.iter().map(|column| f32::from(column.weight)).sum::<f32>().max(1.0);
        let mut x = LEFT;
        let columns = table.columns.iter().map(|column| {
            let width = (RIGHT - LEFT) * f32::from(column.weight) / all;
            let at = (x, width);
            x += width;
            at
        });
        Grid { columns: columns.collect() }
    }
}

/// Lines of each cell.
type Lines = Vec<Vec<String>>;

fn heads(setter: &Setter<'_>, table: &Table, grid: &Grid) -> Lines {
    let columns = table.columns.iter().zip(&grid.columns);
    columns
        .map(|(column, (_, width))| setter.fonts.bold.lines(column.title.as_str(), HEAD.size, width - 2.0 * PADDING))
        .collect()
}

fn cells(setter: &Setter<'_>, _: &Table, grid: &Grid, row: &[Cell]) -> Lines {
    let of = |(cell, (_, width)): (&Cell, &(f32, f32))| {
        let face = setter.fonts.face(cell.tone == Tone::Bad);
        face.lines(cell.text.as_str(), CELL.size, width - 2.0 * PADDING)
    };
    row.iter().zip(&grid.columns).map(of).collect()
}

fn height_of(lines: &Lines, style: Style) -> f32 {
    let most = lines.iter().map(Vec::len).max().unwrap_or(1).max(1);
    most as f32 * Setter::leading(style) + 2.0 * PADDING - 1.0
}

/// `again`: on a further sheet.
fn head_row(setter: &mut Setter<'_>, table: &Table, grid: &Grid, titles: &Lines, again: bool) -> Part {
    let (y, height) = (setter.y, height_of(titles, HEAD));
    let below = y + height;
    setter.adorn(vec![
        Mark::Box { x: LEFT, y, width: RIGHT - LEFT, height, color: Color::Head },
        Mark::Line { points: vec![(LEFT, below), (RIGHT, below)], width: 0.9, color: Color::Accent, dashed: false },
    ]);
    let mut row = Part::new(Role::Row);
    for (number, lines) in titles.iter().enumerate() {
        // Titles stand on the line below them.
        let top = below - PADDING - lines.len() as f32 * Setter::leading(HEAD) + 1.0;
        let marks = marks(setter, lines, HEAD, (grid.columns[number], table.columns[number].number), top);
        if again {
            setter.adorn(marks);
        } else {
            let leaf = setter.put(marks);
            row.push(Part::of(Role::HeadCell, [leaf]));
        }
    }
    setter.y = below;
    row
}

fn marks(
    setter: &Setter<'_>,
    lines: &[String],
    style: Style,
    ((x, width), number): ((f32, f32), bool),
    top: f32,
) -> Vec<Mark> {
    let face = setter.fonts.face(style.bold);
    let line = |(at, text): (usize, &String)| {
        let x = match number {
            true => x + width - PADDING - face.width(text, style.size),
            false => x + PADDING,
        };
        Mark::Text { x, y: top + style.size + at as f32 * Setter::leading(style), text: text.clone(), style }
    };
    lines.iter().enumerate().map(line).collect()
}

fn body_row(setter: &mut Setter<'_>, table: &Table, grid: &Grid, (row, titles): (&[Cell], &Lines)) -> Part {
    let mut lines = cells(setter, table, grid, row);
    let mut parts: Vec<Part> = row.iter().map(|_| Part::new(Role::Cell)).collect();
    loop {
        let height = height_of(&lines, CELL);
        let whole = BOTTOM - TOP - height_of(titles, HEAD);
        if height > setter.left_on_sheet() && (height <= whole || setter.left_on_sheet() < 80.0) {
            setter.next_sheet();
            head_row(setter, table, grid, titles, true);
        }
        let fitting = ((setter.left_on_sheet() - 2.0 * PADDING) / Setter::leading(CELL)).max(1.0) as usize;
        let rest: Lines = lines.iter_mut().map(|lines| lines.split_off(fitting.min(lines.len()))).collect();
        let (top, height) = (setter.y + PADDING - 0.5, height_of(&lines, CELL));
        for (number, cell) in row.iter().enumerate() {
            let style = Style { bold: cell.tone == Tone::Bad, color: Color::of(cell.tone), ..CELL };
            let place = (grid.columns[number], table.columns[number].number);
            let marks = marks(setter, &lines[number], style, place, top);
            if marks.iter().any(|mark| matches!(mark, Mark::Text { text, .. } if !text.is_empty())) {
                let leaf = setter.put(marks);
                parts[number].children.push(Child::Leaf(leaf));
            }
        }
        setter.y += height;
        let y = setter.y;
        setter.adorn(vec![Mark::Line {
            points: vec![(LEFT, y), (RIGHT, y)],
            width: 0.5,
            color: Color::Line,
            dashed: false,
        }]);
        if rest.iter().all(Vec::is_empty) {
            break;
        }
        lines = rest;
    }
    let mut whole = Part::new(Role::Row);
    parts.into_iter().for_each(|cell| whole.push(cell));
    whole
}
