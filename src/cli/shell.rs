//! `bkp completions` and `bkp man`: made from the definition of the command line itself.

use super::environment::Environment;
use super::output::gone_is_fine;
use super::{Ran, definition};
use crate::durable;
use crate::error::{Context, Failure};
use std::io::{self, Write};
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bkp completions bash > /etc/bash_completion.d/bkp
  bkp completions zsh > ~/.zfunc/_bkp
  bkp completions fish > ~/.config/fish/completions/bkp.fish")]
pub struct Completions {
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(self, _: &Environment) -> Ran {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut definition(), "bkp", &mut script);
        gone_is_fine(io::stdout().lock().write_all(&script))?;
        Ok(None)
    }
}

/// The command that runs, as one would type it again.
pub fn this_command() -> String {
    let plain = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+:=@,%".contains(&b));
    let quoted = |word: String| match !word.is_empty() && plain(&word) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    let words = std::env::args_os().skip(1).map(|word| quoted(word.to_string_lossy().into_owned()));
    ["bkp".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  bkp man | man -l -\n  bkp man /usr/local/share/man/man1")]
pub struct Man {
    /// Write a page for every command into this directory [default: the main page to standard output]
    #[arg(value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

impl Man {
    pub fn run(self, env: &Environment) -> Ran {
        let Some(directory) = self.directory else {
            let mut page = Vec::new();
            clap_mangen::Man::new(definition())
                .render(&mut page)
                .map_err(|e| Failure::from_io(e, || "cannot write the page".into()))?;
            gone_is_fine(io::stdout().lock().write_all(&page))?;
            return Ok(None);
        };
        std::fs::create_dir_all(&directory).context(|| format!("cannot create {}", directory.display()))?;
        let mut root = definition();
        root.build();
        let mut written = Vec::new();
        pages(&root, "bkp", &mut written)?;
        for (name, page) in &written {
            let file = directory.join(name);
            durable::write(&file, page, 0o644).context(|| format!("cannot write {}", file.display()))?;
        }
        let names: Vec<&String> = written.iter().map(|(name, _)| name).collect();
        let document = serde_json::json!({ "directory": crate::policy::path_text(&directory), "pages": names });
        env.output.answer(&document, || format!("{} pages in {}", names.len(), directory.display()))?;
        Ok(None)
    }
}

fn pages(command: &clap::Command, name: &str, written: &mut Vec<(String, Vec<u8>)>) -> crate::error::Result<()> {
    let mut page = Vec::new();
    let title = name.replace(' ', "-");
    clap_mangen::Man::new(command.clone())
        .title(title.to_uppercase())
        .render(&mut page)
        .map_err(|e| Failure::from_io(e, || format!("cannot write the page of {name}")))?;
    written.push((format!("{title}.1"), page));
    for sub in command.get_subcommands() {
        pages(sub, &format!("{name} {}", sub.get_name()), written)?;
    }
    Ok(())
}
