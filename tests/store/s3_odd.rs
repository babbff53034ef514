//! S3 endpoints that misbehave, played by a server with prepared answers.

use crate::contract::{content, key};
use crate::support::fake_s3::{FakeS3, error, response};
use bkp::secret::SecretRef;
use bkp::store::probe::{Capabilities, Checksum, Versioning};
use bkp::store::retry::Budget;
use bkp::store::{Location, Settings, StoreError, open, open_bare, read};
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

const QUICK: Budget = Budget {
    total: Duration::from_secs(60),
    first_contact: Duration::from_secs(60),
    base: Duration::from_micros(100),
    cap: Duration::from_millis(5),
};

fn settings(fake: &FakeS3, capabilities: Option<Capabilities>) -> Settings {
    let secret = Some(SecretRef::Env("CARGO_PKG_NAME".into())); // anything that is set
    let location = Location::Bucket { bucket: "backups".into(), prefix: String::new() };
    let endpoint = Some(fake.endpoint());
    Settings {
        endpoint,
        access_key: secret.clone(),
        secret_key: secret,
        capabilities,
        budget: QUICK,
        ..Settings::new(location)
    }
}

fn found(conditional_put: bool, checksum: Checksum) -> Option<Capabilities> {
    Some(Capabilities { conditional_put, checksum, versioning: Versioning::Off, object_lock: false })
}

fn page(names: &[&str], more: &str, count: usize) -> Vec<u8> {
    let contents: String = names
        .iter()
        .map(|name| {
            format!(
                "<Contents><Key>{name}</Key><Size>1</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Contents>"
            )
        })
        .collect();
    let body = format!("<ListBucketResult><KeyCount>{count}</KeyCount>{more}{contents}</ListBucketResult>");
    response("200 OK", "content-type: application/xml\r\n", &body)
}

fn object(body: &str) -> Vec<u8> {
    response("200 OK", "last-modified: Fri, 02 Jan 2026 03:04:05 GMT\r\n", body)
}

#[test]
fn a_listing_whose_pages_do_not_advance_is_an_error() {
    let more = "<IsTruncated>true</IsTruncated>";
    let same = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>";
    for truncated in [more, same] {
        let fake = FakeS3::start(move |_| page(&["a"], truncated, 1));
        let error = open(&settings(&fake, None)).unwrap().list("").unwrap_err();
        assert!(matches!(&error, StoreError::Other(text) if text.contains("do not advance")), "{error:?}");
    }
}

#[test]
fn a_page_that_is_shorter_than_it_says_is_asked_for_again() {
    let calls = AtomicU32::new(0);
    let fake = FakeS3::start(move |_| match calls.fetch_add(1, Relaxed) {
        0 => page(&["a"], "<IsTruncated>false</IsTruncated>", 2),
        _ => page(&["a", "b"], "<IsTruncated>false</IsTruncated>", 2),
    });
    assert!(open_bare(&settings(&fake, None)).unwrap().list("").unwrap_err().transient());
    assert_eq!(open(&settings(&fake, None)).unwrap().list("").unwrap().len(), 2);
}

#[test]
fn a_name_that_comes_twice_is_an_error() {
    let fake = FakeS3::start(|_| page(&["a", "b", "a"], "<IsTruncated>false</IsTruncated>", 3));
    let error = open(&settings(&fake, None)).unwrap().list("").unwrap_err();
    assert!(error.to_string().contains("a came twice"), "{error}");
}

/// Gives the first two thirds of an object, and the rest of it when that is asked for.
fn tearing(whole: &'static str, rest: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> FakeS3 {
    FakeS3::start(move |request| match request.header("range") {
        None => {
            let mut bytes = response("200 OK", "etag: \"one\"\r\n", whole);
            bytes.truncate(bytes.len() - whole.len() / 3);
            bytes
        }
        Some(range) => {
            let from = range.trim_start_matches("bytes=").split('-').next().unwrap();
            rest(from.parse().unwrap())
        }
    })
}

#[test]
fn a_body_that_ends_early_is_resumed_where_it_broke() {
    let whole: &'static str = "abcdefghij".repeat(3000).leak();
    let fake = tearing(whole, move |from| {
        let told = format!("etag: \"one\"\r\ncontent-range: bytes {from}-29999/30000\r\n");
        response("206 Partial Content", &told, &whole[from..])
    });
    let mut bytes = Vec::new();
    let mut body = open_bare(&settings(&fake, None)).unwrap().get(&key("x"), None).unwrap();
    let error = StoreError::from_reader(body.read_to_end(&mut bytes).unwrap_err(), &key("x"));
    assert!(error.transient(), "{error:?}");
    assert_eq!(bytes.len(), 20_000);
    body.read_to_end(&mut bytes).unwrap();
    assert!(bytes == whole.as_bytes());

    assert!(read(&*open(&settings(&fake, None)).unwrap(), &key("x")).unwrap() == whole.as_bytes());
    let seen = fake.seen();
    let last = seen.last().unwrap();
    assert_eq!(last.header("range"), Some("bytes=20000-29999"));
    assert_eq!(last.header("if-match"), Some("\"one\""));
}

