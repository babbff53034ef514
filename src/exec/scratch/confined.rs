//! A user's own command on what was restored into a directory, kept from everything else of this host.
//!
//! What came out of a backup is foreign: its links may lead to the live data, and its scripts may do anything. So the command has
//! a root of its own, in which there are the programs of this host (`/usr` and the like), what was restored, as `/restored`,
//! and an empty `/tmp`: nothing that it could change, no network, no other process and no environment. Where bkp is root the
//! command is nobody, and all of what was restored is made readable for that. Where the system does not let bkp build this, nothing is run.

use crate::error::{Context as _, Failure, Result};
use crate::event::Cancel;
use crate::exec::host::Host;
use crate::exec::{Command, Exec};
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

const SCRIPT: &str = include_str!("confined.sh");
/// How long building it may take.
const BUILT: Duration = Duration::from_secs(60);

/// The same command, as it is run on `data`; `root` is an empty directory that nobody else uses.
pub fn around(command: &[String], root: &Path, data: &Path, limit: Duration, cancel: &Cancel) -> Result<Command> {
    let confined = |words: &[String], limit| {
        let is_root = rustix::process::geteuid().is_root();
        let mut arguments: Vec<OsString> = Vec::new();
        if !is_root {
            arguments.extend(["--user", "--map-root-user"].map(OsString::from));
        }
        arguments.extend(["--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child"].map(OsString::from));
        arguments.extend(["sh", "-c", SCRIPT, "sh"].map(OsString::from));
        arguments.extend([root.into(), data.into(), if is_root { "1" } else { "0" }.into()]);
        arguments.extend(words.iter().map(OsString::from));
        Command { program: "unshare".into(), arguments, limit: Some(limit), ..Command::default() }
    };
    std::fs::create_dir_all(root).context(|| format!("cannot create {}", root.display()))?;
    let tried = Host.start(&confined(&["true".to_owned()], BUILT), cancel);
    tried.and_then(|mut output| {
        let read = output.read_to_end(&mut Vec::new());
        read.map(drop).context(|| "it could not be built".into())
    })
    .map_err(|failure| {
        Failure::failed("`run` needs namespaces to be kept from the rest of this host, and cannot have them: it was not run")
            .because(failure.full())
            .hint("Rehearse where bkp is root, or where users may make namespaces (unshare --user --mount true); or ask with `sql`")
    })?;
    Ok(confined(command, limit))
}
