//! `bkp notify`: tries the channels; and the delivery of what happened, beside the daemon or after a run without one.

use super::Ran;
use super::environment::Environment;
use super::output::table;
use crate::backoff;
use crate::clock;
use crate::error::{Failure, Kind, Result};
use crate::host;
use crate::notify::{Letter, Place, Post, deliver};
use crate::policy::{Channel, Configuration, did_you_mean};
use crate::schedule::Outlook;
use crate::secret::Secrets;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// How often the journal is looked at for news.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_OF_TESTS: Duration = Duration::from_millis(50);

#[derive(clap::Subcommand, Debug)]
#[command(after_help = "\
The daemon tells by itself what is configured as `notify:`; a run without it does when nobody sits before it, as in cron.

Examples:
  bkp notify test")]
pub enum Command {
    /// Send a test message, and tell what came of it
    #[command(after_help = "\
Nothing is written down of it. Ends with exit code 1 when a channel did not take the message.

Examples:
  bkp notify test
  bkp notify test mail")]
    Test {
        /// Channels [default: all of them]
        #[arg(value_name = "CHANNEL")]
        names: Vec<String>,
    },
}

impl Command {
    pub fn run(self, env: &Environment) -> Ran {
        let Command::Test { names } = self;
        let configuration = env.configuration()?;
        let channels = wanted(configuration, &names)?;
        let place = place(configuration);
        let secrets = env.secrets()?;
        let mut tried = Vec::new();
        for channel in channels {
            env.cancel.check()?;
            tried.push((channel, deliver(channel, secrets, &Letter::test(channel, &place, clock::now()))));
        }
        let view = |(channel, result): &(&Channel, Result<()>)| {
            serde_json::json!({
                "channel": channel.name,
                "kind": channel.kind(),
                "ok": result.is_ok(),
                "message": result.as_ref().err().map(Failure::full),
                "hint": result.as_ref().err().and_then(Failure::next_step),
            })
        };
        let document = serde_json::json!({ "channels": tried.iter().map(view).collect::<Vec<_>>() });
        env.output.answer(&document, || {
            let row = |(channel, result): &(&Channel, Result<()>)| {
                let outcome = result.as_ref().map_or_else(Failure::full, |()| "delivered".to_owned());
                vec![channel.name.clone(), channel.kind().to_owned(), outcome]
            };
            table(&["CHANNEL", "KIND", "OUTCOME"], tried.iter().map(row))
        })?;
        let failed: Vec<&str> = tried.iter().filter(|(_, r)| r.is_err()).map(|(c, _)| c.name.as_str()).collect();
        let hint = tried.iter().find_map(|(_, result)| result.as_ref().err()?.next_step().map(str::to_owned));
        match failed[..] {
            [] => Ok(None),
            _ => Err(Failure::failed(format!("not everybody was reached: {}", failed.join(", ")))
                .hint(hint.unwrap_or_else(|| "Look at `notify:` in the configuration".to_owned()))),
        }
    }
}

fn wanted<'a>(configuration: &'a Configuration, names: &[String]) -> Result<Vec<&'a Channel>> {
    let known = || configuration.notify.iter().map(|channel| channel.name.as_str());
    if configuration.notify.is_empty() {
        let help = "Write into bkp.yaml: notify: [{ mail: { to: [you@example.org], smtp: smtp://mail.example:587 } }]";
        return Err(Failure::usage("nobody is to be told of anything: there is no `notify:`").hint(help));
    }
    if let Some(unknown) = names.iter().find(|name| !known().any(|known| known == *name)) {
        return Err(Failure::usage(format!("there is no channel `{unknown}`{}", did_you_mean(unknown, known())))
            .hint(format!("Configured are: {}", known().collect::<Vec<_>>().join(", "))));
    }
    Ok(configuration.notify.iter().filter(|channel| names.is_empty() || names.contains(&channel.name)).collect())
}

fn place(configuration: &Configuration) -> Place {
    Place { host: host::name(), zone: configuration.timezone.clone() }
}

fn secrets(configuration: &Configuration, state: &Path, stop: &Arc<AtomicBool>) -> Secrets {
    let stop = stop.clone();
    match configuration.vault.clone() {
        None => Secrets::default(),
        Some(vault) => Secrets::with_vault(vault, state, move || stop.load(Relaxed)),
    }
}

/// Delivers what happens while the daemon goes on.
pub struct Serving {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Serving {
    pub fn begin(env: &Environment, outlook: watch::Receiver<Arc<Outlook>>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let state = env.paths()?.state.clone();
        let output = env.output;
        let thread = std::thread::Builder::new().name("notify".into()).spawn({
            let stop = stop.clone();
            move || serve(&state, &outlook, &stop, &mut |failure| output.warn(&failure.full()))
        });
        let thread = thread.map_err(|e| Failure::failed("cannot start the thread that tells people").because(e))?;
        Ok(Serving { stop, thread })
    }

    /// After a last delivery.
    pub fn end(self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.join();
    }
}

fn serve(
    state: &Path,
    outlook: &watch::Receiver<Arc<Outlook>>,
    stop: &Arc<AtomicBool>,
    warn: &mut dyn FnMut(&Failure),
) {
    let mut post: Option<Post> = None;
    let mut channels: Vec<Channel> = Vec::new();
    let mut said: Option<String> = None;
    loop {
        let last = stop.load(Relaxed);
        let look = outlook.borrow().clone();
        let configuration = &look.configuration;
        let changed = configuration.notify != channels;
        let result = match &mut post {
            None if configuration.notify.is_empty() => Ok(()),
            None => {
                let opened = Post::open(
                    state,
                    configuration.notify.clone(),
                    place(configuration),
                    secrets(configuration, state, stop),
                );
                channels.clone_from(&configuration.notify);
                opened.map(|opened| post = Some(opened))
            }
            Some(post) if changed => {
                channels.clone_from(&configuration.notify);
                post.change(channels.clone(), place(configuration), secrets(configuration, state, stop));
                Ok(())
            }
            Some(_) => Ok(()),
        };
        let turned = result.and_then(|()| post.as_mut().map_or(Ok(()), |post| post.turn(clock::now(), !last)));
        // The same trouble is said once.
        let trouble = turned.as_ref().err().map(Failure::full);
        if let (Err(failure), true) = (&turned, trouble != said) {
            warn(failure);
        }
        said = trouble;
        if last {
            return;
        }
        let pause = if clock::ahead().is_some() { LOOK_OF_TESTS } else { LOOK };
        backoff::pause(pause, &|| stop.load(Relaxed));
    }
}

/// After a run without a daemon, where nobody sits before it: as in cron, or in a CronJob.
pub fn after_run(env: &Environment) {
    let tell = || -> Result<()> {
        // What is wrong with it, the run itself has told.
        let Ok(configuration) = env.configuration() else { return Ok(()) };
        if configuration.notify.is_empty() || env.slot.is_some() || std::io::stderr().is_terminal() {
            return Ok(());
        }
        let state = &env.paths()?.state;
        let post = Post::open(state, configuration.notify.clone(), place(configuration), env.secrets()?.clone());
        match post {
            // The daemon's, or that of another run.
            Err(failure) if failure.kind() == Kind::Locked => Ok(()),
            post => post?.turn(clock::now(), false),
        }
    };
    if let Err(failure) = tell() {
        env.output.warn(&format!("nobody could be told of this run: {}", failure.full()));
    }
}
