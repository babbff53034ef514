//! Words in, words out: the command line, one file per command.
//!
//! A command is a struct of arguments with a `run` that gives [`Ran`]. Data goes to standard output, everything else to
//! standard error. Here failures become messages and exit codes, and nowhere else does a command end the process.

mod ack;
mod anchor;
mod audit;
mod backup;
mod check;
mod concerns;
mod config;
mod copies;
mod copy;
mod daemon;
mod discover;
mod doctor;
mod due;
mod environment;
mod evidence;
mod export;
mod format;
mod former;
mod globals;
mod healthcheck;
mod in_force;
mod init;
mod journal;
mod kept;
mod keys;
mod locks;
mod ls;
mod metrics;
mod notify;
mod output;
mod pin;
mod plan;
mod points;
mod progress;
mod prune;
mod rehearse;
mod rehearsed;
mod reload;
mod report;
mod restore;
mod rotate;
mod schedule;
mod secrets;
mod shell;
mod show;
mod signals;
mod stack;
mod status;

use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use clap::{CommandFactory, Parser};
use environment::Environment;
use globals::Globals;
use output::Output;
use std::process::ExitCode;

/// How a command ended: `None` for well, else the kind whose exit code says what there is to know (warnings, findings).
type Ran = Result<Option<Kind>>;

const AFTER_HELP: &str = "\
Examples:
  bkp init --repo /srv/backup              make a repository and a recovery key
  bkp backup                               back up everything that is configured
  bkp backup --source sqlite:/srv/app.db --repo /srv/backup
  bkp points                               which backups there are
  bkp restore app --at '2h ago' --identity recovery-key.txt
  bkp status                               what is protected, and what is missing

Exit codes:
  0 done            1 failed           2 usage or configuration   3 done, with warnings
  4 damage found    5 objective missed 10 no repository           11 locked by another run
  12 key or credential                 13 refused, confirm it     14 do something first
  75 try again later                   130 interrupted (SIGINT)   143 terminated (SIGTERM)";

/// Backs up the databases and volumes of container stacks, and proves that the backups restore.
#[derive(Parser, Debug)]
#[command(name = "bkp", version, after_help = AFTER_HELP, arg_required_else_help = true, max_term_width = 110)]
#[command(subcommand_help_heading = "Commands", disable_help_subcommand = true, disable_help_flag = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    globals: Globals,
    /// Print help
    #[arg(short, long, global = true, action = clap::ArgAction::HelpShort, help_heading = "Global options")]
    help: Option<bool>,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Make a repository, or let this host write into one
    Init(init::Arguments),
    /// Back up policies or sources
    Backup(backup::Arguments),
    /// List the backups there are
    Points(points::Arguments),
    /// Tell everything about one backup
    Show(show::Arguments),
    /// List the files in a backup
    Ls(ls::Arguments),
    /// Restore a source as it was at an instant
    Restore(Box<restore::Arguments>),
    /// Write the raw dump of a backup to standard output or a file
    Export(export::Arguments),
    /// Restore into a scratch target, compare with the source, measure, take down
    Rehearse(rehearse::Arguments),
    /// Change a password everywhere it is used, without a gap
    Rotate(rotate::Arguments),
    /// Which passwords there are: how old, who uses them, when they are due
    Secrets(secrets::Arguments),
    /// Read the repository again and prove what can be restored
    Check(check::Arguments),
    /// Bring the copies of the repository up to date
    Copy(copy::Arguments),
    /// How many good copies there are
    Copies(copies::Arguments),
    /// Delete what is older than the policies keep
    Prune(prune::Arguments),
    /// Keep a backup for as long as it is pinned
    Pin(pin::Pin),
    /// Let a backup go when its policy does
    Unpin(pin::Unpin),
    /// Let retention go on after somebody has looked at an anomaly
    Ack(ack::Arguments),
    /// Who can read the backups
    #[command(subcommand)]
    Keys(keys::Command),
    /// What is protected, how well, and what is missing
    Status(status::Arguments),
    /// Run what is scheduled, until it is told to stop
    Daemon(daemon::Arguments),
    /// Let the daemon read its configuration again
    Reload(reload::Arguments),
    /// What runs next, and what the next prune would delete
    Plan(schedule::Arguments),
    /// What was expected, begun and ended on this host
    Journal(journal::Arguments),
    /// The journal as proof for others: verify it, hand it out
    #[command(subcommand)]
    Evidence(evidence::Command),
    /// Evidence of a period, for those who sign and audit it
    Report(report::Arguments),
    /// Whether what should hold for every source holds now
    Audit(audit::Arguments),
    /// Whether the daemon lives and is ready, and objectives are met
    Healthcheck(healthcheck::Arguments),
    /// The metrics, also without a daemon
    Metrics(metrics::Arguments),
    /// Who is told of what happens
    #[command(subcommand)]
    Notify(notify::Command),
    /// Show what is on this host, and what is not protected
    Discover(discover::Arguments),
    /// Look for what could keep backups from working
    Doctor(doctor::Arguments),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Print a completion script for a shell
    Completions(shell::Completions),
    /// Write the manual pages
    Man(shell::Man),
    /// What stands by while containers stand still, in case bkp is killed
    #[command(hide = true, name = crate::job::quiesce::GUARD)]
    LetContainersGoOn { record: std::path::PathBuf },
    /// The sources of a policy now, those that labels bring included; for the daemon
    #[command(hide = true, name = "list-sources")]
    ListSources { policy: String },
}

