//! Every store keeps the same contract, alone and behind faults; and what is particular to each kind.

#![allow(clippy::unwrap_used)] // all of this is test

#[path = "store/contract.rs"]
mod contract;
#[path = "store/directory.rs"]
mod directory;
#[path = "store/faults.rs"]
mod faults;
#[path = "store/s3.rs"]
mod s3;
#[path = "store/s3_locks.rs"]
mod s3_locks;
#[path = "store/s3_odd.rs"]
mod s3_odd;
mod support;

use bkp::store::bandwidth::{Limited, Rate};
use bkp::store::{Location, Settings, Watch, create, memory::Memory, open};
use std::sync::Arc;
use support::minio::Minio;

const MANY: usize = 1205;

#[test]
fn memory_keeps_the_contract() {
    contract::holds(&Memory::new(), MANY);
}

#[test]
fn a_limited_store_keeps_the_contract() {
    let rate = Rate::shared("a test".into(), 8 << 30);
    contract::holds(&Limited::to_rate(Arc::new(Memory::new()), rate, Arc::default()), MANY);
}

#[test]
fn a_directory_keeps_the_contract() {
    let scratch = tempfile::tempdir().unwrap();
    let settings = Settings::new(Location::Directory(scratch.path().join("store")));
    create(&settings, Watch::default()).unwrap();
    contract::holds(&*open(&settings).unwrap(), MANY);
}

#[test]
fn minio_keeps_the_contract() {
    let Some(minio) = Minio::shared("the contract on S3") else { return };
    contract::holds(&*open(&minio.probed(false)).unwrap(), MANY);
}
