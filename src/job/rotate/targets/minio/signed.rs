//! Requests to MinIO that are signed with an access key, to S3 as to its admin API: one at a time, each over a connection of
//! its own, so that every one of them is a login.
//!
//! What is sent may hold secrets: of a refusal only its code is kept.

use crate::error::{Context, Failure, Kind, Result, innermost};
use crate::policy::Minio;
use crate::secret::Secret;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;
use std::future::Future;
use std::time::{Duration, SystemTime};

const ANSWER: Duration = Duration::from_secs(20);

/// What signs.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    pub id: &'a str,
    pub secret: &'a Secret,
}

pub enum Answer {
    Done(Vec<u8>),
    /// With the code that S3 has for it.
    Refused(StatusCode, String),
    /// Nobody answered, or not in a way that would last.
    Away(String),
}

pub struct Signed<'a> {
    pub minio: &'a Minio,
    pub key: Key<'a>,
}

impl Signed<'_> {
    /// `url`: with its query.
    pub fn send(&self, method: &Method, url: &Url, body: Vec<u8>) -> Result<Answer> {
        let http = client(self.minio, ANSWER)?;
        let request = self.request(&http, method, url, body)?;
        block_on(async {
            match request.send().await {
                Ok(response) => answer(response).await,
                Err(error) => Answer::Away(innermost(&error)),
            }
        })
    }

    pub fn request(&self, http: &Client, method: &Method, url: &Url, body: Vec<u8>) -> Result<reqwest::RequestBuilder> {
        let wrong = |error: &dyn std::error::Error| {
            Failure::failed("a request to MinIO cannot be signed").because(innermost(error))
        };
        let credentials = Credentials::new(self.key.id, self.key.secret.expose(), None, None, "bkp");
        let identity = Identity::from(credentials);
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.minio.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| wrong(&error))?
            .into();
        let no_headers = std::iter::empty();
        let signable = SignableRequest::new(method.as_str(), url.as_str(), no_headers, SignableBody::Bytes(&body))
            .map_err(|error| wrong(&error))?;
        let (signature, _) = sign(signable, &params).map_err(|error| wrong(&error))?.into_parts();
        let mut request = http.request(method.clone(), url.clone());
        for (name, value) in signature.headers() {
            request = request.header(name, value);
        }
        Ok(request.body(body))
    }
}

pub fn client(minio: &Minio, answer: Duration) -> Result<Client> {
    let mut builder = Client::builder().timeout(answer).redirect(reqwest::redirect::Policy::none()).no_proxy();
    if let Some(path) = &minio.ca_file {
        let pem = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if authorities.is_empty() {
            return Err(Failure::usage(format!("{} holds no certificate that can be read", path.display()))
                .hint("`ca_file` is a PEM file: -----BEGIN CERTIFICATE----- …"));
        }
        builder = builder.tls_certs_only(authorities);
    }
    builder.build().map_err(|error| Failure::failed("cannot prepare TLS for MinIO").because(innermost(&error)))
}

pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context(|| "cannot start the client of MinIO".into())?.block_on(work))
}

pub async fn answer(response: Response) -> Answer {
    let status = response.status();
    let Ok(bytes) = response.bytes().await else { return Answer::Away("the answer was cut".into()) };
    if status.is_success() {
        return Answer::Done(bytes.to_vec());
    }
    let code = code(&String::from_utf8_lossy(&bytes)).unwrap_or_else(|| status.to_string());
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Answer::Away(code);
    }
    Answer::Refused(status, code)
}

/// S3 answers in XML, the admin API in JSON.
fn code(text: &str) -> Option<String> {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return value["Code"].as_str().map(str::to_owned);
    }
    let (_, rest) = text.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0.to_owned())
}

pub fn away(minio: &Minio, why: impl Into<String>) -> Failure {
    Failure::new(Kind::TryLater, format!("MinIO at {} does not answer", minio.endpoint)).because(why.into())
}
