//! The two faces that reports are set in, and how wide text is in them.
//!
//! Letters are set one after the other without kerning, from left to right. What the face has no letter for is shown by its
//! number, so that nothing is lost and nothing is an empty box.

use krilla::text::{Font, GlyphId, KrillaGlyph};
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};
use std::borrow::Cow;
use std::collections::HashMap;

static REGULAR: &[u8] = include_bytes!("../fonts/NotoSans-Regular.ttf");
static BOLD: &[u8] = include_bytes!("../fonts/NotoSans-Bold.ttf");

pub struct Fonts {
    pub regular: Face,
    pub bold: Face,
}

pub struct Face {
    pub font: Font,
    /// The letter and its width, as a part of the size.
    letters: HashMap<char, (u32, f32)>,
}

impl Fonts {
    pub fn load() -> Option<Self> {
        Some(Fonts { regular: Face::load(REGULAR)?, bold: Face::load(BOLD)? })
    }

    pub fn face(&self, bold: bool) -> &Face {
        if bold { &self.bold } else { &self.regular }
    }
}

impl Face {
    fn load(bytes: &'static [u8]) -> Option<Self> {
        let known = FontRef::new(bytes).ok()?;
        let widths = known.glyph_metrics(Size::new(1.0), LocationRef::default());
        let letter = |(code, glyph): (u32, skrifa::GlyphId)| {
            Some((char::from_u32(code)?, (glyph.to_u32(), widths.advance_width(glyph)?)))
        };
        let letters = known.charmap().mappings().filter_map(letter).collect();
        Some(Face { font: Font::new(bytes.into(), 0)?, letters })
    }

    /// With numbers for what there is no letter for.
    pub fn shown<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if text.chars().all(|c| self.letters.contains_key(&c)) {
            return Cow::Borrowed(text);
        }
        let shown = |c: char| match c {
            c if self.letters.contains_key(&c) => c.to_string(),
            '→' => "->".to_owned(),
            '−' => "-".to_owned(),
            c => format!("U+{:04X}", u32::from(c)),
        };
        Cow::Owned(text.chars().map(shown).collect())
    }

    pub fn width(&self, text: &str, size: f32) -> f32 {
        text.chars().map(|c| self.letters.get(&c).map_or(0.0, |(_, width)| *width)).sum::<f32>() * size
    }

    pub fn glyphs(&self, text: &str) -> Vec<KrillaGlyph> {
        let glyph = |(at, c): (usize, char)| {
            let (id, width) = self.letters.get(&c).copied()?;
            Some(KrillaGlyph::new(GlyphId::new(id), width, 0.0, 0.0, 0.0, at..at + c.len_utf8(), None))
        };
        text.char_indices().filter_map(glyph).collect()
    }

    /// The text in lines no wider than this: broken at spaces, and inside a word only where it would not fit in a line.
    pub fn lines(&self, text: &str, size: f32, width: f32) -> Vec<String> {
        let shown = self.shown(text);
        let mut lines = vec![String::new()];
        for word in shown.split(' ') {
            let line = lines.last_mut().expect("there is always a line");
            let joined = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
            if self.width(&joined, size) <= width {
                *line = joined;
                continue;
            }
            if !line.is_empty() {
                lines.push(String::new());
            }
            self.break_word(word, size, width, &mut lines);
        }
        lines
    }

    fn break_word(&self, word: &str, size: f32, width: f32, lines: &mut Vec<String>) {
        let mut used = 0.0;
        for c in word.chars() {
            let letter = self.letters.get(&c).map_or(0.0, |(_, width)| *width) * size;
            let line = lines.last_mut().expect("there is always a line");
            if used + letter > width && !line.is_empty() {
                // A path or an address is best broken after a sign of its own.
                let after =
                    line.rfind(['/', '-', '_', ':', ',', '.']).map(|at| at + 1).filter(|at| *at > line.len() / 2);
                let rest = after.map_or(String::new(), |at| line.split_off(at));
                used = self.width(&rest, size);
                lines.push(rest);
            }
            lines.last_mut().expect("there is always a line").push(c);
            used += letter;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_lose_nothing() {
        let fonts = Fonts::load().unwrap();
        let text = "sha256:0123456789abcdef0123456789abcdef en el almacén file:///srv/copias/repositorio/año";
        for width in [30.0, 60.0, 200.0] {
            let lines = fonts.regular.lines(text, 8.0, width);
            assert!(lines.iter().all(|line| fonts.regular.width(line, 8.0) <= width + 0.01), "{lines:?}");
            assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }

    #[test]
    fn what_has_no_letter_is_told_by_its_number() {
        let fonts = Fonts::load().unwrap();
        assert_eq!(fonts.bold.shown("a日"), "aU+65E5");
    }

    #[test]
    fn the_letters_of_both_languages_are_there() {
        let fonts = Fonts::load().unwrap();
        for face in [&fonts.regular, &fonts.bold] {
            for c in "áéíóúüñÁÉÍÓÚÜÑ¿¡«»ºª·–—…€\u{a0}".chars() {
                assert_eq!(face.shown(&c.to_string()), c.to_string());
            }
        }
    }
}
