//! The daemon: runs what is due, as processes of its own, and writes down what was expected and what came of it.
//!
//! One loop decides everything ([`Daemon::run`]): it is told of signals, alarms and ends of runs ([`news`]), asks `schedule` what
//! to do, notes it in the journal, and then does it. Whatever moment it is killed at, the journal has what the next one needs:
//! slots that are open are taken up, runs that go on are waited for, and none is begun a second time.
//! It opens no source, no repository and no secret itself: that is what the runs are for. What Vault gave to one of them it keeps
//! in memory for the next, for the time that Vault cannot be asked.

mod begin;
mod child;
mod clocks;
mod ending;
mod lanes;
mod ledger;
mod lock;
mod news;
mod queue;
mod rotations;
mod settings;
mod systemd;
mod timer;
mod work;
#[cfg(test)]
mod work_tests;

use crate::clock;
use crate::durable::{self, Lock};
use crate::error::{Failure, Result};
use crate::journal::{Fact, Journal};
use crate::policy::Paths;
use crate::schedule::{Notice, Observer, Outlook, Weight};
use crate::secret::Memory;
use child::Child;
use clocks::Clocks;
use jiff::Timestamp;
use lanes::Lane;
use ledger::Ledger;
use news::{News, TaskKey};
use settings::Settings;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use systemd::Manager;
use timer::Timer;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

pub use crate::host::identity as host;
pub use child::Exit;
pub use ending::{AT_ITS_DEADLINE, GRACE};
pub use lock::{Turn, ask_to_reload, running};
pub use settings::copy_of;
pub use work::{End, Known, Verdict, end_of_slot, judge};

/// The loop comes by at least so often; clocks that were set are noticed then.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The same where a test moves the clock.
const HEARTBEAT_OF_TESTS: Duration = Duration::from_millis(50);
/// The picture for others is made anew at most so often.
const PICTURE_EVERY: Duration = Duration::from_millis(500);

pub struct Options {
    pub paths: Paths,
    /// Global options that runs are started with too, such as `--repo`.
    pub arguments: Vec<String>,
    pub observers: Vec<Box<dyn Observer>>,
}

/// How to ask the running loop for something.
#[derive(Clone)]
pub struct Handle(UnboundedSender<News>);

impl Handle {
    pub fn reload(&self) {
        let _ = self.0.send(News::Reload);
    }

    /// In order the first time, soon the second time.
    pub fn stop(&self) {
        let _ = self.0.send(News::Stop);
    }
}

pub struct Daemon {
    paths: Paths,
    arguments: Vec<String>,
    settings: Settings,
    ledger: Ledger,
    /// What Vault gave to runs, for those to come.
    memory: Memory,
    lanes: Vec<Lane>,
    children: Vec<(TaskKey, Process)>,
    manager: Manager,
    clocks: Clocks,
    stopping: Option<Stopping>,
    reload_failed: Option<String>,
    picture: watch::Sender<Arc<Outlook>>,
    painted: Instant,
    to_loop: UnboundedSender<News>,
    news: UnboundedReceiver<News>,
    _lock: Lock,
}

/// A run at work.
struct Process {
    child: Child,
    /// When it was told to end.
    told_to_end: Option<Instant>,
}

struct Stopping {
    until: Instant,
    /// It was said twice, or long enough was waited.
    at_once: bool,
}

impl Daemon {
    /// Reads the configuration and the journal; fails when another daemon is there, or the configuration is wrong.
    pub fn new(options: Options) -> Result<Self> {
        let Options { paths, arguments, observers } = options;
        let lock = lock::become_the_daemon(&paths.state)?;
        let settings = Settings::load(&paths, &host())?;
        settings.forget_others(&paths);
        tidy_up(&paths.state);
        let ledger = Ledger::open(Journal::of(&paths.state), observers)?;
        let now = clock::now();
        let (to_loop, news) = unbounded_channel();
        let first = Outlook {
            at: now,
            state: ledger.state().clone(),
            configuration: settings.configuration.clone(),
            upcoming: Vec::new(),
            degraded: Vec::new(),
            ready: false,
        };
        let mut daemon = Daemon {
            paths,
            arguments,
            settings,
            ledger,
            memory: Memory::default(),
            lanes: Vec::new(),
            children: Vec::new(),
            manager: Manager::of_this_process(),
            clocks: Clocks::set(now),
            stopping: None,
            reload_failed: None,
            picture: watch::Sender::new(Arc::new(first)),
            painted: Instant::now(),
            to_loop,
            news,
            _lock: lock,
        };
        daemon.begin(now);
        Ok(daemon)
    }

