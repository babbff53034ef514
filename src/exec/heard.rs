//! What a client has answered and nobody has heard yet, line by line.
//!
//! It is bounded: a client that answers far more than it is asked for is not a conversation.

/// The most that is kept unheard.
const KEPT: usize = 64 << 20;

#[derive(Default)]
pub struct Heard {
    bytes: Vec<u8>,
    /// Up to here it was heard.
    begin: usize,
    /// Up to here there is no newline.
    searched: usize,
}

impl Heard {
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        if self.begin > 0 && self.begin >= self.bytes.len() / 2 {
            self.bytes.drain(..self.begin);
            self.searched -= self.begin;
            self.begin = 0;
        }
        if self.bytes.len() + bytes.len() > KEPT {
            return Err("answered more than was asked for: 64 MiB are waiting to be heard");
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole line, without its newline.
    pub fn line(&mut self) -> Result<Option<String>, &'static str> {
        let Some(length) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            return Ok(None);
        };
        let end = self.searched + length;
        let line = std::str::from_utf8(&self.bytes[self.begin..end]).map(str::to_owned);
        self.begin = end + 1;
        self.searched = self.begin;
        line.map(Some).map_err(|_| "answered something that is not UTF-8")
    }

    pub fn forget(&mut self) {
        *self = Heard::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let mut heard = Heard::default();
        let mut lines = Vec::new();
        for piece in ["one\ntw", "", "o", "\n\nünd", " mehr\nrest"] {
            for byte in piece.as_bytes().chunks(2) {
                heard.push(byte).unwrap();
            }
            while let Some(line) = heard.line().unwrap() {
                lines.push(line);
            }
        }
        assert_eq!(lines, ["one", "two", "", "ünd mehr"]);
        heard.push(b"\n\xff\n").unwrap();
        assert_eq!(heard.line().unwrap().as_deref(), Some("rest"));
        assert!(heard.line().is_err());
    }

    #[test]
    fn what_nobody_hears_is_bounded() {
        let mut heard = Heard::default();
        let piece = vec![b'x'; 1 << 20];
        let taken = (0..100).take_while(|_| heard.push(&piece).is_ok()).count();
        assert_eq!(taken, 64);
    }
}
