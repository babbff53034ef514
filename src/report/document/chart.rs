//! Charts as a few marks on a plane, which HTML draws as inline SVG and PDF as paths.
//!
//! Each carries a description that says what it shows, for those who do not see it. Coordinates run from the upper left corner.

use super::{Text, Tone};
use jiff::civil::Date;

#[derive(Clone, Debug)]
pub struct Chart {
    pub title: Text,
    pub description: Text,
    pub width: f32,
    pub height: f32,
    pub marks: Vec<Mark>,
}

#[derive(Clone, Debug)]
pub enum Mark {
    Rectangle {
        x: f32,
        y: f32,
        width: f32,
        height: f32,
        tone: Tone,
        /// What it stands for, shown to who points at it.
        title: Text,
    },
    /// Through all these points.
    Line {
        points: Vec<(f32, f32)>,
        tone: Tone,
        dashed: bool,
    },
    Dot {
        x: f32,
        y: f32,
        tone: Tone,
        title: Text,
    },
    Label {
        x: f32,
        y: f32,
        text: Text,
        anchor: Anchor,
    },
}

/// Which part of a label stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

pub const WIDTH: f32 = 700.0;
const LEFT: f32 = 110.0;
const RIGHT: f32 = 12.0;

/// A row of cells for each name.
pub struct HeatMap {
    pub rows: Vec<(Text, Vec<(Tone, Text)>)>,
    /// Below the columns: place and text.
    pub ticks: Vec<(usize, Text)>,
    pub legend: Vec<(Tone, Text)>,
}

impl HeatMap {
    pub fn draw(self, title: Text, description: Text) -> Chart {
        let columns = self.rows.iter().map(|(_, cells)| cells.len()).max().unwrap_or(1).max(1);
        let step = ((WIDTH - LEFT - RIGHT) / columns as f32).min(22.0);
        let (row_height, gap) = (16.0, if step > 6.0 { 1.5 } else { 0.4 });
        let mut marks = Vec::new();
        for (number, (name, cells)) in self.rows.iter().enumerate() {
            let y = 4.0 + number as f32 * row_height;
            marks.push(label(LEFT - 8.0, y + 10.5, shortened(name, 20), Anchor::End));
            for (column, (tone, title)) in cells.iter().enumerate() {
                let x = LEFT + column as f32 * step;
                let (width, height) = (step - gap, row_height - 2.5);
                marks.push(Mark::Rectangle { x, y, width, height, tone: *tone, title: title.clone() });
            }
        }
        let bottom = 4.0 + self.rows.len() as f32 * row_height;
        for (column, text) in self.ticks {
            marks.push(label(LEFT + column as f32 * step, bottom + 11.0, text, Anchor::Start));
        }
        let mut x = LEFT;
        for (tone, text) in self.legend {
            let y = bottom + 20.0;
            marks.push(Mark::Rectangle { x, y, width: 10.0, height: 10.0, tone, title: text.clone() });
            let length = text.as_str().chars().count() as f32;
            marks.push(label(x + 14.0, y + 9.0, text, Anchor::Start));
            x += 28.0 + length * 4.9;
        }
        Chart { title, description, width: WIDTH, height: bottom + 36.0, marks }
    }
}

/// Values over time, in seconds, with an objective.
pub struct Trend {
    /// Place in time from 0 to 1, the value, whether it is well, and what to say of it.
    pub values: Vec<(f32, f64, Tone, Text)>,
    pub objective: Option<f64>,
    /// Whether the values follow each other, or stand alone.
    pub joined: bool,
    pub ticks: Vec<(f32, Text)>,
    /// How a value is said.
    pub scale: fn(f64) -> String,
}

impl Trend {
    pub fn draw(self, title: Text, description: Text) -> Chart {
        const TOP: f32 = 10.0;
        const HEIGHT: f32 = 96.0;
        let greatest = self.values.iter().map(|(_, value, ..)| *value).chain(self.objective).fold(0.0, f64::max);
        let ceiling = if greatest > 0.0 { greatest * 1.15 } else { 1.0 };
        let x = |at: f32| LEFT + at.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| TOP + HEIGHT - (value / ceiling) as f32 * HEIGHT;
        let mut marks = vec![
            Mark::Line { points: vec![(x(0.0), y(0.0)), (x(1.0), y(0.0))], tone: Tone::Soft, dashed: false },
            label(LEFT - 8.0, y(0.0) + 3.0, "0".into(), Anchor::End),
        ];
        let apart = self.objective.is_none_or(|objective| (objective - greatest).abs() > ceiling * 0.14);
        if apart {
            marks.push(label(LEFT - 8.0, y(greatest) + 3.0, (self.scale)(greatest).into(), Anchor::End));
        }
        if let Some(objective) = self.objective {
            let points = vec![(x(0.0), y(objective)), (x(1.0), y(objective))];
            marks.push(Mark::Line { points, tone: Tone::Warn, dashed: true });
            marks.push(label(LEFT - 8.0, y(objective) + 3.0, (self.scale)(objective).into(), Anchor::End));
        }
        if self.joined && self.values.len() > 1 {
            let points = self.values.iter().map(|(at, value, ..)| (x(*at), y(*value))).collect();
            marks.push(Mark::Line { points, tone: Tone::Plain, dashed: false });
        }
        for (at, value, tone, title) in self.values {
            if !self.joined || tone == Tone::Bad {
                marks.push(Mark::Dot { x: x(at), y: y(value), tone, title });
            }
        }
        for (at, text) in self.ticks {
            marks.push(label(x(at), TOP + HEIGHT + 14.0, text, Anchor::Start));
        }
        Chart { title, description, width: WIDTH, height: TOP + HEIGHT + 20.0, marks }
    }
}

/// Which of these days are named below a chart, and how.
pub fn named_days(days: &[Date]) -> Vec<(usize, Text)> {
    let by_month = days.len() > 45;
    let named = days.iter().enumerate().filter(|(number, day)| match by_month {
        true => day.day() == 1,
        false => number % days.len().div_ceil(6).max(1) == 0,
    });
    let text = |day: &Date| if days.len() > 120 { day.strftime("%Y-%m").to_string() } else { day.to_string() };
    named.map(|(number, day)| (number, Text::from(text(day)))).collect()
}

fn label(x: f32, y: f32, text: Text, anchor: Anchor) -> Mark {
    Mark::Label { x, y, text, anchor }
}

fn shortened(text: &Text, most: usize) -> Text {
    match text.as_str().chars().count() > most {
        true => Text::from(format!("{}…", text.as_str().chars().take(most - 1).collect::<String>())),
        false => text.clone(),
    }
}
