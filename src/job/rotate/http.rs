//! Requests over HTTP to those that rotation speaks to besides Vault: one at a time, each over a connection of its own, and no
//! redirect is followed.

use crate::error::{Context, Failure, Result, innermost};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use std::future::Future;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
pub const ANSWER: Duration = Duration::from_secs(20);

/// Who is asked.
pub struct Peer<'a> {
    /// For people.
    pub name: &'a str,
    /// With these authorities, no others are trusted.
    pub ca_file: Option<&'a Path>,
    /// Through those that the environment names, if it does.
    pub by_proxies: bool,
}

pub enum Answer {
    Done(Vec<u8>),
    /// And what it gave as its reason.
    Refused(StatusCode, String),
    /// Nobody answered, or not in a way that would last.
    Away(String),
}

/// Finds the reason in what comes with a refusal; of the rest nothing is kept, for it may hold what was sent.
pub type Reason = fn(&str) -> Option<String>;

impl Peer<'_> {
    pub fn client(&self, answer: Duration) -> Result<Client> {
        let mut builder = Client::builder().timeout(answer).redirect(reqwest::redirect::Policy::none());
        if !self.by_proxies {
            builder = builder.no_proxy();
        }
        if let Some(path) = self.ca_file {
            let pem = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if authorities.is_empty() {
                return Err(Failure::usage(format!("{} holds no certificate that can be read", path.display()))
                    .hint("`ca_file` is a PEM file: -----BEGIN CERTIFICATE----- …"));
            }
            builder = builder.tls_certs_only(authorities);
        }
        let unprepared = || Failure::failed(format!("cannot prepare TLS for {}", self.name));
        builder.build().map_err(|error| unprepared().because(innermost(&error)))
    }
}

pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context(|| "cannot start a client of HTTP".into())?.block_on(work))
}

pub fn send(request: RequestBuilder, reason: Reason) -> Result<Answer> {
    block_on(async {
        match request.send().await {
            Ok(response) => answer(response, reason).await,
            Err(error) => Answer::Away(innermost(&error)),
        }
    })
}

pub async fn answer(response: Response, reason: Reason) -> Answer {
    let status = response.status();
    let Ok(bytes) = response.bytes().await else { return Answer::Away("the answer was cut".into()) };
    if status.is_success() {
        return Answer::Done(bytes.to_vec());
    }
    let why = reason(&String::from_utf8_lossy(&bytes)).unwrap_or_else(|| status.to_string());
    match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        true => Answer::Away(why),
        false => Answer::Refused(status, why),
    }
}
