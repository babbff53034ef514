//! What is made for a rehearsal and goes away with it.
//!
//! Everything carries the run it belongs to and a deadline, so that whatever a killed run leaves is found and removed; what
//! belongs to a living run, or to nobody of ours, is never touched.

mod directory;

pub use directory::{Directory, Note};
