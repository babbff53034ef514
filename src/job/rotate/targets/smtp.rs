//! The password of a mail account, which only its provider changes: a person does it there, and bkp tries, publishes, moves
//! consumers, and looks that the old one is refused.
//!
//! What only a person can do ends the run: it says what, and whoever resumes goes on from what the server answers then.

use super::Given;
use crate::clock;
use crate::engine::{Accounts, Credential, Login, Node, Pair, Session, Sight};
use crate::error::{Context, Failure, Kind, Result, innermost};
use crate::event::Cancel;
use crate::policy::{Encryption, MailServer};
use crate::secret::Secret;
use lettre::SmtpTransport;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use std::time::Duration;

const ANSWER: Duration = Duration::from_secs(20);
/// Authentication credentials invalid (RFC 4954).
const INVALID: u16 = 535;

pub struct MailAccount {
    server: MailServer,
    user: String,
    nodes: Vec<Node>,
    supplied: Option<Secret>,
}

impl MailAccount {
    pub fn new(server: &MailServer, user: &str, nodes: &[Node], given: Given) -> Self {
        let own = || vec![Node { host: server.host.clone(), port: server.port }];
        let nodes = if nodes.is_empty() { own() } else { nodes.to_vec() };
        MailAccount { server: server.clone(), user: user.to_owned(), nodes, supplied: given.supplied }
    }

    /// Encrypted as the configuration says, and never less.
    fn log_in_at(&self, secret: &Secret, node: &Node) -> Result<Login> {
        let tls = match self.server.encryption {
            Encryption::None => Tls::None,
            Encryption::StartTls => Tls::Required(self.parameters(node)?),
            Encryption::FromTheBeginning => Tls::Wrapper(self.parameters(node)?),
        };
        let transport = SmtpTransport::builder_dangerous(&node.host)
            .port(node.port)
            .tls(tls)
            .timeout(Some(ANSWER))
            .credentials(Credentials::new(self.user.clone(), secret.expose().to_owned()))
            .build();
        // Greeting, login, and a command that does nothing.
        Ok(match transport.test_connection() {
            Ok(true) => Login::Accepted,
            Ok(false) => Login::Unknown(format!("{node} ended the session")),
            Err(error) if error.status().is_some_and(|code| u16::from(code) == INVALID) => Login::Refused,
            // The words of a server may repeat what it was told.
            Err(error) => Login::Unknown(match error.status() {
                Some(code) => format!("{node} answers {code}"),
                None => format!("{node}: {}", innermost(&error)),
            }),
        })
    }

    fn parameters(&self, node: &Node) -> Result<TlsParameters> {
        let mut parameters = TlsParameters::builder(node.host.clone());
        if let Some(path) = &self.server.ca_file {
            let pem = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
            let certificate = Certificate::from_pem(&pem).map_err(|_| {
                Failure::usage(format!("{} is no certificate", path.display())).hint("`ca_file` is a PEM file")
            })?;
            parameters = parameters.add_root_certificate(certificate);
        }
        parameters.build().map_err(|error| Failure::failed("cannot prepare TLS for mail").because(innermost(&error)))
    }

    fn by_hand(&self, what: &str, then: &str) -> Failure {
        Failure::new(Kind::ByHand, format!("{} {what}", self.describe()))
            .hint(format!("{then} at the provider of {}, then go on: bkp rotate resume NAME", self.user))
    }
}

impl Accounts for MailAccount {
    fn describe(&self) -> String {
        format!("{} on the mail server {}:{}", self.user, self.server.host, self.server.port)
    }

    fn preflight(&self, _: &Credential, _: &Cancel) -> Result<Vec<String>> {
        let mut notes = vec![
            "bkp cannot change this password: it tries the new one, which you set at the provider, and asks for what only you can do. Where the provider keeps one password only, mail is refused from the moment you change it until the consumers are moved".to_owned(),
        ];
        let is_here = |node: &Node| matches!(node.host.as_str(), "127.0.0.1" | "::1" | "localhost");
        if self.server.encryption == Encryption::None && !self.nodes.iter().all(is_here) {
            notes.push("`smtp+plain` sends both passwords to another machine unencrypted, at each try: let it be `smtp` or `smtps`".to_owned());
        }
        Ok(notes)
    }

    fn mint(&self) -> Result<Option<Credential>> {
        let supplied = self.supplied.clone().ok_or_else(|| {
            Failure::usage(format!("the new password of {} comes from its provider", self.user))
                .hint("Put it into a file, and say: bkp rotate NAME --new-password-file FILE")
        })?;
        Ok(Some(Credential::from(supplied)))
    }

    /// Nothing of it can be seen.
    fn save(&self, _: &Cancel) -> Result<Secret> {
        Ok(Secret::new(self.describe()))
    }

    fn nodes(&self) -> Result<Vec<Node>> {
        Ok(self.nodes.clone())
    }

    fn probe(&self, credential: &Credential, node: &Node) -> Login {
        self.log_in_at(credential, node).unwrap_or_else(|failure| Login::Unknown(failure.full()))
    }

    fn accept_both(&self, _: Pair<'_>, _: &Cancel) -> Result<()> {
        Err(self.by_hand("does not accept the new password yet", "Set it"))
    }

    fn retire(&self, pair: Pair<'_>, _: &Cancel) -> Result<()> {
        match self.log_in(pair.current)? {
            Login::Refused => Ok(()),
            Login::Unknown(why) => Err(Failure::new(Kind::TryLater, why)),
            Login::Accepted | Login::Partly => Err(self.by_hand("still accepts the old password", "Take it away")),
        }
    }

    fn undo(&self, pair: Pair<'_>, _: &Cancel) -> Result<()> {
        match self.log_in(pair.pending)? {
            Login::Refused => Ok(()),
            Login::Unknown(why) => Err(Failure::new(Kind::TryLater, why)),
            Login::Accepted | Login::Partly => Err(self.by_hand("accepts the new password", "Take it away")),
        }
    }

    fn only(&self, credential: &Credential, _: &Cancel) -> Result<bool> {
        match self.log_in(credential)? {
            Login::Accepted => Ok(false),
            Login::Unknown(why) => Err(Failure::new(Kind::TryLater, why)),
            Login::Refused | Login::Partly => Err(self.by_hand("does not accept what is published", "Set it")),
        }
    }

    fn persist(&self, _: &Cancel) -> Result<()> {
        Ok(())
    }

    fn mark(&self, _: &Cancel) -> Result<String> {
        Ok(clock::now().to_string())
    }

    fn sight(&self, _: &Cancel) -> Result<Sight> {
        Ok(Sight::Hidden("a mail server shows nobody who is there".into()))
    }

    fn sessions_before(&self, _: Pair<'_>, _: &str, _: &Cancel) -> Result<Vec<Session>> {
        Ok(Vec::new())
    }

    fn end_session(&self, _: &Session, _: &Cancel) -> Result<()> {
        Ok(())
    }
}