    fn begin(&mut self, now: Timestamp) {
        // Time does not go back: the clock was set while nobody looked.
        let before = self.ledger.state().at.map(|at| now.duration_since(at).as_secs()).filter(|seconds| *seconds < -60);
        let jumped = before.map(|seconds| Fact::ClockJumped { seconds });
        let pid = std::process::id();
        let started = Fact::DaemonStarted { pid, version: env!("CARGO_PKG_VERSION").to_owned() };
        let loaded = Fact::ConfigLoaded { ok: true, error: None, digest: self.settings.digest.clone() };
        self.ledger.note(jumped.into_iter().chain([started, loaded]).collect(), now);
        self.ledger.settle(now);
        self.tell_of_configuration();
        self.make_lanes(now);
        self.adopt(now);
    }

    pub fn handle(&self) -> Handle {
        Handle(self.to_loop.clone())
    }

    /// The picture of how things are, as it changes.
    pub fn outlook(&self) -> watch::Receiver<Arc<Outlook>> {
        self.picture.subscribe()
    }

    /// Until it is told to stop, and all runs have ended.
    pub async fn run(mut self) -> Result<()> {
        let mut timer = Timer::start(self.to_loop.clone()).await?;
        self.look(clock::now());
        self.paint(true);
        self.manager.ready();
        let scheduled = self.lanes.iter().filter(|lane| lane.schedule.calendar.is_ever()).count();
        let text = format!("ready: {scheduled} scheduled");
        self.ledger.tell(&Notice::new(Weight::Note, "ready", text));
        while !self.is_done() {
            let heartbeat = self.heartbeat();
            timer.arm(self.next_wake(clock::now()).unwrap_or(heartbeat)).await?;
            let first = tokio::time::timeout(heartbeat, self.news.recv()).await.ok().flatten();
            let mut news: Vec<News> = first.into_iter().collect();
            while let Ok(more) = self.news.try_recv() {
                news.push(more);
            }
            for one in news {
                self.take(one);
            }
            self.look(clock::now());
            self.manager.lives();
            self.paint(false);
        }
        let why = "it was told to stop".to_owned();
        self.ledger.note(vec![Fact::DaemonStopped { pid: std::process::id(), why }], clock::now());
        self.paint(true);
        Ok(())
    }

    fn take(&mut self, news: News) {
        match news {
            News::Due => {}
            News::Reload => self.reload(),
            News::Stop => self.stop(),
            News::Said { key, line } => self.said(&key, line),
            News::Ended { key, exit } => self.ended(&key, &exit),
        }
    }

    /// Everything that follows from the present instant.
    fn look(&mut self, now: Timestamp) {
        if let Some(jump) = self.clocks.look(now) {
            let text = format!("the clock jumped by {} s", jump.as_secs());
            self.ledger.tell(&Notice::new(Weight::Warning, "clock_jumped", text));
            self.ledger.note(vec![Fact::ClockJumped { seconds: jump.as_secs() }], now);
            self.lanes.iter_mut().for_each(|lane| lane.dirty = true);
        }
        self.ledger.settle(now);
        self.look_after_the_adopted();
        self.look_at_rotations();
        self.look_at_blackouts(now);
        // What ends may let others begin, once.
        for _ in 0..3 {
            self.decide(now);
            if self.stopping.is_none() && self.expect_what_was_cut_short(now) {
                self.decide(now);
            }
            self.keep_deadlines();
            self.begin_what_may();
            if !self.finish_slots(now) {
                break;
            }
        }
    }

    fn reload(&mut self) {
        self.manager.reloading();
        let now = clock::now();
        match Settings::load(&self.paths, &host()) {
            Ok(settings) => {
                let nothing_is_left = settings.schedules.is_empty() && !self.settings.schedules.is_empty();
                self.settings = settings;
                self.reload_failed = None;
                let digest = self.settings.digest.clone();
                self.ledger.note(vec![Fact::ConfigLoaded { ok: true, error: None, digest }], now);
                self.ledger.tell(&Notice::new(Weight::Note, "reloaded", "the configuration was read again"));
                self.tell_of_configuration();
                if nothing_is_left {
                    let text = "no policy has a schedule any more: nothing is backed up by itself";
                    self.ledger.tell(&Notice::new(Weight::Warning, "nothing_scheduled", text));
                }
                self.make_lanes(now);
                self.settings.forget_others(&self.paths);
            }
            Err(failure) => {
                let error = failure.full();
                let digest = self.settings.digest.clone();
                self.ledger.note(vec![Fact::ConfigLoaded { ok: false, error: Some(error.clone()), digest }], now);
                let text = format!("the configuration is wrong; the one before stays in force: {error}");
                self.ledger.tell(&Notice::new(Weight::Error, "reload_failed", text));
                self.reload_failed = Some(error);
            }
        }
        self.manager.ready();
    }

