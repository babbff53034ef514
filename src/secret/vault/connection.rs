//! One HTTP client for Vault, with its own runtime, behind calls that block; and what can go wrong with a call.
//!
//! The client of vaultrs is put together here and not by vaultrs: its own reads `VAULT_*` variables, can lack a time-out,
//! and follows a redirection from HTTPS to HTTP with the token. Its errors are never kept or printed: some hold the answer.

use super::{Settings, check_address};
use crate::error::{Context, Failure, Kind, Result, innermost};
use crate::secret::Secret;
use reqwest::redirect::Policy;
use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError as CallError;
use serde_json::Value;
use std::error::Error;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use vaultrs::api::EndpointMiddleware;
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};
use vaultrs::error::ClientError;
use zeroize::Zeroize;

const CONNECT: Duration = Duration::from_secs(5);
const REDIRECTIONS: usize = 3;

pub(super) struct Connection {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    http: reqwest::Client,
    address: String,
    namespace: Option<String>,
    timeout: Duration,
}

/// A client with its token, which is wiped with it.
pub(super) struct Speaker(VaultClient);

impl Speaker {
    pub fn client(&self) -> &VaultClient {
        &self.0
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.0.middle.token.zeroize();
    }
}

impl Connection {
    pub fn open(settings: &Settings) -> Result<Self> {
        check_address(&settings.address).map_err(|wrong| Failure::usage(wrong).hint("Correct `vault: address:`"))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("vault")
            .enable_all()
            .build()
            .context(|| "cannot start the thread of the Vault client".into())?;
        Ok(Connection {
            runtime: Some(runtime),
            http: http_client(settings)?,
            address: settings.address.trim_end_matches('/').to_owned(),
            namespace: settings.namespace.clone(),
            timeout: settings.timeout,
        })
    }

    /// A client that speaks with this token, or without one.
    pub fn speaker(&self, token: Option<&Secret>) -> Result<Arc<Speaker>> {
        let token = token.map(Secret::expose).unwrap_or_default();
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Failure::new(Kind::Key, "the token for Vault has characters that no token has")
                .hint("Look for a blank or a line break in it"));
        }
        // Each is set, for what is left out would be taken from the environment.
        let settings = VaultClientSettingsBuilder::default()
            .address(&self.address)
            .ca_certs(Vec::new())
            .identity(None)
            .token("")
            .verify(true)
            .timeout(Some(self.timeout))
            .build()
            .map_err(|_| Failure::usage("the address of Vault is not understood"))?;
        let (version, namespace) = ("v1".to_owned(), self.namespace.clone());
        let middle = EndpointMiddleware { token: token.to_owned(), version, wrap: None, namespace };
        let http = rustify::clients::reqwest::Client::new(&self.address, self.http.clone());
        Ok(Arc::new(Speaker(VaultClient { http, middle, settings })))
    }

    /// Runs one call. It does not matter on which thread.
    pub fn ask<T: Send + 'static>(
        &self,
        call: impl Future<Output = std::result::Result<T, ClientError>> + Send + 'static,
    ) -> std::result::Result<T, Trouble> {
        // The client has the same limit; this one holds also for what it does beside the request.
        self.ask_within(self.timeout + CONNECT, call)
    }

    pub fn ask_within<T: Send + 'static, E: Into<Trouble> + Send + 'static>(
        &self,
        limit: Duration,
        call: impl Future<Output = std::result::Result<T, E>> + Send + 'static,
    ) -> std::result::Result<T, Trouble> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.spawn(async move {
            let _ = sender.try_send(tokio::time::timeout(limit, call).await);
        });
        match receiver.recv() {
            Ok(Ok(answer)) => answer.map_err(Into::into),
            Ok(Err(_)) => Err(Trouble::NoAnswer("no answer in time".into())),
            Err(_) => Err(Trouble::NotUnderstood("the Vault client stopped".into())),
        }
    }

    /// A request that vaultrs could not make without holding all of it in memory.
    pub fn request(&self, method: reqwest::Method, path: &str, speaker: &Speaker) -> Result<reqwest::RequestBuilder> {
        let mut token = reqwest::header::HeaderValue::from_str(&speaker.0.middle.token)
            .map_err(|_| Failure::new(Kind::Key, "the token for Vault is none"))?;
        token.set_sensitive(true);
        let request = self.http.request(method, format!("{}/v1/{path}", self.address));
        let request = request.header("X-Vault-Request", "true").header("X-Vault-Token", token);
        Ok(match &self.namespace {
            Some(namespace) => request.header("X-Vault-Namespace", namespace),
            None => request,
        })
    }

    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(work);
        }
    }
}

