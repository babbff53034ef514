//! What becomes of users that a point brings into a server that does not have them.

use crate::secret::Secret;
use std::collections::BTreeMap;

/// Who is expected to come back, and what is done with the others.
#[derive(Clone, Debug, Default)]
pub struct Returning {
    /// Their passwords of today are set as soon as the data are there: until then nobody knows one, and that of the point never
    /// lets in.
    pub rotated: Vec<String>,
    /// Whom bkp itself logs in as, with the password that it has for them, where it has one: whoever changes others must be let
    /// in before these are given theirs.
    pub own: BTreeMap<String, Option<Secret>>,
    /// Whoever else comes back is locked.
    pub lock_others: bool,
}

/// How one of them comes back.
#[derive(Clone, Copy, Debug)]
pub enum Comes<'r> {
    AsItWas,
    /// With this password, and no other.
    With(&'r Secret),
    /// With a password that nobody knows.
    Closed,
    Locked,
}

impl Returning {
    /// Without one, everybody comes back as he was.
    pub fn of<'r>(returning: Option<&'r Returning>, user: &str) -> Comes<'r> {
        let Some(Returning { rotated, own, lock_others }) = returning else { return Comes::AsItWas };
        let is_rotated = rotated.iter().any(|one| one == user);
        match own.get(user) {
            Some(Some(password)) => Comes::With(password),
            _ if is_rotated => Comes::Closed,
            None if *lock_others => Comes::Locked,
            _ => Comes::AsItWas,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_rotated_is_closed_and_only_strangers_are_locked() {
        let password = |text: &str| Some(Secret::new(text.into()));
        let own = [("backup", None), ("bkp_rot", password("today's")), ("rotated too", password("published"))];
        let own = own.map(|(user, password)| (user.to_owned(), password)).into();
        let rotated = ["app", "rotated too"].map(str::to_owned).into();
        let mut returning = Returning { rotated, own, lock_others: false };
        let of = |returning: &Returning| {
            let users = ["app", "backup", "ana", "bkp_rot", "rotated too"];
            users.map(|user| match Returning::of(Some(returning), user) {
                Comes::AsItWas => "as it was".to_owned(),
                Comes::With(password) => password.expose().to_owned(),
                Comes::Closed => "closed".to_owned(),
                Comes::Locked => "locked".to_owned(),
            })
        };
        assert_eq!(of(&returning), ["closed", "as it was", "as it was", "today's", "published"]);
        returning.lock_others = true;
        assert_eq!(of(&returning), ["closed", "as it was", "locked", "today's", "published"]);
        assert!(matches!(Returning::of(None, "app"), Comes::AsItWas));
    }
}
