//! Evidence that backups restore: checks, restore tests, what they compared, and how long they took.

use super::{Backing, Finder, Records, TEST, TESTS, within};
use crate::journal::{Job, ScratchTarget};
use crate::report::facts::Rehearsal;

impl Finder<'_> {
    /// Whole checks of the repository, and points that were read to their end in a rehearsal.
    pub(super) fn checks(&self) -> Option<Backing> {
        let say = self.say;
        let checks = self.runs(Job::Check);
        let read = self.basis.facts.rehearsals.iter().filter(|test| !test.is_of_restore());
        let read: Vec<u64> = read.map(|test| test.mark.record).collect();
        if read.is_empty() {
            return checks;
        }
        let read_text =
            format!("{}: {}", say.t("points read to their end", "puntos leídos hasta el final"), read.len());
        let what = checks.map_or(read_text.clone(), |checks| format!("{}; {read_text}", checks.what));
        let checks = self.basis.facts.runs_of(Job::Check);
        let of_checks = checks.map(|run| run.ended.as_ref().map_or(run.started, |end| end.mark).record);
        let mut records: Vec<u64> = of_checks.chain(read).collect();
        records.sort_unstable();
        self.some(what, Records::of(records))
    }

    pub(super) fn tests(&self) -> Option<Backing> {
        let (say, facts) = (self.say, &self.basis.facts);
        let fruitless = facts.fruitless().map(|(_, end)| (end.mark.record, false));
        let mut tests: Vec<(u64, bool)> =
            facts.tests().map(|test| (test.mark.record, test.is_restored())).chain(fruitless).collect();
        tests.sort_unstable();
        let passed = tests.iter().filter(|(_, passed)| *passed).count();
        let what =
            format!("{}, {}: {passed}", say.count(tests.len() as u64, TEST, TESTS), say.t("passed", "superadas"));
        let records = Records::of(tests.iter().map(|(record, _)| *record));
        (!tests.is_empty()).then_some(Backing { what: what.into(), records })
    }

    /// Apart by logic: without a network. Apart physically: on another host than the source. A file or a directory on the host of
    /// the source is neither.
    pub(super) fn isolated(&self) -> Option<Backing> {
        let say = self.say;
        let elsewhere = self.basis.tested_for_others();
        let is_elsewhere = |test: &Rehearsal| elsewhere.contains(&test.rehearsed.source.as_str());
        let is_without_network =
            |test: &Rehearsal| test.rehearsed.target.as_ref().is_some_and(ScratchTarget::is_without_network);
        let tests: Vec<&Rehearsal> = self.basis.facts.tests().collect();
        let logically = tests.iter().filter(|test| is_without_network(test)).count();
        let physically = tests.iter().filter(|test| is_elsewhere(test)).count();
        let apart: Vec<_> = tests.iter().filter(|test| is_without_network(test) || is_elsewhere(test)).collect();
        let passed = apart.iter().filter(|test| test.is_restored()).count();
        let what = format!(
            "{}, {}: {passed}; {}: {logically}; {}: {physically}",
            say.count(apart.len() as u64, TEST, TESTS),
            say.t("passed", "superadas"),
            say.t("in a server without a network", "en un servidor sin red"),
            say.t("on another host than the source", "en otro equipo que el del origen")
        );
        let records = Records::of(apart.iter().map(|test| test.mark.record));
        (!apart.is_empty()).then_some(Backing { what: what.into(), records })
    }

    pub(super) fn reconciliation(&self) -> Option<Backing> {
        let say = self.say;
        let compared = self.basis.facts.rehearsals.iter().filter(|test| test.rehearsed.compared > 0);
        let compared: Vec<&Rehearsal> = compared.collect();
        if compared.is_empty() {
            return None;
        }
        let parts: u64 = compared.iter().map(|test| test.rehearsed.compared).sum();
        let differing: u64 = compared.iter().map(|test| test.rehearsed.differing).sum();
        let what = say.counts(&[
            (say.t("parts compared", "partes cotejadas"), parts),
            (say.t("differences", "diferencias"), differing),
        ]);
        self.some(what, Records::of(compared.iter().map(|test| test.mark.record)))
    }

    pub(super) fn rto(&self) -> Option<Backing> {
        let say = self.say;
        let measured = self.basis.facts.rehearsals.iter().filter(|test| test.is_restored());
        let measured: Vec<&Rehearsal> = measured.collect();
        let slowest = measured.iter().map(|test| test.rehearsed.rto_seconds).fold(0.0, f64::max);
        let met = measured.iter().filter(|test| test.meets_rto() == Some(true)).count();
        let judged = measured.iter().filter(|test| test.meets_rto().is_some()).count();
        let what = format!("{} {}; {}", say.t("slowest", "la más lenta"), say.took(slowest), within(say, met, judged));
        let records = Records::of(measured.iter().map(|test| test.mark.record));
        (!measured.is_empty()).then_some(Backing { what: what.into(), records })
    }
}
