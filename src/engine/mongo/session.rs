//! A connection to one MongoDB server: commands that block, and cursors that hand on what the server sent.
//!
//! Commands go as they are written and documents come as raw BSON, so that no option and no type is lost on the way.
//! Every wait ends soon after the run is cancelled. The driver does what a server asks for the first time again; nothing else is repeated.

use super::Settings;
use crate::engine::Node;
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use bson::{Document, RawDocumentBuf};
use futures_util::StreamExt;
use mongodb::Client;
use mongodb::error::ErrorKind;
use mongodb::options::{ClientOptions, Credential, ServerAddress, Tls, TlsOptions};
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How long a server may take until it can be spoken to.
const REACH: Duration = Duration::from_secs(10);

/// How often a wait looks for a signal.
const LOOK: Duration = Duration::from_millis(100);

/// Codes of MongoDB's errors that are told apart here.
pub(super) mod code {
    pub const UNAUTHORIZED: i32 = 13;
    pub const AUTHENTICATION_FAILED: i32 = 18;
    pub const NAMESPACE_NOT_FOUND: i32 = 26;
    pub const NAMESPACE_EXISTS: i32 = 48;
}

/// A server's no.
#[derive(Debug)]
pub(super) struct Refused {
    pub code: i32,
    pub message: String,
}

#[derive(Clone)]
pub(super) struct Session<'a> {
    inner: Arc<Inner>,
    cancel: &'a Cancel,
}

struct Inner {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    client: Client,
    location: String,
}

impl<'a> Session<'a> {
    /// Connects, and says who it is.
    pub fn open(settings: &Settings, cancel: &'a Cancel) -> Result<Self> {
        Session::open_at(settings, None, cancel)
    }

    /// At another server of the same group.
    pub fn open_at(settings: &Settings, node: Option<&Node>, cancel: &'a Cancel) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("mongo")
            .enable_all()
            .build()
            .context(|| "cannot start the threads of the MongoDB client".into())?;
        let mut options = options(settings)?;
        if let Some(node) = node {
            options.hosts = vec![address_of(node)];
        }
        let location = node.map_or_else(|| settings.server.location(), ToString::to_string);
        let client = {
            let _inside = runtime.enter();
            Client::with_options(options).map_err(|e| failure(&location, "the connection", &e))?
        };
        let session = Session { inner: Arc::new(Inner { runtime: Some(runtime), client, location }), cancel };
        session.command("admin", bson::doc! { "ping": 1 })?;
        Ok(session)
    }

