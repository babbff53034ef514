//! New passwords: from the kernel's chance alone, with characters of every class that a server may ask for.

use crate::error::{Failure, Result};
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
