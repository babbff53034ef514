//! Loads a tree: builds it beside its target, compares it with its catalogue, and moves it to its place last.
//!
//! The catalogue is read first, so that an unsafe or cut one is refused before anything exists. A part of a tree becomes
//! the target itself: `docs/a.txt` restored to `/tmp/x` is the file `/tmp/x`.
//! A failure, a full disk among them, leaves nothing behind; a kill leaves a directory whose name tells what it is.

use crate::durable;
use crate::engine::{LoadRun, Loaded, Origin, Part, Target};
use crate::error::{Failure, Kind as FailureKind, Result};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

mod build;
mod destination;
mod metadata;
mod plan;
mod staging;

use build::Builder;
use destination::Destination;
use plan::Plan;
use staging::Staging;

/// The name of what is being built, inside the staging directory.
const TREE: &str = "tree";

pub fn load(source: &Path, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
    let tree = origin.tree().ok_or_else(|| {
        Failure::new(FailureKind::Verification, "the point has no tree, so it is not one of a volume")
            .hint("Look at it with `bkp show`")
    })?;
    let path = match &run.part {
        Part::Whole => None,
        Part::Path(path) => Some(path.as_path()),
        Part::Database(_) | Part::Table { .. } => {
            return Err(Failure::usage("a volume has no databases").hint("Choose a part of it with --path"));
        }
    };
    let plan = Plan::read(tree, path)?;
    let destination = Destination::find(target, source, plan.selection.part())?;
    run.context.meter.total_bytes.store(plan.bytes, Relaxed);
    run.context.meter.total_items.store(plan.entries, Relaxed);

    let staging = Staging::create_in(destination.staging_parent())?;
    durable::crash_point("restore:target-begun");
    let builder = Builder::new(&plan, staging.open()?, run.context)?;
    builder.make_directories()?;
    tree.chunks(plan.ranges.as_deref(), &|offset, bytes| builder.take(offset, bytes))?;
    let built = builder.finish()?;
    durable::crash_point("restore:data-written");

    let mut warnings = built.warnings;
    warnings.extend(destination.make_live(staging, built.root.as_ref(), run.copy.is_none())?);
    Ok(Loaded { bytes: plan.bytes, items: plan.entries, warnings, ..Loaded::default() })
}
