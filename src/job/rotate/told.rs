//! What is told of a rotation: to the journal, and to people when only they can go on.

use super::act::{At, Rotate};
use super::state::Halt;
use crate::engine::Credential;
use crate::error::{Failure, Kind, Result};
use crate::journal::Rotated;

impl Rotate<'_> {
    /// A signal is no failure of the consumer.
    pub(super) fn failed(&self, at: &mut At<'_>, consumer: &str, failure: &Failure) -> Result<()> {
        at.cancel.check()?;
        let why = scrubbed(&format!("{consumer}: {}", failure.full()), at);
        at.memory.failed = Some(why.clone());
        self.noted(at, "stopped", Some(consumer), Some(why));
        Ok(())
    }

    pub(super) fn noted(&self, at: &At<'_>, state: &str, consumer: Option<&str>, note: Option<String>) {
        let print = |credential: &Credential| self.fingerprints.fingerprint(credential);
        let nodes = match state {
            "accepted" | "tested" | "retired" | "undone" => self.accounts.nodes().unwrap_or_default(),
            _ => Vec::new(),
        };
        (self.note)(Rotated {
            run: self.run.clone(),
            rotation: self.rotation.name.clone(),
            source: self.rotation.target.name().to_owned(),
            account: self.rotation.account.clone(),
            state: state.to_owned(),
            because: self.because.clone(),
            from: Some(print(&at.current)),
            from_user: at.current.user.clone(),
            to: at.pending.as_ref().map(print),
            to_user: at.pending.as_ref().and_then(|pending| pending.user.clone()),
            nodes: nodes.iter().map(ToString::to_string).collect(),
            consumer: consumer.map(str::to_owned),
            note,
        });
    }

    pub(super) fn later(&self, why: &str) -> Failure {
        let name = &self.rotation.name;
        Failure::new(Kind::TryLater, format!("the rotation of {name} waits: {why}")).hint(format!(
            "Nothing was taken away from anybody, and nothing will be while it waits. Go on with: bkp rotate resume {name}"
        ))
    }

    pub(super) fn stopped(&self, halt: &Halt, at: &At<'_>) -> Failure {
        let (name, account) = (&self.rotation.name, self.accounts.describe());
        let published = format!("ref+vault://{}", self.rotation.published);
        let failure = match halt {
            Halt::CurrentRefused => Failure::new(Kind::Key, format!("{account} refuses the password that is published"))
                .hint(format!("Correct {published}, or the account; see that it may log in from this host. Nothing was changed")),
            Halt::Drift => Failure::new(Kind::Key, format!("{account} accepts neither the old nor the new password"))
                .hint(format!(
                    "Somebody changed it: publish the one that works and roll back; or set the account to the new one: bkp rotate resume {name} --emergency"
                )),
            Halt::ForeignPublished => Failure::new(Kind::Refused, format!("{published} is neither the old nor the new password"))
                .hint("Somebody else wrote there: put the old one back (vault kv rollback) and resume; or, where that one is right, give this up: bkp rotate rollback"),
            Halt::ForeignDelivered(number) => {
                let consumer = &self.consumers[*number];
                Failure::new(Kind::Refused, format!("{} holds neither the old nor the new password", consumer.name))
                    .hint(format!("Correct what is there ({}), then: bkp rotate resume {name}", consumer.delivery.describe()))
            }
            Halt::GateFailed(why) => Failure::failed(why.clone())
                .hint(format!("Nothing is taken away while it stands like this. Mend it, then go on: bkp rotate resume {name}")),
        };
        self.noted(at, "stopped", None, Some(scrubbed(&failure.full(), at)));
        failure
    }
}

/// What programs of the user said may hold what they were told.
fn scrubbed(text: &str, at: &At<'_>) -> String {
    let secrets = [Some(&at.current), at.pending.as_ref()];
    secrets.into_iter().flatten().fold(text.to_owned(), |text, secret| match secret.expose().len() {
        0..4 => text,
        _ => text.replace(secret.expose(), "…"),
    })
}
