//! S3 as it is with a good server: what a probe finds, credentials, TLS, addressing, what is left behind.

use crate::contract::{PART, content, key};
use crate::support::minio::{Minio, PASSWORD};
use crate::support::{free_port, run};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bkp::error::{Failure, Kind};
use bkp::secret::SecretRef;
use bkp::store::probe::{Checksum, Versioning, probe};
use bkp::store::retry::Budget;
use bkp::store::{Addressing, Location, Settings, StoreError, Watch, create, open, open_bare, read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Gives up soon.
const SHORT: Budget = Budget {
    total: Duration::from_millis(300),
    first_contact: Duration::from_millis(300),
    base: Duration::from_millis(10),
    cap: Duration::from_millis(50),
};

fn file(directory: &Path, name: &str, content: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_probe_finds_what_minio_does_and_leaves_nothing() {
    let Some(minio) = Minio::shared("probing S3") else { return };
    for lock in [false, true] {
        let bucket = minio.bucket(lock);
        let found = probe(&minio.settings(&bucket), jiff::Timestamp::now()).unwrap();
        assert!(found.conditional_put);
        assert_eq!(found.checksum, Checksum::Sha256);
        assert_eq!(found.versioning, if lock { Versioning::On } else { Versioning::Off });
        assert_eq!(found.object_lock, lock);
        let left = minio.ask(async |client| client.list_object_versions().bucket(&bucket).send().await.unwrap());
        assert_eq!((left.versions().len(), left.delete_markers().len()), (0, 0), "lock: {lock}");
    }
}

#[test]
fn a_dropped_upload_leaves_nothing_in_the_bucket() {
    let Some(minio) = Minio::shared("aborted uploads on S3") else { return };
    let bucket = minio.bucket(false);
    let store = open(&minio.settings(&bucket)).unwrap();
    let uploads = || {
        let whole_name = "some/prefix/x"; // MinIO lists the uploads of one name only
        let list = async |client: aws_sdk_s3::Client| {
            client.list_multipart_uploads().bucket(&bucket).prefix(whole_name).send().await.unwrap()
        };
        minio.ask(list).uploads().len()
    };
    let upload = store.upload(&key("x"), None).unwrap();
    upload.part(1, 0, content(PART, 1)).unwrap();
    assert_eq!(uploads(), 1);
    drop(upload);
    assert_eq!(uploads(), 0);
    assert!(store.list("").unwrap().is_empty());
}

/// Finishes or aborts the only upload of `x` past the store, as a request does whose answer was lost.
fn end_upload(minio: &Minio, bucket: &str, complete: bool) {
    let name = "some/prefix/x";
    minio.ask(async |client| {
        let listed = client.list_multipart_uploads().bucket(bucket).prefix(name).send().await.unwrap();
        let id = listed.uploads()[0].upload_id().unwrap();
        if !complete {
            client.abort_multipart_upload().bucket(bucket).key(name).upload_id(id).send().await.unwrap();
            return;
        }
        let parts = client.list_parts().bucket(bucket).key(name).upload_id(id).send().await.unwrap();
        let completed = parts.parts().iter().map(|part| {
            CompletedPart::builder()
                .set_part_number(part.part_number)
                .set_e_tag(part.e_tag.clone())
                .set_checksum_sha256(part.checksum_sha256.clone())
                .build()
        });
        let list = CompletedMultipartUpload::builder().set_parts(Some(completed.collect())).build();
        let request = client.complete_multipart_upload().bucket(bucket).key(name).upload_id(id);
        request.multipart_upload(list).send().await.unwrap();
    });
}

#[test]
fn finishing_what_was_finished_without_an_answer_succeeds() {
    let Some(minio) = Minio::shared("lost answers on S3") else { return };
    let bucket = minio.bucket(false);
    let store = open(&minio.settings(&bucket)).unwrap();
    let begin = |seed| {
        let upload = store.upload(&key("x"), None).unwrap();
        upload.part(1, 0, content(PART, seed)).unwrap();
        upload.part(2, PART as u64, content(700, seed)).unwrap();
        upload
    };
    let upload = begin(1);
    end_upload(minio, &bucket, true);
    upload.finish().unwrap();
    let whole = read(&*store, &key("x")).unwrap();
    assert!(whole[..PART] == content(PART, 1) && whole[PART..] == content(700, 1));

    // The same name, size and number of parts, but other bytes: the upload is lost, and that is told.
    let upload = begin(2);
    end_upload(minio, &bucket, false);
    let error = upload.finish().unwrap_err();
    assert!(matches!(&error, StoreError::Other(text) if text.contains("NoSuchUpload")), "{error:?}");
    assert!(read(&*store, &key("x")).unwrap() == whole);
}

#[test]
fn the_prefix_keeps_neighbours_apart() {
    let Some(minio) = Minio::shared("prefixes on S3") else { return };
    let bucket = minio.bucket(false);
    let at = |prefix: &str| {
        let location = Location::Bucket { bucket: bucket.clone(), prefix: prefix.into() };
        open(&Settings { location, ..minio.settings(&bucket) }).unwrap()
    };
    let (whole, one, other) = (at(""), at("one"), at("one-more"));
    one.put(&key("a"), content(1, 1), None).unwrap();
    other.put(&key("a"), content(2, 1), None).unwrap();
    assert_eq!(one.list("").unwrap().len(), 1);
    assert_eq!(other.list("").unwrap()[0].size, 2);
    let names: Vec<_> = whole.list("one").unwrap().into_iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(names, ["one-more/a", "one/a"]);
    assert_eq!(one.describe(), format!("s3://{bucket}/one"));
}

#[test]
fn the_store_keeps_the_checksum_of_an_object_in_one_piece() {
    use sha2::{Digest, Sha256};
    let Some(minio) = Minio::shared("checksums on S3") else { return };
    let store = open(&minio.settings(&minio.bucket(false))).unwrap();
    store.put(&key("x"), content(1000, 1), None).unwrap();
    assert_eq!(store.head(&key("x")).unwrap().sha256, Some(Sha256::digest(content(1000, 1)).into()));
    let upload = store.upload(&key("y"), None).unwrap();
    upload.part(1, 0, content(1000, 1)).unwrap();
    upload.finish().unwrap();
    assert_eq!(store.head(&key("y")).unwrap().sha256, None);
}

/// Foreign names below the prefix are passed over, as in a directory.
#[test]
fn foreign_names_in_the_bucket_are_no_objects() {
    let Some(minio) = Minio::shared("foreign names on S3") else { return };
    let bucket = minio.bucket(false);
    let store = open(&minio.settings(&bucket)).unwrap();
    store.put(&key("real"), content(1, 1), None).unwrap();
    for name in ["with space", "déjà", "folder/", ".hidden"] {
        minio.ask(async |client| {
            client.put_object().bucket(&bucket).key(format!("some/prefix/{name}")).send().await.unwrap();
        });
    }
    assert_eq!(store.list("").unwrap().len(), 1);
}

#[test]
fn a_wrong_secret_is_refused_and_not_repeated() {
    let Some(minio) = Minio::shared("credentials on S3") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let good = minio.settings(&minio.bucket(false));
    let wrong = Some(SecretRef::File(file(scratch.path(), "wrong", "hunter2-hunter2")));
    let wrong_secret = Settings { secret_key: wrong.clone(), ..good.clone() };
    let wrong_user = Settings { access_key: wrong, ..good };
    for settings in [wrong_secret, wrong_user] {
        let store = open(&settings).unwrap();
        let errors = [
            store.put(&key("x"), content(1, 1), None).unwrap_err(),
            store.put_new(&key("x"), content(1, 1), None).unwrap_err(),
            store.upload(&key("x"), None).map(|_| ()).unwrap_err(),
            store.get(&key("x"), None).map(|_| ()).unwrap_err(),
            store.head(&key("x")).map(|_| ()).unwrap_err(),
            store.list("").map(|_| ()).unwrap_err(),
            store.delete(&key("x")).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, StoreError::Denied(_)), "{error:?}");
            let failure = Failure::from(error);
            assert_eq!(failure.kind(), Kind::Key);
            let shown = format!("{} {failure:?} {settings:?}", failure.full());
            assert!(!shown.contains("hunter2") && !shown.contains(PASSWORD), "{shown}");
        }
        assert_eq!(create(&settings, Watch::default()).err().unwrap().kind(), Kind::Key);
        assert_eq!(probe(&settings, jiff::Timestamp::now()).err().unwrap().kind(), Kind::Key);
    }
}

