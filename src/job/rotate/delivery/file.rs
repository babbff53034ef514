//! A file that consumers are told by. Several may be told by one, whatever path each names it by: what is in it is exchanged in one
//! step, whichever of them is moved first. Each may be given the whole file, and would keep what is only exchanged with the next one.

use crate::policy::{Consumer, Told};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Whether one file tells both, so that both are told another one at once.
pub fn tells_both(one: &Consumer, other: &Consumer) -> bool {
    one.told.file().zip(other.told.file()).is_some_and(|(one, other)| real(one) == real(other))
}

/// Names of the variables that are exchanged when this one of `all` is moved.
pub fn variables<'c>(consumer: &'c Consumer, all: &'c [Consumer]) -> BTreeSet<&'c str> {
    let others = all.iter().filter(|other| tells_both(consumer, other));
    std::iter::once(consumer).chain(others).flat_map(|one| one.told.variables()).collect()
}

/// How this one of `all` is told, with everything that is exchanged when it is.
pub fn told(consumer: &Consumer, all: &[Consumer]) -> Told {
    let mut told = consumer.told.clone();
    let Told::EnvFile { variables, user_variables, .. } = &mut told else { return told };
    for other in all.iter().filter(|other| tells_both(consumer, other)) {
        if let Told::EnvFile { variables: more, user_variables: more_users, .. } = &other.told {
            add(variables, more);
            add(user_variables, more_users);
        }
    }
    told
}

fn add(names: &mut Vec<String>, more: &[String]) {
    for name in more {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
}

/// Where a path leads, as far as that can be seen from here.
pub fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Reload;
    use std::time::Duration;

    #[test]
    fn one_file_under_two_names_is_exchanged_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link, other] = ["env", "link", "other"].map(|name| directory.path().join(name));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let consumer = |name: &str, path: &Path, variable: &str, users: &[&str]| Consumer {
            name: name.into(),
            told: Told::EnvFile {
                path: path.to_owned(),
                variables: vec![variable.into()],
                user_variables: users.iter().map(|user| (*user).to_owned()).collect(),
            },
            reload: Reload::Command(vec!["true".into()]),
            check: None,
            patience: Duration::from_secs(1),
        };
        let all = [
            consumer("web", &file, "DB_PASSWORD", &[]),
            consumer("worker", &link, "DATABASE_URL", &["DB_USER"]),
            consumer("elsewhere", &other, "PGPASSWORD", &[]),
        ];
        assert!(tells_both(&all[0], &all[1]) && !tells_both(&all[0], &all[2]));
        let Told::EnvFile { path, variables: names, user_variables } = told(&all[0], &all) else { panic!() };
        assert_eq!((path, user_variables), (file.clone(), vec!["DB_USER".to_owned()]));
        assert_eq!(names, ["DB_PASSWORD", "DATABASE_URL"]);
        assert_eq!(variables(&all[1], &all), BTreeSet::from(["DATABASE_URL", "DB_PASSWORD", "DB_USER"]));
        assert_eq!(told(&all[2], &all), all[2].told);
        let alone = Consumer { told: Told::Published, ..all[0].clone() };
        assert_eq!(told(&alone, &all), Told::Published);
    }
}