/// A runtime may not be dropped in the usual way on a thread of another one.
impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn http_client(settings: &Settings) -> Result<reqwest::Client> {
    let secure = settings.address.starts_with("https://");
    let redirects = Policy::custom(move |attempt| match attempt.previous().len() > REDIRECTIONS {
        _ if secure && attempt.url().scheme() != "https" => attempt.error("it leads from HTTPS to HTTP"),
        true => attempt.error("too many redirections"),
        false => attempt.follow(),
    });
    let mut builder = reqwest::Client::builder()
        .timeout(settings.timeout)
        .connect_timeout(CONNECT.min(settings.timeout))
        .redirect(redirects);
    match &settings.ca_file {
        Some(path) => builder = builder.tls_certs_only(authorities(path)?),
        // Without TLS, no certificates of the system are needed, which may have none.
        None if !secure => builder = builder.tls_certs_only(Vec::new()),
        None => {}
    }
    if let Some(socket) = &settings.socket {
        builder = builder.unix_socket(socket.clone());
    }
    if let Some((certificate, key)) = &settings.client_certificate {
        let mut pem = read(certificate, "the client certificate for Vault")?;
        pem.push(b'\n');
        let mut secret = read(key, "the key of the client certificate for Vault")?;
        pem.extend_from_slice(&secret);
        let identity = reqwest::Identity::from_pem(&pem);
        pem.zeroize();
        secret.zeroize();
        builder = builder.identity(identity.map_err(|_| {
            let files = format!("{} and {}", certificate.display(), key.display());
            Failure::usage(format!("{files} are no certificate with its key")).hint("Both are PEM files")
        })?);
    }
    builder.build().map_err(|e| Failure::failed("cannot prepare TLS for Vault").because(innermost(&e)))
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    std::fs::read(path)
        .context(|| format!("cannot read {what}, {}", path.display()))
        .map_err(|e| Failure::usage(e.full()).hint("Check that the file is there and that bkp may read it"))
}

fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>> {
    let pem = read(path, "the certificate authorities for Vault")?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Failure::usage(format!("{} holds no certificate that can be read", path.display()))
            .hint("`vault: ca_file:` is a PEM file: -----BEGIN CERTIFICATE----- …")),
    }
}

/// Why a call did not give what was wanted. Holds words of Vault's errors, and nothing of its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Vault said no.
    Refused {
        status: u16,
        errors: Vec<String>,
        /// The version of the secret is there no more; since when, if that was told.
        deleted: Option<String>,
    },
    NoAnswer(String),
    Certificate(String),
    /// The answer is not one of Vault's.
    NotUnderstood(String),
}

