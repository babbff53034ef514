//! A bucket of a real MinIO with versions and locks: what is deleted is gone in every version, and a lock is left alone.

use crate::past::{Past, STREAM, ago};
use crate::stores::Bent;
use crate::support::host::Host;
use crate::support::minio::Minio;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use bkp::store::{Location, LockMode, Retain, Settings};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

struct Bucket {
    minio: &'static Minio,
    name: String,
    past: Past,
}

fn bucket(part: &str, keep: &str) -> Option<Bucket> {
    let minio = Minio::shared(part)?;
    let settings = minio.probed(true);
    let Location::Bucket { bucket, .. } = &settings.location else { panic!("no bucket") };
    let name = bucket.clone();
    let past = Past::in_bucket(&settings, keep);
    Some(Bucket { minio, name, past })
}

impl Past {
    pub fn in_bucket(settings: &Settings, keep: &str) -> Past {
        let mut host = Host::bare();
        host.url = settings.location.to_string();
        let file = |secret: &Option<bkp::secret::SecretRef>| match secret {
            Some(bkp::secret::SecretRef::File(path)) => path.display().to_string(),
            other => panic!("{other:?}"),
        };
        host.configure(&format!(
            "repository:\n  url: {}\n  endpoint: {}\n  access_key_file: {}\n  secret_key_file: {}\n",
            host.url,
            settings.endpoint.as_ref().unwrap(),
            file(&settings.access_key),
            file(&settings.secret_key)
        ));
        host.run(&["init", "--recovery-key", host.text("recovery-key.txt").as_str()]).ends(0);
        let store = bkp::store::open(settings).unwrap();
        let past = Past::of(host, bkp::repo::Repository::open(store).unwrap());
        past.keep(keep);
        past
    }
}

impl Bucket {
    /// Names of all versions and delete markers below a prefix.
    fn versions(&self, prefix: &str) -> Vec<String> {
        let prefix = format!("some/prefix/w/{}/{prefix}", self.past.writer.id());
        self.minio.ask(async |client| {
            let listed = client.list_object_versions().bucket(&self.name).prefix(&prefix).send().await.unwrap();
            let versions = listed.versions().iter().map(|v| v.key().unwrap().to_owned());
            versions.chain(listed.delete_markers().iter().map(|m| format!("marker of {}", m.key().unwrap()))).collect()
        })
    }
}

#[test]
fn in_a_bucket_with_versions_nothing_is_left_of_what_was_deleted() {
    let Some(bucket) = bucket("pruning a bucket with versions", "{ last: 1 }") else { return };
    let past = &bucket.past;
    let points = past.daily(STREAM, 4);
    past.host.run(&["prune"]).ends(0).says("3 points forgotten");
    let left = bucket.versions("points/");
    assert!(left.len() == 1 && left[0].ends_with(&points[3].point), "{left:?}");
    // The rest is a matter of days, which pass here for the listings of this store.
    let store = Arc::new(Bent::new(past.repository.store.clone()));
    store.pass(8 * 24);
    assert!(past.prune_in(store.clone()).unwrap().problems.is_empty());
    store.pass(25);
    let outcome = past.prune_in(store).unwrap();
    assert!(outcome.swept.deleted.number >= 6, "{outcome:?}");
    assert_eq!((bucket.versions("s/").len(), bucket.versions("b/").len()), (1, 1));
    past.holds(&points[3]);
    past.host.read(&["check", "--level", "readable"]).ends(0).says("no problem found");
}

#[test]
fn versions_that_were_switched_on_later_are_deleted_too() {
    let Some(minio) = Minio::shared("pruning a bucket whose versions came later") else { return };
    let settings = minio.probed(false);
    let Location::Bucket { bucket: name, .. } = settings.location.clone() else { panic!("no bucket") };
    let bucket = Bucket { minio, name, past: Past::in_bucket(&settings, "{ last: 1 }") };
    minio.ask(async |client| {
        let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        client.put_bucket_versioning().bucket(&bucket.name).versioning_configuration(on).send().await.unwrap();
    });
    let points = bucket.past.daily(STREAM, 4);
    bucket.past.host.run(&["prune"]).ends(0).says("3 points forgotten");
    let left = bucket.versions("points/");
    assert!(left.len() == 1 && left[0].ends_with(&points[3].point), "{left:?}");
}

#[test]
fn what_a_lock_holds_stays_and_is_counted() {
    let Some(bucket) = bucket("pruning a bucket that locks", "{ last: 1 }") else { return };
    let past = &bucket.past;
    let until = Timestamp::now() + SignedDuration::from_hours(1);
    let retain = Some(Retain { mode: LockMode::Governance, until });
    for hours in [72, 48] {
        let options = bkp::repo::write::Options { retain, ..past.options(STREAM) };
        past.back_up_with(STREAM, ago(hours), options);
    }
    let newest = past.back_up(STREAM, ago(1));
    past.prove(&newest, bkp::repo::proof::Level::Readable);
    past.host.run(&["prune"]).ends(0).says("0 points forgotten").says("2 points kept by a lock of the store");
    assert_eq!(past.points(STREAM).len(), 3);
    assert_eq!(bucket.versions("gc/forgotten/"), Vec::<String>::new());
    past.host.read(&["check", "--level", "readable"]).ends(0).says("no problem found");
}
