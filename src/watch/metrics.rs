//! The metrics: every number of [`Status`] that something may be alerted on, in the text formats of OpenMetrics and of Prometheus.
//!
//! Timestamps, never "seconds since", so that a number does not stay young when nobody renews it. A source has its series from the
//! moment it is configured, also when nothing ever ran. Labels are names of the configuration and words of a fixed set:
//! no label holds a point, a path or a message. Names are documented in `docs/MONITORING.md`, and a test compares.

use super::chronicle::BUCKETS;
use super::rehearsal::RehearsalStatus;
use super::rotation::RotationStatus;
use super::status::{SourceStatus, Status};
use super::words;
use crate::journal::{Outcome, Seen};
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// Which text is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    /// What node_exporter's textfile collector and old scrapers read.
    Prometheus,
}

impl Format {
    /// Of the header `Accept`.
    pub fn of_header(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Format::OpenMetrics } else { Format::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

pub fn render(status: &Arc<Status>, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(status.clone())));
    let mut text = String::new();
    let written = match format {
        Format::OpenMetrics => text::encode(&mut text, &registry),
        Format::Prometheus => prometheus_text::encode(&mut text, &registry),
    };
    written.expect("writing into memory does not fail");
    text
}

#[derive(Debug)]
struct Metrics(Arc<Status>);

/// What a sample is told apart by.
type Labels<'a> = Vec<(&'static str, &'a str)>;

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn family<'a, V>(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        samples: impl IntoIterator<Item = (Labels<'a>, V)>,
        write: impl Fn(&mut MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        samples.try_for_each(|(labels, value)| write(&mut family.encode_family(&labels)?, value))
    }

    fn gauge<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) -> fmt::Result {
        self.family((name, help, MetricType::Gauge), samples, |sample, value| sample.encode_gauge(&value))
    }

    /// `name` without its `_total`.
    fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        self.family((name, help, MetricType::Counter), samples, |sample, value| {
            sample.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)
        })
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let (status, mut to) = (&*self.0, Writer(encoder));
        about_bkp(status, &mut to)?;
        about_backups(status, &mut to)?;
        about_points(status, &mut to)?;
        about_rehearsals(status, &mut to)?;
        about_rotations(status, &mut to)?;
        about_runs(status, &mut to)?;
        about_the_rest(status, &mut to)
    }
}

fn about_bkp(status: &Status, to: &mut Writer<'_>) -> fmt::Result {
    let info = Info::new([("version", status.version)]);
    info.encode(to.0.encode_descriptor("bkp_build", "The version of bkp that answers", None, MetricType::Info)?)?;
    to.gauge("bkp_ok", "1 when nothing grave is known, as on the page", [(vec![], bit(status.ok))])?;
    let help = "1 when the last load of the configuration went well; 0 when the one before stays in force";
    to.gauge("bkp_config_last_reload_successful", help, [(vec![], bit(status.config.ok))])?;
    let at = status.config.at.map(|at| (vec![], seconds(at)));
    to.gauge("bkp_config_last_reload_timestamp_seconds", "When the configuration was loaded last, or tried to", at)?;
    let help = "Records of the journal; it never shrinks";
    to.gauge("bkp_evidence_chain_length", help, [(vec![], status.journal.records as f64)])?;
    let help = "Records of the journal that are damaged, changed or missing";
    to.gauge("bkp_evidence_chain_problems", help, [(vec![], status.journal.problems as f64)])?;
    to.counter("bkp_clock_jumps", "How often the clock of the host jumped", [(vec![], status.journal.clock_jumps)])
}

fn of_source(source: &SourceStatus) -> Labels<'_> {
    vec![("source", &source.source), ("policy", &source.policy)]
}

fn about_backups(status: &Status, to: &mut Writer<'_>) -> fmt::Result {
    let each = |value: fn(&SourceStatus) -> Option<f64>| {
        status.sources.iter().filter_map(move |source| Some((of_source(source), value(source)?)))
    };
    let help = "By when a backup must have ended well, grace included; also when none ever ran";
    to.gauge("bkp_backup_due_timestamp_seconds", help, each(|s| s.due.map(seconds)))?;
    let help = "When the last backup ended that went well";
    to.gauge("bkp_backup_last_success_timestamp_seconds", help, each(|s| s.last_success_at.map(seconds)))?;
    let help = "When the last backup ended, however it went";
    to.gauge("bkp_backup_last_run_timestamp_seconds", help, each(|s| s.last_run.as_ref().map(|run| seconds(run.at))))?;
    let help = "1 when the last backup went well, 0 when it failed";
    let good = |s: &SourceStatus| s.last_run.as_ref().map(|run| bit(run.outcome.is_good()));
    to.gauge("bkp_backup_last_status", help, each(good))?;
    let help = "How long the last backup took";
    to.gauge("bkp_backup_last_duration_seconds", help, each(|s| s.last_run.as_ref().map(|run| run.seconds)))?;
    let help = "How many backups in a row failed until now";
    to.gauge("bkp_backup_failures_in_a_row", help, each(|s| Some(s.failures_in_a_row as f64)))?;
    to.gauge("bkp_backup_running", "1 while a backup or a restore is at work", each(|s| Some(bit(s.running))))?;
    let help = "1 while an anomaly keeps old points from being deleted, until bkp ack";
    to.gauge("bkp_retention_held", help, each(|s| Some(bit(s.held.is_some()))))
}

