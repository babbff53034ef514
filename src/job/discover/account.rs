//! The account that a container's server was set up with, as its variables tell: who, and under which names the password is told.

use crate::exec::docker::Description;

pub struct Account {
    pub user: Option<String>,
    /// For [`Description::told`].
    pub password: &'static [&'static str],
    /// What is to be said about it.
    pub remark: Option<&'static str>,
}

const ADMINISTRATOR: &str = "the account of the administrator; one with fewer rights is better: see docs/ENGINES.md";

impl Account {
    pub fn of(engine: &str, container: &Description) -> Self {
        let variable = |name: &str| container.environment.get(name).map(|value| value.expose().to_owned());
        match engine {
            "mysql" => Account {
                user: Some("root".into()),
                password: &["MYSQL_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD"],
                remark: Some(ADMINISTRATOR),
            },
            "postgres" => Account {
                user: Some(variable("POSTGRES_USER").unwrap_or_else(|| "postgres".into())),
                password: &[],
                remark: Some("through the local socket of the container, which asks for no password"),
            },
            "mongo" => match variable("MONGO_INITDB_ROOT_USERNAME") {
                Some(user) => {
                    Account { user: Some(user), password: &["MONGO_INITDB_ROOT_PASSWORD"], remark: Some(ADMINISTRATOR) }
                }
                None => Account { user: None, password: &[], remark: None },
            },
            _ => {
                Account { user: None, password: &["--requirepass", "REDIS_PASSWORD", "VALKEY_PASSWORD"], remark: None }
            }
        }
    }
}
