//! Object lock on a real server: what is locked stays, whoever asks.

use crate::contract::{PART, content, key};
use crate::support::minio::Minio;
use bkp::store::{LockMode, Retain, Store, StoreError, open, read};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

struct Locked {
    minio: &'static Minio,
    bucket: String,
    store: Arc<dyn Store>,
}

fn locked(part: &str) -> Option<Locked> {
    let minio = Minio::shared(part)?;
    let settings = minio.probed(true);
    let bucket = match &settings.location {
        bkp::store::Location::Bucket { bucket, .. } => bucket.clone(),
        other => panic!("{other} is not a bucket"),
    };
    let store = open(&settings).unwrap();
    Some(Locked { minio, bucket, store })
}

fn lock(mode: LockMode, hours: i64) -> Retain {
    let until = Timestamp::from_second(Timestamp::now().as_second()).unwrap() + SignedDuration::from_hours(hours);
    Retain { mode, until }
}

impl Locked {
    /// Tries to delete each version of an object for good; gives how many could be.
    fn destroy(&self, name: &str, bypass: bool) -> (usize, usize) {
        let name = format!("some/prefix/{name}");
        self.minio.ask(async |client| {
            let listed = client.list_object_versions().bucket(&self.bucket).prefix(&name).send().await.unwrap();
            let (mut gone, mut kept) = (0, 0);
            for version in listed.versions() {
                let request = client.delete_object().bucket(&self.bucket).key(&name);
                let request = request.set_version_id(version.version_id.clone());
                let request = if bypass { request.bypass_governance_retention(true) } else { request };
                match request.send().await {
                    Ok(_) => gone += 1,
                    Err(_) => kept += 1,
                }
            }
            (gone, kept)
        })
    }
}

#[test]
fn a_locked_object_cannot_be_destroyed() {
    let Some(test) = locked("object lock on S3") else { return };
    let (governance, compliance) = (lock(LockMode::Governance, 1), lock(LockMode::Compliance, 1));
    test.store.put(&key("put"), content(10, 1), Some(&compliance)).unwrap();
    test.store.put_new(&key("new"), content(10, 2), Some(&governance)).unwrap();
    let upload = test.store.upload(&key("parts"), Some(&compliance)).unwrap();
    upload.part(1, 0, content(PART, 3)).unwrap();
    upload.part(2, PART as u64, content(9, 4)).unwrap();
    upload.finish().unwrap();
    test.store.put(&key("free"), content(10, 5), None).unwrap();

    for (name, retain) in [("put", compliance), ("new", governance), ("parts", compliance)] {
        assert_eq!(test.store.head(&key(name)).unwrap().retain, Some(retain), "{name}");
        assert_eq!(test.destroy(name, false), (0, 1), "{name}");
    }
    assert_eq!(test.store.head(&key("free")).unwrap().retain, None);
    assert_eq!(test.destroy("free", false), (1, 0));
    // Compliance stands against everybody; governance against those without the permission to lift it.
    assert_eq!(test.destroy("put", true), (0, 1));
    assert_eq!(test.destroy("new", true), (1, 0));
    assert_eq!(read(&*test.store, &key("put")).unwrap(), content(10, 1));
}

/// Deleting hides a locked object and overwriting covers it; the version below stays.
#[test]
fn deleting_and_overwriting_leave_the_locked_version() {
    let Some(test) = locked("object lock on S3") else { return };
    test.store.put(&key("x"), content(10, 1), Some(&lock(LockMode::Compliance, 1))).unwrap();
    test.store.delete(&key("x")).unwrap();
    assert!(matches!(test.store.head(&key("x")), Err(StoreError::NotFound(_))));
    test.store.put(&key("x"), content(10, 2), None).unwrap();
    assert_eq!(test.destroy("x", true), (1, 1));
}

#[test]
fn a_lock_is_raised_and_never_lowered() {
    let Some(test) = locked("raising locks on S3") else { return };
    let store = &*test.store;
    let retention = store.retention().expect("the bucket can lock");
    let shown = || store.head(&key("x")).unwrap().retain.unwrap();
    let (short, long) = (lock(LockMode::Governance, 1), lock(LockMode::Governance, 5));
    store.put(&key("x"), content(10, 1), None).unwrap();

    retention.raise(&key("x"), &short).unwrap();
    assert_eq!(shown(), short);
    retention.raise(&key("x"), &long).unwrap();
    assert_eq!(shown(), long);
    retention.raise(&key("x"), &short).unwrap();
    assert_eq!(shown(), long);
    retention.raise(&key("x"), &Retain { mode: LockMode::Compliance, ..short }).unwrap();
    assert_eq!(shown(), Retain { mode: LockMode::Compliance, ..long }, "the stricter mode, the later end");
    retention.raise(&key("x"), &lock(LockMode::Governance, 9)).unwrap();
    assert_eq!(shown().mode, LockMode::Compliance);
    assert!(shown().until > long.until);
    assert!(matches!(retention.raise(&key("absent"), &long), Err(StoreError::NotFound(_))));
}
