//! What a server wants of new passwords, as far as it tells: it refuses others when it is too late to choose another one.

/// Of each class so many characters at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// Whose they are, for people.
    pub by: String,
    pub length: usize,
    pub lower: usize,
    pub upper: usize,
    pub digits: usize,
    pub others: usize,
}

impl Demands {
    /// What a password lacks, without a word of it.
    pub fn lacks(&self, password: &str) -> Option<String> {
        let count = |is_one: fn(&char) -> bool| password.chars().filter(is_one).count();
        let classes = [
            (password.chars().count(), self.length, "characters"),
            (count(char::is_ascii_lowercase), self.lower, "small letters"),
            (count(char::is_ascii_uppercase), self.upper, "capital letters"),
            (count(char::is_ascii_digit), self.digits, "digits"),
            (count(|c| !c.is_ascii_alphanumeric()), self.others, "characters that are neither letters nor digits"),
        ];
        let missing = classes.into_iter().find(|(has, wanted, _)| has < wanted);
        missing.map(|(has, wanted, what)| format!("{} wants {wanted} {what}, and there are {has}", self.by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_password_lacks_is_said_and_the_password_is_not() {
        let demands = Demands { by: "the server".into(), length: 8, lower: 1, upper: 1, digits: 2, others: 1 };
        let table = [
            ("aB-34567", None),
            ("aB-3456", Some("8 characters, and there are 7")),
            ("AB-34567", Some("1 small letters, and there are 0")),
            ("ab-34567", Some("1 capital letters")),
            ("aB-cdef1", Some("2 digits, and there are 1")),
            ("aBc34567", Some("1 characters that are neither")),
        ];
        for (password, expected) in table {
            let lacks = demands.lacks(password);
            assert_eq!(lacks.is_some(), expected.is_some(), "{password}: {lacks:?}");
            assert!(lacks.is_none_or(|lacks| lacks.contains(expected.unwrap()) && !lacks.contains(password)));
        }
        assert_eq!(Demands::default().lacks(""), None);
    }
}
