//! What becomes of users that a point brings into a server that does not have them.

/// Who is expected to come back, and what is done with the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returning {
    /// Their passwords of today are set as soon as the data are there: until then nobody knows one, and that of the point never
    /// lets in.
    pub rotated: Vec<String>,
    /// Others that bkp itself logs in as.
    pub own: Vec<String>,
    /// Whoever else comes back is locked.
    pub lock_others: bool,
}

/// How one of them comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comes {
    AsItWas,
    /// With a password that nobody knows.
    Closed,
    Locked,
}

impl Returning {
    /// Without one, everybody comes back as he was.
    pub fn of(returning: Option<&Returning>, user: &str) -> Comes {
        let Some(Returning { rotated, own, lock_others }) = returning else { return Comes::AsItWas };
        let is_in = |list: &[String]| list.iter().any(|one| one == user);
        match (is_in(rotated), is_in(own)) {
            (true, _) => Comes::Closed,
            (false, false) if *lock_others => Comes::Locked,
            _ => Comes::AsItWas,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_rotated_is_closed_and_only_strangers_are_locked() {
        let names = |name: &str| vec![name.to_owned()];
        let mut returning = Returning { rotated: names("app"), own: names("backup"), lock_others: false };
        let of = |returning: &Returning| ["app", "backup", "ana"].map(|user| Returning::of(Some(returning), user));
        assert_eq!(of(&returning), [Comes::Closed, Comes::AsItWas, Comes::AsItWas]);
        returning.lock_others = true;
        assert_eq!(of(&returning), [Comes::Closed, Comes::AsItWas, Comes::Locked]);
        assert_eq!(Returning::of(None, "app"), Comes::AsItWas);
    }
}
