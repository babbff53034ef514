//! Requests to MinIO that are signed with an access key, to S3 as to its admin API: one at a time, each over a connection of
//! its own, so that every one of them is a login.
//!
//! Of a refusal only its code is kept.

use crate::error::{Failure, Kind, Result, innermost};
use crate::job::rotate::http::{self, ANSWER, Answer};
use crate::policy::Minio;
use crate::secret::Secret;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use reqwest::{Client, Method, Url};
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// What signs.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    pub id: &'a str,
    pub secret: &'a Secret,
}

pub struct Signed<'a> {
    pub minio: &'a Minio,
    pub key: Key<'a>,
}

impl Signed<'_> {
    /// `url`: with its query.
    pub fn send(&self, method: &Method, url: &Url, body: Vec<u8>) -> Result<Answer> {
        http::send(self.request(&client(self.minio, ANSWER)?, method, url, body)?, code)
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
    http::Peer { name: "MinIO", ca_file: minio.ca_file.as_deref(), by_proxies: false }.client(answer)
}

/// The code that S3 has for a refusal: it answers in XML, the admin API in JSON.
pub fn code(text: &str) -> Option<String> {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return value["Code"].as_str().map(str::to_owned);
    }
    let (_, rest) = text.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0.to_owned())
}

pub fn away(minio: &Minio, why: impl Into<String>) -> Failure {
    Failure::new(Kind::TryLater, format!("MinIO at {} does not answer", minio.endpoint)).because(why.into())
}
