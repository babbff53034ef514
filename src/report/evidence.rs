//! What stands behind a clause: for each sort of evidence what was found in the period, and the records it was read from.
//!
//! Nothing found is nothing said: then the report prints "no evidence". What went badly is evidence as well, and is counted with
//! the rest.

mod restores;

use super::basis::Basis;
use super::facts::Run;
use super::frameworks::Evidence;
use super::say::{Said, Say, said};
use super::text::Text;
use crate::journal::{Job, SlotEnd};

/// What was found, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Backing {
    pub what: Text,
    pub records: Records,
}

/// Numbers of records of the journal: the first few, the last, and how many there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    first: Vec<u64>,
    last: Option<u64>,
    pub total: u64,
}

const SHOWN: usize = 4;

impl Records {
    pub fn of(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut records = Records::default();
        for number in numbers {
            records.total += 1;
            match records.first.len() < SHOWN {
                true => records.first.push(number),
                false => records.last = Some(number),
            }
        }
        records
    }

    /// Those that are shown.
    pub fn shown(&self) -> impl Iterator<Item = u64> {
        self.first.iter().copied().chain(self.last)
    }

    /// `record 17`, `records 3, 8, 11, 20 … 977 (64 in all)`
    pub fn text(&self, say: Say<'_>) -> String {
        let list = self.first.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        match (self.total, self.last) {
            (0, _) => String::new(),
            (1, _) => format!("{} {list}", say.t("record", "registro")),
            (_, None) => format!("{} {list}", say.t("records", "registros")),
            (total, Some(last)) if total == SHOWN as u64 + 1 => {
                format!("{} {list}, {last}", say.t("records", "registros"))
            }
            (total, Some(last)) => {
                let total = say.number(total);
                format!("{} {list} … {last} ({total} {})", say.t("records", "registros"), say.t("in all", "en total"))
            }
        }
    }
}

pub const RUN: Said = said("run", "ejecución");
pub const RUNS: Said = said("runs", "ejecuciones");
pub const TEST: Said = said("restore test", "prueba de restauración");
pub const TESTS: Said = said("restore tests", "pruebas de restauración");
pub const SOURCE: Said = said("source", "origen");
pub const SOURCES: Said = said("sources", "orígenes");
pub const POLICY: Said = said("policy", "política");
pub const POLICIES: Said = said("policies", "políticas");

pub fn find(basis: &Basis, evidence: Evidence, say: Say<'_>) -> Option<Backing> {
    let finder = Finder { basis, say };
    match evidence {
        Evidence::Policies => finder.policies(),
        Evidence::Changes => finder.changes(),
        Evidence::Runs => finder.slots(),
        Evidence::AttainedRpo => finder.rpo(),
        Evidence::IntegrityChecks => finder.checks(),
        Evidence::RestoreTests => finder.tests(),
        Evidence::IsolatedTests => finder.isolated(),
        Evidence::Reconciliation => finder.reconciliation(),
        Evidence::MeasuredRto => finder.rto(),
        Evidence::RealRestores => finder.runs(Job::Restore),
        Evidence::CopiesElsewhere => finder.copies(),
        Evidence::Encryption => finder.encryption(),
        Evidence::KeyLifecycle => finder.keys(),
        Evidence::Immutability => finder.locks(),
        Evidence::Deletions => finder.deletions(),
        Evidence::CredentialAges => finder.credentials(),
        Evidence::Rotations => finder.rotations(),
        Evidence::AuditTrail => finder.journal(),
        Evidence::Clocks => finder.clocks(),
        Evidence::Notifications => finder.messages(),
    }
}

