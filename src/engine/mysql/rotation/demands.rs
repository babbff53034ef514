//! What `validate_password` of MySQL wants of new passwords. Words of its dictionary are told to nobody.

use super::Rotation;
use crate::engine::Demands;
use crate::error::Result;
use crate::event::Cancel;

impl Rotation {
    /// Both of its forms, the component and the plug-in; without either there are none.
    pub(super) fn demanded(&self, cancel: &Cancel) -> Result<Option<Demands>> {
        let question = "SHOW GLOBAL VARIABLES LIKE 'validate\\_password%'";
        Ok(demands(&self.with(cancel, |_, session| session.rows(question))?))
    }
}

fn demands(rows: &[Vec<String>]) -> Option<Demands> {
    let told = |name: &str| {
        let is_it = |row: &&Vec<String>| row.first().is_some_and(|known| known.replace('_', ".").ends_with(name));
        rows.iter().find(is_it).and_then(|row| row.get(1))
    };
    let number = |name: &str| told(name).and_then(|value| value.parse().ok()).unwrap_or(0);
    let policy = told(".policy")?;
    let at_all = if ["LOW", "0"].contains(&policy.as_str()) { 0 } else { usize::MAX };
    let counted = |name: &str| number(name).min(at_all);
    let cases = counted(".mixed.case.count");
    Some(Demands {
        by: "validate_password of the server".into(),
        length: number("password.length"),
        lower: cases,
        upper: cases,
        digits: counted(".number.count"),
        others: counted(".special.char.count"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_and_the_plugin_are_read() {
        let rows = |separator: &str, policy: &str| -> Vec<Vec<String>> {
            let all = "changed_characters_percentage=0 check_user_name=ON dictionary_file= length=8 mixed_case_count=1 number_count=2 special_char_count=3";
            let row = |pair: &str| {
                let (name, value) = pair.split_once('=').unwrap();
                vec![format!("validate_password{separator}{name}"), value.to_owned()]
            };
            all.split(' ').map(row).chain([row(&format!("policy={policy}"))]).collect()
        };
        for separator in [".", "_"] {
            let found = demands(&rows(separator, "MEDIUM")).unwrap();
            let counts = (found.length, found.lower, found.upper, found.digits, found.others);
            assert_eq!(counts, (8, 1, 1, 2, 3), "{separator}");
            let found = demands(&rows(separator, "LOW")).unwrap();
            assert_eq!((found.length, found.lower, found.digits, found.others), (8, 0, 0, 0));
        }
        assert_eq!(demands(&[]), None);
    }
}
