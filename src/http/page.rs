//! The one page: whether all is well, what to do next, and how each source stands. Read-only, without scripts.
//!
//! Rendered here from [`Status`] alone; the templates escape whatever they are given. Colour never says anything alone: a sign
//! and a word stand beside it, and each day of a strip has its text for those who do not see it.

use super::phrases::{self, Phrases};
use crate::job::status::Verdict;
use crate::journal::Outcome;
use crate::watch::{Language, PolicyStatus, SourceStatus, Status, Tally, ago, instant, job, size, span};
use base64::Engine as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("page.css");

/// Nothing but this page and its own style.
pub fn content_security_policy() -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

pub fn render(status: &Status, language: Language) -> String {
    let page = Page { status, language, say: phrases::of(language) };
    page.whole().into_string()
}

struct Page<'a> {
    status: &'a Status,
    language: Language,
    say: &'static Phrases,
}

/// A sign that is told apart by its shape, the class of its colour, and its word.
struct Sign {
    shape: &'static str,
    class: &'static str,
    word: &'static str,
}

impl Page<'_> {
    fn whole(&self) -> Markup {
        let (status, say) = (self.status, self.say);
        let attention = !status.concerns.is_empty();
        let verdict = match (status.sources.is_empty(), status.ok && !attention) {
            (true, _) => say.nothing_configured,
            (false, true) => say.title_well,
            (false, false) => say.title_attention,
        };
        let other = if self.language == Language::English { Language::Spanish } else { Language::English };
        html! {
            (DOCTYPE)
            html lang=(self.language.tag()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { "bkp: " (verdict) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { "bkp" }
                        p class="soft" {
                            (say.as_of) " " (instant(status.at, &status.timezone))
                            span class="screen" {
                                " · " a href={ "?lang=" (other.tag()) } lang=(other.tag()) hreflang=(other.tag()) { (say.other_language) }
                            }
                        }
                    }
                    main {
                        (self.verdict(verdict, attention))
                        @if !status.sources.is_empty() { (self.sources()) }
                        @if !status.policies.is_empty() { (self.strips()) (self.next_runs()) }
                        @if !status.routines.is_empty() { (self.routines()) }
                        @if !status.copies.is_empty() { (self.copies()) }
                    }
                    (self.footer())
                }
            }
        }
    }

    fn verdict(&self, verdict: &str, attention: bool) -> Markup {
        let (class, shape, colour) =
            if attention { ("verdict attention", "✖", "bad") } else { ("verdict", "✔", "well") };
        html! {
            section class=(class) {
                h2 class=(colour) { span class="sign" aria-hidden="true" { (shape) } " " (verdict) }
                @if let Some(repository) = &self.status.repository { p class="soft" { (repository) } }
            }
            section {
                h2 { (self.say.what_next) }
                @if attention {
                    ol class="next" {
                        @for stated in &self.status.concerns {
                            @let told = stated.concern.told(self.language);
                            li { (told.what) br; span class="todo" { "→ " (told.next) } }
                        }
                    }
                } @else if !self.status.sources.is_empty() {
                    p { (self.say.nothing_to_do) }
                } @else {
                    p { code { "bkp discover --write" } }
                }
            }
        }
    }

    fn sources(&self) -> Markup {
        let say = self.say;
        html! {
            section {
                h2 { (say.sources) }
                div class="wide" tabindex="0" role="region" aria-label=(say.sources) {
                    table {
                        caption { (say.rpo_explained) }
                        thead {
                            tr {
                                @for title in [say.source, say.state, say.policy, say.newest, say.rpo, say.last_run, say.due, say.size] {
                                    th scope="col" { (title) }
                                }
                            }
                        }
                        tbody { @for source in &self.status.sources { (self.source(source)) } }
                    }
                }
            }
        }
    }

    fn source(&self, source: &SourceStatus) -> Markup {
        let say = self.say;
        let newest = source.newest.as_ref();
        html! {
            tr {
                th scope="row" { (source.source) }
                td {
                    (sign(&verdict_sign(source.verdict, say)))
                    @if source.running { br; span class="soft" { (say.running) } }
                }
                td { (source.policy) }
                td {
                    @match newest {
                        Some(newest) => {
                            (self.when(newest.consistent_at))
                            @if let Some(id) = &newest.id { br; code { (id) } }
                        }
                        None => (say.never),
                    }
                }
                td { (self.rpo(source)) }
                td {
                    @match &source.last_run {
                        Some(run) => {
                            (sign(&outcome_sign(run.outcome, say))) " " (self.when(run.at))
                            @if let Some(message) = run.message.as_ref().filter(|_| !run.outcome.is_good()) {
                                br; span class="soft said" { (message.lines().next().unwrap_or_default()) }
                            }
                        }
                        None => (say.never),
                    }
                }
                td {
                    @match source.due {
                        Some(due) => {
                            (self.when(due))
                            @if source.overdue { br; (sign(&Sign { shape: "!", class: "bad", word: say.overdue })) }
                        }
                        None => "–",
                    }
                }
                td {
                    @match newest.filter(|newest| newest.point.is_some()) {
                        Some(newest) => { span class="whole" { (self.size(newest.bytes)) } },
                        None => "–",
                    }
                }
            }
        }
    }

    fn rpo(&self, source: &SourceStatus) -> Markup {
        let attained = source.rpo_attained_seconds;
        let kept = match (attained, source.rpo_seconds) {
            (Some(attained), Some(target)) if attained <= target => Some(("✔", "well")),
            (_, Some(_)) => Some(("✖", "bad")),
            (_, None) => None,
        };
        html! {
            @if let Some((shape, class)) = kept { span class={ "sign " (class) } aria-hidden="true" { (shape) } " " }
            span class="whole" {
                (attained.map_or_else(|| "–".to_owned(), span))
                @if let Some(target) = source.rpo_seconds { " / " (span(target)) }
            }
        }
    }

    /// How long ago, with the instant itself below.
    fn when(&self, at: Timestamp) -> Markup {
        let seconds = self.status.at.duration_since(at).as_secs();
        html! {
            time class="whole" datetime=(at.to_string()) { (ago(seconds, self.language)) }
            br;
            span class="soft whole" { (minute(at, &self.status.timezone)) }
        }
    }

    fn size(&self, bytes: u64) -> String {
        let text = size(bytes);
        if self.language == Language::Spanish { text.replace('.', ",") } else { text }
    }

    fn strips(&self) -> Markup {
        let say = self.say;
        let all = [Tally { done: 1, ..Tally::default() }, Tally { warnings: 1, ..Tally::default() }]
            .into_iter()
            .chain([Tally { failed: 1, ..Tally::default() }, Tally { missed: 1, ..Tally::default() }])
            .chain([Tally { skipped: 1, ..Tally::default() }, Tally::default()]);
        html! {
            section {
                h2 { (say.thirty_days) }
                p class="soft" { (say.legend) }
                ul class="legend" { @for tally in all { li { (sign(&day_sign(tally, say))) } } }
                @for policy in &self.status.policies {
                    h3 { (policy.policy) }
                    (self.strip(policy))
                }
            }
        }
    }

    fn strip(&self, policy: &PolicyStatus) -> Markup {
        html! {
            ol class="strip" {
                @for day in &policy.days {
                    @let sign = day_sign(day.tally, self.say);
                    @let text = format!("{}: {}", day.date, self.counts(day.tally));
                    li class=(sign.class) title=(text) {
                        span aria-hidden="true" { (sign.shape) }
                        span class="only-read" { (text) }
                    }
                }
            }
        }
    }

    /// `2 done, 1 missed`
    fn counts(&self, tally: Tally) -> String {
        let say = self.say;
        let all = [
            (tally.done, say.done),
            (tally.warnings, say.warnings),
            (tally.failed, say.failed),
            (tally.missed, say.missed),
            (tally.skipped, say.skipped),
        ];
        let some: Vec<_> = all.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        if some.is_empty() { say.nothing.to_owned() } else { some.join(", ") }
    }

    fn next_runs(&self) -> Markup {
        let say = self.say;
        html! {
            section {
                h2 { (say.next_runs) }
                table {
                    thead { tr { @for title in [say.policy, say.schedule, say.zone, say.next] { th scope="col" { (title) } } } }
                    tbody {
                        @for policy in &self.status.policies {
                            tr {
                                th scope="row" { (policy.policy) }
                                @match &policy.schedule {
                                    Some(schedule) => {
                                        td { code { (schedule) } }
                                        td { (policy.timezone.as_deref().unwrap_or("–")) }
                                        td {
                                            @for (number, at) in policy.next.iter().enumerate() {
                                                @if number > 0 { br; }
                                                (minute(*at, &policy.zone))
                                            }
                                        }
                                    }
                                    None => td colspan="3" class="soft" { (say.no_schedule) },
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn routines(&self) -> Markup {
        let say = self.say;
        html! {
            section {
                h2 { (say.repository) }
                table {
                    thead { tr { @for title in [say.job, say.last_success, say.due, say.next] { th scope="col" { (title) } } } }
                    tbody {
                        @for routine in &self.status.routines {
                            tr {
                                th scope="row" { (job(routine.job)) }
                                @for at in [routine.last_success_at, routine.due, routine.next] {
                                    td { @match at { Some(at) => (self.when(at)), None => (say.never) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn copies(&self) -> Markup {
        let say = self.say;
        html! {
            section {
                h2 { (say.copies) }
                table {
                    thead { tr { @for title in [say.copy, say.source, say.state, say.last_success] { th scope="col" { (title) } } } }
                    tbody {
                        @for copy in &self.status.copies {
                            tr {
                                th scope="row" { (copy.copy) }
                                td { (copy.source) }
                                td {
                                    @let outcome = if copy.last.ok { Outcome::Done } else { Outcome::Failed };
                                    (sign(&outcome_sign(outcome, say)))
                                }
                                td { @match &copy.last.last_ok { Some((at, _)) => (self.when(*at)), None => (say.never) } }
                            }
                        }
                    }
                }
            }
        }
    }

    fn footer(&self) -> Markup {
        let (status, say) = (self.status, self.say);
        let moment = |at: Timestamp| instant(at, &status.timezone);
        html! {
            footer {
                p {
                    @match &status.daemon {
                        Some(daemon) => @match &daemon.stopped {
                            Some((at, _)) => { (say.daemon_stopped) " " (moment(*at)) },
                            None => { (say.daemon_runs) " " (moment(daemon.since)) },
                        },
                        None => (say.no_daemon),
                    }
                    " · " (status.journal.records) " " (say.records) " · bkp " (status.version)
                }
                p { (say.proofs) }
                p class="screen" { a href="metrics" { "/metrics" } " · " a href="api/v1/status" { "/api/v1/status" } }
            }
        }
    }
}

/// `2026-11-30 02:30 -05:00`
fn minute(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %:z").to_string()
}

fn sign(sign: &Sign) -> Markup {
    html! { span class={ "whole " (sign.class) } { span class="sign" aria-hidden="true" { (sign.shape) } (sign.word) } }
}

fn verdict_sign(verdict: Verdict, say: &Phrases) -> Sign {
    match verdict {
        Verdict::Protected | Verdict::NotConfigured => Sign { shape: "✔", class: "well", word: say.protected },
        Verdict::Late => Sign { shape: "!", class: "warn", word: say.late },
        Verdict::Damaged => Sign { shape: "✖", class: "bad", word: say.damaged },
        Verdict::Missing => Sign { shape: "○", class: "bad", word: say.missing },
    }
}

fn outcome_sign(outcome: Outcome, say: &Phrases) -> Sign {
    match outcome {
        Outcome::Done => Sign { shape: "✔", class: "well", word: say.done },
        Outcome::Warnings => Sign { shape: "!", class: "warn", word: say.warnings },
        Outcome::Failed => Sign { shape: "✖", class: "bad", word: say.failed },
        Outcome::Aborted => Sign { shape: "✖", class: "bad", word: say.aborted },
    }
}

/// The worst of a day.
fn day_sign(tally: Tally, say: &Phrases) -> Sign {
    match tally {
        Tally { failed: 1.., .. } => Sign { shape: "✖", class: "bad", word: say.failed },
        Tally { missed: 1.., .. } => Sign { shape: "○", class: "bad", word: say.missed },
        Tally { warnings: 1.., .. } => Sign { shape: "!", class: "warn", word: say.warnings },
        Tally { done: 1.., .. } => Sign { shape: "✔", class: "well", word: say.done },
        Tally { skipped: 1.., .. } => Sign { shape: "–", class: "soft", word: say.skipped },
        _ => Sign { shape: "·", class: "soft", word: say.nothing },
    }
}