#[test]
fn a_body_is_not_resumed_in_another_object() {
    let whole: &'static str = "abcdefghij".repeat(3000).leak();
    let fake = tearing(whole, |_| error("412 Precondition Failed", "PreconditionFailed"));
    let error = read(&*open(&settings(&fake, None)).unwrap(), &key("x")).unwrap_err();
    assert!(matches!(&error, StoreError::Other(text) if text.contains("replaced")), "{error:?}");
}

#[test]
fn an_endpoint_that_ignores_ranges_is_found_out() {
    let fake = FakeS3::start(|_| object("0123456789"));
    let error = open(&settings(&fake, None)).unwrap().get(&key("x"), Some(3..5)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("does not honour ranges"), "{error}");
}

#[test]
fn a_busy_endpoint_is_asked_again() {
    let calls = AtomicU32::new(0);
    let fake = FakeS3::start(move |_| match calls.fetch_add(1, Relaxed) {
        0 => error("503 Slow Down", "SlowDown"),
        1 => error("500 Internal Server Error", "InternalError"),
        2 => error("429 Too Many Requests", "TooManyRequests"),
        3 => response("502 Bad Gateway", "content-type: text/html\r\n", "<html>proxy</html>"),
        4 => b"HTTP/1.1 200 O".to_vec(),
        5 => Vec::new(),
        _ => response("200 OK", "", ""),
    });
    open(&settings(&fake, None)).unwrap().put(&key("x"), content(10, 1), None).unwrap();
    assert_eq!(fake.seen().len(), 7, "one request for each try: the client does not try again by itself");
}

#[test]
fn every_write_carries_the_checksum_the_endpoint_takes() {
    let fake = FakeS3::start(|_| response("200 OK", "", ""));
    open(&settings(&fake, found(true, Checksum::Sha256))).unwrap().put(&key("x"), "abc".into(), None).unwrap();
    open(&settings(&fake, found(true, Checksum::Unsupported))).unwrap().put(&key("x"), "abc".into(), None).unwrap();
    let seen = fake.seen();
    let of_abc = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    assert_eq!(seen[0].header("x-amz-checksum-sha256"), Some(of_abc));
    assert_eq!(seen[1].header("x-amz-checksum-sha256"), None);
    for request in &seen {
        assert_eq!(request.header("content-length"), Some("3"), "no chunked encoding, which clones refuse");
        assert!(
            request.headers.iter().all(|(name, _)| !name.starts_with("x-amz-checksum-crc") && name != "x-amz-trailer")
        );
    }
}

/// What is asked of the endpoint depends on what it was found to do.
#[test]
fn the_condition_is_sent_where_it_is_honoured() {
    let absent = |request: &crate::support::fake_s3::Request| match request.line.starts_with("HEAD") {
        true => response("404 Not Found", "", ""),
        false => response("200 OK", "", ""),
    };
    for (capabilities, expected) in [
        (found(true, Checksum::Sha256), vec![("PUT", Some("*"))]),
        (found(false, Checksum::Sha256), vec![("HEAD", None), ("HEAD", None), ("PUT", None)]),
        (None, vec![("HEAD", None), ("HEAD", None), ("PUT", Some("*"))]),
    ] {
        let fake = FakeS3::start(move |request| match request.line.as_str() {
            "HEAD /backups" | "HEAD /backups/" => response("200 OK", "", ""),
            _ => absent(request),
        });
        open(&settings(&fake, capabilities)).unwrap().put_new(&key("x"), content(1, 1), None).unwrap();
        let seen = fake.seen();
        let sent: Vec<_> =
            seen.iter().map(|r| (r.line.split(' ').next().unwrap(), r.header("if-none-match"))).collect();
        assert_eq!(sent, expected, "{capabilities:?}");
    }
}

#[test]
fn an_endpoint_without_conditions_gets_a_plain_write() {
    let fake = FakeS3::start(|request| match (&*request.line, request.header("if-none-match")) {
        ("HEAD /backups/x", _) => response("404 Not Found", "", ""),
        (line, Some(_)) if line.starts_with("PUT") => error("501 Not Implemented", "NotImplemented"),
        _ => response("200 OK", "", ""),
    });
    open(&settings(&fake, None)).unwrap().put_new(&key("x"), content(1, 1), None).unwrap();
    let seen = fake.seen();
    let writes: Vec<_> = seen.iter().filter(|request| request.line.starts_with("PUT")).collect();
    assert_eq!(writes.iter().map(|request| request.header("if-none-match")).collect::<Vec<_>>(), [Some("*"), None]);
}

#[test]
fn a_conflict_of_writers_is_tried_again_and_then_told() {
    let calls = AtomicU32::new(0);
    let fake = FakeS3::start(move |request| match (request.line.split(' ').next(), calls.fetch_add(1, Relaxed)) {
        (Some("PUT"), 0) => error("409 Conflict", "ConditionalRequestConflict"),
        (Some("PUT"), _) => error("412 Precondition Failed", "PreconditionFailed"),
        _ => object("theirs"),
    });
    let store = open(&settings(&fake, found(true, Checksum::Sha256))).unwrap();
    assert!(matches!(store.put_new(&key("x"), content(6, 1), None), Err(StoreError::Exists(_))));
}
