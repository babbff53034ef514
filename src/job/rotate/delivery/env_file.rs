//! A file of variables, such as the `.env` of a Compose project: values in it are exchanged, and not another byte.
//!
//! The file is exchanged whole, with its mode and owner; what it was stays beside it as `.bkp-prev` until the rotation is over, and
//! a value that is taken back is written as it was there. A variable is the secret, or an address that holds it. New secrets need
//! no quotes; an old one that does gets single ones. Where the name changes, it is exchanged in the same step: before the
//! secret in the address, or in a variable of its own.

use super::Delivery;
use super::text::{percent_encoded, read, with_user, within};
use super::variables::{assignments, is_writable, meant, quoted};
use crate::durable::{TempFile, crash_point, remove_if_there};
use crate::engine::{Credential, Pair};
use crate::error::{Context, Failure, Kind, Result};
use crate::event::Cancel;
use crate::job::rotate::state::Holds;
use crate::secret::Secret;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

pub struct EnvFile {
    path: PathBuf,
    variables: Vec<String>,
    user_variables: Vec<String>,
}

/// Where a secret stands in the text of a file, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The value is the user.
    User(Range<usize>),
    /// It is the value: with its quotes.
    Whole(Range<usize>),
    /// It is in the value.
    Within(Vec<Range<usize>>),
    /// `USER:SECRET` is in the value.
    WithUser(Vec<Range<usize>>),
}

impl EnvFile {
    pub fn new(path: &Path, variables: &[String], user_variables: &[String]) -> Self {
        EnvFile { path: path.to_owned(), variables: variables.to_vec(), user_variables: user_variables.to_vec() }
    }

    /// Where the file itself is, if this is a link to it.
    fn real(&self) -> Result<PathBuf> {
        std::fs::canonicalize(&self.path).context(|| format!("cannot find {}", self.path.display()))
    }

    /// Where the value stands in the text, with its quotes.
    fn value(&self, text: &str, variable: &str) -> Result<Range<usize>> {
        let refused = |why: &str, hint: &str| {
            let text = format!("{variable} in {} {why}", self.path.display());
            Failure::new(Kind::Refused, text).hint(hint)
        };
        let mut found: Vec<_> = assignments(text).into_iter().filter(|one| one.name == variable).collect();
        let one = found.pop().ok_or_else(|| refused("is not there", "Correct `variable` of the consumer"))?;
        if !found.is_empty() {
            return Err(refused(
                "is there more than once",
                "Remove all but the last one, which is the one that counts",
            ));
        }
        one.value.ok_or_else(|| refused("spans several lines", "Write the value in one line"))
    }

    /// Where a credential stands, in each of the variables: `None` for one that has another.
    fn places(&self, text: &str, credential: &Credential) -> Result<Vec<Option<Place>>> {
        let mut places = Vec::new();
        for variable in &self.variables {
            places.push(place(text, &self.value(text, variable)?, credential));
        }
        let Some(user) = &credential.user else { return Ok(places) };
        let alone = places.iter().position(|place| matches!(place, Some(Place::Whole(_) | Place::Within(_))));
        if let Some(alone) = alone.filter(|_| self.user_variables.is_empty()) {
            let (name, path) = (&self.variables[alone], self.path.display());
            let what = format!("{name} in {path} is the password, and nothing says where its user is, who changes too");
            return Err(Failure::new(Kind::Refused, what)
                .hint("Add `user_variable` to the consumer, or use an address: postgres://USER:PASSWORD@…"));
        }
        for variable in &self.user_variables {
            let value = self.value(text, variable)?;
            places.push((meant(&text[value.clone()]).as_str() == user).then_some(Place::User(value)));
        }
        Ok(places)
    }

    fn holds_all(&self, text: &str, credential: &Credential) -> bool {
        self.places(text, credential).is_ok_and(|places| places.iter().all(Option::is_some))
    }

    /// The copy of what the file was before this rotation; one that was left by an earlier one does not have what is in force.
    fn copy(&self, aside: &Path, current: &Credential) -> Option<Zeroizing<String>> {
        let copy = read(aside).ok()?;
        self.holds_all(&copy, current).then_some(copy)
    }

