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
    let key = std::fs::read_to_string(host.path("key.txt")).unwrap();
    assert!(
        key.contains(&format!("# location: {url}/ at {endpoint}\n"))
            || key.contains(&format!("# location: {url} at {endpoint}\n")),
        "{}",
        key.lines().take(6).collect::<String>()
    );
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
    everything_of_the_point_is_locked(minio, &bucket, point["writer"].as_str().unwrap());
    let metrics = run(&["metrics"]).stdout;
    let locked = metrics.lines().find_map(|line| line.strip_prefix("bkp_repo_immutable_until_timestamp_seconds{"));
    let until: f64 = locked.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(until > jiff::Timestamp::now().as_second() as f64 + 23.0 * 3600.0, "{until}");
    run(&["restore", "app", "--to", "restored.db", "--identity", "key.txt"]);
    assert_eq!(read_database(&host.path("restored.db")), ["one"]);
    assert!(run(&["doctor"]).stdout.contains("backups are locked"));
}

/// Points, streams and bodies are locked for nearly a day yet, and no version of them can be deleted.
fn everything_of_the_point_is_locked(minio: &Minio, bucket: &str, writer: &str) {
    let tomorrow = jiff::Timestamp::now().as_second() + 23 * 3600;
    for kind in ["points", "s", "b"] {
        let prefix = format!("some/prefix/w/{writer}/{kind}/");
        minio.ask(async |client| {
            let listed = client.list_object_versions().bucket(bucket).prefix(&prefix).send().await.unwrap();
            assert!(!listed.versions().is_empty(), "{prefix}");
            for version in listed.versions() {
                let key = version.key().unwrap();
                let head = client.head_object().bucket(bucket).key(key).send().await.unwrap();
                assert_eq!(head.object_lock_mode().unwrap().as_str(), "GOVERNANCE", "{key}");
                assert!(head.object_lock_retain_until_date().unwrap().secs() > tomorrow, "{key}");
                let delete = client.delete_object().bucket(bucket).key(key);
                let refused = delete.set_version_id(version.version_id.clone()).send().await;
                assert!(refused.is_err(), "{key} could be deleted");
            }
        });
    }
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

#[test]
fn a_bucket_that_is_away_for_a_while_is_told_once_and_waited_for() {
    let Some(minio) = Minio::alone("a store that comes back") else { return };
    let settings = minio.settings(&minio.bucket(false));
    let url = settings.location.to_string();
    let host = host(&["one"]);
    let credentials = ["--access-key-file", "user", "--secret-key-file", "password"];
    let options = [&["--repo", &url, "--endpoint", endpoint(&settings)][..], &credentials].concat();
    host.ok(&[&["init", "--recovery-key", "key.txt"][..], &options].concat());
    minio.stop();
    let words = ["backup", "--source", "sqlite:app.db", "--patience", "5m"];
    let mut child = host.start(&[&words[..], &options].concat());
    let mut told = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    std::io::BufRead::read_line(&mut told, &mut first).unwrap();
    assert!(
        first.contains(&format!("store {url}")) && first.contains("does not answer, trying again until"),
        "{first}"
    );
    minio.start_again();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut told, &mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    assert_eq!(rest.matches("answers again").count(), 1, "{rest}");
    assert!(!rest.contains("does not answer"), "it is told once:\n{rest}");
}
