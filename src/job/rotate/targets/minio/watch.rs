//! Who still signs with an access key: MinIO lets an administrator watch requests as they come, on all of its nodes.
//!
//! Nothing is taken for seen that was not: a request of bkp's own to each node has to come along, or nothing is learned.

use super::admin::Admin;
use super::signed::{Key, Signed, away, client, code};
use crate::durable::random_hex;
use crate::engine::Session;
use crate::error::{Failure, Kind, Result, innermost};
use crate::event::Cancel;
use crate::job::rotate::http::{Answer, answer, block_on};
use crate::policy::Minio;
use reqwest::{Client, Method, Response, Url};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Beyond the time of watching, for a server that is slow to begin and for what is still on its way.
const MORE: Duration = Duration::from_secs(15);

/// Between two looks whether somebody wants it to end.
const TICK: Duration = Duration::from_millis(500);

/// How long is watched.
#[derive(Clone, Copy)]
pub struct Span {
    /// For so long, nobody may have signed.
    pub quiet: Duration,
    /// For so long beyond that, somebody may.
    pub patience: Duration,
}

/// What bkp asks while it watches: each node, until that is seen. A node whose requests are not shown would hide everybody there.
pub struct Own<'a> {
    key: Key<'a>,
    /// With a word of its own in its query, for a node may have a name that it does not know itself.
    places: Vec<(Url, String)>,
}

impl<'a> Own<'a> {
    pub fn new(key: Key<'a>, places: Vec<Url>) -> Self {
        let marked = |mut place: Url| {
            let word = format!("bkp-{}", random_hex(8));
            place.query_pairs_mut().append_pair("prefix", &word);
            (place, word)
        };
        Own { key, places: places.into_iter().map(marked).collect() }
    }

    /// Where nothing was seen of it yet. Whoever takes long to answer keeps nobody else waiting.
    async fn ask(&self, minio: &Minio, http: &Client) -> Result<()> {
        for (url, _) in &self.places {
            let asked = Signed { minio, key: self.key }.request(http, &Method::GET, url, Vec::new())?;
            let _ = tokio::time::timeout(TICK, asked.send()).await;
        }
        Ok(())
    }

    fn saw(&mut self, query: &str) {
        self.places.retain(|(_, word)| !query.contains(word.as_str()));
    }
}

/// The clients that signed with `old` in the end.
pub fn who_signs(admin: &Admin<'_>, old: &str, own: Own<'_>, span: Span, cancel: &Cancel) -> Result<Vec<Session>> {
    let http = client(admin.minio, span.quiet + span.patience + MORE * 2)?;
    let url = admin.url("trace", &[("s3", "true"), ("threshold", "0s")])?;
    let watch = Signed { minio: admin.minio, key: admin.key() }.request(&http, &Method::GET, &url, Vec::new())?;
    block_on(async {
        let response = watch.send().await.map_err(|error| away(admin.minio, innermost(&error)))?;
        if !response.status().is_success() {
            return Err(match answer(response, code).await {
                Answer::Refused(_, code) => admin.refused(&code, "watch requests", "admin:ServerTrace"),
                Answer::Away(why) => away(admin.minio, why),
                Answer::Done(_) => away(admin.minio, "it gave no reason"),
            });
        }
        let mut seen = Seen { old, own, clients: BTreeMap::new(), all_since: None };
        let end = seen.watch(response, (admin.minio, &http), span, cancel).await?;
        seen.told(admin.minio, span.quiet, end)
    })?
}

/// Whether this administrator may watch at all. That he may not counts only where MinIO says so itself: who passes on for it, or is
/// starting, would have nobody seen.
pub fn may_watch(admin: &Admin<'_>) -> Result<bool> {
    let http = client(admin.minio, MORE)?;
    let url = admin.url("trace", &[("s3", "true"), ("threshold", "0s")])?;
    let watch = Signed { minio: admin.minio, key: admin.key() }.request(&http, &Method::GET, &url, Vec::new())?;
    block_on(async {
        let response = watch.send().await.map_err(|error| away(admin.minio, innermost(&error)))?;
        if response.status().is_success() {
            return Ok(true);
        }
        match answer(response, code).await {
            Answer::Refused(_, code) if code == "AccessDenied" => Ok(false),
            Answer::Refused(_, why) | Answer::Away(why) => Err(away(admin.minio, why)),
            Answer::Done(_) => Err(away(admin.minio, "it gave no reason")),
        }
    })?
}

struct Seen<'a> {
    old: &'a str,
    own: Own<'a>,
    /// With when each of them signed last.
    clients: BTreeMap<String, Instant>,
    /// Since when the requests to every node are shown.
    all_since: Option<Instant>,
}

