//! SIGINT and SIGTERM: the first one asks the run to end in order, the second ends it at once.

use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;

/// From here on the signals set the value that is returned.
pub fn watch() -> Result<Arc<Cancel>> {
    let cancel = Arc::new(Cancel::default());
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|e| Failure::from_io(e, || "cannot watch for signals".into()))?;
    let set = cancel.clone();
    std::thread::spawn(move || {
        for (number, signal) in signals.forever().enumerate() {
            let kind = if signal == SIGTERM { Kind::Terminated } else { Kind::Interrupted };
            if number > 0 {
                std::process::exit(kind.exit_code().into());
            }
            set.set(kind);
        }
    });
    Ok(cancel)
}
