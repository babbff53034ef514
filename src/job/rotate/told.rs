//! What is told of a rotation: to the journal, and to people when only they can go on.

use super::act::{At, Rotate};
use super::delivery::text::percent_encoded;
use super::state::{Halt, Login};
use crate::engine::Credential;
use crate::error::{Failure, Kind, Result};
use crate::journal::Rotated;
use crate::policy::Target;
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

impl Rotate<'_> {
    /// A signal is no failure of the consumer.
    pub(super) fn failed(&self, at: &mut At<'_>, consumer: &str, failure: &Failure) -> Result<()> {
        at.leased.check()?;
        let why = scrubbed(&format!("{consumer}: {}", failure.full()), at);
        at.memory.failed = Some(why.clone());
        self.noted(at, "stopped", Some(consumer), Some(why));
        Ok(())
    }

    pub(super) fn noted(&self, at: &At<'_>, state: &str, consumer: Option<&str>, note: Option<String>) {
        let print = |credential: &Credential| self.fingerprints.fingerprint(credential);
        let nodes = match state {
            "accepted" | "tested" | "unused" | "retired" | "refused" | "undone" => {
                self.accounts.nodes().unwrap_or_default()
            }
            _ => Vec::new(),
        };
        (self.note)(Rotated {
            run: self.run.clone(),
            rotation: self.rotation.name.clone(),
            source: self.rotation.target.place(),
            account: self.rotation.account.clone(),
            state: state.to_owned(),
            when: None,
            by: self.by.clone(),
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

    /// What a person has to do first, for whoever asks what it waits for.
    pub(super) fn note_by_hand(&self, failure: &Failure, at: &At<'_>) {
        if failure.kind() == Kind::ByHand {
            let next = failure.next_step().map_or_else(String::new, |next| format!(". {next}"));
            self.noted(at, "stopped", None, Some(scrubbed(&format!("{}{next}", failure.full()), at)));
        }
    }

    pub(super) fn later(&self, why: &str, at: &At<'_>) -> Failure {
        let name = &self.rotation.name;
        let meanwhile = match at.keeper.is_retired() {
            true => "Everybody has the new one, and the old one is being taken away",
            false => "Nothing was taken away from anybody, and nothing will be while it waits",
        };
        let differ = match why == Login::NODES_DIFFER {
            true => format!(
                ". Nodes that do not come to agree, for one took over that lacked something: bkp rotate reapply {name}"
            ),
            false => String::new(),
        };
        Failure::new(Kind::TryLater, format!("the rotation of {name} waits: {why}"))
            .hint(format!("{meanwhile}{differ}. Go on with: bkp rotate resume {name}"))
    }

    pub(super) fn stopped(&self, halt: &Halt, at: &At<'_>) -> Failure {
        let (name, account) = (&self.rotation.name, self.accounts.describe());
        let published = format!("ref+vault://{}", self.rotation.published);
        let failure = match halt {
            Halt::CurrentRefused => self.refused(&account),
            Halt::Drift => Failure::new(Kind::Key, format!("{account} accepts neither the old nor the new password"))
                .hint(match self.rotation.target {
                    Target::Smtp(_) => format!("Somebody changed it: set one of them at the provider, then: bkp rotate resume {name}"),
                    Target::Minio(_) => format!(
                        "Where MinIO was put back to an older state: bkp rotate reapply {name} makes them again, as the one was that it has. Where somebody changed both: set the new one with: bkp rotate resume {name} --emergency. Otherwise make an access key by hand with the name and the secret that are published ({published}). Then: bkp rotate resume {name}"
                    ),
                    Target::Source(_) | Target::SigningKey(_) => format!(
                        "Somebody changed it: publish the one that works and roll back; or set the account to the new one: bkp rotate resume {name} --emergency"
                    ),
                }),
            Halt::ForeignPublished => Failure::new(Kind::Refused, format!("{published} is neither the old nor the new password"))
                .hint(match at.memory.pending {
                    _ if at.keeper.recovered().is_some() => format!(
                        "Vault came back from an older state, or somebody else wrote there: publish what its consumers have (vault kv put), then: bkp rotate resume {name}"
                    ),
                    Some(Login::Refused) => format!(
                        "Somebody else wrote there: put the old one back (vault kv rollback) and resume; or, where that one is right, give this up: bkp rotate rollback {name}"
                    ),
                    _ => format!(
                        "Somebody else wrote there, and the account accepts the old and the new one: put one of them back (vault kv rollback), then: bkp rotate resume {name}, or rollback"
                    ),
                }),
            Halt::ForeignDelivered(number) => {
                let consumer = &self.consumers[*number];
                Failure::new(Kind::Refused, format!("{} holds neither the old nor the new password", consumer.name))
                    .hint(format!("Correct what is there ({}), then: bkp rotate resume {name}", consumer.delivery.describe()))
            }
            Halt::NotBackByItself(why) => Failure::failed(why.clone()).hint(format!(
                "Nothing is taken away while it stands like this, and the old password may be known to others: it is not put back by itself. Mend it, then go on: bkp rotate resume {name}; or, if it must be: bkp rotate rollback {name}"
            )),
            Halt::GateFailed(why) => Failure::failed(why.clone())
                .hint(format!("Nothing is taken away while it stands like this. Mend it, then go on: bkp rotate resume {name}")),
        };
        self.noted(at, "stopped", None, Some(scrubbed(&failure.full(), at)));
        failure
    }
}

/// What programs and servers said may hold what they were told, also as it stands in addresses, headers and statements.
pub(super) fn scrubbed(text: &str, at: &At<'_>) -> String {
    without(text, [Some(&at.current), at.pending.as_ref()].into_iter().flatten())
}

pub(super) fn without<'c>(text: &str, secrets: impl Iterator<Item = &'c Credential>) -> String {
    let long = secrets.filter(|secret| secret.expose().len() >= 4);
    // The longer first: one may be within the other.
    let mut forms: Vec<Zeroizing<String>> = long.flat_map(|secret| forms(secret)).collect();
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), "…"))
}

