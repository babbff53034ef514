//! A token in use: how long it lasts, renewing it in time, and revoking it when bkp made it.
//!
//! Renewal happens in the background at about two thirds of the time, so that a token lives as long as it is used. What
//! cannot be renewed (any more) is found by [`Session::ends_soon`], and whoever needs a token then logs in again.

use super::connection::{Connection, Speaker, Trouble};
use crate::backoff::chance;
use crate::secret::secrets::lock;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use vaultrs::api::AuthInfo;
use vaultrs::client::Client;

/// How long bkp waits for Vault when it ends.
const GOODBYE: Duration = Duration::from_secs(3);

pub(super) struct Session {
    pub speaker: Arc<Speaker>,
    /// Names of Vault's policies, for messages.
    pub policies: Vec<String>,
    /// The role that logged in, where one did.
    pub role: Option<String>,
    /// By this process, which therefore revokes it.
    made_here: bool,
    lease: Mutex<Lease>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// For how long it was given when that was last told; zero for ever.
    length: Duration,
    since: Instant,
    renewable: bool,
}

impl Lease {
    fn new(seconds: u64, renewable: bool) -> Self {
        Lease { length: Duration::from_secs(seconds), since: Instant::now(), renewable }
    }

    fn left(&self, now: Instant) -> Option<Duration> {
        (!self.length.is_zero()).then(|| self.length.saturating_sub(now.duration_since(self.since)))
    }

    /// Too little is left to begin something with it.
    fn ends_soon(&self, now: Instant) -> bool {
        self.left(now).is_some_and(|left| left < (self.length / 10).min(Duration::from_secs(60)))
    }

    /// When to renew: between 55 % and 67 % of its time. `None`: never.
    fn renewal(&self, chance: f64) -> Option<Duration> {
        (self.renewable && !self.length.is_zero()).then(|| self.length.mul_f64(0.55 + 0.12 * chance))
    }
}

impl Session {
    /// From a login.
    pub fn made(speaker: Arc<Speaker>, auth: &AuthInfo) -> Self {
        let lease = Mutex::new(Lease::new(auth.lease_duration, auth.renewable));
        let role = auth.metadata.as_ref().and_then(|known| known.get("role_name").cloned());
        Session { speaker, policies: auth.policies.clone(), role, made_here: true, lease }
    }

    /// Of somebody else's token.
    pub fn of_token(speaker: Arc<Speaker>, policies: Vec<String>, seconds: u64, renewable: bool) -> Self {
        let lease = Mutex::new(Lease::new(seconds, renewable));
        Session { speaker, policies, role: None, made_here: false, lease }
    }

    pub fn ends_soon(&self) -> bool {
        lock(&self.lease).ends_soon(Instant::now())
    }

    /// Vault does not take it any more.
    fn is_over(&self) {
        *lock(&self.lease) = Lease { length: Duration::from_nanos(1), since: Instant::now(), renewable: false };
    }

    pub fn revoke_in_background(self: &Arc<Self>, connection: &Connection) {
        let session = self.clone();
        if self.made_here {
            connection.spawn(async move {
                let _ = session.speaker.client().revoke().await;
            });
        }
    }

    /// Waits for it, but not for long: without it, the token ends by itself.
    pub fn revoke(self: &Arc<Self>, connection: &Connection) {
        let session = self.clone();
        if self.made_here {
            let _ = connection.ask(async move {
                let revoked = tokio::time::timeout(GOODBYE, session.speaker.client().revoke()).await;
                revoked.unwrap_or(Err(vaultrs::error::ClientError::ResponseEmptyError))
            });
        }
    }
}

/// Renews the token as long as somebody holds the session.
pub(super) fn keep_alive(connection: &Connection, session: &Arc<Session>) {
    connection.spawn(tend(Arc::downgrade(session)));
}

async fn tend(session: Weak<Session>) {
    let due = |session: &Weak<Session>| session.upgrade().and_then(|s| lock(&s.lease).renewal(chance()));
    let mut wait = due(&session);
    while let Some(time) = wait {
        tokio::time::sleep(time).await;
        let Some(alive) = session.upgrade() else { return };
        wait = match alive.speaker.client().renew(None).await.map_err(Trouble::from) {
            // At the end of the time that it may live at all.
            Ok(auth) if auth.lease_duration == 0 => {
                alive.is_over();
                None
            }
            Ok(auth) => {
                *lock(&alive.lease) = Lease::new(auth.lease_duration, auth.renewable);
                due(&session)
            }
            Err(trouble) if trouble.is_outage() => {
                let left = lock(&alive.lease).left(Instant::now());
                // Again while there is time, oftener towards the end.
                left.filter(|left| *left > Duration::from_millis(100)).map(|left| left.mul_f64(0.1 + 0.2 * chance()))
            }
            Err(_) => {
                alive.is_over();
                None
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_well_before_its_end_and_not_by_all_at_once() {
        let hour = Lease::new(3600, true);
        assert_eq!(hour.renewal(0.0).unwrap().as_secs(), 1980);
        assert_eq!(hour.renewal(1.0).unwrap().as_secs(), 2412);
        assert_eq!(Lease::new(3600, false).renewal(0.5), None);
        assert_eq!(Lease::new(0, true).renewal(0.5), None);
    }

    #[test]
    fn a_token_at_its_end_is_not_begun_with() {
        let hour = Lease::new(3600, true);
        let after = |seconds| hour.since + Duration::from_secs(seconds);
        assert!(!hour.ends_soon(after(3500)) && hour.ends_soon(after(3545)) && hour.ends_soon(after(7200)));
        let short = Lease::new(4, true);
        assert!(!short.ends_soon(short.since + Duration::from_secs(3)));
        assert!(!Lease::new(0, false).ends_soon(after(1 << 30)), "a root token has no end");
    }
}