    fn tell_of_configuration(&mut self) {
        for warning in &self.settings.configuration.clone().warnings {
            self.ledger.tell(&Notice::new(Weight::Warning, "configuration", warning.clone()));
        }
        if let Some(why) = &self.settings.not_copied {
            let text = format!("runs read the configuration as it is now, not as it was checked: {why}");
            self.ledger.tell(&Notice::new(Weight::Warning, "configuration_not_copied", text));
        }
    }

    fn stop(&mut self) {
        let drain = self.settings.configuration.daemon.drain;
        match &mut self.stopping {
            Some(stopping) => stopping.at_once = true,
            None => {
                self.manager.stopping();
                let at_work = self.children.len();
                let text = match at_work {
                    0 => "stopping".to_owned(),
                    _ => format!("stopping when {at_work} at work have ended, in {} s at the latest", drain.as_secs()),
                };
                self.ledger.tell(&Notice::new(Weight::Note, "stopping", text));
                self.stopping = Some(Stopping { until: Instant::now() + drain, at_once: false });
            }
        }
    }

    fn is_done(&self) -> bool {
        self.stopping.is_some() && self.children.is_empty()
    }

    fn heartbeat(&self) -> Duration {
        let usual = if clock::ahead().is_some() { HEARTBEAT_OF_TESTS } else { HEARTBEAT };
        self.manager.feed_every().map_or(usual, |every| every.min(usual))
    }

    /// Makes the picture for others anew.
    fn paint(&mut self, now: bool) {
        if !now && self.painted.elapsed() < PICTURE_EVERY {
            return;
        }
        self.painted = Instant::now();
        let degraded = self.degraded();
        self.manager.status(self.status(&degraded));
        let outlook = Outlook {
            at: clock::now(),
            state: self.ledger.state().clone(),
            configuration: self.settings.configuration.clone(),
            upcoming: self.lanes.iter().filter_map(Lane::upcoming).collect(),
            degraded,
            ready: true,
        };
        self.picture.send_replace(Arc::new(outlook));
    }

    fn degraded(&self) -> Vec<String> {
        let journal = self.ledger.degraded().map(|why| format!("the journal cannot be written: {why}"));
        let reload = self.reload_failed.as_ref().map(|why| format!("the configuration is wrong: {why}"));
        journal.into_iter().chain(reload).collect()
    }

    /// `2 at work, next pg-orders 2026-11-30T02:30:00Z`
    fn status(&self, degraded: &[String]) -> String {
        let next = self.lanes.iter().filter_map(Lane::upcoming).min_by_key(|next| next.due);
        let next = next.map_or_else(|| "nothing is scheduled".to_owned(), |n| format!("next {} {}", n.policy, n.due));
        let state = degraded.first().map(|why| format!("degraded: {}; ", why.lines().next().unwrap_or_default()));
        format!("{}{} at work, {next}", state.unwrap_or_default(), self.children.len())
    }
}

/// Where a daemon that is not there is asked for something.
pub fn nobody() -> Failure {
    Failure::failed("no daemon runs here").hint("Start it with: systemctl start bkp, or: bkp daemon")
}

/// What runs that were killed left need not wait for the next one: containers that stand still go on, and temporary files and what
/// rehearsals made go. A container engine may take its time, and nobody waits.
fn tidy_up(state: &Path) {
    let repositories = std::fs::read_dir(state.join("repositories")).into_iter().flatten().flatten();
    repositories.for_each(|repository| durable::remove_stale(&repository.path()));
    durable::remove_stale(state);
    let state = state.to_owned();
    std::thread::spawn(move || {
        // What cannot be done now is tried, and told, by the next backup, by the next rehearsal and by `bkp doctor`.
        let _ = crate::job::quiesce::recover(&state);
        drop(crate::exec::scratch::reap(&state, clock::now()));
    });
}