impl Command {
    /// Whether somebody may want to be told what came of it.
    fn is_job(&self) -> bool {
        matches!(
            self,
            Command::Backup(_)
                | Command::Rehearse(_)
                | Command::Rotate(_)
                | Command::Check(_)
                | Command::Copy(_)
                | Command::Prune(_)
                | Command::Evidence(evidence::Command::Anchor(_))
        )
    }

    /// Whether it shows how things are, and nothing depends on it.
    fn only_shows(&self) -> bool {
        use Command::{Copies, Healthcheck, Journal, Ls, Metrics, Plan, Points, Show, Status};
        match self {
            Healthcheck(arguments) => arguments.objective(),
            _ => {
                matches!(self, Status(_) | Points(_) | Show(_) | Ls(_) | Copies(_) | Journal(_) | Metrics(_) | Plan(_))
            }
        }
    }

    /// Whether it could as well read from a copy.
    fn reads_points(&self) -> bool {
        use Command::{Export, Ls, Points, Restore, Show};
        matches!(self, Points(_) | Show(_) | Ls(_) | Restore(_) | Export(_))
    }
}

pub fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let program = match Program::try_parse_from(&arguments) {
        Ok(program) => program,
        Err(error) => return usage(&error, arguments.iter().any(|a| a == "--json")),
    };
    let globals = &program.globals;
    let output = Output::new(globals.json, globals.quiet, globals.no_color);
    // The daemon takes signals otherwise.
    let is_daemon = matches!(program.command, Command::Daemon(_));
    let cancel = if is_daemon { Ok(std::sync::Arc::default()) } else { signals::watch() };
    let ran = cancel.and_then(|cancel| {
        daemon::stand_back();
        let env = Environment::new(program.globals.clone().completed(), output, cancel.clone());
        let (reads, is_job) = (program.command.reads_points(), program.command.is_job());
        let is_status = matches!(program.command, Command::Status(_));
        if program.command.only_shows() {
            // Without one, the command itself tells of the problem.
            let _ = env.take_configuration_in_force();
        }
        let ran = run(program.command, &env);
        if is_job {
            notify::after_run(&env);
        }
        ran.map_err(|failure| match cancel.check() {
            Ok(()) if reads => copies::elsewhere(&env, failure),
            Ok(()) if is_status => copies::instead(&env, failure),
            _ => or_signal(failure, &cancel),
        })
    });
    match ran {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(kind)) => ExitCode::from(kind.exit_code()),
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.kind().exit_code())
        }
    }
}