/// What each sort is called.
pub fn name(evidence: Evidence) -> Said {
    match evidence {
        Evidence::Policies => said("policies in force", "políticas vigentes"),
        Evidence::Changes => said("recorded changes", "cambios registrados"),
        Evidence::Runs => said("expected runs and their outcomes", "ejecuciones previstas y su resultado"),
        Evidence::AttainedRpo => said("attained RPO", "RPO alcanzado"),
        Evidence::IntegrityChecks => said("integrity checks", "comprobaciones de integridad"),
        Evidence::RestoreTests => said("restore tests", "pruebas de restauración"),
        Evidence::IsolatedTests => {
            said("restore tests in isolated targets", "pruebas de restauración en destinos aislados")
        }
        Evidence::Reconciliation => said("comparison with the source", "cotejo con el origen"),
        Evidence::MeasuredRto => said("measured RTO", "RTO medido"),
        Evidence::RealRestores => said("real restores", "restauraciones reales"),
        Evidence::CopiesElsewhere => said("copies elsewhere", "copias en otro lugar"),
        Evidence::Encryption => said("encryption", "cifrado"),
        Evidence::KeyLifecycle => said("keys and their ages", "claves y su antigüedad"),
        Evidence::Immutability => {
            said("object lock read back from the store", "bloqueo de objetos leído en el almacén")
        }
        Evidence::Deletions => said("recorded deletions", "borrados registrados"),
        Evidence::CredentialAges => said("ages of credentials", "antigüedad de las credenciales"),
        Evidence::Rotations => said("credential rotations", "renovaciones de credenciales"),
        Evidence::AuditTrail => said("journal of all runs", "diario de todas las ejecuciones"),
        Evidence::Clocks => said("record of the clock", "registro del reloj"),
        Evidence::Notifications => said("messages sent", "avisos enviados"),
    }
}

struct Finder<'a> {
    basis: &'a Basis,
    say: Say<'a>,
}

