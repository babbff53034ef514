//! Logins over the network by bkp's own client, where the clients of the stack are: the server's refusals come as codes, which no
//! language of it changes. Without encryption, and never more than one question in a connection.

use super::super::Node;
use crate::secret::Secret;
use std::fmt;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

/// How long a login and its question may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who logs in.
pub(super) struct Client<'a> {
    pub user: &'a str,
    pub password: Option<&'a Secret>,
    pub database: &'a str,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Trouble {
    code: Option<SqlState>,
    text: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let said = error.as_db_error().map(|said| said.message().to_owned());
        let text = said.unwrap_or_else(|| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        });
        Trouble { code: error.code().cloned(), text }
    }
}

impl Trouble {
    /// By the server, because of the password; also of a role that has none, or whose password is no longer valid.
    pub fn is_wrong_password(&self) -> bool {
        self.code == Some(SqlState::INVALID_PASSWORD)
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
    config.host(&node.host).port(node.port).user(client.user).dbname(client.database);
    config.connect_timeout(PATIENCE).application_name("bkp").ssl_mode(SslMode::Disable);
    if let Some(password) = client.password {
        config.password(password.expose());
    }
    let broken = |text: String| Trouble { code: None, text };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| broken(error.to_string()))?;
    runtime.block_on(async {
        match tokio::time::timeout(PATIENCE, answer(&config, question)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(broken("it does not answer".into())),
        }
    })
}

async fn answer(config: &Config, question: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
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