/// A store that is given up on because a signal came fails with its last error: the signal is why.
fn or_signal(failure: Failure, cancel: &Cancel) -> Failure {
    match cancel.check() {
        Err(signal) if failure.kind() == Kind::TryLater => signal.because(failure.full()),
        _ => failure,
    }
}

fn run(command: Command, env: &Environment) -> Ran {
    match command {
        Command::Init(arguments) => arguments.run(env),
        Command::Backup(arguments) => arguments.run(env),
        Command::Points(arguments) => arguments.run(env),
        Command::Show(arguments) => arguments.run(env),
        Command::Ls(arguments) => arguments.run(env),
        Command::Restore(arguments) => arguments.run(env),
        Command::Export(arguments) => arguments.run(env),
        Command::Rehearse(arguments) => arguments.run(env),
        Command::Rotate(arguments) => arguments.run(env),
        Command::Secrets(arguments) => arguments.run(env),
        Command::Check(arguments) => arguments.run(env),
        Command::Copy(arguments) => arguments.run(env),
        Command::Copies(arguments) => arguments.run(env),
        Command::Prune(arguments) => arguments.run(env),
        Command::Pin(arguments) => arguments.run(env),
        Command::Unpin(arguments) => arguments.run(env),
        Command::Ack(arguments) => arguments.run(env),
        Command::Keys(command) => command.run(env),
        Command::Status(arguments) => arguments.run(env),
        Command::Daemon(arguments) => arguments.run(env),
        Command::Reload(arguments) => arguments.run(env),
        Command::Plan(arguments) => arguments.run(env),
        Command::Journal(arguments) => arguments.run(env),
        Command::Evidence(command) => command.run(env),
        Command::Report(arguments) => arguments.run(env),
        Command::Audit(arguments) => arguments.run(env),
        Command::Healthcheck(arguments) => arguments.run(env),
        Command::Metrics(arguments) => arguments.run(env),
        Command::Notify(command) => command.run(env),
        Command::Discover(arguments) => arguments.run(env),
        Command::Doctor(arguments) => arguments.run(env),
        Command::Config(command) => command.run(env),
        Command::Completions(arguments) => arguments.run(env),
        Command::Man(arguments) => arguments.run(env),
        Command::ListSources { policy } => daemon::list_sources(&policy, env),
        Command::LetContainersGoOn { record } => crate::job::quiesce::guard(&record).map(|()| None),
    }
}

/// Help and version are no failures; what clap does not understand is [`Kind::Usage`].
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if json {
        let line = error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        eprintln!("{}", output::exit_error(&Failure::usage(line).hint("bkp --help")));
    }
    ExitCode::from(Kind::Usage.exit_code())
}

/// The definition itself, for completions and manual pages.
fn definition() -> clap::Command {
    Program::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_the_reason_why_a_store_was_given_up_on() {
        let cancel = Cancel::default();
        let later = || Failure::new(Kind::TryLater, "no answer in time");
        assert_eq!(or_signal(later(), &cancel).kind(), Kind::TryLater);
        cancel.set(Kind::Terminated);
        assert_eq!(or_signal(later(), &cancel).kind(), Kind::Terminated);
        assert_eq!(or_signal(Failure::new(Kind::Verification, "damaged"), &cancel).kind(), Kind::Verification);
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn every_command_ends_its_help_with_examples_and_leaves_it_to_the_terminal_to_wrap() {
        fn look(command: &clap::Command, path: &str) {
            let has = command.get_after_help().is_some_and(|text| text.to_string().contains("Examples:\n  bkp"));
            assert!(has, "{path} has no examples");
            let text = command.get_after_help().unwrap().to_string();
            let told: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
            let cut =
                told.windows(2).find(|two| !two[1].is_empty() && !two[0].is_empty() && !two[0].ends_with(['.', ':']));
            assert_eq!(cut, None, "{path}: terminals wrap, so a paragraph is one line");
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                look(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        look(&definition(), "bkp");
    }
}
