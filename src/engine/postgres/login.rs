//! Logins over the network by bkp's own client, where the clients of the stack are: the server's refusals come as codes, which no
//! language of it changes. Never more than one question in a connection; with TLS where the source names authorities, and
//! without it passwords are not given away either ([`only_scram`](super::only_scram)).

use super::super::{Node, trust};
use super::only_scram::{Asked, OnlyScram};
use crate::secret::Secret;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{TlsConnect, TlsStream};
use tokio_postgres::{Client as Connected, Config, Connection, NoTls, SimpleQueryMessage};
use tokio_rustls::rustls::{ClientConfig, pki_types::ServerName};

/// How long a login and its question may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who logs in.
pub(super) struct Client<'a> {
    pub user: &'a str,
    pub password: Option<&'a Secret>,
    pub database: &'a str,
    /// With these authorities, the connection is encrypted, and the certificate of the server must be right.
    pub ca_file: Option<&'a Path>,
    /// It is asked what the password is worth: a server that lets in without one gives no answer to that.
    pub is_tried: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Trouble {
    code: Option<SqlState>,
    text: String,
    asked: Option<Asked>,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let source = std::error::Error::source(&error);
        let broken = source.and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::get_ref);
        if let Some(asked) = broken.and_then(|inner| inner.downcast_ref::<Asked>()) {
            return Trouble { code: None, text: asked.to_string(), asked: Some(*asked) };
        }
        let said = error.as_db_error().map(|said| said.message().to_owned());
        let text = said.unwrap_or_else(|| match source {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        });
        Trouble { code: error.code().cloned(), text, asked: None }
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Trouble { code: None, text, asked: None }
    }
}

impl Trouble {
    /// The server wants the password in a way in which others can learn it; it was not told.
    pub fn is_unsafe(&self) -> bool {
        self.asked.is_some()
    }

    pub fn is_about_md5(&self) -> bool {
        self.asked.is_some_and(Asked::is_md5)
    }

    /// By the server, because of the password; also of a role that has none, or whose password is no longer valid.
    pub fn is_wrong_password(&self) -> bool {
        self.code == Some(SqlState::INVALID_PASSWORD)
    }

    /// Of the database that PgBouncer has for itself: no server of PostgreSQL says so of one that is not there.
    pub fn is_of_a_pooler(&self) -> bool {
        self.code == Some(SqlState::PROTOCOL_VIOLATION)
    }

    /// Before it asked for a password, or because the role may not log in.
    pub fn is_not_let_in(&self) -> bool {
        self.code == Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    }

    /// The password was right, and only then it was seen that the role may not have this database.
    pub fn is_about_the_database(&self) -> bool {
        self.code
            .as_ref()
            .is_some_and(|code| [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::INVALID_CATALOG_NAME].contains(code))
    }
}

/// The answer to one question, as texts, over a connection of its own.
pub(super) fn ask(node: &Node, client: &Client<'_>, question: &str) -> Result<Vec<Vec<String>>, Trouble> {
    let mut config = Config::new();
    config.user(client.user).dbname(client.database).application_name("bkp");
    if let Some(password) = client.password {
        config.password(password.expose());
    }
    let tls = client.ca_file.map(|file| Encrypted::to(node, file, client.is_tried)).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let asking = async {
            let stream =
                TcpStream::connect((node.host.as_str(), node.port)).await.map_err(|error| error.to_string())?;
            match tls {
                Some(tls) => answer(config.ssl_mode(SslMode::Require).connect_raw(stream, tls).await?, question).await,
                None => {
                    let stream = OnlyScram::new(stream, client.is_tried);
                    answer(config.ssl_mode(SslMode::Disable).connect_raw(stream, NoTls).await?, question).await
                }
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => Err("it does not answer".to_owned().into()),
        }
    })
}

type Rows = Vec<Vec<String>>;

async fn answer<S, T>((client, connection): (Connected, Connection<S, T>), question: &str) -> Result<Rows, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: TlsStream + Unpin,
{
    let asking = async move { client.simple_query(question).await };
    // The connection is closed when the client is gone.
    let (answer, _) = futures_util::future::join(asking, connection).await;
    let rows = answer?.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect())
        }
        _ => None,
    });
    Ok(rows.collect())
}

/// How the client of PostgreSQL comes to speak TLS.
struct Encrypted {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    must_ask: bool,
}

impl Encrypted {
    fn to(node: &Node, ca_file: &Path, must_ask: bool) -> Result<Self, Trouble> {
        let both = trust::authorities(ca_file).and_then(|config| Ok((config, trust::name_of(&node.host)?)));
        let (config, name) = both.map_err(|failure| failure.full())?;
        Ok(Encrypted { config, name, must_ask })
    }
}

impl TlsConnect<TcpStream> for Encrypted {
    type Stream = OnlyScram<tokio_rustls::client::TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Stream>>>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        let connector = tokio_rustls::TlsConnector::from(self.config);
        Box::pin(async move { Ok(OnlyScram::new(connector.connect(self.name, stream).await?, self.must_ask)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// As PgBouncer 1.18 answered for its own database, and PostgreSQL 15 for one that is not there.
    #[test]
    fn a_pooler_is_told_by_its_own_database() {
        let answers: [(&[u8], bool); 2] = [
            (b"E\0\0\0 SFATAL\0C08P01\0Mnot allowed\0\0", true),
            (b"E\0\0\0\x26SFATAL\0C3D000\0Mit does not exist\0\0", false),
        ];
        for (answer, is_pooler) in answers {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let node = Node { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
            let server = std::thread::spawn(move || {
                let (mut client, _) = listener.accept().unwrap();
                let _ = client.read(&mut [0; 512]).unwrap();
                client.write_all(answer).unwrap();
            });
            let client = Client { user: "app", password: None, database: "pgbouncer", ca_file: None, is_tried: true };
            let trouble = ask(&node, &client, "select 1").unwrap_err();
            server.join().unwrap();
            assert_eq!(trouble.is_of_a_pooler(), is_pooler, "{trouble}");
        }
    }
}
