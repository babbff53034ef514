//! What was counted in the last point of each source, remembered on this host: points seal it for those who restore.
//!
//! In the cache: without it one comparison is not made, and nothing else is lost.

use super::Places;
use super::anomaly::Inventory;
use crate::durable;
use crate::repo::point::Point;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Counted {
    point: String,
    inventory: Inventory,
}

impl Places {
    fn inventory_file(&self, source: &str) -> std::path::PathBuf {
        self.inventories().join(format!("{source}.json"))
    }

    /// Of this point; nothing when another one was counted last.
    pub(super) fn inventory(&self, of: &Point) -> Option<Inventory> {
        let bytes = std::fs::read(self.inventory_file(&of.source)).ok()?;
        let counted: Counted = serde_json::from_slice(&bytes).ok()?;
        (counted.point == of.point).then_some(counted.inventory)
    }

    pub(super) fn remember_inventory(&self, of: &Point, inventory: Inventory) {
        let counted = Counted { point: of.point.clone(), inventory };
        let path = self.inventory_file(&of.source);
        let text = serde_json::to_vec(&counted).unwrap_or_default();
        let _ = durable::create_private_directory(durable::parent_of(&path))
            .and_then(|()| durable::write(&path, &text, 0o600));
    }
}
