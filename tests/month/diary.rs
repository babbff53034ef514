//! The journal, read without the help of bkp, as far as it has grown.

use crate::calendar::Slot;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub struct Diary {
    directory: PathBuf,
    /// How much of each segment was read.
    read: BTreeMap<PathBuf, u64>,
    pub records: Vec<Value>,
}

impl Diary {
    pub fn of(directory: &Path) -> Diary {
        Diary { directory: directory.to_owned(), read: BTreeMap::new(), records: Vec::new() }
    }

    /// Takes in whole lines that are new.
    pub fn read(&mut self) {
        let mut files: Vec<PathBuf> =
            fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files.into_iter().filter(|file| file.extension().is_some_and(|ending| ending == "jsonl")) {
            let read = self.read.entry(file.clone()).or_default();
            let mut new = Vec::new();
            let Ok(mut opened) = fs::File::open(&file) else { continue };
            opened.seek(SeekFrom::Start(*read)).unwrap();
            opened.read_to_end(&mut new).unwrap();
            let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let text = String::from_utf8_lossy(&new[..whole]);
            *read += whole as u64;
            self.records.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
        }
    }

    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.records.iter().filter(move |record| record["kind"] == kind)
    }

    pub fn count(&self, kind: &str) -> usize {
        self.of_kind(kind).count()
    }

    /// Runs that ended with this exit code.
    pub fn ended_with(&self, code: u64) -> usize {
        self.of_kind("run_ended").filter(|record| record["code"] == code).count()
    }

    /// Of which sources a run of a slot found no answer.
    pub fn in_vain(&self, slot: &Slot) -> usize {
        let at = slot.at.to_string();
        let is_of = |run: &&Value| {
            run["slot"] == at.as_str()
                && run["job"].as_str().unwrap_or("backup") == slot.job
                && run["policy"].as_str().unwrap_or("*") == slot.policy
        };
        let runs = self.of_kind("run_started").filter(is_of);
        let of: BTreeMap<&str, &Value> = runs.map(|run| (run["run"].as_str().unwrap(), &run["source"])).collect();
        let ended = self.of_kind("run_ended").filter(|end| end["code"] == 75);
        let sources: BTreeSet<String> =
            ended.filter_map(|end| of.get(end["run"].as_str()?)).map(|s| s.to_string()).collect();
        sources.len()
    }

    fn ended<'a>(&'a self, slot: &'a Slot) -> impl Iterator<Item = &'a Value> {
        let at = slot.at.to_string();
        self.of_kind("slot_ended").filter(move |record| {
            let job = record["job"].as_str().unwrap_or("backup");
            record["slot"] == at.as_str() && record["policy"] == slot.policy && job == slot.job
        })
    }

    /// Every end of a slot that is written down.
    pub fn ends(&self, slot: &Slot) -> Vec<String> {
        self.ended(slot).map(|record| record["as"].as_str().unwrap().to_owned()).collect()
    }

    pub fn why(&self, slot: &Slot) -> String {
        self.ended(slot).next().map(|record| record["why"].to_string()).unwrap_or_default()
    }
}
