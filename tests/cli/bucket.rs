//! The whole way through a bucket of a real MinIO, described by options, and by a configuration that locks objects.

use crate::servers::minio::{Minio, PASSWORD, USER};
use crate::support::{Bkp, read_database, write_database};
use bkp::store::Settings;

fn minio() -> Option<&'static Minio> {
    Minio::shared("the command line with a bucket")
}

/// A host with a database, and files that hold the credentials of the bucket.
fn host(rows: &[&str]) -> Bkp {
    let host = Bkp::new();
    host.write("user", USER);
    host.write("password", PASSWORD);
    write_database(&host.path("app.db"), rows);
    host
}

fn endpoint(settings: &Settings) -> &str {
    settings.endpoint.as_deref().unwrap()
}

#[test]
fn options_describe_a_bucket() {
    let Some(minio) = minio() else { return };
    let settings = minio.settings(&minio.bucket(false));
    let (url, endpoint) = (settings.location.to_string(), endpoint(&settings));
    let host = host(&["one"]);
    let options =
        ["--repo", &url, "--endpoint", endpoint, "--access-key-file", "user", "--secret-key-file", "password"];
    let ok = |words: &[&str]| host.ok(&[words, &options].concat());
    let made = ok(&["init", "--recovery-key", "key.txt", "--json"]).document();
    assert_eq!(made["store"]["conditional_put"], true, "{made}");
    ok(&["backup", "--source", "sqlite:app.db"]);
    ok(&["restore", "app", "--to", "restored.db", "--identity", "key.txt"]);
    assert_eq!(read_database(&host.path("restored.db")), ["one"]);
    ok(&["check", "--level", "readable", "--identity", "key.txt"]);
    assert!(ok(&["doctor"]).stdout.contains("conditional put: true"));

    host.write("password", "wrong-secret");
    let refused = host.run(&[&["points"][..], &options].concat()).expect_code(12);
    assert!(!refused.stderr.contains("wrong-secret") && !refused.stderr.contains(USER), "{}", refused.stderr);
}

#[test]
fn the_configuration_describes_a_bucket_that_locks() {
    let Some(minio) = minio() else { return };
    let bucket = minio.bucket(true);
    let settings = minio.settings(&bucket);
    let host = host(&["one"]);
    let main = format!(
        "repository:\n  url: {}\n  endpoint: {}\n  access_key_file: {}\n  secret_key_file: {}\n  object_lock: {{ mode: governance, keep: 1d }}\n",
        settings.location,
        endpoint(&settings),
        host.path("user").display(),
        host.path("password").display()
    );
    let app = host.path("app.db");
    host.configure(&main, &format!("policy: main\nsources:\n  app: {{ sqlite: {{ path: {} }} }}\n", app.display()));
    let run = |words: &[&str]| {
        let mut command = host.command(words);
        command.env_remove("BKP_REPO");
        crate::support::Ran::of(command.output().unwrap()).expect_code(0)
    };
    run(&["init", "--recovery-key", "key.txt"]);
    run(&["backup"]);
    let point = run(&["points", "--json"]).document()["points"][0].clone();
    let key =
        format!("some/prefix/w/{}/points/app/{}", point["writer"].as_str().unwrap(), point["point"].as_str().unwrap());
    let head = minio.ask(async |client| client.head_object().bucket(&bucket).key(&key).send().await.unwrap());
    assert_eq!(head.object_lock_mode().unwrap().as_str(), "GOVERNANCE");
    run(&["restore", "app", "--to", "restored.db", "--identity", "key.txt"]);
    assert_eq!(read_database(&host.path("restored.db")), ["one"]);
    assert!(run(&["doctor"]).stdout.contains("backups are locked"));
}

#[test]
fn a_bucket_that_is_not_there() {
    let Some(minio) = minio() else { return };
    let settings = minio.settings("bkp-test-no-such-bucket");
    let url = settings.location.to_string();
    let host = host(&["one"]);
    let options = [
        "--repo",
        &url,
        "--endpoint",
        endpoint(&settings),
        "--access-key-file",
        "user",
        "--secret-key-file",
        "password",
    ];
    host.run(&[&["init"][..], &options].concat()).expect_code(10).says(&["hint: Create the bucket"]);
    host.run(&[&["points"][..], &options].concat()).expect_code(10);
}