fn about_points(status: &Status, to: &mut Writer<'_>) -> fmt::Result {
    let each = |value: fn(&SourceStatus) -> Option<f64>| {
        status.sources.iter().filter_map(move |source| Some((of_source(source), value(source)?)))
    };
    let help = "The instant that the data of the newest point stands for";
    let newest = |s: &SourceStatus| s.newest.as_ref().map(|newest| seconds(newest.consistent_at));
    to.gauge("bkp_recovery_point_newest_timestamp_seconds", help, each(newest))?;
    let help = "The instant that the data of the oldest point stands for, as far as this host knows";
    to.gauge("bkp_recovery_point_oldest_timestamp_seconds", help, each(|s| s.oldest.map(seconds)))?;
    let help = "Until when the store refuses to delete the newest point";
    to.gauge("bkp_repo_immutable_until_timestamp_seconds", help, each(|s| s.locked_until.map(seconds)))?;
    let help = "1 while the newest point is known to be damaged";
    let damaged = |s: &SourceStatus| Some(bit(s.verdict == crate::job::status::Verdict::Damaged));
    to.gauge("bkp_recovery_point_damaged", help, each(damaged))?;
    let help = "How old the newest point may be";
    to.gauge("bkp_rpo_target_seconds", help, each(|s| s.rpo_seconds.map(|seconds| seconds as f64)))?;
    let help = "The most that would have been lost at any time of the last 30 days";
    to.gauge("bkp_rpo_attained_seconds", help, each(|s| s.rpo_attained_seconds.map(|seconds| seconds as f64)))?;
    let help = "How long a restore may take";
    to.gauge("bkp_rto_target_seconds", help, each(|s| s.rto_seconds.map(|seconds| seconds as f64)))?;
    let help = "Size of the newest point, before compression";
    let measured = |s: &SourceStatus| s.newest.as_ref().filter(|newest| newest.point.is_some()).map(|n| n.bytes as f64);
    to.gauge("bkp_source_bytes", help, each(measured))?;
    let added = status.sources.iter().map(|source| (of_source(source), source.added_total));
    to.counter("bkp_added_bytes", "What backups have put into the store", added)
}

fn about_rehearsals(status: &Status, to: &mut Writer<'_>) -> fmt::Result {
    let each = |value: fn(&RehearsalStatus) -> Option<f64>| {
        let known = status.sources.iter().filter_map(|source| Some((source, source.rehearsal.as_ref()?)));
        known.filter_map(move |(source, rehearsal)| Some((of_source(source), value(rehearsal)?)))
    };
    let help = "When the last rehearsal of a restore ended that passed";
    to.gauge("bkp_rehearsal_last_success_timestamp_seconds", help, each(|r| r.passed_at.map(seconds)))?;
    let help = "By when a rehearsal must have passed, grace included; also when none ever ran";
    to.gauge("bkp_rehearsal_due_timestamp_seconds", help, each(|r| r.due.map(seconds)))?;
    let help = "1 when the last rehearsal passed, 0 when it failed";
    to.gauge("bkp_rehearsal_last_status", help, each(|r| r.last_at.map(|_| bit(r.failures_in_a_row == 0))))?;
    let help = "How long a restore took in the last rehearsal that restored";
    to.gauge("bkp_rehearsal_measured_rto_seconds", help, each(|r| r.rto_measured_seconds))?;
    let help = "How long a restore of the newest point would take, by the last rehearsals";
    to.gauge("bkp_rto_estimated_seconds", help, each(|r| r.rto_estimated.as_ref().map(|e| e.seconds)))?;
    let reached = status.sources.iter().flat_map(|source| {
        let levels = source.rehearsal.iter().flat_map(|rehearsal| &rehearsal.reached);
        levels.map(|(level, at)| {
            let labels: Labels<'_> = vec![("source", &source.source), ("policy", &source.policy), ("level", level)];
            (labels, seconds(*at))
        })
    });
    to.gauge("bkp_rehearsal_reached_timestamp_seconds", "When a rehearsal reached this level last", reached)
}

