//! The few calls of the Kubernetes API that rotation makes. The token is read for each of them, so that it may be renewed.
//!
//! Answers may hold secrets: of one that is a refusal only its message is kept, and not that either where a Secret was sent.

use crate::backoff::pause;
use crate::error::{Context, Failure, Kind, Result};
use crate::event::Cancel;
use crate::job::rotate::http::{self, ANSWER, Answer};
use crate::policy::Cluster;
use crate::secret::Secret;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Between attempts, while nobody answers: an API server that is replaced is back by then.
const ATTEMPTS: [u64; 5] = [1, 2, 4, 8, 8];
/// Where a pod finds the API, and what it is let in with.
const OF_A_POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const HOST: [&str; 2] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];

/// What a call does to an object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call<'a> {
    Get,
    Create(&'a Value),
    /// As a JSON Patch.
    Change(&'a Value),
    /// As a merge patch.
    Merge(&'a Value),
    Delete,
}

pub struct Api {
    server: String,
    ca_file: Option<PathBuf>,
    token_file: PathBuf,
}

impl Api {
    /// That of the configuration, or of the cluster that this process runs in.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let inside = Path::new(OF_A_POD);
        let server = match (&cluster.server, HOST.map(|name| std::env::var(name).ok())) {
            (Some(server), _) => server.trim_end_matches('/').to_owned(),
            (None, [Some(host), Some(port)]) if host.contains(':') => format!("https://[{host}]:{port}"),
            (None, [Some(host), Some(port)]) => format!("https://{host}:{port}"),
            _ => {
                return Err(Failure::usage("nothing says where the Kubernetes API is")
                    .hint("Write `server`, `ca_file` and `token_file` into `kubernetes` of the consumer"));
            }
        };
        let of_a_pod = |name: &str| Some(inside.join(name)).filter(|path| path.exists());
        Ok(Api {
            server,
            ca_file: cluster.ca_file.clone().or_else(|| of_a_pod("ca.crt")),
            token_file: cluster.token_file.clone().unwrap_or_else(|| inside.join("token")),
        })
    }

    pub fn get(&self, path: &str, cancel: &Cancel) -> Result<Value> {
        self.call(Call::Get, path, cancel)
    }

    /// `None` where there is no such object.
    pub fn find(&self, path: &str, cancel: &Cancel) -> Result<Option<Value>> {
        match self.ask(Call::Get, path, cancel)? {
            Answer::Refused(StatusCode::NOT_FOUND, _) => Ok(None),
            answer => self.done(answer, Call::Get, path).map(Some),
        }
    }

    /// What is gone already is as good.
    pub fn delete(&self, path: &str, cancel: &Cancel) -> Result<()> {
        match self.ask(Call::Delete, path, cancel)? {
            Answer::Refused(StatusCode::NOT_FOUND, _) => Ok(()),
            answer => self.done(answer, Call::Delete, path).map(drop),
        }
    }

    pub fn call(&self, call: Call<'_>, path: &str, cancel: &Cancel) -> Result<Value> {
        let answer = self.ask(call, path, cancel)?;
        self.done(answer, call, path)
    }

    /// Each call can be made twice: who is told that something is there already looks whether it is the same.
    fn ask(&self, call: Call<'_>, path: &str, cancel: &Cancel) -> Result<Answer> {
        for seconds in ATTEMPTS {
            cancel.check()?;
            match self.once(call, path)? {
                Answer::Away(_) => pause(Duration::from_secs(seconds), &|| cancel.check().is_err()),
                answer => return Ok(answer),
            };
        }
        cancel.check()?;
        self.once(call, path)
    }

    fn once(&self, call: Call<'_>, path: &str) -> Result<Answer> {
        let peer = http::Peer { name: "Kubernetes", ca_file: self.ca_file.as_deref(), by_proxies: true };
        let (client, token) = (peer.client(ANSWER)?, self.token()?);
        let (method, body, form) = match call {
            Call::Get => (Method::GET, None, ""),
            Call::Delete => (Method::DELETE, None, ""),
            Call::Create(body) => (Method::POST, Some(body), "application/json"),
            Call::Change(body) => (Method::PATCH, Some(body), "application/json-patch+json"),
            Call::Merge(body) => (Method::PATCH, Some(body), "application/merge-patch+json"),
        };
        let mut request = client.request(method, format!("{}{path}", self.server)).bearer_auth(token.expose());
        if let Some(body) = body {
            request = request.header("Content-Type", form).body(serde_json::to_vec(body).unwrap_or_default());
        }
        http::send(request, message)
    }

    fn done(&self, answer: Answer, call: Call<'_>, path: &str) -> Result<Value> {
        let what = || {
            let verb = match call {
                Call::Get => "read",
                Call::Create(_) => "create an object at",
                Call::Change(_) | Call::Merge(_) => "change",
                Call::Delete => "delete",
            };
            format!("cannot {verb} {path} of Kubernetes at {}", self.server)
        };
        match answer {
            Answer::Done(bytes) => Ok(serde_json::from_slice(&Zeroizing::new(bytes)).unwrap_or_default()),
            Answer::Away(why) => Err(Failure::new(Kind::TryLater, what()).because(why)),
            Answer::Refused(StatusCode::UNAUTHORIZED, _) => Err(Failure::new(Kind::Key, what())
                .because("the token is not accepted")
                .hint(format!("Put one that is into {}", self.token_file.display()))),
            Answer::Refused(StatusCode::FORBIDDEN, why) => Err(Failure::new(Kind::Key, what())
                .because(why)
                .hint("Give bkp's service account the rights that docs/ROTATION.md lists")),
            Answer::Refused(_, _) if matches!(call, Call::Create(_)) => {
                Err(Failure::failed(what()).because("the cluster does not take it"))
            }
            Answer::Refused(_, why) => Err(Failure::failed(what()).because(why)),
        }
    }

    fn token(&self) -> Result<Secret> {
        let text = std::fs::read_to_string(&self.token_file);
        let text = text.context(|| format!("cannot read the token {}", self.token_file.display()))?;
        Ok(Secret::new(text.trim().to_owned()))
    }
}

fn message(answer: &str) -> Option<String> {
    serde_json::from_str::<Value>(answer).ok()?["message"].as_str().map(str::to_owned)
}
