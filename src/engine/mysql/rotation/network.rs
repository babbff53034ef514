//! Logins over the network by bkp's own client, where the clients of the stack are: the server's refusals come as numbers. Without
//! encryption; where the server keeps SHA-256, the password goes encrypted by its key.

use crate::engine::{Login, Node};
use crate::secret::Secret;
use mysql::prelude::Queryable;
use std::time::Duration;

/// How long a login may take.
const PATIENCE: Duration = Duration::from_secs(15);

const ACCESS_DENIED: u16 = 1045;

fn open(node: &Node, user: &str, password: Option<&Secret>) -> mysql::Result<mysql::Conn> {
    let options = mysql::OptsBuilder::new()
        .ip_or_hostname(Some(&node.host))
        .tcp_port(node.port)
        .prefer_socket(false)
        .user(Some(user))
        .pass(password.map(Secret::expose))
        .tcp_connect_timeout(Some(PATIENCE))
        .read_timeout(Some(PATIENCE))
        .write_timeout(Some(PATIENCE));
    mysql::Conn::new(options)
}

pub(super) fn log_in(node: &Node, user: &str, password: &Secret) -> Login {
    match open(node, user, Some(password)).and_then(|mut connection| connection.query_first::<u8, _>("SELECT 1")) {
        Ok(_) => Login::Accepted,
        Err(mysql::Error::MySqlError(error)) if error.code == ACCESS_DENIED => Login::Refused,
        Err(error) => Login::Unknown(said(node, &error)),
    }
}

/// All rows of one answer, as texts.
pub(super) fn ask(
    node: &Node,
    user: &str,
    password: Option<&Secret>,
    question: &str,
) -> Result<Vec<Vec<String>>, String> {
    let asked = open(node, user, password).and_then(|mut connection| connection.query::<mysql::Row, _>(question));
    let field = |value: Option<&mysql::Value>| match value {
        None | Some(mysql::Value::NULL) => "NULL".to_owned(),
        Some(mysql::Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(other) => other.as_sql(true),
    };
    let row = |row: mysql::Row| (0..row.len()).map(|at| field(row.as_ref(at))).collect();
    asked.map(|rows| rows.into_iter().map(row).collect()).map_err(|error| said(node, &error))
}

fn said(node: &Node, error: &mysql::Error) -> String {
    match error {
        mysql::Error::MySqlError(error) => format!("{node} answered with error {}: {}", error.code, error.message),
        error => format!("{node} cannot be asked: {error}"),
    }
}
