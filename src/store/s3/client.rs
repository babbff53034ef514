//! The S3 client with its own runtime, behind calls that block.
//!
//! One thread pool of two serves all requests of a store. The client's own retries are off: `retry.rs` is the only loop.
//! It never asks the network for credentials: they are in the settings or in the environment.

use super::errors::{self, Refused};
use crate::error::{Context, Failure, Kind, Result};
use crate::secret::{Secret, SecretRef};
use crate::store::{Addressing, Settings, StoreError};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Time in which any small request is answered, or it counts as lost.
const ANSWER: Duration = Duration::from_secs(60);

/// The slowest line for which bodies are given time.
const SLOWEST_BYTES_PER_SECOND: u64 = 100_000;

/// A body of which nothing comes or goes for so long is given up.
const STALL: Duration = Duration::from_secs(30);

pub(super) struct Connection {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    pub client: Client,
    /// Sent over TLS, so that the line already protects what a signature over the body would.
    pub secure: bool,
}

impl Connection {
    pub fn open(settings: &Settings) -> Result<Self> {
        let client = client(settings)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3")
            .enable_all()
            .build()
            .context(|| "cannot start the threads of the S3 client".into())?;
        let secure = settings.endpoint.as_deref().is_none_or(|endpoint| endpoint.starts_with("https://"));
        Ok(Connection { runtime: Some(runtime), client, secure })
    }

    /// Runs one request that carries `body` bytes. It does not matter on which thread it is called.
    pub fn request<T, E>(
        &self,
        what: &str,
        body: u64,
        request: impl Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>> + Send + 'static,
    ) -> std::result::Result<T, Refused>
    where
        T: Send + 'static,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let limit = ANSWER + Duration::from_secs(body / SLOWEST_BYTES_PER_SECOND);
        let answer = self.start(async move { tokio::time::timeout(limit, request).await.ok() });
        match answer.recv() {
            Ok(Some(Ok(answer))) => Ok(answer),
            Ok(Some(Err(error))) => Err(errors::classify(&error, what)),
            Ok(None) => {
                let text = format!("{what}: no answer within {} s", limit.as_secs());
                Err(Refused::without_answer(StoreError::Transient(text)))
            }
            Err(_) => Err(Refused::without_answer(StoreError::Other(format!("{what}: the S3 client stopped")))),
        }
    }

    /// Begins something that is waited for later. The receiver is told nothing when it panics: then `recv` fails.
    pub fn start<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                // Nobody waits any more: then nobody needs the answer.
                let _ = sender.try_send(work.await);
            });
        }
        receiver
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

fn client(settings: &Settings) -> Result<Client> {
    let path_style = settings.addressing.unwrap_or(match settings.endpoint {
        Some(_) => Addressing::Path,
        None => Addressing::Virtual,
    }) == Addressing::Path;
    let stalled = StalledStreamProtectionConfig::enabled().grace_period(STALL).build();
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(settings.region.clone()))
        .credentials_provider(credentials(settings)?)
        .force_path_style(path_style)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(Duration::from_secs(10)).build())
        .stalled_stream_protection(stalled)
        .http_client(http_client(settings)?);
    if let Some(endpoint) = &settings.endpoint {
        check_endpoint(endpoint)?;
        config = config.endpoint_url(endpoint.trim_end_matches('/'));
    }
    Ok(Client::from_conf(config.build()))
}

/// The text is not repeated in an error: it could hold a password.
fn check_endpoint(endpoint: &str) -> Result<()> {
    let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let good = host.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:[]/".contains(&b))
    });
    match good {
        true => Ok(()),
        false => Err(Failure::usage("the endpoint of the store is not an address of a server")
            .hint("Give it as https://host:port, without credentials")),
    }
}

fn credentials(settings: &Settings) -> Result<Credentials> {
    let missing = |name: &str| {
        Failure::new(Kind::Key, format!("there is no {name} for {}", settings.location)).hint(
            "Set access_key and secret_key of the store to references, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
        )
    };
    let from = |reference: &Option<SecretRef>, variable: &str| match reference {
        Some(reference) => settings.secrets.read(reference).map(Some),
        None => Ok(std::env::var(variable).ok().map(Secret::new)),
    };
    if settings.access_key.is_some() != settings.secret_key.is_some() {
        return Err(missing(if settings.access_key.is_some() { "secret_key" } else { "access_key" }));
    }
    let filled = |secret: Option<Secret>| secret.filter(|secret| !secret.expose().is_empty());
    let access = filled(from(&settings.access_key, "AWS_ACCESS_KEY_ID")?).ok_or_else(|| missing("access_key"))?;
    let secret = filled(from(&settings.secret_key, "AWS_SECRET_ACCESS_KEY")?).ok_or_else(|| missing("secret_key"))?;
    let token = match (&settings.session_token, &settings.access_key) {
        // A token of the environment belongs to the keys of the environment.
        (None, Some(_)) => None,
        (reference, _) => filled(from(reference, "AWS_SESSION_TOKEN")?),
    };
    Ok(Credentials::new(access.expose(), secret.expose(), token.map(|t| t.expose().to_owned()), None, "bkp"))
}