impl Trouble {
    pub fn status(&self) -> Option<u16> {
        match self {
            Trouble::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether Vault as a whole cannot be asked now, whoever asks for whatever.
    pub fn is_outage(&self) -> bool {
        !matches!(self.status(), Some(300..500)) || self.may_pass()
    }

    /// Whether it is worth trying again at once: 412 is a node that lags behind, 429 a limit of requests.
    pub fn may_pass(&self) -> bool {
        match self {
            Trouble::Refused { status, .. } => matches!(status, 412 | 429 | 472 | 473 | 500..),
            Trouble::NoAnswer(_) => true,
            Trouble::Certificate(_) | Trouble::NotUnderstood(_) => false,
        }
    }

    /// Whether Vault's words have this in them.
    pub fn says(&self, words: &str) -> bool {
        matches!(self, Trouble::Refused { errors, .. } if errors.iter().any(|error| error.contains(words)))
    }

    /// What Vault said, in one line.
    pub fn words(&self) -> String {
        match self {
            Trouble::Refused { status, errors, .. } => {
                let words: Vec<String> =
                    errors.iter().map(|e| e.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
                if words.is_empty() {
                    format!("status {status}")
                } else {
                    format!("{} (status {status})", words.join("; "))
                }
            }
            Trouble::NoAnswer(why) | Trouble::Certificate(why) | Trouble::NotUnderstood(why) => why.clone(),
        }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::APIError { code, errors } => Trouble::Refused { status: code, errors, deleted: None },
            ClientError::RestClientError { source } => source.into(),
            // Their texts are fixed words.
            other => Trouble::NotUnderstood(other.to_string()),
        }
    }
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        match certificate(&error) {
            Some(reason) => Trouble::Certificate(reason),
            None => Trouble::NoAnswer(innermost(&error)),
        }
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::ServerResponseError { code, content } => {
                let body = content.and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
                let since = body["data"]["metadata"]["deletion_time"].as_str().map(str::to_owned);
                Trouble::Refused { status: code, errors: Vec::new(), deleted: since }
            }
            CallError::RequestError { source, .. } | CallError::ResponseError { source } => match certificate(&*source)
            {
                Some(reason) => Trouble::Certificate(reason),
                None => Trouble::NoAnswer(innermost(&*source)),
            },
            other => Trouble::NotUnderstood(other.to_string()),
        }
    }
}

/// The reason why TLS refused the other side: trying again would not help.
fn certificate(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(reason)) = error.downcast_ref() {
            return Some(reason.to_string());
        }
        // An I/O error passes over the error inside it and names that one's cause.
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = within.map(|inner| inner as &dyn Error).or_else(|| error.source());
    }
    None
}

/// A call that vaultrs does not have.
pub(super) struct Call {
    pub path: String,
    pub query: Option<String>,
    pub body: Option<Value>,
}

impl Endpoint for Call {
    type Response = Value;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        if self.body.is_some() { RequestMethod::POST } else { RequestMethod::GET }
    }

    fn query(&self) -> std::result::Result<Option<String>, CallError> {
        Ok(self.query.clone())
    }

    fn body(&self) -> std::result::Result<Option<Vec<u8>>, CallError> {
        Ok(self.body.as_ref().map(|body| body.to_string().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Trouble {
        Trouble::Refused { status, errors: vec![], deleted: None }
    }

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        for status in [412, 429, 472, 473, 500, 502, 503, 504] {
            assert!(refused(status).may_pass() && refused(status).is_outage(), "{status}");
        }
        for status in [400, 401, 403, 404, 405] {
            assert!(!refused(status).may_pass() && !refused(status).is_outage(), "{status}");
        }
        assert!(Trouble::NoAnswer("gone".into()).may_pass());
        let certificate = Trouble::Certificate("unknown issuer".into());
        assert!(certificate.is_outage() && !certificate.may_pass());
    }

    #[test]
    fn an_answer_that_is_not_understood_is_not_repeated() {
        let source = anyhow_of("expected value");
        let content = Some("{\"data\": {\"password\": \"hunter2\"".to_owned());
        let trouble = Trouble::from(CallError::ResponseParseError { source, content });
        assert!(!format!("{trouble:?} {}", trouble.words()).contains("hunter2"));
    }

    /// rustify's errors hold one of another crate's.
    fn anyhow_of<E: From<std::io::Error>>(text: &str) -> E {
        std::io::Error::other(text.to_owned()).into()
    }

    #[test]
    fn words_of_vault_become_one_line() {
        let errors = vec!["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n".to_owned()];
        let trouble = Trouble::Refused { status: 403, errors, deleted: None };
        assert_eq!(trouble.words(), "2 errors occurred: * permission denied * invalid token (status 403)");
        assert_eq!(refused(503).words(), "status 503");
    }
}
