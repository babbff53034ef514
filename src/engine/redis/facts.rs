//! What a server is and how it is set up: version, the configuration that matters for a restore, users.
//!
//! Passwords of the configuration are never asked for by name and never kept: of `requirepass` only that there is one. Users
//! come with the hashes of their passwords, which go into a sealed stream and nowhere else.

use super::client::{Answer, Client};
use crate::error::{Failure, Kind, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Beginnings of the names that are kept.
const KEPT: &[&str] = &[
    "acl",
    "active",
    "append",
    "aof-",
    "auto-aof",
    "client-output",
    "cluster-enabled",
    "databases",
    "db",
    "dir",
    "hash-max",
    "hz",
    "io-threads",
    "jemalloc",
    "latency",
    "lazyfree",
    "lfu",
    "list-",
    "lua-time",
    "maxclients",
    "maxmemory",
    "min-",
    "no-appendfsync",
    "notify-",
    "proto-max",
    "rdb",
    "repl-",
    "save",
    "set-max",
    "slowlog",
    "stop-writes",
    "stream-node",
    "tcp-keepalive",
    "timeout",
    "tracking",
    "zset-max",
];

pub struct Facts {
    pub version: String,
    pub is_valkey: bool,
    pub info: BTreeMap<String, String>,
    /// `None` where the server does not permit to ask.
    pub configuration: Option<BTreeMap<String, String>>,
    pub users: Option<Vec<String>>,
    pub has_password: bool,
    pub warnings: Vec<String>,
}

impl Facts {
    pub fn ask(client: &mut dyn Client) -> Result<Self> {
        let info = permitted(client, &["INFO"])?.unwrap_or_default();
        let info: BTreeMap<String, String> = info
            .iter()
            .filter_map(|line| line.trim().split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if info.get("loading").is_some_and(|loading| loading != "0") {
            return Err(super::connection::refused(&client.server(), "INFO", "+info", "LOADING"));
        }
        let told = info.get("valkey_version");
        let mut facts = Facts {
            version: told.or(info.get("redis_version")).cloned().unwrap_or_default(),
            is_valkey: told.is_some(),
            configuration: None,
            users: None,
            has_password: false,
            warnings: Vec::new(),
            info,
        };
        facts.ask_configuration(client)?;
        facts.ask_users(client)?;
        facts.look_for_trouble();
        Ok(facts)
    }

    fn ask_configuration(&mut self, client: &mut dyn Client) -> Result<()> {
        match permitted(client, &["CONFIG", "GET", "*"])? {
            Some(lines) => {
                let all = lines.as_chunks::<2>().0.iter();
                self.has_password = all.clone().any(|[name, value]| name == "requirepass" && !value.is_empty());
                let kept = all.filter(|[name, _]| KEPT.iter().any(|kept| name.starts_with(kept)));
                self.configuration = Some(kept.cloned().map(|[name, value]| (name, value)).collect());
            }
            None => self.warnings.push(
                "the configuration is not stored, as it may not be read; on the server: ACL SETUSER <user> +config|get"
                    .into(),
            ),
        }
        Ok(())
    }

    fn ask_users(&mut self, client: &mut dyn Client) -> Result<()> {
        if self.major() > 0 && self.major() < 6 {
            return Ok(());
        }
        match permitted(client, &["ACL", "LIST"])? {
            Some(lines) => self.users = Some(lines.into_iter().filter(|line| line.starts_with("user ")).collect()),
            None => self.warnings.push(
                "users are not stored, as they may not be read; on the server: ACL SETUSER <user> +acl|list".into(),
            ),
        }
        Ok(())
    }

    fn look_for_trouble(&mut self) {
        let is = |name: &str, value: &str| self.info.get(name).is_some_and(|is| is == value);
        let mut warnings = Vec::new();
        if is("rdb_last_bgsave_status", "err") {
            warnings.push(
                "the server's last background save failed, and it may refuse writes because of it; look at its log"
                    .into(),
            );
        }
        if is("redis_mode", "cluster") {
            warnings.push("this is one node of a cluster: only the keys of its own slots are stored".into());
        }
        self.warnings.extend(warnings);
    }

    pub fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }

    pub fn configured(&self, name: &str) -> Option<&str> {
        self.configuration.as_ref()?.get(name).map(String::as_str)
    }

    /// Whether the server loads its append-only file rather than `dump.rdb`, as `yes` or `no`. Where the configuration may not
    /// be read, the server's own report of its state knows it.
    fn append_only(&self) -> Option<&str> {
        let reported = || match self.info.get("aof_enabled").map(String::as_str) {
            Some("1") => Some("yes"),
            Some("0") => Some("no"),
            _ => None,
        };
        self.configured("appendonly").or_else(reported)
    }

    /// From Redis 7 on, an append-only file is a directory of several.
    fn layout(&self) -> &'static str {
        match self.configured("appenddirname") {
            Some(_) => "directory",
            None if self.major() >= 7 => "directory",
            None => "file",
        }
    }

    /// The stream that goes beside the data.
    pub fn stored(&self) -> String {
        let stored = json!({
            "configuration": self.configuration,
            "users": self.users,
            "password_is_set": self.has_password,
        });
        format!("{stored:#}\n")
    }

    pub fn details(&self, rdb_version: u32) -> Value {
        let configured = |name| self.configured(name);
        json!({
            "flavour": if self.is_valkey { "valkey" } else { "redis" },
            "version": self.version,
            "rdb_version": rdb_version,
            "dir": configured("dir"),
            "dbfilename": configured("dbfilename"),
            "appendonly": self.append_only(),
            "appendfilename": configured("appendfilename"),
            "appenddirname": configured("appenddirname"),
            "aof_layout": self.layout(),
            "users": self.users.as_deref().map(user_objects),
        })
    }
}

/// `None` where this user may not ask, or the server has no such command.
fn permitted(client: &mut dyn Client, command: &[&str]) -> Result<Option<Vec<String>>> {
    match client.ask(command)? {
        Answer::Lines(lines) => Ok(Some(lines)),
        Answer::Refused(text) if text.starts_with("NOPERM") || text.contains("unknown command") => Ok(None),
        Answer::Refused(text) => Err(super::connection::refused(&client.server(), &command.join(" "), "+info", &text)),
    }
}

/// The server's clock, in seconds since 1970; `None` where it may not be asked.
pub fn clock(client: &mut dyn Client) -> Result<Option<i64>> {
    Ok(permitted(client, &["TIME"])?.and_then(|lines| lines.first()?.parse().ok()))
}

/// Users by name, each with a digest of its rules; of its passwords only how many there are.
pub fn user_objects(users: &[String]) -> BTreeMap<String, String> {
    let object = |line: &String| {
        let words: Vec<&str> = line.split(' ').map(|word| if word.starts_with('#') { "#" } else { word }).collect();
        let rules = words.get(2..)?.join(" ");
        Some((format!("user {}", words[1]), blake3::hash(rules.as_bytes()).to_hex()[..16].to_owned()))
    };
    users.iter().filter_map(object).collect()
}

/// What one reads of a point again.
pub struct Stored {
    pub users: Vec<String>,
    /// How many numbered databases the server had.
    pub databases: Option<String>,
}

impl Stored {
    pub fn read(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Failure::new(Kind::Verification, "the stored configuration is damaged").because(e))?;
        let users = value["users"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(Stored {
            users: users.iter().filter_map(|user| user.as_str().map(str::to_owned)).collect(),
            databases: value["configuration"]["databases"].as_str().map(str::to_owned),
        })
    }
}
