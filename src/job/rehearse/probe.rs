//! An application beside the scratch server, in a network that leads nowhere: started, asked by HTTP, and removed.
//!
//! What it needs to reach the server is put into its command, its environment and its files in place of `{host}` and the like. The
//! password comes in a file: in the environment of a container everybody sees it who may inspect that.

use crate::backoff::pause;
use crate::durable;
use crate::engine::{Entrance, Probe};
use crate::error::{Failure, Result};
use crate::event::Cancel;
use crate::exec::scratch::Running;
use crate::exec::scratch::container::{Application, Beside};
use crate::policy;
use crate::secret::Secret;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What the server is called in the network.
pub const SERVER: &str = "server";
const PASSWORD_FILE: &str = "/bkp-password";
/// Between two questions to an application that starts.
const LOOK: Duration = Duration::from_millis(250);
/// How long one answer may take.
const ANSWERED: Duration = Duration::from_secs(30);
/// How much of it is read.
const READ: usize = 1 << 20;

/// The body of the first answer that has the expected status.
pub fn ask(running: &Running, probe: &Probe, entrance: Entrance, password: &Secret, cancel: &Cancel) -> Result<String> {
    let begun = Instant::now();
    let application = running.beside(application(probe, entrance, password), cancel)?;
    durable::crash_point("rehearse-application:started");
    let client = Client::new()?;
    let address = format!("http://127.0.0.1:{}{}", application.port(), probe.path);
    loop {
        cancel.check()?;
        application.check()?;
        let why = match client.get(&address) {
            Ok((status, body)) if status == probe.status => return Ok(body),
            Ok((status, body)) => format!("status {status}, expected {}: {}", probe.status, policy::one_line(&body)),
            Err(why) => why,
        };
        if begun.elapsed() > probe.patience {
            return Err(too_late(probe, &application, &why));
        }
        pause(LOOK, &|| cancel.check().is_err());
    }
}

fn too_late(probe: &Probe, application: &Beside, why: &str) -> Failure {
    let patience = policy::duration_text(probe.patience);
    let text = format!("{why} (GET {} for {patience})", probe.path);
    Failure::failed(text).because(format!("the log of the application ends with: {}", application.last_words()))
}

fn application(probe: &Probe, entrance: Entrance, password: &Secret) -> Application {
    let shown = |text: &str| filled(text, entrance);
    let mut files: Vec<(PathBuf, Secret)> = vec![(PASSWORD_FILE.into(), password.clone())];
    files.extend(
        probe.files.iter().map(|(path, content)| {
            (path.clone(), Secret::new(shown(content).replace("{password}", password.expose())))
        }),
    );
    Application {
        image: probe.image.clone(),
        arguments: probe.command.iter().map(|word| shown(word)).collect(),
        environment: probe.environment.iter().map(|(name, value)| (name.clone(), shown(value))).collect(),
        files,
        port: probe.port,
    }
}

/// The same text with what an application needs in it, but for the password.
fn filled(text: &str, entrance: Entrance) -> String {
    let port = entrance.port.to_string();
    let known = [
        ("{host}", SERVER),
        ("{port}", port.as_str()),
        ("{user}", entrance.user.unwrap_or_default()),
        ("{password_file}", PASSWORD_FILE),
    ];
    known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

struct Client {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Client {
    fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::failed("cannot start an HTTP client").because(e))?;
        let client =
            reqwest::Client::builder().timeout(ANSWERED).redirect(reqwest::redirect::Policy::none()).no_proxy();
        let client = client.build().map_err(|e| Failure::failed("cannot prepare an HTTP client").because(e))?;
        Ok(Client { runtime, client })
    }

    /// Status and body; or why there is no answer.
    fn get(&self, address: &str) -> std::result::Result<(u16, String), String> {
        let told = |error: reqwest::Error| error.without_url().to_string();
        self.runtime.block_on(async {
            let mut answer = self.client.get(address).send().await.map_err(told)?;
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await.map_err(told)? {
                body.extend_from_slice(&piece[..piece.len().min(READ - body.len())]);
                if body.len() == READ {
                    break;
                }
            }
            Ok((answer.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_told_where_the_server_is_and_never_its_password_where_it_shows() {
        let probe = Probe {
            image: "shop".into(),
            command: vec!["serve".into(), "--db={user}@{host}:{port}".into()],
            environment: vec![
                ("DB_PASSWORD_FILE".into(), "{password_file}".into()),
                ("ODD".into(), "{password}".into()),
            ],
            files: vec![("/app/config.ini".into(), "password={password}".into())],
            port: 8080,
            path: "/".into(),
            status: 200,
            patience: Duration::from_secs(1),
        };
        let entrance = Entrance { port: 3306, user: Some("root") };
        let made = application(&probe, entrance, &Secret::new("pw-1".into()));
        assert_eq!(made.arguments, ["serve", "--db=root@server:3306"]);
        assert_eq!(made.environment[0].1, PASSWORD_FILE);
        assert_eq!(made.environment[1].1, "{password}");
        let content: Vec<&str> = made.files.iter().map(|(_, content)| content.expose()).collect();
        assert_eq!(content, ["pw-1", "password=pw-1"]);
        assert!(!format!("{made:?}").contains("pw-1"));
    }
}
