//! Who still signs with an access key: MinIO lets an administrator watch requests as they come, on all of its nodes.
//!
//! Nothing is taken for seen that was not: a request of bkp's own has to come along, or nothing is learned.

use super::admin::Admin;
use super::signed::{Key, Signed, away, client, code};
use crate::engine::Session;
use crate::error::{Failure, Kind, Result, innermost};
use crate::job::rotate::http::{Answer, answer, block_on};
use crate::policy::Minio;
use reqwest::{Method, Response, Url};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Beyond the time of watching, for a server that is slow to begin and for what is still on its way.
const MORE: Duration = Duration::from_secs(15);

/// The clients that signed with `old`. `own`: what bkp asks in between, and with which key.
pub fn who_signs(admin: &Admin<'_>, old: &str, own: (Key<'_>, &Url), quiet: Duration) -> Result<Vec<Session>> {
    let http = client(admin.minio, quiet + MORE * 2)?;
    let url = admin.url("trace", &[("s3", "true"), ("threshold", "0s")])?;
    let watch = Signed { minio: admin.minio, key: admin.key() }.request(&http, &Method::GET, &url, Vec::new())?;
    let (key, url) = own;
    let asked = Signed { minio: admin.minio, key }.request(&http, &Method::GET, url, Vec::new())?;
    block_on(async {
        let response = watch.send().await.map_err(|error| away(admin.minio, innermost(&error)))?;
        if !response.status().is_success() {
            return Err(match answer(response, code).await {
                Answer::Refused(_, code) => admin.refused(&code, "watch requests", "admin:ServerTrace"),
                Answer::Away(why) => away(admin.minio, why),
                Answer::Done(_) => away(admin.minio, "it gave no reason"),
            });
        }
        // What answers has begun to watch.
        let _ = asked.send().await;
        let mut seen = Seen { old, own: key.id, clients: BTreeSet::new(), saw_own: false };
        seen.watch(response, quiet).await;
        seen.told(admin.minio)
    })?
}

/// Whether this administrator may watch at all.
pub fn may_watch(admin: &Admin<'_>) -> Result<bool> {
    let http = client(admin.minio, MORE)?;
    let url = admin.url("trace", &[("s3", "true"), ("threshold", "0s")])?;
    let watch = Signed { minio: admin.minio, key: admin.key() }.request(&http, &Method::GET, &url, Vec::new())?;
    block_on(async {
        let response = watch.send().await.map_err(|error| away(admin.minio, innermost(&error)))?;
        Ok(response.status().is_success())
    })?
}

struct Seen<'a> {
    old: &'a str,
    own: &'a str,
    clients: BTreeSet<String>,
    saw_own: bool,
}

impl Seen<'_> {
    async fn watch(&mut self, mut response: Response, quiet: Duration) {
        let begun = Instant::now();
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            let limit = if self.saw_own { quiet } else { quiet + MORE };
            let Some(left) = limit.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else { return };
            match tokio::time::timeout(left, response.chunk()).await {
                Ok(Ok(Some(bytes))) => buffer.extend_from_slice(&bytes),
                Ok(_) => {
                    // It ended before its time: what came until then is not all.
                    self.saw_own = false;
                    return;
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
        let has = |id: &str| {
            header.contains(&format!("Credential={id}/")) || query.contains(&format!("X-Amz-Credential={id}%2F"))
        };
        self.saw_own |= has(self.own);
        if has(self.old) {
            self.clients.insert(request["client"].as_str().unwrap_or("an unknown address").to_owned());
        }
    }

    fn told(self, minio: &Minio) -> Result<Vec<Session>> {
        if !self.saw_own {
            let text = format!("MinIO at {} does not show all requests that it gets", minio.endpoint);
            return Err(Failure::new(Kind::TryLater, text).hint("Try again; on a busy server, `quiet: 2s`"));
        }
        let session = |client| Session { id: self.old.to_owned(), client };
        Ok(self.clients.into_iter().map(session).collect())
    }
}
