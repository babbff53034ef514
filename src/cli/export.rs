//! `bkp export`: the raw dump, as the engine made it, for tools that know it: a stream as it is, a tree as a tar.

use super::Ran;
use super::environment::Environment;
use super::globals::FromCopy;
use super::points;
use super::show::find;
use crate::durable::{self, TempFile};
use crate::error::{Context, Failure, Kind, Result};
use crate::event::{Event, Events};
use crate::repo::read::PointReader;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bkp export mysql-auth --identity recovery-key.txt | mysql
  bkp export documents --identity recovery-key.txt | tar -t
  bkp export 4f3a9c1e app.db -o app.db --identity recovery-key.txt")]
pub struct Arguments {
    /// A point, or a source for its newest point
    #[arg(value_name = "POINT")]
    point: String,
    /// Which stream, when the point has several; `tree` is the tar of a volume
    #[arg(value_name = "STREAM")]
    stream: Option<String>,
    /// Into this new file, which appears when it is whole [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    from: FromCopy,
}

const TREE: &str = "tree";

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        if self.output.is_none() && io::stdout().is_terminal() {
            return Err(Failure::new(Kind::Refused, "a dump is not written to a terminal")
                .hint("Write it to a file with -o FILE, or into a pipe"));
        }
        if self.output.is_none() && env.output.json {
            return Err(Failure::usage("--json and a dump cannot share standard output").hint("Add -o FILE"));
        }
        let repository = env.repository_or(self.from.from.as_deref())?;
        let access = env.reading(&repository)?;
        let catalog = points::read_for(env, &repository, &access, &self.point)?;
        let point = find(&catalog, &self.point, env.now)?;
        env.reads(point);
        let reader = PointReader::open(&repository, point, &access.keys_for(point), &env.cancel)?;
        let name = self.choose(&reader)?;
        let progress = env.progress();
        progress.emit(&Event::Phase { source: point.source.clone(), phase: "export" });
        progress.meter().total_bytes.store(length(&reader, &name), Relaxed);
        let mut data: Box<dyn Read + Send + '_> = match name.as_str() {
            // Two blocks of zeros end a tar; stored trees leave them out.
            TREE if reader.point.tree.is_some() => Box::new(reader.tar()?.chain(io::repeat(0).take(1024))),
            _ => reader.stream(&name)?,
        };
        let mut copy = |out: &mut dyn Write| copy(env, &progress, &mut *data, out);
        let bytes = match &self.output {
            Some(file) => to_file(file, &mut copy)?,
            None => copy(&mut io::stdout().lock())?,
        };
        drop(progress);
        if env.output.json {
            env.output.document(&serde_json::json!({
                "point": point.point, "source": point.source, "stream": name, "bytes": bytes,
                "file": self.output.as_deref().map(crate::policy::path_text),
            }))?;
        }
        Ok(None)
    }

    fn choose(&self, reader: &PointReader<'_>) -> Result<String> {
        let mut names: Vec<&str> = reader.point.streams.iter().map(|s| s.name.as_str()).collect();
        names.extend(reader.point.tree.as_ref().map(|_| TREE));
        match (&self.stream, names.as_slice()) {
            (Some(name), known) if known.contains(&name.as_str()) => Ok(name.clone()),
            (None, [one]) => Ok((*one).to_owned()),
            (Some(name), known) => Err(Failure::usage(format!(
                "point {} has no stream `{name}`{}",
                reader.point.id(),
                crate::policy::did_you_mean(name, known.iter().copied())
            ))
            .hint(format!("It has: {}", known.join(", ")))),
            (None, known) => Err(Failure::usage(format!("point {} has several streams", reader.point.id()))
                .hint(format!("Name one of: {}", known.join(", ")))),
        }
    }
}

fn length(reader: &PointReader<'_>, name: &str) -> u64 {
    let stream = reader.point.streams.iter().find(|s| s.name == name).map(|s| s.bytes);
    stream.or(reader.point.tree.as_ref().map(|t| t.bytes)).unwrap_or(0)
}

fn copy(
    env: &Environment,
    progress: &super::progress::Progress,
    data: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        env.cancel.check()?;
        let n = data.read(&mut buffer).map_err(|e| Failure::from_io(e, || "cannot read the backup".into()))?;
        if n == 0 {
            break;
        }
        out.write_all(&buffer[..n]).context(|| "cannot write the dump".into())?;
        progress.meter().add(n as u64, 0);
        bytes += n as u64;
    }
    out.flush().context(|| "cannot write the dump".into())?;
    Ok(bytes)
}

fn to_file(file: &Path, copy: &mut dyn FnMut(&mut dyn Write) -> Result<u64>) -> Result<u64> {
    let exists = || {
        Failure::new(Kind::Refused, format!("{} is there already", file.display()))
            .hint("Nothing is overwritten: give another name with -o")
    };
    let what = || format!("cannot write {}", file.display());
    if std::fs::symlink_metadata(file).is_ok() {
        return Err(exists());
    }
    let mut temporary = TempFile::create_in(durable::parent_of(file), 0o600).context(what)?;
    let bytes = copy(&mut temporary)?;
    temporary.commit_new(file).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => exists(),
        _ => Failure::from_io(e, what),
    })?;
    Ok(bytes)
}
