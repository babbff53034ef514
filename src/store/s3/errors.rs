//! What an S3 endpoint's errors mean to the store's callers.
//!
//! Codes come before statuses, because look-alikes agree more on codes. Texts hold the request's name, the endpoint's code
//! and its message; never headers, which hold signatures.

use crate::store::{Key, StoreError};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use std::error::Error;
use std::io;

/// An error with what the endpoint said, for callers who expect certain answers.
#[derive(Debug)]
pub(super) struct Refused {
    /// 0: there was no answer.
    pub status: u16,
    pub code: String,
    pub error: StoreError,
}

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

impl Refused {
    pub fn without_answer(error: StoreError) -> Self {
        Refused { status: 0, code: String::new(), error }
    }

    pub fn is(&self, code: &str) -> bool {
        self.code == code
    }

    /// The object is not there. Answers to `HEAD` have no code but the status.
    pub fn no_such_key(&self) -> bool {
        self.is("NoSuchKey") || (self.status == 404 && matches!(&*self.code, "" | "NotFound"))
    }

    /// The same error, when it may be about this object.
    pub fn about(self, key: &Key) -> StoreError {
        if self.no_such_key() { StoreError::NotFound(key.clone()) } else { self.error }
    }
}

pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>, what: &str) -> Refused
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let (code, message) = (service.err().meta().code(), service.err().meta().message());
            by_code(status, code.unwrap_or_default(), message.unwrap_or_default(), what)
        }
        SdkError::ResponseError(response) => {
            let status = response.raw().status().as_u16();
            let text = format!("{what}: the answer (status {status}) cannot be read: {}", causes(error));
            // A status that is clear stands, whatever came with it.
            let error = match status {
                401 | 403 => StoreError::Denied(text),
                _ => StoreError::Transient(text),
            };
            Refused { status, code: String::new(), error }
        }
        SdkError::TimeoutError(_) => {
            Refused::without_answer(StoreError::Transient(format!("{what}: no answer in time")))
        }
        SdkError::DispatchFailure(_) => Refused::without_answer(match certificate(error) {
            Some(reason) => StoreError::Other(format!(
                "{what}: the certificate of the endpoint is refused ({reason}); \
                 set ca_file when it is signed by an authority of your own"
            )),
            None => StoreError::Transient(format!("{what}: {}", causes(error))),
        }),
        _ => Refused::without_answer(StoreError::Other(format!("{what}: {}", causes(error)))),
    }
}

fn by_code(status: u16, code: &str, message: &str, what: &str) -> Refused {
    let text = match (code, message) {
        ("", "") => format!("{what}: status {status}"),
        (code, "") => format!("{what}: {code} (status {status})"),
        (code, message) => format!("{what}: {code}: {message}"),
    };
    let error = match (code, status) {
        ("NoSuchBucket", _) => StoreError::NoStore(text),
        (
            "SlowDown"
            | "SlowDownRead"
            | "SlowDownWrite"
            | "RequestTimeout"
            | "InternalError"
            | "ServiceUnavailable"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "ThrottlingException"
            | "TooManyRequests",
            _,
        ) => StoreError::Transient(text),
        ("XMinioStorageFull" | "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded", _) | (_, 507) => {
            StoreError::Full(text)
        }
        (
            "AccessDenied"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "AuthorizationHeaderMalformed"
            | "RequestTimeTooSkewed",
            _,
        ) => StoreError::Denied(text),
        // What MinIO says of a locked object; Amazon says AccessDenied.
        ("InvalidRequest", _) if message.contains("WORM") => StoreError::Denied(text),
        ("NotImplemented", _) | (_, 501) => StoreError::Other(text),
        (_, 401 | 403) => StoreError::Denied(text),
        (_, 408 | 429 | 500..=599) => StoreError::Transient(text),
        _ => StoreError::Other(text),
    };
    Refused { status, code: code.to_owned(), error }
}

/// The causes in one line. The outermost error of a request says only that something failed.
fn causes(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), chain)
}

/// An error and its causes in one line, each told once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The reason why TLS refused the endpoint: trying again would not help.
fn certificate(error: &dyn Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(reason)) = error.downcast_ref() {
            return Some(reason.to_string());
        }
        // An I/O error passes over the error inside it and names that one's cause.
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = within.map(|inner| inner as &dyn Error).or_else(|| error.source());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, code: &str) -> &'static str {
        match by_code(status, code, "", "put x").error {
            StoreError::NoStore(_) => "no store",
            StoreError::Denied(_) => "denied",
            StoreError::Full(_) => "full",
            StoreError::Transient(_) => "transient",
            StoreError::Other(_) => "other",
            StoreError::NotFound(_) | StoreError::Exists(_) | StoreError::BadName(_) => "of one object",
        }
    }

    #[test]
    fn answers_mean_what_they_say() {
        for (status, code, expected) in [
            (404, "NoSuchBucket", "no store"),
            (403, "AccessDenied", "denied"),
            (403, "SignatureDoesNotMatch", "denied"),
            (403, "InvalidAccessKeyId", "denied"),
            (400, "ExpiredToken", "denied"),
            (403, "", "denied"),
            (401, "Unauthorized", "denied"),
            (503, "SlowDown", "transient"),
            (429, "", "transient"),
            (500, "InternalError", "transient"),
            (502, "", "transient"),
            (400, "RequestTimeout", "transient"),
            (409, "ConditionalRequestConflict", "transient"),
            (507, "XMinioStorageFull", "full"),
            (501, "NotImplemented", "other"),
            (400, "EntityTooSmall", "other"),
            (301, "PermanentRedirect", "other"),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn a_missing_object_is_told_from_a_missing_upload() {
        let key = Key::new("a/b").unwrap();
        let about = |status, code| by_code(status, code, "", "x").about(&key);
        assert!(matches!(about(404, "NoSuchKey"), StoreError::NotFound(found) if found == key));
        assert!(matches!(about(404, "NotFound"), StoreError::NotFound(_)));
        assert!(matches!(about(404, "NoSuchUpload"), StoreError::Other(_)));
        assert!(matches!(about(404, "NoSuchBucket"), StoreError::NoStore(_)));
    }
}