    /// The same connection under another signal.
    pub fn under<'b>(&self, cancel: &'b Cancel) -> Session<'b> {
        Session { inner: self.inner.clone(), cancel }
    }

    pub fn location(&self) -> &str {
        &self.inner.location
    }

    /// The server's answer, or its no where a caller wants to look at that.
    pub fn attempt(&self, database: &str, command: Document) -> Result<std::result::Result<Document, Refused>> {
        let what = describe(database, &command);
        let database = self.inner.client.database(database);
        let answer = self.wait(async move { database.run_command(command).await })?;
        self.sort(answer, &what)
    }

    pub fn command(&self, database: &str, command: Document) -> Result<Document> {
        let what = describe(database, &command);
        self.attempt(database, command)?.map_err(|refused| self.refusal(&what, &refused))
    }

    /// A command that carries documents as they are.
    pub fn raw_command(&self, database: &str, what: &str, command: RawDocumentBuf) -> Result<Document> {
        let database = self.inner.client.database(database);
        let answer = self.wait(async move { database.run_raw_command(command).await })?;
        self.sort(answer, what)?.map_err(|refused| self.refusal(what, &refused))
    }

    /// Everything a command with a cursor gives; for lists that are short.
    pub fn list(&self, database: &str, command: Document) -> Result<Vec<RawDocumentBuf>> {
        let what = describe(database, &command);
        self.attempt_list(database, command)?.map_err(|refused| self.refusal(&what, &refused))
    }

    pub fn attempt_list(
        &self,
        database: &str,
        command: Document,
    ) -> Result<std::result::Result<Vec<RawDocumentBuf>, Refused>> {
        let mut found = Vec::new();
        let mut batches = match self.attempt_batches(database, command)? {
            Ok(batches) => batches,
            Err(refused) => return Ok(Err(refused)),
        };
        while let Some(batch) = batches.next()? {
            for document in batch.doc_slices().map_err(|e| failure(self.location(), &batches.what, &e))? {
                let document = document.ok().and_then(|value| value.as_document().map(ToOwned::to_owned));
                found.push(document.ok_or_else(|| self.strange(&batches.what))?);
            }
        }
        Ok(Ok(found))
    }

    pub fn batches(&self, database: &str, command: Document) -> Result<Batches<'a>> {
        let what = describe(database, &command);
        self.attempt_batches(database, command)?.map_err(|refused| self.refusal(&what, &refused))
    }

    fn attempt_batches(&self, database: &str, command: Document) -> Result<std::result::Result<Batches<'a>, Refused>> {
        let what = describe(database, &command);
        let database = self.inner.client.database(database);
        let answer = self.wait(async move { database.run_cursor_command(command).batch().await })?;
        let cursor = self.sort(answer, &what)?;
        Ok(cursor.map(|cursor| Batches { session: self.clone(), cursor, what }))
    }

    /// An answer that no server should give.
    pub fn strange(&self, what: &str) -> Failure {
        Failure::failed(format!("{}: the answer to {what} is not understood", self.location()))
    }

    pub fn refusal(&self, what: &str, refused: &Refused) -> Failure {
        let message: String = refused.message.chars().take(300).collect();
        let failure = Failure::failed(format!("{}: {what} was refused: {message}", self.location()));
        match refused.code {
            code::UNAUTHORIZED => failure
                .hint("Give bkp's user the role `backup` of the database admin, and for restores the role `restore`"),
            _ => failure,
        }
    }

    fn sort<T>(&self, answer: mongodb::error::Result<T>, what: &str) -> Result<std::result::Result<T, Refused>> {
        match answer {
            Ok(answer) => Ok(Ok(answer)),
            Err(error) => match error.kind.as_ref() {
                ErrorKind::Command(e) if e.code != code::AUTHENTICATION_FAILED => {
                    Ok(Err(Refused { code: e.code, message: e.message.clone() }))
                }
                _ => Err(failure(self.location(), what, &error)),
            },
        }
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let runtime = self.inner.runtime.as_ref().expect("a session has its threads until it is dropped");
        runtime.block_on(async {
            let mut work = pin!(work);
            loop {
                self.cancel.check()?;
                if let Ok(answer) = tokio::time::timeout(LOOK, &mut work).await {
                    return Ok(answer);
                }
            }
        })
    }
}

/// A runtime may not be dropped in the usual way on a thread of another one.
impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The batches of one cursor.
pub(super) struct Batches<'a> {
    session: Session<'a>,
    cursor: RawBatchCursor,
    what: String,
}

impl Batches<'_> {
    /// `None` after the last one. A cursor that breaks is an error, never an end.
    pub fn next(&mut self) -> Result<Option<RawBatch>> {
        match self.session.wait(self.cursor.next())? {
            None => Ok(None),
            Some(Ok(batch)) => Ok(Some(batch)),
            Some(Err(error)) => Err(failure(self.session.location(), &self.what, &error)),
        }
    }
}

/// `find on shop.orders`: the command's name and what it is about, without anything else that is in it.
fn describe(database: &str, command: &Document) -> String {
    match command.iter().next() {
        Some((name, bson::Bson::String(about))) => format!("{name} on {database}.{about}"),
        Some((name, _)) => format!("{name} on {database}"),
        None => format!("a command on {database}"),
    }
}

