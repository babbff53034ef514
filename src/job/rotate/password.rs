//! New passwords: from the kernel's chance alone, with characters of every class that a server may ask for.

use super::act::Rotate;
use crate::engine::{Credential, Demands};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::policy::PasswordRule;
use crate::secret::Secret;
use zeroize::Zeroizing;

/// One that fits the rule. The first character is a letter: some programs take a leading `-` for an option.
pub fn generate(rule: PasswordRule) -> Result<Secret> {
    let classes = rule.alphabet.classes();
    let all: Vec<u8> = classes.concat().into_bytes();
    let letters: Vec<u8> = classes[..2].concat().into_bytes();
    loop {
        let mut text = Zeroizing::new(String::with_capacity(rule.length));
        text.push(char::from(letters[below(letters.len())?]));
        while text.len() < rule.length {
            text.push(char::from(all[below(all.len())?]));
        }
        if classes.iter().all(|class| text.contains(|c| class.contains(c))) {
            return Ok(Secret::new(text.as_str().to_owned()));
        }
    }
}

/// Policies of Vault may begin one with a character that no program takes for the first of a password.
const TRIES: u32 = 20;
/// Those of bkp may have too few of what a server wants several of.
const OWN_TRIES: u32 = 1000;
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=128;

impl Rotate<'_> {
    /// What comes after this one.
    pub(super) fn new_credential(&self, current: &Credential, cancel: &Cancel) -> Result<Credential> {
        let made = match self.accounts.mint()? {
            Some(minted) => minted,
            None => {
                let user = self.rotation.turn_after(current.user.as_deref());
                let secret = self.new_password(self.accounts.demands(cancel)?.as_ref())?;
                Credential { user: user.map(str::to_owned), secret }
            }
        };
        another(&made, current)?;
        self.consumers.iter().try_for_each(|consumer| consumer.delivery.takes(&made))?;
        Ok(made)
    }

    /// From the password policy of Vault where there is one, else by bkp itself.
    fn new_password(&self, demands: Option<&Demands>) -> Result<Secret> {
        let Some(policy) = &self.rotation.vault_policy else { return as_demanded(self.rotation.password, demands) };
        let mut wrong = String::new();
        for _ in 0..TRIES {
            let made = self.vault.password(policy)?;
            let lacks = demands.and_then(|demands| demands.lacks(made.expose()));
            match misfit(made.expose(), self.rotation.password).or(lacks) {
                None => return Ok(made),
                Some(why) => wrong = why,
            }
        }
        Err(Failure::new(
            Kind::Refused,
            format!(
                "the password policy {policy} of Vault makes what is not safe everywhere, or not accepted: {wrong}"
            ),
        )
        .hint(format!("Correct the policy (vault read sys/policies/password/{policy}), or leave out `vault_policy`")))
    }
}

fn as_demanded(rule: PasswordRule, demands: Option<&Demands>) -> Result<Secret> {
    let Some(demands) = demands else { return generate(rule) };
    let mut lacks = String::new();
    for _ in 0..OWN_TRIES {
        let made = generate(rule)?;
        match demands.lacks(made.expose()) {
            None => return Ok(made),
            Some(why) => lacks = why,
        }
    }
    let (length, alphabet) = (rule.length, rule.alphabet.name());
    let what = format!("new passwords of {length} characters ({alphabet}) would be refused: {lacks}");
    Err(Failure::new(Kind::Refused, what)
        .hint("Give the rotation another `password: { length: …, alphabet: … }`, or `vault_policy`; or let the server want less"))
}

/// The same once more would be taken away as the old one.
fn another(made: &Credential, current: &Credential) -> Result<()> {
    if made.expose() != current.expose() {
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, "the new password is the one that is in force, and nothing would be changed")
        .hint("Let another one be made where it comes from, and see that it is the right file"))
}

