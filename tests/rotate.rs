//! Passwords that are rotated, with the real program, real servers, a real Vault, and clients that log in all the time.
//!
//! The law in one line: no client is ever refused, and in the end exactly one password works, the one that is published. It is
//! looked at after every way in which a rotation can be cut short.

#![allow(clippy::unwrap_used)] // all of this is test

mod support;

#[path = "rotate/celery.rs"]
mod celery;
#[path = "rotate/configuration.rs"]
mod configuration;
#[path = "rotate/deliveries.rs"]
mod deliveries;
#[path = "rotate/documents.rs"]
mod documents;
#[path = "rotate/emergency.rs"]
mod emergency;
#[path = "rotate/encrypted.rs"]
mod encrypted;
#[path = "rotate/every_target.rs"]
mod every_target;
#[path = "rotate/failovers.rs"]
mod failovers;
#[path = "rotate/failovers_mysql.rs"]
mod failovers_mysql;
#[path = "rotate/hosts.rs"]
mod hosts;
#[path = "rotate/kills.rs"]
mod kills;
#[path = "rotate/kubernetes.rs"]
mod kubernetes;
#[path = "rotate/made_anew.rs"]
mod made_anew;
#[path = "rotate/mail.rs"]
mod mail;
#[path = "rotate/minio.rs"]
mod minio;
#[path = "rotate/mongo.rs"]
mod mongo;
#[path = "rotate/mysql.rs"]
mod mysql;
#[path = "rotate/nodes.rs"]
mod nodes;
#[path = "rotate/older_vaults.rs"]
mod older_vaults;
#[path = "rotate/passed.rs"]
mod passed;
#[path = "rotate/postgres.rs"]
mod postgres;
#[path = "rotate/put_back.rs"]
mod put_back;
#[path = "rotate/redis.rs"]
mod redis;
#[path = "rotate/replicas.rs"]
mod replicas;
#[path = "rotate/restarts.rs"]
mod restarts;
#[path = "rotate/restores.rs"]
mod restores;
#[path = "rotate/rights.rs"]
mod rights;
#[path = "rotate/schedules.rs"]
mod schedules;
#[path = "rotate/secrecy.rs"]
mod secrecy;
#[path = "rotate/servers.rs"]
mod servers;
#[path = "rotate/signing.rs"]
mod signing;
#[path = "rotate/swarm.rs"]
mod swarm;
#[path = "rotate/trouble.rs"]
mod trouble;
#[path = "rotate/unknown.rs"]
mod unknown;
#[path = "rotate/variables.rs"]
mod variables;
#[path = "rotate/vault_days.rs"]
mod vault_days;
#[path = "rotate/wire.rs"]
mod wire;
#[path = "rotate/world.rs"]
mod world;
