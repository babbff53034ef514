//! Logins over the network by bkp's own client, where the clients of the stack are: the server's refusals come as numbers. With TLS
//! where the source names authorities; elsewhere without, and a server that keeps SHA-256 gets the password encrypted by its key.

use super::encrypted::Tunnel;
use crate::engine::{Login, Node};
use crate::secret::Secret;
use mysql::prelude::Queryable;
use std::path::Path;
use std::time::Duration;

/// How long a login may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// What is not asked of the server, for each question counts where an account has so many.
const PACKET: usize = 16 << 20;

const ACCESS_DENIED: u16 = 1045;

/// Who logs in.
pub(super) struct Client<'a> {
    pub user: &'a str,
    pub password: Option<&'a Secret>,
    /// With these authorities, the connection is encrypted, and the certificate of the server must be right.
    pub ca_file: Option<&'a Path>,
}

/// Why there is no answer.
enum Trouble {
    Said(mysql::MySqlError),
    Other(String),
}

impl Client<'_> {
    fn options(&self) -> mysql::OptsBuilder {
        mysql::OptsBuilder::new()
            .prefer_socket(false)
            .user(Some(self.user))
            .pass(self.password.map(Secret::expose))
            .max_allowed_packet(Some(PACKET))
            .tcp_connect_timeout(Some(PATIENCE))
            .read_timeout(Some(PATIENCE))
            .write_timeout(Some(PATIENCE))
    }

    /// Over a connection of its own.
    fn ask_at<T>(
        &self,
        node: &Node,
        question: impl FnOnce(&mut mysql::Conn) -> mysql::Result<T>,
    ) -> Result<T, Trouble> {
        let tunnel = self.ca_file.map(|file| Tunnel::to(node, file, PATIENCE)).transpose().map_err(Trouble::Other)?;
        let options = match &tunnel {
            Some(tunnel) => self.options().socket(Some(tunnel.socket().display().to_string())),
            None => self.options().ip_or_hostname(Some(&node.host)).tcp_port(node.port),
        };
        let answer = mysql::Conn::new(options).and_then(|mut connection| question(&mut connection));
        let ended = tunnel.map_or(Ok(()), Tunnel::end);
        answer.map_err(|error| match (error, ended) {
            (mysql::Error::MySqlError(said), _) => Trouble::Said(said),
            (_, Err(why)) => Trouble::Other(why),
            (error, Ok(())) => Trouble::Other(error.to_string()),
        })
    }
}

pub(super) fn log_in(node: &Node, client: &Client<'_>) -> Login {
    match client.ask_at(node, |connection| connection.query_first::<u8, _>("SELECT 1")) {
        Ok(_) => Login::Accepted,
        Err(Trouble::Said(error)) if error.code == ACCESS_DENIED => Login::Refused,
        Err(trouble) => Login::Unknown(said(node, &trouble)),
    }
}

/// All rows of one answer, as texts.
pub(super) fn ask(node: &Node, client: &Client<'_>, question: &str) -> Result<Vec<Vec<String>>, String> {
    let asked = client.ask_at(node, |connection| connection.query::<mysql::Row, _>(question));
    let field = |value: Option<&mysql::Value>| match value {
        None | Some(mysql::Value::NULL) => "NULL".to_owned(),
        Some(mysql::Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(other) => other.as_sql(true),
    };
    let row = |row: mysql::Row| (0..row.len()).map(|at| field(row.as_ref(at))).collect();
    asked.map(|rows| rows.into_iter().map(row).collect()).map_err(|trouble| said(node, &trouble))
}

fn said(node: &Node, trouble: &Trouble) -> String {
    match trouble {
        Trouble::Said(error) => format!("{node} answered with error {}: {}", error.code, error.message),
        Trouble::Other(why) => format!("{node} cannot be asked: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Somebody on the way who says that the password is refused, and shows no certificate.
    #[test]
    fn a_refusal_that_anybody_could_have_said_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let made =
            ["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=test", "-keyout", "/dev/null", "-out"];
        let made = std::process::Command::new("openssl").args(made).arg(&file).output().unwrap();
        assert!(made.status.success());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let node = Node { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
        let said = b"\xff\x15\x04#28000Access denied";
        let said = [&[said.len() as u8, 0, 0, 0][..], said].concat();
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                listener.accept().unwrap().0.write_all(&said).unwrap();
            }
        });
        let secret = Secret::new("x".into());
        let client = |ca_file| Client { user: "app", password: Some(&secret), ca_file };
        let login = log_in(&node, &client(Some(file.as_path())));
        assert!(matches!(&login, Login::Unknown(why) if why.contains("error 1045")), "{login:?}");
        assert_eq!(log_in(&node, &client(None)), Login::Refused, "the test says what a server would");
        server.join().unwrap();
    }
}