impl Finder<'_> {
    fn some(&self, what: impl Into<Text>, records: Records) -> Option<Backing> {
        Some(Backing { what: what.into(), records })
    }

    fn policies(&self) -> Option<Backing> {
        let (say, policies) = (self.say, &self.basis.policies);
        if policies.is_empty() {
            return None;
        }
        let loaded = self.basis.facts.configurations.iter().filter(|loaded| loaded.ok);
        let what = format!(
            "{}, {}",
            say.count(policies.len() as u64, POLICY, POLICIES),
            say.count(self.basis.sources().count() as u64, SOURCE, SOURCES)
        );
        self.some(what, Records::of(loaded.map(|loaded| loaded.mark.record)))
    }

    fn changes(&self) -> Option<Backing> {
        let facts = &self.basis.facts;
        let loaded = facts.configurations.iter().filter(|loaded| !loaded.before).map(|loaded| loaded.mark.record);
        let mut records: Vec<u64> = loaded.chain(facts.retention.iter().map(|change| change.mark.record)).collect();
        records.sort_unstable();
        if records.is_empty() {
            return None;
        }
        let what = self.say.count(
            records.len() as u64,
            said("load or change of the configuration", "carga o cambio de configuración"),
            said("loads and changes of the configuration", "cargas y cambios de configuración"),
        );
        self.some(what, Records::of(records))
    }

    fn slots(&self) -> Option<Backing> {
        let (say, facts) = (self.say, &self.basis.facts);
        let backups = || facts.slots().filter(|(series, _)| series.job == Job::Backup).map(|(_, slot)| slot);
        let expected = backups().count() as u64;
        if expected == 0 {
            let runs: Vec<&Run> = facts.runs_of(Job::Backup).collect();
            let good = runs.iter().filter(|run| run.ended.as_ref().is_some_and(|end| end.outcome.is_good())).count();
            let records = Records::of(runs.iter().map(|run| run.started.record));
            let what = match say.language {
                crate::watch::Language::English => {
                    format!("{} without a schedule, {good} done", say.count(records.total, RUN, RUNS))
                }
                crate::watch::Language::Spanish => {
                    format!("{} sin programación, {good} correctas", say.count(records.total, RUN, RUNS))
                }
            };
            return (records.total > 0).then_some(Backing { what: what.into(), records });
        }
        let done = backups().filter(|slot| slot.end() == Some(SlotEnd::Done)).count() as u64;
        let what = format!(
            "{}: {}, {}: {} ({})",
            say.t("expected", "previstas"),
            say.number(expected),
            say.t("done", "correctas"),
            say.number(done),
            say.share(done, expected)
        );
        let record =
            |slot: &super::facts::Slot| slot.ended.as_ref().map(|end| end.mark).or(slot.expected).map(|m| m.record);
        self.some(what, Records::of(backups().filter_map(record)))
    }

    fn rpo(&self) -> Option<Backing> {
        let say = self.say;
        let judged: Vec<_> =
            self.basis.facts.recovery.iter().filter_map(|(source, recovery)| Some((source, recovery.worst?))).collect();
        let worst = judged.iter().max_by_key(|(_, worst)| worst.seconds)?;
        let (met, all) = self.basis.rpo_kept();
        let what = format!(
            "{} {} ({}); {}",
            say.t("at worst", "en el peor caso"),
            say.span(worst.1.seconds),
            worst.0,
            within(say, met, all)
        );
        self.some(what, Records::of(judged.iter().filter_map(|(_, worst)| worst.record)))
    }

    fn runs(&self, job: Job) -> Option<Backing> {
        let say = self.say;
        let runs: Vec<&Run> = self.basis.facts.runs_of(job).collect();
        let good = runs.iter().filter(|run| run.ended.as_ref().is_some_and(|end| end.outcome.is_good())).count();
        let records = Records::of(runs.iter().map(|run| run.ended.as_ref().map_or(run.started, |end| end.mark).record));
        let done = say.t("done", "correctas");
        let what = format!("{}, {done}: {good}", say.count(runs.len() as u64, RUN, RUNS));
        (!runs.is_empty()).then_some(Backing { what: what.into(), records })
    }

    fn rotations(&self) -> Option<Backing> {
        let (say, all) = (self.say, self.basis.facts.rotated());
        let done = all.iter().filter(|one| one.is_done()).count() as u64;
        let refused = all.iter().filter(|one| one.refused.is_some()).count() as u64;
        let what = say.counts(&[
            (say.t("rotations begun", "renovaciones iniciadas"), all.len() as u64),
            (say.t("done", "correctas"), done),
            (say.t("the old credential seen to be refused", "con la credencial anterior rechazada"), refused),
        ]);
        let record = |one: &super::facts::Rotation<'_>| one.end.map(|(mark, _)| mark).or(one.records.last().copied());
        let records = Records::of(all.iter().filter_map(record).map(|mark| mark.record));
        (!all.is_empty()).then_some(Backing { what: what.into(), records })
    }

    fn copies(&self) -> Option<Backing> {
        let say = self.say;
        let series = &self.basis.facts.copies;
        let arrived: u64 = series.iter().map(|copy| copy.arrived).sum();
        let failed: u64 = series.iter().map(|copy| copy.failed).sum();
        if arrived + failed == 0 {
            return None;
        }
        let mut names: Vec<&str> = series.iter().map(|copy| &*copy.copy).collect();
        names.dedup();
        let what = format!(
            "{}: {} ({}); {}: {}",
            say.t("points copied", "puntos copiados"),
            say.number(arrived),
            names.join(", "),
            say.t("failures", "fallos"),
            say.number(failed)
        );
        let last = |copy: &super::facts::CopySeries| copy.last_arrived.or(copy.last_failed.as_ref().map(|f| f.0));
        let mut records: Vec<u64> = series.iter().filter_map(last).map(|mark| mark.record).collect();
        records.sort_unstable();
        self.some(what, Records::of(records))
    }

    /// By the format there is no other point than a sealed one; that one could be opened is what shows it.
    fn encryption(&self) -> Option<Backing> {
        let say = self.say;
        let repository = self.basis.repository.seen()?;
        let within = |at| self.basis.period.contains(at);
        let points = repository.points.iter().filter(|point| within(point.consistent_at)).count() as u64;
        let what = format!(
            "{}: {} (age, X25519 + ChaCha20-Poly1305)",
            say.t(
                "points of the period in the repository, all sealed",
                "puntos del periodo en el repositorio, todos cifrados"
            ),
            say.number(points)
        );
        (points > 0).then_some(Backing { what: what.into(), records: Records::default() })
    }

    fn keys(&self) -> Option<Backing> {
        let say = self.say;
        let repository = self.basis.repository.seen()?;
        let what = format!(
            "{}: {}; {}: {}; {}: {}",
            say.t("who can read", "quién puede leer"),
            repository.readers.len(),
            say.t("data keys", "claves de datos"),
            repository.epochs.len(),
            say.t("writers", "equipos que escriben"),
            repository.writers.len()
        );
        self.some(what, Records::default())
    }

    fn locks(&self) -> Option<Backing> {
        let say = self.say;
        let repository = self.basis.repository.seen()?;
        let locked = repository.locks.values().flatten().filter(|lock| lock.until > self.basis.made_at).count();
        let what = format!(
            "{}: {locked}/{}",
            say.t("sources whose newest point is locked", "orígenes cuyo punto más reciente está bloqueado"),
            repository.locks.len()
        );
        (locked > 0).then_some(Backing { what: what.into(), records: Records::default() })
    }

    fn deletions(&self) -> Option<Backing> {
        let say = self.say;
        let deletions = &self.basis.facts.deletions;
        let points: usize = deletions.iter().map(|deletion| deletion.points.len()).sum();
        let what = format!("{}: {}", say.t("points deleted", "puntos borrados"), say.number(points as u64));
        let records = Records::of(deletions.iter().map(|deletion| deletion.mark.record));
        (!deletions.is_empty()).then_some(Backing { what: what.into(), records })
    }

    fn credentials(&self) -> Option<Backing> {
        let say = self.say;
        let known = self.basis.credentials.iter().filter_map(|credential| credential.changed);
        let oldest = known.clone().min()?;
        let age = self.basis.made_at.duration_since(oldest).as_secs().max(0);
        let what = format!(
            "{}: {}/{}; {} {}",
            say.t("with a known age", "de antigüedad conocida"),
            known.count(),
            self.basis.credentials.len(),
            say.t("the oldest", "la más antigua,"),
            say.span(age)
        );
        self.some(what, Records::default())
    }

    fn journal(&self) -> Option<Backing> {
        let say = self.say;
        let chain = &self.basis.facts.journal;
        let (first, last) = (chain.first_in_period?, chain.last_in_period?);
        let state = match self.basis.integrity.seen() {
            None => say.t("chain not verified", "cadena sin verificar").to_owned(),
            Some(seen) if !seen.findings.is_empty() => say.t("CHAIN BROKEN", "CADENA ROTA").to_owned(),
            Some(seen) if seen.covered_to == 0 => say
                .t(
                    "chain intact; nothing sealed or anchored was seen",
                    "cadena íntegra; sin sellos ni anclajes a la vista",
                )
                .to_owned(),
            Some(seen) => format!(
                "{} {}",
                say.t("chain intact; sealed or anchored up to", "cadena íntegra; sellada o anclada hasta el"),
                seen.covered_to
            ),
        };
        let what = format!("{} {}–{}; {state}", say.t("records", "registros"), first.record, last.record);
        self.some(what, Records::of([first.record, last.record]))
    }

    fn clocks(&self) -> Option<Backing> {
        let say = self.say;
        let facts = &self.basis.facts;
        facts.journal.first_in_period?;
        let what = match facts.clock.len() {
            0 => say.t("no jump of the clock was noticed", "no se advirtió ningún salto del reloj").to_owned(),
            jumps => say.count(
                jumps as u64,
                said("change of the clock", "cambio de reloj"),
                said("changes of the clock", "cambios de reloj"),
            ),
        };
        self.some(what, Records::of(facts.clock.iter().map(|change| change.mark.record)))
    }

    fn messages(&self) -> Option<Backing> {
        let say = self.say;
        let all = self.basis.facts.messages.values();
        let (sent, failed) = all.fold((0, 0), |(sent, failed), m| (sent + m.sent, failed + m.failed));
        let what = say.counts(&[(say.t("sent", "enviados"), sent), (say.t("not delivered", "no entregados"), failed)]);
        (sent + failed > 0).then_some(Backing { what: what.into(), records: Records::default() })
    }
}

/// Of those that have an objective.
fn within(say: Say<'_>, met: usize, judged: usize) -> String {
    match judged {
        0 => say.t("no objective", "sin objetivo").to_owned(),
        _ => format!("{}: {met}/{judged}", say.t("within their objective", "dentro de su objetivo")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Language;
    use jiff::tz::TimeZone;

    #[test]
    fn records_are_named_and_counted() {
        let say = Say { language: Language::English, zone: &TimeZone::UTC };
        let table = [
            (0, ""),
            (1, "record 1"),
            (4, "records 1, 2, 3, 4"),
            (5, "records 1, 2, 3, 4, 5"),
            (9, "records 1, 2, 3, 4 … 9 (9 in all)"),
        ];
        for (number, text) in table {
            assert_eq!(Records::of(1..=number).text(say), text);
        }
    }
}
