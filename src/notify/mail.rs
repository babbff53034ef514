//! Letters by mail, over SMTP. Encrypted as the configuration says, and never less.

use super::{Letter, TIMEOUT};
use crate::error::{Context, Failure, Kind, Result, innermost};
use crate::policy::{Encryption, Mail};
use crate::secret::Secrets;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{SmtpTransport, Transport};

pub fn send(settings: &Mail, secrets: &Secrets, letter: &Letter) -> Result<()> {
    let server = format!("{}:{}", settings.host, settings.port);
    let message = message(settings, letter)?;
    let tls = match settings.encryption {
        Encryption::None => Tls::None,
        Encryption::StartTls => Tls::Required(parameters(settings)?),
        Encryption::FromTheBeginning => Tls::Wrapper(parameters(settings)?),
    };
    let mut transport = SmtpTransport::builder_dangerous(&settings.host)
        .port(settings.port)
        .tls(tls)
        .hello_name(ClientId::Domain(domain(&letter.host)))
        .timeout(Some(TIMEOUT));
    if let Some((user, password)) = &settings.login {
        let password = secrets.read(password)?;
        transport = transport.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
    }
    transport.build().send(&message).map(drop).map_err(|e| {
        // The server's words, which never repeat a password.
        let why = innermost(&e);
        let failure = Failure::new(Kind::TryLater, format!("the mail server {server} did not take the mail: {why}"));
        match e.status() {
            Some(code) if code.to_string().starts_with("53") => {
                failure.hint("Look at `user` and `password` of this channel")
            }
            _ => failure.hint("Look at `smtp` of this channel, and whether that server answers"),
        }
    })
}

fn message(settings: &Mail, letter: &Letter) -> Result<Message> {
    let from = settings.from.clone().unwrap_or_else(|| format!("bkp <bkp@{}>", domain(&letter.host)));
    let address = |text: &str| {
        text.parse::<Mailbox>().map_err(|_| Failure::usage(format!("`{text}` is no mail address")).hint("Set `from`"))
    };
    let mut message = Message::builder()
        .from(address(&from)?)
        .subject(&letter.subject)
        .message_id(None)
        .header(ContentType::TEXT_PLAIN);
    for to in &settings.to {
        message = message.to(address(to)?);
    }
    message.body(letter.text.clone()).map_err(|e| Failure::failed("cannot write the mail").because(e))
}

/// A name that may stand behind an `@`.
fn domain(host: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name: String = host.chars().filter(|c| good(*c)).collect();
    if name.is_empty() { "localhost".into() } else { name }
}

fn parameters(settings: &Mail) -> Result<TlsParameters> {
    let mut parameters = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
        let certificate = Certificate::from_pem(&pem).map_err(|_| {
            Failure::usage(format!("{} is no certificate", path.display())).hint("`ca_file` is a PEM file")
        })?;
        parameters = parameters.add_root_certificate(certificate);
    }
    parameters.build().map_err(|e| Failure::failed("cannot prepare TLS for mail").because(innermost(&e)))
}
