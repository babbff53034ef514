//! Where the name changes with the secret: two users take turns, or each secret comes with a name of its own. And where a server
//! knows only one password for an account and nobody takes turns, somebody accepts a gap.

use super::convert::not_empty;
use super::problem::Place;
use super::raw;
use super::reading::{Field, Reader};
use super::{Rotation, Source};
use crate::engine;
use crate::secret::VaultPath;

/// The name that changes with each secret.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangingName {
    /// Where the one in force is published: in the secret that has the password, too.
    pub published: VaultPath,
    /// Two users, of whom one is in force. Absent: each secret comes with a name of its own.
    pub turns: Option<[String; 2]>,
}

impl Rotation {
    /// Whoever uses the new secret uses it under another name: sessions, requests and tokens tell which of both they began with.
    pub fn changes_name(&self) -> bool {
        self.name_published().is_some()
    }

    pub fn name_published(&self) -> Option<&VaultPath> {
        self.changing_name.as_ref().map(|name| &name.published)
    }

    /// The two users who take turns, where two do.
    pub fn turns(&self) -> Option<&[String; 2]> {
        self.changing_name.as_ref()?.turns.as_ref()
    }

    /// Whose turn it is after this one's.
    pub fn turn_after(&self, user: Option<&str>) -> Option<&str> {
        let [one, other] = self.turns()?;
        Some(if user == Some(one) { other } else { one })
    }
}

impl Reader<'_> {
    /// `published`: where the password is.
    pub(super) fn changing_name(
        &self,
        raw: &raw::Rotation,
        place: Place,
        published: Option<&VaultPath>,
        source: Option<&Source>,
    ) -> Option<ChangingName> {
        let (logins, user) = match (&raw.logins, &raw.published_user) {
            (None, None) => return None,
            (Some(logins), Some(user)) => (logins, user),
            _ => {
                let help = "write `logins: [app_a, app_b]`, and where it is published whose turn it is: `published_user: ref+vault://kv/shop/database#/user`";
                self.note_missing(place, "`logins` and `published_user` belong together", help);
                return None;
            }
        };
        if let Some(source) = source.filter(|source| !engine::takes_turns(&source.settings)) {
            let kind = source.settings.kind();
            let text = format!("an account of a {kind} source keeps its name: it has two passwords for a while");
            return self.wrong_with_help(
                logins.place,
                text,
                "leave out `logins` and `published_user`, and write `account: NAME`",
            );
        }
        let users = self.users(logins, source);
        let published = self.beside(user, published)?;
        Some(ChangingName { published, turns: Some(users?) })
    }

    /// Another field of the secret that has the password.
    pub(super) fn beside(&self, user: &Field<String>, published: Option<&VaultPath>) -> Option<VaultPath> {
        let path = self.published(user)?;
        if published.is_none_or(|published| published.path == path.path && published.field != path.field) {
            return Some(path);
        }
        let help = "write another field of the same secret, as in ref+vault://kv/shop/database#/user";
        self.wrong_with_help(user.place, "user and password are published in one step, beside each other", help)
    }

    fn users(&self, field: &Field<Vec<Field<String>>>, source: Option<&Source>) -> Option<[String; 2]> {
        let names: Vec<String> = field.value.iter().flatten().filter_map(|name| name.value.clone()).collect();
        let both = <[String; 2]>::try_from(names).ok().filter(|[one, other]| {
            one != other && [one, other].into_iter().all(|name| not_empty(name, "a user").is_ok())
        });
        let Some(both) = both else {
            return self.wrong(field.place, "expected two different users, as in [app_a, app_b]");
        };
        let server = source.and_then(|source| source.settings.server());
        if let Some(user) = server.and_then(|server| server.user.as_ref()).filter(|user| both.contains(user)) {
            let help = "give backups an account of their own; its password can be rotated by a rotation of its own";
            return self.wrong_with_help(
                field.place,
                format!("backups log in as {user}, and would have to take turns, too"),
                help,
            );
        }
        Some(both)
    }

    /// Whether this server needs turns, or somebody who accepts the gap that there is without.
    pub(super) fn gap(&self, raw: &raw::Rotation, place: Place, source: Option<&Source>) -> bool {
        let accepted = raw.accept_gap.as_ref().and_then(|field| field.value).unwrap_or_default();
        let Some(source) = source.filter(|source| engine::takes_turns(&source.settings)) else {
            if let Some(field) =
                raw.accept_gap.as_ref().filter(|_| accepted && (source.is_some() || raw.source.is_none()))
            {
                let text = match source {
                    Some(_) => "there is no gap to accept: this server keeps both passwords for a while",
                    None => "there is no gap that bkp could accept for these: leave it out",
                };
                self.wrong::<()>(field.place, text);
            }
            return false;
        };
        if let (Some(_), Some(field), true) = (&raw.logins, &raw.accept_gap, accepted) {
            self.wrong::<()>(field.place, "two users take turns without a gap: leave this out, or `logins`");
        }
        if raw.logins.is_none() && !accepted {
            let kind = source.settings.kind();
            let help = "write `logins: [app_a, app_b]` and `published_user: …`; or `accept_gap: true`, where it may be refused until its consumers are moved";
            self.note_missing(place, format!("a server of a {kind} source has only one password for an account"), help);
        }
        accepted
    }
}
