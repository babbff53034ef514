//! `bkp report`: what was expected, done and found in a period, as a document for those who sign and audit it.

use super::Ran;
use super::copies;
use super::environment::Environment;
use super::evidence::Look;
use super::former;
use crate::clock;
use crate::durable;
use crate::error::{Context, Failure, Result};
use crate::job::discover::{self, look::Around};
use crate::policy::path_text;
use crate::report::basis::{self, Basis, Seen};
use crate::report::facts;
use crate::report::frameworks::{self, Framework};
use crate::report::repository;
use crate::report::{Format, Period, write};
use crate::watch::Language;
use std::io::IsTerminal;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
A report offers evidence; it never says that a requirement is met. It is made from the journal of this host, the configuration in \
force, and what can be seen of the repository and its copies. Where the store is away it is made all the same, and says so.

Examples:
  bkp report --period 2026-Q4 --framework ens --lang es --format pdf --output ens-2026-Q4.pdf
  bkp report --period 2026-11 --format html --output november.html
  bkp report --period 2026-W48 --format csv          every expected run, one a line
  bkp report --period 2026-10-01..2026-11-15 --format json | jq .facts.rehearsals")]
pub struct Arguments {
    /// A year, quarter, month, week, or from one day to another [default: this quarter]
    #[arg(long, value_name = "PERIOD")]
    period: Option<String>,
    /// Whose clauses to set the evidence beside
    #[arg(long, value_enum, default_value_t, value_name = "NAME")]
    framework: FrameworkArgument,
    /// Of the text
    #[arg(long, value_enum, default_value_t, value_name = "LANGUAGE")]
    lang: LanguageArgument,
    /// How to write it down
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: FormatArgument,
    /// Write it to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only from what is on this host: do not ask the repository and its copies
    #[arg(long)]
    offline: bool,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum FrameworkArgument {
    /// Esquema Nacional de Seguridad, Real Decreto 311/2022
    Ens,
    /// ISO/IEC 27001:2022
    Iso27001,
    /// SOC 2
    Soc2,
    /// PCI DSS 4.0.1
    Pci,
    /// Regulation (EU) 2022/2554
    Dora,
    /// HIPAA Security Rule
    Hipaa,
    /// NIST SP 800-53 rev. 5
    Nist,
    #[default]
    None,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum LanguageArgument {
    #[default]
    En,
    Es,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum FormatArgument {
    /// One file that prints well
    Html,
    /// The same, to sign and to keep
    Pdf,
    #[default]
    Md,
    /// Every expected run and all else that was recorded, one a line
    Csv,
    Json,
    /// Assessment results of OSCAL 1.1.2
    Oscal,
}

impl FrameworkArgument {
    fn framework(self) -> Option<&'static Framework> {
        use clap::ValueEnum;
        frameworks::of_tag(self.to_possible_value()?.get_name())
    }
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let zone = env.zone()?;
        let period = match &self.period {
            Some(text) => Period::parse(text, zone)?,
            None => Period::quarter_of(env.now, zone)?,
        };
        if period.from > env.now {
            return Err(
                Failure::usage(format!("{} has not begun yet", period.name)).hint("bkp report --period 2026-Q4")
            );
        }
        let language = match self.lang {
            LanguageArgument::En => Language::English,
            LanguageArgument::Es => Language::Spanish,
        };
        let format = match self.format {
            FormatArgument::Html => Format::Html,
            FormatArgument::Pdf => Format::Pdf,
            FormatArgument::Md if env.output.json => Format::Json,
            FormatArgument::Md => Format::Markdown,
            FormatArgument::Csv => Format::Csv,
            FormatArgument::Json => Format::Json,
            FormatArgument::Oscal => Format::Oscal,
        };
        if format.is_binary() && self.output.is_none() && std::io::stdout().is_terminal() {
            return Err(Failure::usage("a PDF is nothing for a terminal").hint("Add --output report.pdf"));
        }
        let basis = basis(env, period, self.offline)?;
        match &self.output {
            None => {
                let mut out = std::io::stdout().lock();
                write(&basis, self.framework.framework(), language, format, &mut out)?;
            }
            Some(file) => {
                let what = || format!("cannot write {}", file.display());
                let file = std::path::absolute(file).context(what)?;
                let mut whole = durable::TempFile::create_in(durable::parent_of(&file), 0o640).context(what)?;
                write(&basis, self.framework.framework(), language, format, whole.file())?;
                whole.commit(&file).context(what)?;
                env.output.note(&format!("written to {}", file.display()));
            }
        }
        Ok(None)
    }
}

/// Everything that a report of this period is made from.
pub fn basis(env: &Environment, period: Period, offline: bool) -> Result<Basis> {
    let journal = env.journal()?;
    if let Err(failure) = journal.end_what_died(clock::now()) {
        env.output.warn(&format!("runs that were killed cannot be noted as such: {}", failure.full()));
    }
    let configuration = match env.live() {
        Ok(live) => &live.configuration,
        Err(failure) => {
            env.output.warn(&format!("what labels bring is left out: {}", failure.full()));
            env.configuration()?
        }
    };
    // One after the other: each of these goes through the whole journal, and what it keeps of it is as large as all the others.
    let integrity = Look { offline, briefly: true, ..Look::default() }.at_host(env);
    let credentials = basis::credentials(configuration, env.secrets()?, offline, &journal.state().unwrap_or_default());
    let facts = facts::read(&journal, &period, env.now)?;
    let host = crate::daemon::host();
    let unrecorded = basis::unrecorded(configuration, &host, (&facts, &period), env.now);
    let not_asked = || Failure::failed("it was not asked (--offline)");
    let (repository, copies) = match offline {
        true => (Err(not_asked()), Err(not_asked())),
        false => (look(env), copies::look(env, env.repository())),
    };
    let around = Around::look().map(|around| around.show(|host| discover::fold(host, configuration, None)));
    let mut stores = basis::stores(configuration);
    if let (None, Ok(settings)) = (&configuration.repository, env.store_settings()) {
        stores.insert(0, basis::StoreInForce::named(crate::policy::PRIMARY, settings.location.to_string()));
    }
    Ok(Basis {
        period,
        made_at: env.now,
        // What follows tells installations apart, and means nothing to people.
        host: host.split('/').next().unwrap_or_default().to_owned(),
        policies: basis::policies(configuration),
        stores,
        files: configuration.files.iter().map(|file| path_text(file)).collect(),
        repository: Seen::from(repository),
        copies: Seen::from(copies),
        surroundings: Seen::from(around),
        credentials,
        reads_with: configuration.rehearser.identity.as_ref().map(ToString::to_string),
        unrecorded,
        facts,
        integrity: Seen::from(integrity),
    })
}

fn look(env: &Environment) -> Result<repository::RepositoryFacts> {
    let repository = env.open(copies::briefly(env.store_settings()?))?;
    let access = env.listing(&repository)?;
    let host = (access.writer.as_ref(), access.operator.is_some());
    repository::look(&repository, (&access.keys, &access.trust), host, &|source| former::kept(env, source), env.now)
}
