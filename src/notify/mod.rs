//! Who is told of what happens: mail, webhooks, pings, chats.
//!
//! The journal is all there is: [`desk::Desk`] folds it into news, [`Post`] keeps for each channel what was not delivered
//! yet, and what was delivered is noted in the journal again, so that nothing is told twice and nothing is forgotten by a restart.
//! A channel that is down holds up nobody: not a run, and not another channel, which is told of it.
//! Nothing here decides what is a failure; that was done by whoever wrote the record.

pub mod desk;
mod letter;
mod mail;
mod post;
mod tally;
mod web;
mod words;

pub use letter::{Letter, Place};
pub use post::Post;

use crate::error::Result;
use crate::policy::{Carrier, Channel, Mail, Topic};
use crate::secret::Secrets;
use std::time::Duration;

/// In which a server that is told something must have answered.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Tells a channel now, and waits for the answer.
pub fn deliver(channel: &Channel, secrets: &Secrets, letter: &Letter) -> Result<()> {
    match &channel.carrier {
        Carrier::Mail(settings) => mail::send(settings, secrets, letter),
        _ => web::send(channel, secrets, letter),
    }
}

/// A letter that is not about news, to people by mail.
pub fn write_to(settings: &Mail, secrets: &Secrets, host: &str, (subject, text): (String, String)) -> Result<()> {
    let (host, id) = (host.to_owned(), String::new());
    mail::send(settings, secrets, &Letter { host, subject, text, events: Vec::new(), topic: Topic::Success, id })
}
