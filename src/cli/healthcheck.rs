//! `bkp healthcheck`: one exit code for containers and scripts: whether the daemon lives, is ready, or the objectives are met.
//!
//! Live and ready are asked of the daemon over its own HTTP; objectives are read from journal and configuration, so that they can
//! be asked where no daemon runs. Needs no other program.

use super::Ran;
use super::daemon::of_this_host;
use super::environment::Environment;
use super::{metrics, output::plain};
use crate::error::{Failure, Kind, Result};
use crate::http;
use crate::policy;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exit codes: 0 it is so; 1 it is not, or nobody answers; 5 an objective is missed.
A container should be restarted for want of life only: a store that is down, or a late backup, is not mended by a restart.

Examples:
  bkp healthcheck
  bkp healthcheck --ready
  bkp healthcheck --objective || echo 'look at: bkp status'")]
pub struct Arguments {
    /// Does the daemon's scheduler turn (default)
    #[arg(long, group = "question")]
    live: bool,
    /// Is the configuration loaded and the repository reachable
    #[arg(long, group = "question")]
    ready: bool,
    /// Does every source have a point that is young enough; without asking the daemon
    #[arg(long, group = "question")]
    objective: bool,
    /// How long the daemon may take to answer
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    timeout: String,
}

/// More is no answer to a probe.
const LONGEST: u64 = 4096;

impl Arguments {
    pub fn objective(&self) -> bool {
        self.objective
    }

    pub fn run(self, env: &Environment) -> Ran {
        if self.objective {
            return objective(env);
        }
        let path = if self.ready { "/readyz" } else { "/livez" };
        let state = &env.paths()?.state;
        // There may have been no room to note it.
        let configured = || of_this_host(env).ok()?.and_then(|_| http::configured(&env.configuration().ok()?.http));
        let Some(address) = http::noted(state).or_else(configured) else {
            return Err(Failure::failed("no daemon of this host listens")
                .because(format!("there is no address of it in {}", state.display()))
                .hint("Is it running as this user? bkp daemon; with `http: { listen: off }` it cannot be asked"));
        };
        let patience = policy::duration(&self.timeout).map_err(|wrong| {
            Failure::usage(format!("`{}` is no time-out: {wrong}", self.timeout)).hint("--timeout 10s")
        })?;
        let answer = ask(address, path, patience)?;
        let document = serde_json::json!({ "ok": answer.good, "answer": answer.text });
        env.output.answer(&document, || plain(&answer.text))?;
        Ok((!answer.good).then_some(Kind::Failed))
    }
}

fn objective(env: &Environment) -> Ran {
    let status = metrics::look(env)?;
    let grave: Vec<_> = status.concerns.iter().filter(|stated| stated.grave).collect();
    let document = serde_json::json!({ "ok": status.ok, "concerns": grave });
    env.output.answer(&document, || match grave.as_slice() {
        [] => "all objectives are met".to_owned(),
        some => some.iter().map(|one| plain(&one.told.what)).collect::<Vec<_>>().join("\n"),
    })?;
    Ok((!status.ok).then_some(Kind::Objective))
}

struct Answer {
    good: bool,
    text: String,
}

/// The least of HTTP that a probe needs.
fn ask(address: SocketAddr, path: &str, patience: Duration) -> Result<Answer> {
    let what = || format!("the daemon at {address} does not answer");
    let failed = |e| Failure::from_io(e, what).hint("Is it running? Its log says more");
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(failed)?;
    stream.set_read_timeout(Some(patience)).and_then(|()| stream.set_write_timeout(Some(patience))).map_err(failed)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut response = Vec::new();
    stream.take(LONGEST).read_to_end(&mut response).map_err(failed)?;
    let response = String::from_utf8_lossy(&response);
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    let Some(status) = status.filter(|_| head.starts_with("HTTP/1.1 ")) else {
        return Err(Failure::failed(what()).because("what came back is no HTTP: somebody else has its port"));
    };
    Ok(Answer { good: status == 200, text: body.trim().to_owned() })
}
