//! The canary: a backup with the new password, as a process of its own, as the daemon makes them. Where it opens a copy of the
//! repository, that is brought up to date, too.

use crate::backoff::pause;
use crate::cli::environment::Environment;
use crate::error::{Failure, Kind, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long another backup of the source is waited for, before the rotation is left to be gone on with.
const WAITS: Duration = Duration::from_secs(10 * 60);
const PAUSE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(100);

pub fn backup(env: &Environment, source: &str) -> Result<()> {
    backup_within(env, source, WAITS)
}

fn backup_within(env: &Environment, source: &str, waits: Duration) -> Result<()> {
    until_it_ends_well(env, &["backup", source], &format!("the backup of {source}"), waits)
}

pub fn copy(env: &Environment, copy: &str) -> Result<()> {
    until_it_ends_well(env, &["copy", copy], &format!("bringing the copy {copy} up to date"), WAITS)
}

/// Of one of these, which is as good as all: what is wrong with the repository is wrong for each of them, and one may be ill itself.
/// One that is being backed up is only waited for where no other one is left. Gives which, and what became of those before it.
pub fn backup_of_one<'s>(env: &Environment, sources: &[&'s str]) -> Result<(&'s str, Vec<Failure>)> {
    let (mut failed, mut busy) = (Vec::new(), Vec::new());
    for source in sources {
        match backup_within(env, source, Duration::ZERO) {
            Ok(()) => return Ok((source, failed)),
            Err(failure) if failure.kind() == Kind::TryLater => busy.push(source),
            Err(failure) => failed.push(failure),
        }
        env.cancel.check()?;
    }
    if let Some(source) = busy.first() {
        return backup(env, source).map(|()| (**source, failed));
    }
    Err(failed.into_iter().next().unwrap_or_else(|| Failure::failed("there is no source to back up")))
}

fn until_it_ends_well(env: &Environment, words: &[&str], what: &str, waits: Duration) -> Result<()> {
    let (code, first) = settled_within(env, words, waits)?;
    let is = |kind: Kind| code == Some(i32::from(kind.exit_code()));
    if is_well(code) {
        return Ok(());
    }
    let failed = format!("{what} with the new password failed: {first}");
    Err(match is(Kind::Locked) || is(Kind::TryLater) {
        true => Failure::new(Kind::TryLater, failed)
            .hint("The old password is gone, and the new one works; go on with: bkp rotate resume"),
        false => Failure::failed(failed).hint("Mend it, then: bkp rotate resume; the old password is gone already"),
    })
}

pub fn is_well(code: Option<i32>) -> bool {
    matches!(code, Some(0 | 3))
}

/// How it ended, and the first thing it said, once nobody else is at it: the daemon takes its turn as soon as a source is let go.
pub fn settled(env: &Environment, words: &[&str]) -> Result<(Option<i32>, String)> {
    settled_within(env, words, WAITS)
}

fn settled_within(env: &Environment, words: &[&str], waits: Duration) -> Result<(Option<i32>, String)> {
    let begun = Instant::now();
    loop {
        let (code, said) = run(env, words)?;
        if is_well(code) {
            return Ok((code, String::new()));
        }
        env.cancel.check()?;
        if code != Some(i32::from(Kind::Locked.exit_code())) || begun.elapsed() >= waits {
            return Ok((code, said.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()));
        }
        pause(PAUSE, &|| env.cancel.check().is_err());
    }
}

/// How it ended, and what it said.
fn run(env: &Environment, words: &[&str]) -> Result<(Option<i32>, String)> {
    let program = std::env::current_exe().map_err(|e| Failure::failed("cannot find bkp itself").because(e))?;
    let mut command = Command::new(program);
    command.arg("--config").arg(&env.paths()?.config).arg("--quiet").args(words);
    if let Some(repository) = &env.globals.repo {
        command.arg("--repo").arg(repository);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let lost = |e| Failure::failed("cannot run a backup").because(e);
    let mut child = command.spawn().map_err(lost)?;
    let errors = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = errors.map(|mut errors| errors.read_to_end(&mut said));
        String::from_utf8_lossy(&said).into_owned()
    });
    let mut is_told = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(lost)? {
            break status;
        }
        if env.cancel.check().is_err() && !is_told {
            is_told = true;
            end(&child);
        }
        std::thread::sleep(TICK);
    };
    Ok((status.code(), reader.join().unwrap_or_default()))
}

/// Whoever ends this process means the backup, too, which tidies up after itself.
fn end(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
}
