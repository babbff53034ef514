//! `bkp daemon`: runs what is scheduled until it is told to stop, says on standard error what happens, and shows how things are.

use super::Ran;
use super::environment::Environment;
use super::notify::Serving;
use super::signals;
use crate::daemon::{Daemon, Options};
use crate::error::{Context, Failure, Result};
use crate::http::{self, Bound, Reachable, Server, Shown};
use crate::job::recorder::ForSlot;
use crate::policy::Configuration;
use crate::repo::Repository;
use crate::store::Store;
use crate::watch::log::{Level, Log};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// In which the store must answer the question whether it is there.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Runs the schedules of all policies, each run as a process of its own. SIGHUP (bkp reload) reads the configuration again; \
SIGTERM and SIGINT end it when what is at work has ended (`daemon.drain`), a second one sooner.

Examples:
  bkp daemon
  bkp plan                                       what it will do
  bkp journal --since today                      what it did")]
pub struct Arguments {}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let log = Arc::new(Log::new(env.configuration()?.log, env.zone()?.clone(), env.globals.quiet));
        // Whether another daemon is there is told better by the daemon itself than by the port.
        let bound = if of_this_host(env)?.is_none() { bound(env, &log)? } else { None };
        let options = Options {
            paths: env.paths()?.clone(),
            arguments: env.globals.for_children(),
            observers: vec![Box::new(log.clone())],
        };
        let daemon = Daemon::new(options)?;
        let (stop, reload) = (daemon.handle(), daemon.handle());
        signals::serve(move || stop.stop(), move || reload.reload())?;
        let server = bound.map(|bound| show(env, &daemon, bound, &log)).transpose()?;
        let serving = Serving::begin(env, daemon.outlook())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context(|| "cannot start the daemon".into())?;
        let ran = runtime.block_on(daemon.run());
        serving.end();
        drop(server);
        ran.map(|()| None)
    }
}

/// Probes, metrics and the page. A port that nobody chose may be somebody else's: then it goes on without them.
fn bound(env: &Environment, log: &Log) -> Result<Option<Bound>> {
    let http = &env.configuration()?.http;
    match http::bind(http, env.secrets()?.clone()) {
        Err(failure) if !http.chosen => {
            log.note(Level::Warning, "http_off", &format!("probes, metrics and the page are off: {}", failure.full()));
            Ok(None)
        }
        bound => bound,
    }
}

fn show(env: &Environment, daemon: &Daemon, bound: Bound, log: &Log) -> Result<Server> {
    let state = &env.paths()?.state;
    let shown = Shown::new(state, &crate::daemon::host(), daemon.outlook(), reachable(env));
    let server = bound.serve(state, Arc::new(shown))?;
    log.note(Level::Info, "http_listens", &format!("probes, metrics and a page at http://{}", server.address));
    Ok(server)
}

/// A store, and the configuration that says where it is.
type Open = (Arc<Configuration>, Arc<dyn Store>);

/// A store that is asked whether it is there; opened anew when another one is configured, or when it did not answer.
fn reachable(env: &Environment) -> Reachable {
    let (globals, output, cancel) = (env.globals.clone(), env.output, env.cancel.clone());
    let known: Mutex<Option<Open>> = Mutex::default();
    Arc::new(move |configuration| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let open = known.take().filter(|(of, _)| Arc::ptr_eq(of, configuration));
        let store = match open {
            Some((_, store)) => store,
            None => Environment::of(globals.clone(), output, cancel.clone(), configuration).store_within(PATIENCE)?,
        };
        Repository::open(store.clone())?;
        *known = Some((configuration.clone(), store));
        Ok(())
    })
}

/// Which sources a policy has now, as a list of names.
pub fn list_sources(policy: &str, env: &Environment) -> Ran {
    let live = env.live()?;
    let found = live.configuration.policies.iter().find(|known| known.name == policy);
    let policy = found.ok_or_else(|| Failure::usage(format!("there is no policy `{policy}`")))?;
    let names: Vec<&str> = policy.sources.iter().map(|source| source.name.as_str()).collect();
    env.output.document(&names)?;
    Ok(None)
}

/// A process that the daemon started lets others go first. What cannot be had is done without.
pub fn stand_back() {
    let Some(slot) = ForSlot::of_this_process() else { return };
    let _ = rustix::process::setpriority_process(None, i32::from(slot.nice));
    if slot.idle {
        let own = std::process::id().to_string();
        let mut ionice = Command::new("ionice");
        ionice.args(["-c", "3", "-p", &own]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = ionice.status();
    }
}

/// Whether a daemon runs the schedules of this host; then nobody else does.
pub fn of_this_host(env: &Environment) -> Result<Option<u32>> {
    crate::daemon::running(&env.paths()?.state)
}
