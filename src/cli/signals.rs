//! SIGINT and SIGTERM: the first one asks the run to end in order, the second ends it at once.

use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;

/// For a command that goes on until it is told to stop: SIGTERM and SIGINT `stop` it, SIGHUP lets it `reload`.
pub fn serve(stop: impl Fn() + Send + 'static, reload: impl Fn() + Send + 'static) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|e| Failure::from_io(e, || "cannot watch for signals".into()))?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP { reload() } else { stop() }
        }
    });
    Ok(())
}

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
