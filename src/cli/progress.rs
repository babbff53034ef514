//! Progress on standard error: a bar with rate and time left on a terminal, JSON lines where asked for, else nothing.

use super::output::Output;
use crate::event::{Event, Events, Meter};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::tz::TimeZone;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    Auto,
    Bar,
    Json,
    None,
}

/// What is being done now.
#[derive(Default)]
struct Now {
    source: String,
    phase: &'static str,
    since: Option<Instant>,
}

/// Shared with the thread that draws.
struct Shared {
    meter: Meter,
    now: Mutex<Now>,
    bar: Option<ProgressBar>,
    json: bool,
}

/// Where others find the bar, to write above it.
pub type SharedBar = Arc<Mutex<Option<ProgressBar>>>;

/// What a store tells of itself, whatever runs.
pub struct StoreNews {
    json: bool,
    output: Output,
    zone: TimeZone,
    bar: SharedBar,
}

impl StoreNews {
    pub fn new(mode: Mode, output: Output, zone: TimeZone, bar: SharedBar) -> Self {
        StoreNews { json: mode == Mode::Json, output, zone, bar }
    }

    fn say(&self, event: &Event) {
        match event {
            Event::StoreSilent { store, error, until } => {
                let until = until.to_zoned(self.zone.clone()).strftime("%H:%M:%S");
                let text = format!("store {store} does not answer, trying again until {until}: {error}");
                self.output.warn(&super::output::plain(&text));
            }
            Event::StoreAnswers { store, seconds } => {
                let text = format!("store {store} answers again, after {}", super::format::took(*seconds));
                self.output.note(&super::output::plain(&text));
            }
            _ => {}
        }
    }
}

impl Events for StoreNews {
    fn emit(&self, event: &Event) {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        match bar.as_ref() {
            _ if self.json => json_line(event),
            Some(bar) => bar.suspend(|| self.say(event)),
            None => self.say(event),
        }
    }
}

pub struct Progress {
    shared: Arc<Shared>,
    output: Output,
    drawing: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    pub fn new(mode: Mode, output: Output, shown: &SharedBar) -> Self {
        let terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        let bar = mode == Mode::Bar || (mode == Mode::Auto && terminal && !output.quiet);
        let json = mode == Mode::Json;
        let bar = bar.then(ProgressBar::new_spinner);
        *shown.lock().unwrap_or_else(PoisonError::into_inner) = bar.clone();
        let shared = Arc::new(Shared { meter: Meter::default(), now: Mutex::default(), bar, json });
        let drawing = (shared.json || shared.bar.is_some()).then(|| draw(shared.clone()));
        Progress { shared, output, drawing }
    }

    pub fn meter(&self) -> &Meter {
        &self.shared.meter
    }

    /// Something for people between the drawings.
    pub fn say(&self, text: impl FnOnce(&Output)) {
        match &self.shared.bar {
            Some(bar) => bar.suspend(|| text(&self.output)),
            None => text(&self.output),
        }
    }
}

impl Events for Progress {
    fn emit(&self, event: &Event) {
        let mut now = self.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::Phase { source, phase } = event {
            *now = Now { source: source.clone(), phase, since: Some(Instant::now()) };
            let meter = &self.shared.meter;
            for counter in [&meter.bytes, &meter.items, &meter.stored_bytes, &meter.total_bytes, &meter.total_items] {
                counter.store(0, Relaxed);
            }
        }
        if matches!(event, Event::RunFinished { .. }) {
            *now = Now::default();
        }
        drop(now);
        if self.shared.json {
            json_line(event);
        } else if let Event::Warning { source, text } = event {
            self.say(|output| output.warn(&format!("{source}: {}", super::output::plain(text))));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.drawing.take() {
            drop(stop);
            let _ = thread.join();
        }
        if let Some(bar) = &self.shared.bar {
            bar.finish_and_clear();
        }
    }
}

fn json_line(value: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

fn draw(shared: Arc<Shared>) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = channel::<()>();
    let every = Duration::from_millis(if shared.json { 1000 } else { 150 });
    let thread = std::thread::spawn(move || {
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            if shared.json { tell(&shared) } else { show(&shared) }
        }
    });
    (stop, thread)
}

fn tell(shared: &Shared) {
    let now = shared.now.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(since) = now.since else { return };
    let meter = &shared.meter;
    json_line(&serde_json::json!({
        "message_type": "progress",
        "source": now.source,
        "phase": now.phase,
        "seconds": since.elapsed().as_secs_f64(),
        "bytes": meter.bytes.load(Relaxed),
        "items": meter.items.load(Relaxed),
        "total_bytes": meter.total_bytes.load(Relaxed),
        "total_items": meter.total_items.load(Relaxed),
    }));
}

const KNOWN: &str = "{prefix} {msg} {bar:24} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left";
const UNKNOWN: &str = "{prefix} {msg} {spinner} {bytes} {binary_bytes_per_sec} {elapsed}";

fn show(shared: &Shared) {
    let Some(bar) = &shared.bar else { return };
    let now = shared.now.lock().unwrap_or_else(PoisonError::into_inner);
    if now.since.is_none() {
        return;
    }
    let total = shared.meter.total_bytes.load(Relaxed);
    let template = if total > 0 { KNOWN } else { UNKNOWN };
    if (bar.length() != Some(total) || bar.message() != now.phase)
        && let Ok(style) = ProgressStyle::with_template(template)
    {
        bar.set_style(style);
        bar.reset();
        bar.set_prefix(now.source.clone());
        bar.set_message(now.phase);
        bar.set_length(total);
    }
    bar.set_position(shared.meter.bytes.load(Relaxed));
    bar.tick();
}