fn http_client(settings: &Settings) -> Result<SharedHttpClient> {
    let plain = settings.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let trust = match &settings.ca_file {
        Some(path) => TrustStore::empty().with_pem_certificate(authorities(path)?),
        None if plain => TrustStore::empty(),
        None => TrustStore::default(),
    };
    let tls = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|e| Failure::failed("cannot prepare TLS for the store").because(e))?;
    let builder = aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(Duration::from_secs(20))
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls);
    Ok(match settings.endpoint.as_deref().is_some_and(is_localhost) {
        true => builder.build_with_resolver(ThisMachine),
        false => builder.build_https(),
    })
}

/// The client would panic on a certificate that it cannot read, so it is read here first.
fn authorities(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path)
        .context(|| format!("cannot read the certificate authorities {}", path.display()))
        .map_err(|e| Failure::usage(e.full()).hint("Point ca_file to a PEM file that bkp may read"))?;
    let bad = || {
        Failure::usage(format!("{} holds no certificate that can be read", path.display()))
            .hint("ca_file is a PEM file: -----BEGIN CERTIFICATE----- …")
    };
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&bytes).collect::<std::result::Result<_, _>>().map_err(|_| bad())?;
    let mut roots = rustls::RootCertStore::empty();
    if certificates.is_empty() || certificates.into_iter().any(|certificate| roots.add(certificate).is_err()) {
        return Err(bad());
    }
    Ok(bytes)
}

fn is_localhost(endpoint: &str) -> bool {
    let host = endpoint.rsplit("://").next().unwrap_or(endpoint).split(['/', ':']).next().unwrap_or_default();
    host == "localhost" || host.ends_with(".localhost")
}

/// Names below `localhost` are this machine (RFC 6761), and many resolvers do not know; `bucket.localhost` needs it.
#[derive(Clone, Debug)]
struct ThisMachine;

impl ResolveDns for ThisMachine {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::ready(match is_localhost(name) {
            true => Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]),
            false => Err(ResolveDnsError::new(format!("{name} is not below localhost"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Location;
    use aws_sdk_s3::presigning::PresigningConfig;

    fn settings(endpoint: Option<&str>, addressing: Option<Addressing>) -> Settings {
        let location = Location::Bucket { bucket: "backups".into(), prefix: "prod".into() };
        let key = Some(SecretRef::Env("CARGO_PKG_NAME".into())); // anything that is set
        let endpoint = endpoint.map(str::to_owned);
        Settings { endpoint, addressing, access_key: key.clone(), secret_key: key, ..Settings::new(location) }
    }

    /// The address of a request for `a/b`, without the signature.
    fn address(settings: &Settings) -> String {
        let connection = Connection::open(settings).unwrap();
        let request = connection.client.get_object().bucket("backups").key("a/b");
        let hour = PresigningConfig::expires_in(Duration::from_secs(3600)).unwrap();
        let signed = connection.start(async move { request.presigned(hour).await.unwrap().uri().to_owned() });
        signed.recv().unwrap().split('?').next().unwrap().to_owned()
    }

    #[test]
    fn buckets_are_addressed_as_asked() {
        let here = Some("https://minio.example:9000/");
        assert_eq!(address(&settings(here, None)), "https://minio.example:9000/backups/a/b");
        assert_eq!(address(&settings(here, Some(Addressing::Virtual))), "https://backups.minio.example:9000/a/b");
        assert_eq!(address(&settings(None, None)), "https://backups.s3.us-east-1.amazonaws.com/a/b");
        assert_eq!(address(&settings(None, Some(Addressing::Path))), "https://s3.us-east-1.amazonaws.com/backups/a/b");
    }

    #[test]
    fn an_endpoint_with_a_password_is_refused_without_repeating_it() {
        for endpoint in ["https://user:hunter2@host", "minio.example:9000", "https://", "ftp://host"] {
            let failure = Connection::open(&settings(Some(endpoint), None)).err().unwrap();
            assert_eq!(failure.kind(), Kind::Usage, "{endpoint}");
            assert!(!failure.full().contains("hunter2"));
        }
    }

    #[test]
    fn half_a_pair_of_keys_is_named() {
        let whole = settings(None, None);
        let failure = Connection::open(&Settings { secret_key: None, ..whole }).err().unwrap();
        assert_eq!(failure.kind(), Kind::Key);
        assert_eq!(failure.to_string(), "there is no secret_key for s3://backups/prod");
    }

    #[test]
    fn a_bad_certificate_file_is_a_failure_and_no_panic() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let with_ca = |path: &Path| Settings { ca_file: Some(path.into()), ..settings(Some("https://h"), None) };
        let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in ["", "rubbish", rubbish, "-----BEGIN CERTIFICATE-----\n!\n"] {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(Connection::open(&with_ca(file.path())).err().unwrap().kind(), Kind::Usage, "{content}");
        }
        assert_eq!(Connection::open(&with_ca(Path::new("/nowhere/ca.pem"))).err().unwrap().kind(), Kind::Usage);
    }

    #[test]
    fn only_localhost_is_this_machine() {
        assert!(
            is_localhost("http://localhost:9000")
                && is_localhost("https://s3.localhost/")
                && is_localhost("b.localhost")
        );
        assert!(!is_localhost("https://localhost.example") && !is_localhost("https://notlocalhost"));
    }
}