impl Span {
    /// When enough was seen, by when somebody signed last.
    fn end(self, begun: Instant, last: Option<Instant>, all_since: Option<Instant>) -> Instant {
        match all_since {
            Some(since) => (since + self.quiet + self.patience).min(last.unwrap_or(since).max(since) + self.quiet),
            None => begun + MORE,
        }
    }
}

impl Seen<'_> {
    /// Gives when it ended.
    async fn watch(
        &mut self,
        mut response: Response,
        (minio, http): (&Minio, &Client),
        span: Span,
        cancel: &Cancel,
    ) -> Result<Instant> {
        let begun = Instant::now();
        let mut asked: Option<Instant> = None;
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            cancel.check()?;
            if self.all_since.is_none() && asked.is_none_or(|last| last.elapsed() > TICK) {
                self.own.ask(minio, http).await?;
                asked = Some(Instant::now());
            }
            let now = Instant::now();
            let left = span.end(begun, self.clients.values().max().copied(), self.all_since).duration_since(now);
            if left.is_zero() {
                return Ok(now);
            }
            match tokio::time::timeout(left.min(TICK), response.chunk()).await {
                Ok(Ok(Some(bytes))) => buffer.extend_from_slice(&bytes),
                Ok(_) => {
                    // It ended before its time: what came until then is not all.
                    self.all_since = None;
                    return Ok(now);
                }
                Err(_) => continue,
            }
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                self.take(&serde_json::from_slice(&line).unwrap_or_default());
            }
        }
    }

    fn take(&mut self, event: &Value) {
        let request = &event["http"]["request"];
        let header = request["headers"]["Authorization"][0].as_str().unwrap_or_default();
        let query = request["rawquery"].as_str().unwrap_or_default();
        self.own.saw(query);
        if self.own.places.is_empty() {
            self.all_since.get_or_insert_with(Instant::now);
        }
        if is_signed_with(self.old, header, query) {
            let client = request["client"].as_str().unwrap_or("an unknown address").to_owned();
            self.clients.insert(client, Instant::now());
        }
    }

    fn told(self, minio: &Minio, quiet: Duration, end: Instant) -> Result<Vec<Session>> {
        if self.all_since.is_none() {
            let hidden: Vec<&str> = self.own.places.iter().map(|(url, _)| url.authority()).collect();
            let text = format!("MinIO at {} does not show all requests that it gets", minio.endpoint);
            let failure = Failure::new(Kind::TryLater, text).hint("Try again; on a busy server, `quiet: 2s`");
            return Err(if hidden.is_empty() {
                failure
            } else {
                failure.because(format!("none to {}", hidden.join(", ")))
            });
        }
        let late = self.clients.into_iter().filter(|(_, last)| *last + quiet > end);
        Ok(late.map(|(client, _)| Session { id: self.old.to_owned(), client }).collect())
    }
}

/// By version 4 or 2, in the header or in the address.
fn is_signed_with(id: &str, header: &str, query: &str) -> bool {
    let in_address =
        [format!("X-Amz-Credential={id}%2F"), format!("X-Amz-Credential={id}%2f"), format!("X-Amz-Credential={id}/")];
    header.contains(&format!("Credential={id}/"))
        || header.starts_with(&format!("AWS {id}:"))
        || in_address.iter().any(|text| query.contains(text))
        || query.split('&').any(|word| word.strip_prefix("AWSAccessKeyId=") == Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_known_in_every_form() {
        for (header, query) in [
            ("AWS4-HMAC-SHA256 Credential=OLD/20261130/us-east-1/s3/aws4_request, SignedHeaders=host", ""),
            ("AWS OLD:frJIUN8DYpKDtOLCwo//yllqDzg=", ""),
            ("", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=OLD%2F20261130%2Fus-east-1%2Fs3%2Faws4_request"),
            ("", "X-Amz-Credential=OLD%2f20261130"),
            ("", "AWSAccessKeyId=OLD&Expires=1"),
        ] {
            assert!(is_signed_with("OLD", header, query) && !is_signed_with("OL", header, query), "{header}{query}");
        }
    }

    #[test]
    fn it_is_quiet_for_its_time_after_the_last_one_and_not_for_ever() {
        let seconds = Duration::from_secs;
        let (begun, span) = (Instant::now(), Span { quiet: seconds(3600), patience: seconds(120) });
        let all = Some(begun + seconds(2));
        assert_eq!(span.end(begun, None, all), begun + seconds(3602));
        assert_eq!(span.end(begun, Some(begun + seconds(1)), all), begun + seconds(3602), "not all was seen then");
        assert_eq!(span.end(begun, Some(begun + seconds(3)), all), begun + seconds(3603));
        assert_eq!(span.end(begun, Some(begun + seconds(3000)), all), begun + seconds(3722), "longer than patience");
        assert_eq!(span.end(begun, None, None), begun + MORE);
    }
}