/// Why a password is refused, without a word of it.
fn misfit(password: &str, rule: PasswordRule) -> Option<String> {
    let length = password.chars().count();
    if !LENGTHS.contains(&length) {
        return Some(format!("{length} characters, and not 24 to 128"));
    }
    let all = rule.alphabet.classes().concat();
    if !password.chars().all(|c| all.contains(c)) {
        let alphabet = if all.contains('_') { "letters, digits, `_` and `-`" } else { "letters and digits" };
        return Some(format!("other characters than {alphabet}"));
    }
    let first = password.starts_with(|c: char| c.is_ascii_alphanumeric());
    (!first).then(|| "a first character that is neither a letter nor a digit".to_owned())
}

/// A number below `limit`, each as likely as any other.
fn below(limit: usize) -> Result<usize> {
    let fair = 256 - 256 % limit;
    loop {
        let mut byte = [0u8; 1];
        getrandom::fill(&mut byte)
            .map_err(|e| Failure::failed("the kernel gives no random bytes").because(e.to_string()))?;
        if usize::from(byte[0]) < fair {
            return Ok(usize::from(byte[0]) % limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Alphabet;

    #[test]
    fn what_vault_makes_must_be_safe_everywhere() {
        let rule = |alphabet| PasswordRule { length: 40, alphabet };
        let table = [
            ("Abcdefghijklmnopqrstuvwx", Alphabet::UrlSafe, None),
            ("Abcdefghijklmnopqrstuvw_", Alphabet::UrlSafe, None),
            ("Abcdefghijklmnopqrstuvw_", Alphabet::Alphanumeric, Some("other characters than letters and digits")),
            ("Abcdefghijklmnopqrst$vwx", Alphabet::UrlSafe, Some("other characters")),
            ("Abcdefg", Alphabet::UrlSafe, Some("7 characters")),
            ("-bcdefghijklmnopqrstuvwx", Alphabet::UrlSafe, Some("a first character")),
        ];
        for (password, alphabet, wrong) in table {
            let found = misfit(password, rule(alphabet));
            assert_eq!(found.is_some(), wrong.is_some(), "{password}");
            assert!(found.is_none_or(|found| found.contains(wrong.unwrap())));
        }
    }

    #[test]
    fn the_one_in_force_is_no_new_one() {
        let one = |user: Option<&str>, text: &str| Credential {
            user: user.map(str::to_owned),
            secret: Secret::new(text.to_owned()),
        };
        assert!(another(&one(None, "new"), &one(None, "old")).is_ok());
        for user in [None, Some("app_b")] {
            let failure = another(&one(user, "old"), &one(None, "old")).unwrap_err();
            assert_eq!(failure.kind(), Kind::Refused);
            assert!(!failure.full().contains("`old`"));
        }
    }

    #[test]
    fn passwords_are_what_the_server_wants() {
        let wants = |others, length| Demands { by: "it".into(), others, length, ..Demands::default() };
        let made = as_demanded(PasswordRule::default(), Some(&wants(3, 8))).unwrap();
        assert!(made.expose().matches(['_', '-']).count() >= 3);
        let letters = PasswordRule { alphabet: Alphabet::Alphanumeric, ..PasswordRule::default() };
        let failure = as_demanded(letters, Some(&wants(1, 8))).unwrap_err();
        assert!(
            failure.kind() == Kind::Refused && failure.full().contains("(alphanumeric) would be refused: it wants 1")
        );
        assert!(as_demanded(PasswordRule::default(), Some(&wants(0, 41))).is_err());
    }

    #[test]
    fn passwords_fit_their_rule() {
        for alphabet in [Alphabet::UrlSafe, Alphabet::Alphanumeric] {
            let rule = PasswordRule { length: 24, alphabet };
            let all: Vec<String> = (0..50).map(|_| generate(rule).unwrap().expose().to_owned()).collect();
            for password in &all {
                assert_eq!(password.len(), 24);
                assert!(alphabet.classes().iter().all(|class| password.contains(|c| class.contains(c))), "{password}");
                assert!(password.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)));
                assert!(password.as_bytes()[0].is_ascii_alphabetic());
            }
            assert!(all.iter().collect::<std::collections::HashSet<_>>().len() == all.len());
        }
    }
}
