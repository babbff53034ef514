//! Where a restore comes from: an opened point, in the words of an engine.

use crate::engine::{Fingerprint, Origin, TreeOrigin};
use crate::error::Result;
use crate::repo::read::PointReader;
use std::io::{BufRead, Read};
use std::ops::Range;

pub struct PointOrigin<'a> {
    reader: PointReader<'a>,
    fingerprint: Fingerprint,
}

impl<'a> PointOrigin<'a> {
    /// A fingerprint that this version does not understand counts as none.
    pub fn new(reader: PointReader<'a>) -> Self {
        let fingerprint = serde_json::from_value(reader.body.fingerprint.clone()).unwrap_or_default();
        PointOrigin { reader, fingerprint }
    }
}

impl Origin for PointOrigin<'_> {
    fn streams(&self) -> Vec<String> {
        self.reader.point.streams.iter().map(|s| s.name.clone()).collect()
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        self.reader.stream(name)
    }

    fn tree(&self) -> Option<&dyn TreeOrigin> {
        self.reader.point.tree.as_ref().map(|_| self as &dyn TreeOrigin)
    }

    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn details(&self) -> &serde_json::Value {
        &self.reader.body.details
    }
}

impl TreeOrigin for PointOrigin<'_> {
    fn catalogue(&self) -> Result<Box<dyn BufRead + Send + '_>> {
        self.reader.catalogue()
    }

    fn chunks(&self, ranges: Option<&[Range<u64>]>, take: &(dyn Fn(u64, &[u8]) -> Result<()> + Sync)) -> Result<()> {
        self.reader.chunks(ranges, take)
    }
}