    /// The text with the values as they were written before. `None` where they were changed since by somebody else.
    fn taken_back(&self, text: &str, copy: &str, pair: Pair<'_>) -> Option<Zeroizing<String>> {
        let places = self.places(copy, pair.current).ok()?;
        let forward = exchanged(copy, places.into_iter().flatten(), pair.pending).ok()?;
        let mut values = Vec::new();
        for name in self.variables.iter().chain(&self.user_variables) {
            let value = |text: &str| self.value(text, name).ok();
            let (there, expected, before) = (value(text)?, value(&forward)?, value(copy)?);
            let is_back = text[there.clone()] == copy[before.clone()];
            if !is_back && text[there.clone()] != forward[expected] {
                return None;
            }
            values.push((there, copy[before].to_owned()));
        }
        Some(with_values(text, values))
    }

    fn describe_variables(&self) -> String {
        let all: Vec<&str> = self.user_variables.iter().chain(&self.variables).map(String::as_str).collect();
        all.join(" and ")
    }
}

/// What the file was.
pub fn copy_aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.bkp-prev"))
}

impl Delivery for EnvFile {
    fn holds(&self, pair: Pair<'_>) -> Result<Holds> {
        let text = read(&self.real()?)?;
        let (new, old) = (self.places(&text, pair.pending)?, self.places(&text, pair.current)?);
        let all = |places: &[Option<Place>]| places.iter().all(Option::is_some);
        let known = new.iter().zip(&old).all(|(new, old)| new.is_some() || old.is_some());
        Ok(match Holds::of(all(&new), all(&old)) {
            Holds::Other if known => Holds::Partly,
            holds => holds,
        })
    }

    fn deliver(&self, pair: Pair<'_>, to: Holds, leased: &Cancel) -> Result<()> {
        let Pair { current: from, pending: new } = to.exchange(pair);
        let path = self.real()?;
        let text = read(&path)?;
        let (there, gone) = (self.places(&text, new)?, self.places(&text, from)?);
        // What is there already stays as it is written.
        let to_come = there.iter().zip(gone).filter(|(there, _)| there.is_none()).map(|(_, gone)| gone);
        let Some(to_come) = to_come.collect::<Option<Vec<Place>>>() else {
            let what =
                format!("{} in {} is not the password that was expected", self.variables.join(" and "), path.display());
            return Err(Failure::new(Kind::Refused, what).hint("Somebody changed it: correct it, then run this again"));
        };
        let aside = copy_aside(&path);
        let copy = self.copy(&aside, pair.current);
        let as_it_was = copy.as_ref().filter(|_| to == Holds::Current);
        let written = match as_it_was.and_then(|copy| self.taken_back(&text, copy, pair)) {
            Some(written) => written,
            None => exchanged(&text, to_come, new)?,
        };
        if copy.is_none() && to == Holds::Pending {
            leased.check()?;
            exchange(&path, &aside, text.as_bytes())?;
            crash_point("rotate-consumer:copied");
        }
        leased.check()?;
        exchange(&path, &path, written.as_bytes())
    }

    fn takes(&self, new: &Credential) -> Result<()> {
        if is_writable(new.expose()) {
            return Ok(());
        }
        let what = format!(
            "the new password has a quote, a backslash or a line break, which no variable of {} can hold for every program alike",
            self.path.display()
        );
        Err(Failure::new(Kind::Refused, what).hint("Let another one be made where it comes from"))
    }