fn options(settings: &Settings) -> Result<ClientOptions> {
    let mut options = options_without_login(settings)?;
    if let Some(user) = &settings.server.user {
        options.credential = Some(credential(settings, user, settings.server.password()?.as_ref()));
    }
    Ok(options)
}

fn credential(settings: &Settings, user: &str, password: Option<&Secret>) -> Credential {
    let mut credential = Credential::default();
    credential.username = Some(user.to_owned());
    credential.password = password.map(|secret| secret.expose().to_owned());
    credential.source = Some(settings.auth_database.clone().unwrap_or_else(|| "admin".to_owned()));
    credential
}

fn options_without_login(settings: &Settings) -> Result<ClientOptions> {
    let server = &settings.server;
    let address = match &server.socket {
        Some(path) => ServerAddress::Unix { path: path.clone() },
        None => {
            let (host, port) = server.address(27017)?;
            ServerAddress::Tcp { host, port: Some(port) }
        }
    };
    let mut options = ClientOptions::builder()
        .hosts(vec![address])
        .app_name("bkp".to_owned())
        .direct_connection(true)
        .connect_timeout(REACH)
        .server_selection_timeout(REACH)
        .build();
    if let Some(path) = &server.ca_file {
        options.tls = Some(Tls::Enabled(TlsOptions::builder().ca_file_path(path.clone()).build()));
    }
    Ok(options)
}

fn address_of(node: &Node) -> ServerAddress {
    ServerAddress::Tcp { host: node.host.clone(), port: Some(node.port) }
}

/// One login at one node, as anybody; whether the server takes the password.
pub(super) fn log_in(settings: &Settings, node: &Node, user: &str, password: &Secret) -> Result<bool> {
    let mut options = options_without_login(settings)?;
    options.hosts = vec![address_of(node)];
    options.credential = Some(credential(settings, user, Some(password)));
    let runtime =
        Builder::new_current_thread().enable_all().build().context(|| "cannot start the MongoDB client".into())?;
    let asked = runtime.block_on(async {
        let client = Client::with_options(options)?;
        let answer = client.database("admin").run_command(bson::doc! { "ping": 1 }).await;
        client.shutdown().immediate(true).await;
        answer
    });
    runtime.shutdown_background();
    match asked {
        Ok(_) => Ok(true),
        Err(error) if is_wrong_password(&error) => Ok(false),
        Err(error) => Err(failure(&settings.server.location(), "a login", &error)),
    }
}

/// By its code, which the driver keeps below an error of its own.
fn is_wrong_password(error: &mongodb::error::Error) -> bool {
    type Error = mongodb::error::Error;
    let below = std::error::Error::source(error);
    let boxed = below.and_then(|below| below.downcast_ref::<Box<Error>>()).map(Box::as_ref);
    let plain = below.and_then(|below| below.downcast_ref::<Error>());
    [Some(error), boxed, plain].into_iter().flatten().any(
        |error| matches!(error.kind.as_ref(), ErrorKind::Command(said) if said.code == code::AUTHENTICATION_FAILED),
    )
}

fn failure(location: &str, what: &str, error: &mongodb::error::Error) -> Failure {
    let refused_login = match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => true,
        ErrorKind::Command(e) => e.code == code::AUTHENTICATION_FAILED,
        _ => false,
    };
    if refused_login {
        let text = format!("{location}: the server refuses the user or the password");
        return Failure::new(Kind::Key, text)
            .hint("Check `user`, `password` and `auth_database` of the source")
            .because(error.clone());
    }
    match error.kind.as_ref() {
        ErrorKind::ServerSelection { .. } | ErrorKind::DnsResolve { .. } => {
            Failure::failed(format!("{location}: no MongoDB server answers"))
                .hint("Is it running, and are host, port and `ca_file` right?")
                .because(error.clone())
        }
        _ => Failure::failed(format!("{location}: {what} broke off")).because(error.clone()),
    }
}