fn about_rotations(status: &Status, to: &mut Writer<'_>) -> fmt::Result {
    let each = |value: fn(&RotationStatus) -> Option<f64>| {
        status.rotations.iter().filter_map(move |one| {
            let labels: Labels<'_> = vec![("rotation", &one.rotation), ("policy", &one.policy)];
            Some((labels, value(one)?))
        })
    };
    let help = "When the password was rotated last, to the end";
    to.gauge("bkp_rotation_last_success_timestamp_seconds", help, each(|r| r.rotated_at.map(seconds)))?;
    let help = "By when it must be rotated, grace included; also when it never was";
    to.gauge("bkp_rotation_due_timestamp_seconds", help, each(|r| r.due.map(seconds)))?;
    let help = "Since when a rotation is not at its end, with nobody at it; two passwords are accepted as long";
    to.gauge("bkp_rotation_open_since_timestamp_seconds", help, each(|r| r.open_since.map(seconds)))?;
    let help = "How many rotations in a row failed until now";
    to.gauge("bkp_rotation_failures_in_a_row", help, each(|r| Some(r.failures_in_a_row as f64)))
}

fn about_runs(status: &Status, to: &mut Writer<'_>) -> fmt::Result {
    let runs = status
        .runs
        .iter()
        .map(|((job, outcome), count)| (vec![("kind", words::job(*job)), ("result", result(*outcome))], *count));
    to.counter("bkp_runs", "Runs that ended", runs)?;
    let slots = status.policies.iter().filter(|policy| policy.schedule.is_some()).flat_map(|policy| {
        let slots = policy.slots;
        let ends =
            [("done", slots.done), ("failed", slots.failed), ("missed", slots.missed), ("skipped", slots.skipped)];
        ends.map(|(end, count)| (vec![("policy", policy.policy.as_str()), ("result", end)], count))
    });
    to.counter("bkp_slots", "Expected runs of schedules that came, and how they ended", slots)?;
    let all = status.durations.iter().map(|(job, durations)| (vec![("kind", words::job(*job))], durations));
    to.family(("bkp_run_duration_seconds", "How long runs took", MetricType::Histogram), all, |sample, durations| {
        let known: u64 = durations.buckets.iter().sum();
        let beyond = (f64::INFINITY, durations.count.saturating_sub(known));
        let buckets = BUCKETS.iter().copied().zip(durations.buckets).chain([beyond]);
        let buckets: Vec<(f64, u64)> = buckets.collect();
        sample.encode_histogram::<NoLabelSet>(durations.seconds, durations.count, &buckets, None)
    })
}

fn about_the_rest(status: &Status, to: &mut Writer<'_>) -> fmt::Result {
    let seen = |value: fn(&Seen) -> f64| status.seen.as_ref().map(|seen| (vec![], value(seen)));
    let help = "What this host keeps in the repository, as a prune or a check saw it last";
    to.gauge("bkp_repo_bytes", help, seen(|seen| seen.bytes as f64))?;
    to.gauge("bkp_repo_objects", "Objects that this host keeps in the repository", seen(|seen| seen.objects as f64))?;
    let help = "When that was seen";
    to.gauge("bkp_repo_seen_timestamp_seconds", help, seen(|seen| seconds(seen.at)))?;
    for (job, success, due) in [
        ("check", "bkp_repo_check_last_success_timestamp_seconds", "bkp_repo_check_due_timestamp_seconds"),
        ("prune", "bkp_repo_prune_last_success_timestamp_seconds", "bkp_repo_prune_due_timestamp_seconds"),
    ] {
        let routine = status.routines.iter().find(|routine| words::job(routine.job) == job);
        let sample = |at: Option<Timestamp>| at.map(|at| (vec![], seconds(at)));
        let help = format!("When the last {job} of the repository ended that went well");
        to.gauge(success, &help, sample(routine.and_then(|routine| routine.last_success_at)))?;
        let help = format!("By when a {job} of the repository must have ended well");
        to.gauge(due, &help, sample(routine.and_then(|routine| routine.due)))?;
    }
    let copies = status.copies.iter().map(|copy| {
        let labels: Labels<'_> = vec![("copy", &copy.copy), ("source", &copy.source)];
        (labels, &copy.last)
    });
    let good = copies.clone().filter_map(|(labels, last)| Some((labels, seconds(last.last_ok.as_ref()?.0))));
    to.gauge("bkp_copy_last_success_timestamp_seconds", "When a point was copied last that could be read there", good)?;
    let help = "How many copies in a row failed until now";
    to.gauge("bkp_copy_failures_in_a_row", help, copies.map(|(labels, last)| (labels, last.failures_in_a_row as f64)))?;
    let channels = || status.channels.iter().map(|(name, channel)| (vec![("channel", name.as_str())], channel));
    let failed = channels().map(|(labels, channel)| (labels, channel.failed));
    to.counter("bkp_notify_failures", "Messages that could not be delivered", failed)?;
    let help = "How many messages in a row could not be delivered until now";
    to.gauge(
        "bkp_notify_failures_in_a_row",
        help,
        channels().map(|(labels, channel)| (labels, channel.failures_in_a_row as f64)),
    )
}

fn result(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Warnings => "warnings",
        Outcome::Failed => "failed",
        Outcome::Aborted => "aborted",
    }
}

fn bit(it_is: bool) -> f64 {
    f64::from(u8::from(it_is))
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
