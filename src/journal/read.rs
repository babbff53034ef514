//! Reading: the records in sequence, with what is wrong with them, and only what is new the next time.

use super::Journal;
use super::line::{self, Head};
use super::record::Record;
use super::segments::{self, Segment};
use super::state::State;
use crate::error::{Context, Result};
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub segment: String,
    pub byte: u64,
    pub problem: String,
    /// A record whose chain holds, and which does not say anything that makes sense.
    #[serde(skip)]
    of_content: bool,
}

impl Problem {
    pub fn is_of_its_content(&self) -> bool {
        self.of_content
    }
}

/// How far a reader has come.
#[derive(Clone, Debug)]
struct Place {
    segment: Option<Segment>,
    byte: u64,
    /// Unknown where reading began in the middle.
    head: Option<Head>,
}

/// Reads on from where it was. What the last writer has not finished yet is left for the next time.
#[derive(Clone, Debug)]
pub struct Cursor {
    journal: Journal,
    place: Place,
    from: u64,
}

/// The fold of the whole journal, and all that is wrong with it.
#[derive(Clone, Debug)]
pub struct Follower {
    cursor: Cursor,
    pub state: State,
    pub problems: Vec<Problem>,
}

impl Journal {
    /// A reader that begins with this record.
    pub fn cursor(&self, from: u64) -> Cursor {
        let place = Place { segment: None, byte: 0, head: (from <= 1).then(Head::none) };
        Cursor { journal: self.clone(), place, from }
    }

    pub fn follow(&self) -> Follower {
        Follower { cursor: self.cursor(0), state: State::default(), problems: Vec::new() }
    }

    /// Everything the journal says, now.
    pub fn state(&self) -> Result<State> {
        let mut follower = self.follow();
        follower.catch_up(&mut |_| {})?;
        Ok(follower.state)
    }
}

impl Follower {
    /// Where the chain stands, as far as it was read.
    pub fn head(&self) -> Head {
        self.cursor.head()
    }

    /// Takes in what is new, and shows it.
    pub fn catch_up(&mut self, seen: &mut dyn FnMut(&Record)) -> Result<()> {
        if self.cursor.is_ahead() {
            // What was read was taken back, because it could not be made safe on the disk.
            *self = self.cursor.journal.follow();
        }
        let Follower { cursor, state, problems } = self;
        let found = cursor.advance(&mut |record| {
            state.apply(record);
            seen(record);
        })?;
        state.problems += found.len() as u64;
        problems.extend(found);
        Ok(())
    }
}

impl Cursor {
    /// Where the chain stands, as far as it was read.
    pub fn head(&self) -> Head {
        self.place.head.clone().unwrap_or_else(Head::none)
    }

    /// Shows each new record, and gives what is wrong.
    pub fn advance(&mut self, take: &mut dyn FnMut(&Record)) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        let all = segments::list(self.journal.directory())?;
        let begin = match &self.place.segment {
            Some(at) => all.iter().position(|segment| segment.first >= at.first).unwrap_or(all.len()),
            None => all.iter().rposition(|segment| segment.first <= self.from).unwrap_or(0),
        };
        for (number, segment) in all.iter().enumerate().skip(begin) {
            if self.place.segment.as_ref() != Some(segment) {
                self.place.segment = Some(segment.clone());
                self.place.byte = 0;
            }
            self.read(segment, number + 1 == all.len(), take, &mut problems)?;
        }
        Ok(problems)
    }

    fn is_ahead(&self) -> bool {
        let Some(segment) = &self.place.segment else { return false };
        std::fs::metadata(&segment.path).map_or(true, |metadata| metadata.len() < self.place.byte)
    }

    fn read(
        &mut self,
        segment: &Segment,
        is_last: bool,
        take: &mut dyn FnMut(&Record),
        problems: &mut Vec<Problem>,
    ) -> Result<()> {
        let what = || format!("cannot read {}", segment.path.display());
        let mut file = File::open(&segment.path).context(what)?;
        file.seek(SeekFrom::Start(self.place.byte)).context(what)?;
        let mut file = BufReader::with_capacity(256 << 10, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = file.read_until(b'\n', &mut line).context(what)?;
            let name = segment.path.file_name().unwrap_or_default().to_string_lossy();
            let mut note = |text: String, of_content: bool| {
                problems.push(Problem { segment: name.to_string(), byte: self.place.byte, problem: text, of_content })
            };
            let mut problem = |text: String| note(text, false);
            match line.strip_suffix(b"\n") {
                Some(text) => match line::decode(text) {
                    Ok(sound) => {
                        if let Some(head) = &self.place.head {
                            broken_chain(head, &sound).into_iter().for_each(&mut problem);
                        }
                        self.place.head = Some(sound.head());
                        match sound.record() {
                            Ok(record) if record.seq >= self.from => take(&record),
                            Ok(_) => {}
                            Err(why) => note(format!("record {}: {why}", sound.seq), true),
                        }
                    }
                    Err(why) => problem(format!("a line is no record: {why}")),
                },
                None if length == 0 => return Ok(()),
                None if is_last => return Ok(()),
                None => problem("the file ends in the middle of a record".into()),
            }
            self.place.byte += length as u64;
        }
    }
}

/// The first record of a segment.
pub fn first(path: &Path, take: &mut dyn FnMut(&Record)) -> Result<()> {
    let what = || format!("cannot read {}", path.display());
    let mut line = Vec::new();
    BufReader::new(File::open(path).context(what)?).read_until(b'\n', &mut line).context(what)?;
    let record =
        line.strip_suffix(b"\n").and_then(|line| line::decode(line).ok()).and_then(|sound| sound.record().ok());
    record.iter().for_each(take);
    Ok(())
}

fn broken_chain(head: &Head, sound: &line::Sound<'_>) -> Option<String> {
    if sound.seq != head.seq + 1 {
        Some(format!("record {} follows record {}: what was between them is gone", sound.seq, head.seq))
    } else if sound.prev != head.hash {
        Some(format!("record {} does not go on from the record before it: one of them was changed", sound.seq))
    } else {
        None
    }
}
