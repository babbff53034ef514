//! Letters by HTTP: webhooks, pings, ntfy and chats. An address that is a secret stands in no message.

use super::{Letter, TIMEOUT};
use crate::clock;
use crate::error::{Failure, Kind, Result, innermost};
use crate::policy::{Address, Carrier, Channel, Topic};
use crate::secret::{Secret, SecretRef, Secrets};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use sha2::Sha256;

/// Chats cut or refuse longer messages; Discord's limit is 2000 characters.
const CHAT: usize = 1900;

pub fn send(channel: &Channel, secrets: &Secrets, letter: &Letter) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::failed("cannot start the client for notifications").because(e))?;
    let client = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build();
    let client =
        client.map_err(|e| Failure::failed("cannot prepare TLS for notifications").because(e.without_url()))?;
    let request = request(channel, &client, secrets, letter)?;
    let trouble = |why: String| {
        Failure::new(Kind::TryLater, format!("{} did not take the message: {why}", channel.name))
            .hint(format!("Look at the address of this channel, then: bkp notify test {}", channel.name))
    };
    runtime.block_on(async {
        // The address may be a secret.
        let answer = request.send().await.map_err(|e| trouble(innermost(&e.without_url())))?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(trouble(format!("it answered {status}"))) }
    })
}

fn request(channel: &Channel, client: &Client, secrets: &Secrets, letter: &Letter) -> Result<RequestBuilder> {
    let address = |reference: &SecretRef| -> Result<Secret> {
        let address: Secret = secrets.read(reference)?;
        match reqwest::Url::parse(address.expose().trim()).is_ok_and(|url| url.has_host()) {
            true => Ok(Secret::new(address.expose().trim().to_owned())),
            false => Err(Failure::new(Kind::Key, format!("{reference} holds no address"))
                .hint("It is to hold one line, such as https://hooks.example/…")),
        }
    };
    let address_of = |url: &Address| match url {
        Address::Open(url) => Ok(Secret::new(url.clone())),
        Address::Secret(reference) => address(reference),
    };
    let text = || shortened(&format!("{}\n\n{}", letter.subject, letter.text));
    Ok(match &channel.carrier {
        Carrier::Webhook { url, secret } => {
            let body =
                json!({ "host": letter.host, "subject": letter.subject, "text": letter.text, "events": letter.events });
            let secret = secret.as_ref().map(|secret| secrets.read(secret)).transpose()?;
            signed(client.post(address_of(url)?.expose()), secret.as_ref(), &body, &letter.id)
        }
        Carrier::Ping { url } => {
            let address = address(url)?;
            client.post(format!("{}{}", address.expose(), ping(letter.topic))).body(letter.text.clone())
        }
        Carrier::Ntfy { url, token } => {
            let token = token.as_ref().map(|token| secrets.read(token)).transpose()?;
            ntfy(client, address_of(url)?.expose(), letter, token)
        }
        Carrier::Slack { url } => {
            let escaped = text().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            as_json(client.post(address(url)?.expose()), &json!({ "text": escaped }))
        }
        Carrier::Discord { url } => {
            let body = json!({ "content": text(), "allowed_mentions": { "parse": [] } });
            as_json(client.post(address(url)?.expose()), &body)
        }
        Carrier::Telegram { token, chat, api } => {
            let token = secrets.read(token)?;
            let address = format!("{}/bot{}/sendMessage", api.trim_end_matches('/'), token.expose().trim());
            as_json(client.post(address), &json!({ "chat_id": chat, "text": text() }))
        }
        Carrier::Mail(_) => return Err(Failure::failed("mail goes another way")),
    })
}

fn as_json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.header("content-type", "application/json").body(body.to_string())
}

/// `X-Bkp-Signature: sha256=HEX` is the HMAC-SHA256 of `TIMESTAMP.BODY`; who checks the time-stamp too cannot be told old news as new.
fn signed(request: RequestBuilder, secret: Option<&Secret>, body: &Value, id: &str) -> RequestBuilder {
    let body = body.to_string();
    let at = clock::now().as_second().to_string();
    let mut request =
        request.header("content-type", "application/json").header("x-bkp-timestamp", &at).header("x-bkp-id", id);
    if let Some(secret) = secret {
        request = request.header("x-bkp-signature", format!("sha256={}", signature(secret, &at, &body)));
    }
    request.body(body)
}

fn signature(secret: &Secret, at: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(at.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

fn ntfy(client: &Client, url: &str, letter: &Letter, token: Option<Secret>) -> RequestBuilder {
    let (priority, tag) = match letter.topic {
        Topic::Failure | Topic::Missed | Topic::Anomaly => ("high", "rotating_light"),
        Topic::Recovery | Topic::Success => ("default", "white_check_mark"),
        _ => ("default", "floppy_disk"),
    };
    // Header values are Latin letters only; the title is encoded as mail does it, which ntfy reads.
    let title = format!("=?UTF-8?B?{}?=", base64_of(&letter.subject));
    let request = client.post(url).header("title", title).header("priority", priority).header("tags", tag);
    let request = request.body(letter.text.clone());
    match token {
        Some(token) => request.bearer_auth(token.expose().trim()),
        None => request,
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// What is put behind the address of a ping.
fn ping(topic: Topic) -> &'static str {
    match topic {
        Topic::Start => "/start",
        Topic::Failure | Topic::Missed | Topic::Anomaly => "/fail",
        Topic::Success | Topic::Recovery | Topic::Digest => "",
        Topic::Configuration | Topic::Notifier => "/log",
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(CHAT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_openssl_makes() {
        // printf 1700000000.{"a":1} | openssl dgst -sha256 -hmac secret
        let made = signature(&Secret::new("secret".into()), "1700000000", r#"{"a":1}"#);
        assert_eq!(made, "49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "ñ".repeat(3000);
        assert_eq!(shortened(&long).chars().count(), CHAT + 1);
        assert_eq!(shortened("short"), "short");
    }
}
