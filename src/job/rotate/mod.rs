//! Rotation: a password is changed everywhere it is used, without a moment in which somebody is locked out.
//!
//! [`state::next`] decides without effects; [`Rotate::run`] observes, takes one step, and observes again. What a rotation is at
//! is kept in Vault ([`record`]) and sealed to the operators ([`keepsake`]); the journal is told, and never believed. A new kind of
//! account is an `engine::Accounts` (in [`targets`], where no source is behind it), a new way to tell or move those who use it a
//! file in [`delivery`].

mod act;
pub mod delivery;
mod effects;
mod glance;
pub mod http;
pub mod keepsake;
mod lease;
mod left;
mod locks;
mod lost;
mod missing_end;
mod passed;
mod password;
pub mod plan;
pub mod published;
pub mod readers;
pub mod reapply;
pub mod record;
pub mod rules;
pub mod scan;
mod seen;
mod sessions;
pub mod state;
pub mod targets;
#[cfg(test)]
mod tests;
mod told;

pub use act::{Ended, Rotate, Wish};
pub use missing_end::{elsewhere, elsewhere_record, missing_end};