fn forms(secret: &Secret) -> Vec<Zeroizing<String>> {
    let plain = secret.expose();
    let percent = percent_encoded(plain);
    let small: Vec<String> = percent.split('%').enumerate().map(|(at, part)| small_digits(part, at > 0)).collect();
    let in_json = serde_json::to_string(plain).unwrap_or_default();
    let all = [
        plain.to_owned(),
        small.join("%"),
        percent,
        STANDARD_NO_PAD.encode(plain),
        URL_SAFE_NO_PAD.encode(plain),
        plain.replace('\'', "''"),
        plain.replace('\\', "\\\\").replace('\'', "\\'"),
        in_json.trim_matches('"').to_owned(),
    ];
    all.into_iter().map(Zeroizing::new).collect()
}

/// `2F` behind a `%` as `2f`.
fn small_digits(part: &str, is_encoded: bool) -> String {
    match part.split_at_checked(2).filter(|_| is_encoded) {
        Some((digits, rest)) => format!("{}{rest}", digits.to_lowercase()),
        None => part.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_scrubbed_in_every_form_in_which_they_are_told() {
        let [old, new] = ["p@ss'w\\rd/1", "New_1-of-many"].map(|text| Credential::from(Secret::new(text.into())));
        for said in [
            "Access denied with p@ss'w\\rd/1 here",
            "cannot open mysql://app:p%40ss%27w%5Crd%2F1@db/app",
            "cannot open mysql://app:p%40ss%27w%5crd%2f1@db/app",
            "near 'p@ss''w\\rd/1'",
            "near 'p@ss\\'w\\\\rd/1'",
            "{\"password\":\"p@ss'w\\\\rd/1\"}",
            "X-Secret: cEBzcyd3XHJkLzE",
            "twice New_1-of-many",
        ] {
            let scrubbed = without(said, [&old, &new].into_iter());
            assert!(scrubbed.contains('…'), "{scrubbed}");
            assert!(
                !scrubbed.contains("rd/1") && !scrubbed.contains("1-of") && !scrubbed.contains("%40"),
                "{scrubbed}"
            );
        }
        let short = Credential::from(Secret::new("app".into()));
        assert_eq!(without("the app ended", std::iter::once(&short)), "the app ended");
    }
}
