//! Snapshots of Vault's own storage: out of it and into it, as streams that are never held whole.
//!
//! What a snapshot is worth, and whether it may be put somewhere, is for `engine::vault` to find out. A stream that breaks off
//! is a failure here already; that it is whole is told by the archive itself.

use super::Vault;
use super::connection::{Connection, Trouble};
use super::token::Session;
use super::told;
use crate::error::{Failure, Kind, Result};
use futures_util::stream;
use reqwest::{Body, Method, Response};
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::mpsc;

/// What lets a role take snapshots, and nothing else.
pub const SNAPSHOT: &str = "sys/storage/raft/snapshot";

/// How long a snapshot may take altogether.
const WHOLE: Duration = Duration::from_secs(24 * 3600);
/// How long nothing may come of it: Vault first writes down what is to come.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often the reader is asked whether anybody still wants it.
const LOOK: Duration = Duration::from_millis(500);
/// Between two tries to hand over a piece.
const FULL: Duration = Duration::from_millis(5);
/// Pieces on their way.
const PIECES: usize = 64;
const PIECE: usize = 64 << 10;
/// Of a refusal.
const WORDS: usize = 16 << 10;

/// A piece; nothing at the end.
type Piece = std::result::Result<Option<Vec<u8>>, Trouble>;

/// A snapshot as it comes. Where nothing comes for a while, reading is interrupted, so that the reader can look around.
pub struct Download {
    pieces: Receiver<Piece>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
    address: String,
    _session: Arc<Session>,
    _connection: Arc<Connection>,
}

impl Vault {
    /// Begins to read a snapshot.
    pub fn download(&self) -> Result<Download> {
        let connection = self.connection()?;
        let (session, _) = self.session(&connection, &self.settings.budget)?;
        let request = connection.request(Method::GET, SNAPSHOT, &session.speaker)?.timeout(WHOLE);
        let response = connection.ask_within(PATIENCE, async move { answered(request.send().await?).await });
        let response = response.map_err(|trouble| self.no_snapshot(&trouble, &session, "read"))?;
        let (sender, pieces) = sync_channel(PIECES);
        connection.spawn(hand_over(response, sender));
        let address = self.settings.address.clone();
        let (current, at, ended) = Default::default();
        Ok(Download { pieces, current, at, ended, address, _session: session, _connection: connection })
    }

    /// Replaces everything that Vault has. Without `force`, Vault itself refuses what another cluster wrote.
    pub fn upload(&self, data: &mut dyn Read, force: bool) -> Result<()> {
        let connection = self.connection()?;
        let (session, _) = self.session(&connection, &self.settings.budget)?;
        let path = if force { "sys/storage/raft/snapshot-force" } else { SNAPSHOT };
        let (sender, receiver) = mpsc::channel::<io::Result<Vec<u8>>>(PIECES);
        let body = stream::unfold(receiver, |mut rest| async { rest.recv().await.map(|piece| (piece, rest)) });
        let request = connection.request(Method::POST, path, &session.speaker)?;
        let request = request.timeout(WHOLE).body(Body::wrap_stream(body));
        let (told, answer) = sync_channel(1);
        connection.spawn(async move {
            let answered = async { answered(request.send().await?).await.map(drop) };
            let _ = told.try_send(answered.await);
        });
        feed(data, &sender)?;
        drop(sender);
        let answer =
            answer.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(Trouble::NoAnswer("no answer in time".into())));
        answer.map_err(|trouble| self.no_snapshot(&trouble, &session, "update"))
    }

    fn no_snapshot(&self, trouble: &Trouble, session: &Session, capability: &str) -> Failure {
        let address = &self.settings.address;
        if trouble.says("could not verify hash file") {
            let text = format!(
                "Vault at {address} did not write this snapshot: it is of another cluster, or its keys were replaced since"
            );
            return Failure::new(Kind::Refused, text).hint(
                "Restore it into a new node, that was initialised and nothing else: --to vault:address=…,token_file=…",
            );
        }
        if trouble.is_outage() && !trouble.says("unsupported path") {
            return told::outage(&self.settings, trouble);
        }
        let words = trouble.words();
        match trouble.status() {
            Some(403) => {
                let have = session.policies.join(", ");
                let text =
                    format!("Vault at {address} denies its snapshot: {words}; the token has the policies {have}");
                Failure::new(Kind::Key, text).hint(format!(
                    "Give bkp a role of its own for this, with the policy: path \"{SNAPSHOT}\" {{ capabilities = [\"{capability}\"] }}"
                ))
            }
            _ => Failure::failed(format!("Vault at {address} gives no snapshot: {words}"))
                .hint("Only integrated storage (raft) has snapshots: vault status shows the storage type"),
        }
    }
}

/// The response, if it is a good one.
async fn answered(mut response: Response) -> std::result::Result<Response, Trouble> {
    let status = response.status().as_u16();
    if (200..300).contains(&status) {
        return Ok(response);
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        body.extend_from_slice(&piece);
        if body.len() > WORDS {
            break;
        }
    }
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let errors = told["errors"].as_array().into_iter().flatten();
    let errors = errors.filter_map(|error| error.as_str().map(str::to_owned)).collect();
    Err(Trouble::Refused { status, errors, deleted: None })
}

async fn hand_over(mut response: Response, sender: SyncSender<Piece>) {
    loop {
        let piece = match tokio::time::timeout(PATIENCE, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece.map(|bytes| bytes.to_vec())),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Trouble::NoAnswer("nothing came any more".into())),
        };
        let is_last = !matches!(piece, Ok(Some(_)));
        let mut piece = piece;
        while let Err(refused) = sender.try_send(piece) {
            match refused {
                TrySendError::Full(again) => piece = again,
                TrySendError::Disconnected(_) => return,
            }
            tokio::time::sleep(FULL).await;
        }
        if is_last {
            return;
        }
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() && !self.ended {
            match self.pieces.recv_timeout(LOOK) {
                Ok(Ok(Some(piece))) => (self.current, self.at) = (piece, 0),
                Ok(Ok(None)) => self.ended = true,
                Ok(Err(trouble)) => return Err(self.broke_off(&trouble.words())),
                Err(RecvTimeoutError::Timeout) => return Err(ErrorKind::Interrupted.into()),
                Err(RecvTimeoutError::Disconnected) => return Err(self.broke_off("the Vault client stopped")),
            }
        }
        let rest = &self.current[self.at..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length;
        Ok(length)
    }
}

impl Download {
    fn broke_off(&self, why: &str) -> io::Error {
        let text = format!("the snapshot of Vault at {} broke off: {why}", self.address);
        Failure::new(Kind::TryLater, text).hint("Run it again; look into Vault's log if it happens again").into()
    }
}

/// Reads everything, and lets the request fail when that fails. Vault may refuse before it has heard all.
fn feed(data: &mut dyn Read, sender: &mpsc::Sender<io::Result<Vec<u8>>>) -> Result<()> {
    loop {
        let mut piece = vec![0; PIECE];
        let read = match data.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = sender.blocking_send(Err(io::Error::other("what was to be sent could not be read")));
                return Err(Failure::from_io(error, || "cannot read the snapshot".into()));
            }
            Ok(read) => read,
        };
        piece.truncate(read);
        if read == 0 || sender.blocking_send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
}