#[test]
fn a_missing_bucket_is_no_repository() {
    let Some(minio) = Minio::shared("missing buckets on S3") else { return };
    let settings = minio.settings("test-there-is-none");
    let store = open(&settings).unwrap();
    let errors = [
        store.put(&key("x"), content(1, 1), None).unwrap_err(),
        store.put_new(&key("x"), content(1, 1), None).unwrap_err(),
        store.upload(&key("x"), None).map(|_| ()).unwrap_err(),
        store.get(&key("x"), None).map(|_| ()).unwrap_err(),
        store.head(&key("x")).map(|_| ()).unwrap_err(),
        store.list("").map(|_| ()).unwrap_err(),
        store.delete(&key("x")).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, StoreError::NoStore(_)), "{error:?}");
    }
    let failure = create(&settings, Watch::default()).err().unwrap();
    assert_eq!(failure.kind(), Kind::NoRepository);
    assert!(failure.next_step().unwrap().contains("Create the bucket"));
}

#[test]
fn a_dead_endpoint_is_to_be_tried_later() {
    let scratch = tempfile::tempdir().unwrap();
    let secret = Some(SecretRef::File(file(scratch.path(), "key", "some-key")));
    let endpoint = Some(format!("http://127.0.0.1:{}", free_port()));
    let location = Location::Bucket { bucket: "backups".into(), prefix: String::new() };
    let settings =
        Settings { endpoint, access_key: secret.clone(), secret_key: secret, budget: SHORT, ..Settings::new(location) };
    let failure = Failure::from(open(&settings).unwrap().list("").unwrap_err());
    assert_eq!(failure.kind(), Kind::TryLater);
    assert!(
        failure.full().contains("listing s3://backups") && failure.full().contains("refused"),
        "{}",
        failure.full()
    );
    assert!(open_bare(&settings).unwrap().put(&key("x"), content(1, 1), None).unwrap_err().transient());
}

