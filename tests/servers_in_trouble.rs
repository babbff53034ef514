//! Servers on bad days, through the program: restores that are killed, backups that must not commit a point, and rows
//! that no memory holds.
#![allow(clippy::unwrap_used)] // test code outside of test functions

#[path = "support/cli.rs"]
mod cli;
#[path = "servers_in_trouble/days.rs"]
mod days;
#[path = "servers_in_trouble/killed.rs"]
mod killed;
mod support;
