//! Beginning what may begin: which task, and as which process.

use super::child::Child;
use super::ending::AT_ITS_DEADLINE;
use super::news::TaskKey;
use super::queue::{self, AtWork, Limits, Waiting};
use super::work::{End, Known, Stage, TaskKind, Verdict, judge};
use super::{Daemon, Process};
use crate::error::Result;
use crate::job::recorder::{ForSlot, SLOT_VARIABLE};
use crate::journal::Reason;
use crate::policy::IoClass;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// All sources of a configuration have one primary store.
const STORE: &str = "repository";

impl Daemon {
    pub(super) fn begin_what_may(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let daemon = &self.settings.configuration.daemon;
        let limits = Limits { runs: daemon.runs, runs_per_store: daemon.runs_per_store };
        while let Some((lane, task)) = self.choose(limits) {
            if let Err(failure) = self.start(lane, task) {
                let end = End::Failed(failure.full());
                let work = self.lanes[lane].work.as_mut();
                work.into_iter().for_each(|work| work.tasks[task].give_up(&end));
            }
        }
    }

    fn choose(&self, limits: Limits) -> Option<(usize, usize)> {
        let now = Instant::now();
        let (mut at_work, mut waiting, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (lane_at, lane) in self.lanes.iter().enumerate() {
            let Some(work) = &lane.work else { continue };
            let policy = lane.schedule.policy.as_str();
            let begun = work.tasks.iter().filter(|task| !matches!(task.stage, Stage::Waiting(_))).count();
            for (task_at, task) in work.tasks.iter().enumerate() {
                match task.stage {
                    Stage::Running | Stage::Adopted => {
                        let key = TaskKey { slot: work.slot.clone(), task: task_at };
                        let process = self.children.iter().find(|(of, _)| *of == key);
                        let since = process.map_or(Duration::ZERO, |(_, process)| process.child.since.elapsed());
                        at_work.push(AtWork { policy, store: STORE, since });
                    }
                    Stage::Waiting(_) if task.is_ready(now) && lane.shut_until.is_none() => {
                        waiting.push(Waiting { policy, store: STORE, due: work.due, begun });
                        places.push((lane_at, task_at));
                    }
                    Stage::Waiting(_) | Stage::Over => {}
                }
            }
        }
        queue::choose(&at_work, &waiting, limits).map(|at| places[at])
    }

    fn start(&mut self, lane: usize, task: usize) -> Result<()> {
        let Some(work) = self.lanes[lane].work.as_ref() else { return Ok(()) };
        let known = self.ledger.state().policy(work.slot.job, &work.slot.policy);
        let open = known.and_then(|known| known.open.get(&work.slot.slot));
        let retry = work.tasks[task].attempts > 0;
        let for_slot = ForSlot {
            id: work.slot.clone(),
            seq: open.map_or(0, |open| open.seq),
            reason: if retry { Reason::CatchUp } else { work.reason },
            nice: self.settings.configuration.daemon.nice,
            idle: self.settings.configuration.daemon.io == IoClass::Idle,
        };
        let mut command = self.command();
        match &work.tasks[task].kind {
            TaskKind::List => {
                command.args(["list-sources", work.slot.policy.as_str()]);
            }
            TaskKind::Backup { stack, .. } => {
                command.arg("backup").args(work.tasks[task].left());
                if let Some(stack) = stack {
                    command.args(["--stack", stack]);
                }
            }
            TaskKind::Whole { arguments } | TaskKind::Rotate { arguments, .. } => {
                command.args(arguments);
            }
        }
        command.env(SLOT_VARIABLE, serde_json::to_string(&for_slot).unwrap_or_default());
        let key = TaskKey { slot: work.slot.clone(), task };
        let child = Child::start(command, key.clone(), &self.memory, self.to_loop.clone())?;
        self.children.push((key, Process { child, told_to_end: None }));
        self.lanes[lane].work.iter_mut().for_each(|work| work.tasks[task].stage = Stage::Running);
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.arg0("bkp").arg("--config").arg(&self.settings.main_file).args(["--quiet", "--progress", "none"]);
        command.args(&self.arguments);
        command
    }

    /// Runs that go on since before this daemon began end without telling it: their records do.
    pub(super) fn look_after_the_adopted(&mut self) {
        let (ledger, lanes) = (&self.ledger, &mut self.lanes);
        for work in lanes.iter_mut().filter_map(|lane| lane.work.as_mut()) {
            let known = ledger.state().policy(work.slot.job, &work.slot.policy);
            let open = known.and_then(|known| known.open.get(&work.slot.slot));
            let known = Known { slot: open, lives: &|run| ledger.journal().lives(run) };
            for task in work.tasks.iter_mut().filter(|task| task.stage == Stage::Adopted) {
                let mut goes_on = false;
                for source in task.left() {
                    match judge(&source, known, None, task.attempts + 1, work.overlap) {
                        Verdict::Ended(end) => drop(task.ends.insert(source, end)),
                        Verdict::GoesOn => goes_on = true,
                        Verdict::Again(_) => {}
                    }
                }
                if goes_on {
                    continue;
                }
                task.attempts += 1;
                if task.told_to_end.is_some() {
                    task.give_up(&End::Failed(AT_ITS_DEADLINE.into()));
                }
                task.stage = if task.left().is_empty() { Stage::Over } else { Stage::Waiting(None) };
            }
        }
    }
}

/// This program, also when a newer one has been installed in its place.
fn program() -> PathBuf {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() { own } else { std::env::current_exe().unwrap_or_else(|_| "bkp".into()) }
}