#[test]
fn a_server_with_a_certificate_of_an_own_authority_is_trusted_by_ca_file_only() {
    let made = tempfile::tempdir().unwrap();
    make_certificates(made.path());
    let Some(minio) = Minio::with_tls("TLS on S3", made.path()) else { return };
    let settings = minio.probed(false);
    let store = open(&settings).unwrap();
    let upload = store.upload(&key("big"), None).unwrap();
    upload.part(1, 0, content(PART, 1)).unwrap();
    upload.part(2, PART as u64, content(100, 2)).unwrap();
    upload.finish().unwrap();
    store.put(&key("x"), content(100_000, 1), None).unwrap();
    assert_eq!(read(&*store, &key("x")).unwrap(), content(100_000, 1));
    assert_eq!(store.head(&key("big")).unwrap().size, PART as u64 + 100);

    let distrusting = Settings { ca_file: Some(made.path().join("stranger.crt")), ..settings };
    let failure = Failure::from(open(&distrusting).unwrap().list("").unwrap_err());
    assert_eq!(failure.kind(), Kind::Failed, "{}", failure.full());
    assert!(failure.full().contains("certificate") && failure.full().contains("ca_file"), "{}", failure.full());
}

/// An authority, a certificate for 127.0.0.1 that it signed, and an authority that signed nothing.
fn make_certificates(made: &Path) {
    let openssl = |arguments: &str| run("openssl", &arguments.split(' ').collect::<Vec<_>>(), made);
    let authority = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout";
    openssl(&format!("{authority} ca.key -out ca.crt"));
    openssl(&format!("{authority} stranger.key -out stranger.crt"));
    openssl("req -newkey rsa:2048 -nodes -subj /CN=minio -keyout server.key -out server.csr");
    let names = file(made, "names", "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
    let sign = "x509 -req -days 2 -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -extfile";
    openssl(&format!("{sign} {}", names.display()));
}

/// `bucket.localhost` is this machine, and MinIO takes names below `localhost` for buckets. What the test writes by one
/// way of addressing it reads by the other.
#[test]
fn buckets_are_found_by_host_name_too() {
    let Some(minio) = Minio::shared("virtual-host addressing on S3") else { return };
    let by_path = minio.settings(&minio.bucket(false));
    let endpoint = Some(format!("http://localhost:{}", minio.port()));
    let by_host = Settings { endpoint, addressing: Some(Addressing::Virtual), ..by_path.clone() };
    let (by_path, by_host) = (open(&by_path).unwrap(), open(&by_host).unwrap());
    by_host.put(&key("x"), content(1000, 1), None).unwrap();
    assert_eq!(read(&*by_path, &key("x")).unwrap(), content(1000, 1));
    let upload = by_host.upload(&key("y"), None).unwrap();
    upload.part(1, 0, content(10, 2)).unwrap();
    upload.finish().unwrap();
    assert_eq!(by_host.list("").unwrap(), by_path.list("").unwrap());
    assert_eq!(by_host.list("").unwrap().len(), 2);
}