    fn settle(&self, _: &Cancel) -> Result<()> {
        let path = self.real()?;
        let aside = copy_aside(&path);
        for left in [TempFile::left_of(&path), TempFile::left_of(&aside), aside] {
            remove_if_there(&left).context(|| format!("cannot remove {}", left.display()))?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("change {} in {}", self.describe_variables(), self.path.display())
    }
}

/// The text with another credential in these places.
fn exchanged(text: &str, places: impl IntoIterator<Item = Place>, to: &Credential) -> Result<Zeroizing<String>> {
    let user = to.user.as_deref().unwrap_or_default();
    let mut all = Vec::new();
    for place in places {
        let (places, new) = match place {
            Place::Whole(range) => (vec![range.clone()], quoted(&text[range], to.expose())?),
            Place::User(range) => (vec![range.clone()], quoted(&text[range], user)?),
            Place::Within(places) => (places, percent_encoded(to.expose())),
            Place::WithUser(places) => (places, format!("{}:{}", percent_encoded(user), percent_encoded(to.expose()))),
        };
        all.extend(places.into_iter().map(|place| (place, new.clone())));
    }
    Ok(with_values(text, all))
}

fn with_values(text: &str, mut all: Vec<(Range<usize>, String)>) -> Zeroizing<String> {
    // From the end, so that what comes before stays where it is.
    all.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    all.into_iter().fold(Zeroizing::new(text.to_owned()), |written, (range, new)| {
        Zeroizing::new(format!("{}{new}{}", &written[..range.start], &written[range.end..]))
    })
}

/// Writes a file in one step, with mode and owner of `like`.
pub(super) fn exchange(like: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let metadata = std::fs::metadata(like).context(what)?;
    let mut file = TempFile::create_for(path, 0o600).context(what)?;
    file.write_all(bytes).context(what)?;
    let made = file.file().metadata().context(what)?;
    if (made.uid(), made.gid()) != (metadata.uid(), metadata.gid()) {
        fchown(&*file.file(), Some(metadata.uid()), Some(metadata.gid())).context(what)?;
    }
    let mode = std::fs::Permissions::from_mode(metadata.permissions().mode() & 0o7777);
    file.file().set_permissions(mode).context(what)?;
    crash_point("rotate-consumer:written");
    file.commit(path).context(what)
}

fn place(text: &str, value: &Range<usize>, credential: &Credential) -> Option<Place> {
    let written = &text[value.clone()];
    let there = |found: Vec<Range<usize>>| -> Option<Vec<Range<usize>>> {
        let moved = |place: Range<usize>| value.start + place.start..value.start + place.end;
        (!found.is_empty()).then(|| found.into_iter().map(moved).collect())
    };
    if let Some(places) = credential.user.as_ref().and_then(|user| there(with_user(written, user, credential))) {
        return Some(Place::WithUser(places));
    }
    let secret: &Secret = credential;
    if meant(written).as_str() == secret.expose() {
        return Some(Place::Whole(value.clone()));
    }
    there(within(written, secret)).map(Place::Within)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "New_password-0123456789";

    fn names<const N: usize>(names: [&str; N]) -> Vec<String> {
        names.map(str::to_owned).to_vec()
    }

    /// What a file holds after the password was exchanged, and after it was exchanged back.
    fn both_ways(before: &str, old: &str) -> (String, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        std::fs::write(&path, before).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let [old, new] = [old, NEW].map(|text| Credential::from(Secret::new(text.to_owned())));
        let pair = Pair { current: &old, pending: &new };
        let file = EnvFile::new(&path, &names(["DB"]), &[]);
        assert_eq!(file.holds(pair).unwrap(), Holds::Current);
        let over = Cancel::default();
        over.set(Kind::Terminated);
        assert_eq!(file.deliver(pair, Holds::Pending, &over).unwrap_err().kind(), Kind::Terminated);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was written");
        assert_eq!(file.holds(pair).unwrap(), Holds::Current);
        file.deliver(pair, Holds::Pending, &Cancel::default()).unwrap();
        assert_eq!(file.holds(pair).unwrap(), Holds::Pending);
        let there = std::fs::read_to_string(&path).unwrap();
        let aside = directory.path().join(".env.bkp-prev");
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), before);
        for path in [&path, &aside] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640);
        }
        file.deliver(pair, Holds::Current, &Cancel::default()).unwrap();
        assert_eq!(file.holds(pair).unwrap(), Holds::Current);
        file.settle(&Cancel::default()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        (there, std::fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn one_value_is_exchanged_and_not_another_byte() {
        for (before, old) in [
            ("# the database\r\nA=1\nDB=old-password # ours\nB='x'", "old-password"),
            ("  export DB = \"old-password\"\nDBX=old-password\n", "old-password"),
            ("DB='old password#1'\n", "old password#1"),
            ("DB=mysql://app:old-password@db:3306/app?x=1\n", "old-password"),
            ("DB=\"mysql://app:app@db/app\"\n", "app"),
            ("DB=mysql://app:p%40ss%2Fword@db/app\n", "p@ss/word"),
        ] {
            let (there, back) = both_ways(before, old);
            let written = percent_encoded(old);
            let expected = match before.contains(&format!(":{written}@")) {
                true => before.replacen(&format!(":{written}@"), &format!(":{NEW}@"), 1),
                false => before.replacen(old, NEW, 1),
            };
            assert_eq!(there, expected);
            assert_eq!(back, before);
        }
    }

    #[test]
    fn the_user_is_exchanged_in_the_same_step() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        let of = |user: &str, secret: &str| Credential { user: Some(user.into()), secret: Secret::new(secret.into()) };
        let (old, new) = (of("app_a", "old-password"), of("app_b", NEW));
        let pair = Pair { current: &old, pending: &new };
        for (variable, before) in [
            (None, "DB=postgres://app_a:old-password@db/app_a\nDB_USER=app_a\n".to_owned()),
            (Some("DB_USER"), "DB_USER='app_a' # who\nX=app_a\nDB=old-password\n".to_owned()),
            (Some("DB_USER"), "DB=\"old-password\"\nDB_USER=app_a\n".to_owned()),
        ] {
            std::fs::write(&path, &before).unwrap();
            let users: Vec<String> = variable.map(str::to_owned).into_iter().collect();
            let file = EnvFile::new(&path, &names(["DB"]), &users);
            assert_eq!(file.holds(pair).unwrap(), Holds::Current);
            file.deliver(pair, Holds::Pending, &Cancel::default()).unwrap();
            assert_eq!(file.holds(pair).unwrap(), Holds::Pending);
            let there = std::fs::read_to_string(&path).unwrap();
            let expected = match variable {
                None => before.replace("app_a:old-password", &format!("app_b:{NEW}")),
                Some(_) => before
                    .replace("old-password", NEW)
                    .replace("DB_USER='app_a'", "DB_USER='app_b'")
                    .replace("DB_USER=app_a", "DB_USER=app_b"),
            };
            assert_eq!(there, expected);
            file.deliver(pair, Holds::Current, &Cancel::default()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        }
        // The password of the one with the name of the other: half of it was done.
        std::fs::write(&path, format!("DB={NEW}\nDB_USER=app_a\n")).unwrap();
        assert_eq!(EnvFile::new(&path, &names(["DB"]), &names(["DB_USER"])).holds(pair).unwrap(), Holds::Partly);
        let failure = EnvFile::new(&path, &names(["DB"]), &[]).holds(pair).unwrap_err();
        assert!(failure.full().contains("nothing says where its user is"), "{}", failure.full());
    }

    #[test]
    fn dollars_mean_what_compose_takes_them_for() {
        let (there, back) = both_ways("DB=pa$$word1\n", "pa$word1");
        assert_eq!(there, format!("DB={NEW}\n"));
        assert_eq!(back, "DB=pa$$word1\n", "as it was written");
    }

    #[test]
    fn what_no_quotes_can_hold_is_taken_back_from_the_copy() {
        for before in ["DB=\"it's \\\\ odd\" # ours\n", "DB=mysql://app:it%27s%20%5C%20odd@db/app\n"] {
            let (there, back) = both_ways(before, "it's \\ odd");
            assert!(there.contains(NEW) && back == before, "{there} {back}");
        }
    }

    #[test]
    fn all_variables_are_exchanged_together() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        let [old, new] = ["old-password", NEW].map(|text| Credential::from(Secret::new(text.to_owned())));
        let pair = Pair { current: &old, pending: &new };
        let before = "DB=old-password\nURLS=redis://:old-password@a,redis://:old-password@b\n";
        std::fs::write(&path, before).unwrap();
        let file = EnvFile::new(&path, &names(["DB", "URLS"]), &[]);
        assert_eq!(file.holds(pair).unwrap(), Holds::Current);
        file.deliver(pair, Holds::Pending, &Cancel::default()).unwrap();
        assert_eq!(file.holds(pair).unwrap(), Holds::Pending);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before.replace("old-password", NEW));
    }

    /// Begun where only one of them was known, or somebody did half of it.
    #[test]
    fn what_is_exchanged_in_part_is_brought_to_either_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        let [old, new] = [("app_a", "old-password"), ("app_b", NEW)]
            .map(|(user, text)| Credential { user: Some(user.to_owned()), secret: Secret::new(text.to_owned()) });
        let pair = Pair { current: &old, pending: &new };
        let before = "DB=old-password\nDB_USER=app_a\nURL=pg://app_a:old-password@a\n";
        let after = format!("DB={NEW}\nDB_USER=app_b\nURL=pg://app_b:{NEW}@a\n");
        let file = EnvFile::new(&path, &names(["DB", "URL"]), &names(["DB_USER"]));
        for half in [
            format!("DB={NEW}\nDB_USER=app_b\nURL=pg://app_a:old-password@a\n"),
            format!("DB=old-password\nDB_USER=app_a\nURL=pg://app_b:{NEW}@a\n"),
            format!("DB={NEW}\nDB_USER=app_a\nURL=pg://app_b:{NEW}@a\n"),
        ] {
            for (to, whole) in [(Holds::Pending, after.as_str()), (Holds::Current, before)] {
                std::fs::write(&path, &half).unwrap();
                assert_eq!(file.holds(pair).unwrap(), Holds::Partly, "{half}");
                file.deliver(pair, to, &Cancel::default()).unwrap();
                assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), file.holds(pair).unwrap()), (whole, to));
            }
        }
        std::fs::write(&path, after.replace(NEW, "of-somebody")).unwrap();
        assert_eq!(file.holds(pair).unwrap(), Holds::Other);
    }

    #[test]
    fn what_an_earlier_one_left_is_not_taken_for_the_copy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        let (aside, left) = (directory.path().join(".env.bkp-prev"), directory.path().join(".bkp-tmp-.env"));
        let [old, new] = ["old-password", NEW].map(|text| Credential::from(Secret::new(text.to_owned())));
        let pair = Pair { current: &old, pending: &new };
        std::fs::write(&path, "DB=old-password\nA=2\n").unwrap();
        std::fs::write(&aside, "DB=of-years-ago\nA=1\n").unwrap();
        std::fs::write(&left, "DB=half").unwrap();
        let file = EnvFile::new(&path, &names(["DB"]), &[]);
        file.deliver(pair, Holds::Pending, &Cancel::default()).unwrap();
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), "DB=old-password\nA=2\n");
        std::fs::write(&left, "DB=half").unwrap();
        file.settle(&Cancel::default()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        let [old, new] = ["old-password", NEW].map(|text| Credential::from(Secret::new(text.to_owned())));
        let pair = Pair { current: &old, pending: &new };
        let holds = |text: &str| {
            std::fs::write(&path, text).unwrap();
            EnvFile::new(&path, &names(["DB"]), &[]).holds(pair)
        };
        for (text, why) in [
            ("A=1\n", "is not there"),
            ("DB=old-password\nDB=old-password\n", "more than once"),
            ("DB=\"old-\npassword\"\n", "several lines"),
        ] {
            let failure = holds(text).unwrap_err();
            assert!(failure.full().contains(why) && failure.next_step().is_some(), "{text}");
            assert!(!failure.full().contains("old-password"));
        }
        assert_eq!(holds("DB=another\n").unwrap(), Holds::Other);
        let failure =
            EnvFile::new(&path, &names(["DB"]), &[]).deliver(pair, Holds::Pending, &Cancel::default()).unwrap_err();
        assert!(failure.full().contains("not the password that was expected"));
    }
}
