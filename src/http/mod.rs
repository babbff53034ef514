//! What the daemon shows over HTTP: probes, metrics, the status as JSON, and one page. Read-only.
//!
//! It runs on a thread of its own, so that nothing a client does holds up a backup. On loopback it asks for nothing but a
//! `Host` that is loopback too, against pages that rebind a name; anywhere else it wants a token, except for the two probes,
//! which tell nothing but whether. Bounded: connections, headers, and how long anything may take.

mod guard;
mod page;
mod phrases;
mod routes;
mod server;
mod shown;

pub use server::{Bound, Server, bind, configured, noted};
pub use shown::{Reachable, Shown};
