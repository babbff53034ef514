//! Configuration as people write it: the examples that ship, and what is said of files that are wrong.

#![allow(clippy::unwrap_used)] // clippy.toml allows it inside of #[test] only, not in what tests share

use bkp::error::{Failure, Kind};
use bkp::policy::{self, Configuration, Paths, Problems};
use bkp::repo::point::Layout;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// A configuration directory of its own.
struct Host {
    directory: TempDir,
}

impl Host {
    /// `bkp.yaml` is the main file, all others are policies.
    fn with(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("policies.d")).unwrap();
        let host = Host { directory };
        files.iter().for_each(|(name, text)| host.write(name, text.as_bytes()));
        host
    }

    fn write(&self, name: &str, text: &[u8]) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        let below = if name == "bkp.yaml" { "." } else { "policies.d" };
        self.directory.path().join(below).join(name).components().collect()
    }

    fn paths(&self, given: bool) -> Paths {
        let config = self.directory.path().join("bkp.yaml");
        let paths = Paths::resolve(Some(&config), true, &|_| None).unwrap();
        Paths { config_given: given, ..paths }
    }

    fn load(&self) -> Result<Configuration, Problems> {
        policy::load_with(&self.paths(false), &|name| match name {
            "HOST" => Some("db1".into()),
            "S3_SECRET" => Some("hunter2".into()),
            _ => None,
        })
    }

    /// Text without the place of the temporary directory.
    fn told(&self, text: impl ToString) -> String {
        text.to_string().replace(self.directory.path().to_str().unwrap(), "/etc/bkp")
    }

    fn shown(&self) -> String {
        match self.load() {
            Ok(configuration) => self.told(policy::show(&configuration)),
            Err(problems) => panic!("{problems}"),
        }
    }

    fn problems(&self) -> String {
        self.told(self.load().expect_err("the configuration is wrong"))
    }
}

fn problems_of(policy: &str) -> String {
    Host::with(&[("a.yaml", policy)]).problems()
}

fn problems_of_main(main: &str) -> String {
    Host::with(&[("bkp.yaml", main)]).problems()
}

/// Names and texts of what is in `policies/`.
fn examples() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

const NEED_VAULT: [&str; 3] = ["consumers.yaml", "rotated.yaml", "vault.yaml"];

#[test]
fn the_examples_load_together() {
    let examples = examples();
    let names: Vec<_> = examples.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "bkp.yaml",
            "command.yaml",
            "consumers.yaml",
            "django-celery.yaml",
            "documents.yaml",
            "flask-sqlite.yaml",
            "kubernetes.yaml",
            "labelled.yaml",
            "microservices-mysql.yaml",
            "rehearsed.yaml",
            "rotated.yaml",
            "swarm-redis-sentinel.yaml",
            "vault-itself.yaml",
            "vault.yaml",
        ]
    );
    // These need a part of the main file which is a comment there.
    let together = examples.iter().filter(|(name, _)| !NEED_VAULT.contains(&name.as_str()));
    let files: Vec<_> = together.map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let host = Host::with(&files);
    insta::assert_snapshot!("examples", host.shown());
    assert_eq!(host.load().unwrap().warnings, Vec::<String>::new());
}

#[test]
fn the_bucket_in_the_example_loads_too() {
    let (_, text) = examples().into_iter().find(|(name, _)| name == "bkp.yaml").unwrap();
    let (_, alternative) = text.split_once("# repository:\n").unwrap();
    let block = alternative.lines().take_while(|line| line.starts_with("#   "));
    let yaml = block.fold("repository:\n".to_string(), |yaml, line| format!("{yaml}{}\n", &line[2..]));
    let yaml = format!("timezone: UTC\n{yaml}");
    insta::assert_snapshot!(Host::with(&[("bkp.yaml", &yaml)]).shown());
}

/// The main file of the examples with what it says of Vault, which is a comment there.
fn main_with_vault() -> String {
    let (_, text) = examples().into_iter().find(|(name, _)| name == "bkp.yaml").unwrap();
    let (_, section) = text.split_once("# vault:\n").unwrap();
    let block = section.lines().take_while(|line| line.starts_with("#   "));
    let vault = block.fold("vault:\n".to_string(), |yaml, line| format!("{yaml}{}\n", &line[2..]));
    format!("timezone: UTC\nrepository: {{ url: /srv/backup }}\n{vault}")
}

#[test]
fn the_copies_in_the_example_load_too() {
    let (_, text) = examples().into_iter().find(|(name, _)| name == "bkp.yaml").unwrap();
    let (_, copies) = text.split_once("# copies:\n").unwrap();
    let block = copies.lines().take_while(|line| line.starts_with("#   "));
    let yaml = block.fold("copies:\n".to_string(), |yaml, line| format!("{yaml}{}\n", &line[2..]));
    let host = Host::with(&[("bkp.yaml", &format!("timezone: UTC\nrepository: {{ url: /srv/backup }}\n{yaml}"))]);
    insta::assert_snapshot!(host.shown());
}

#[test]
fn copies_that_make_no_sense() {
    insta::assert_snapshot!(problems_of_main(
        "repository: { url: /srv/backup, name: first, keep: { daily: 3 }, bandwidth: fast }\n\
         copies:\n\
         - { url: /srv/second }\n\
         - { name: repository, url: /srv/third, bandwidth: 1kB/s }\n\
         - { name: madrid, url: s3://madrid/p, access_key: ref+env://A, object_lock: { mode: compliance, keep: forever } }\n\
         - { name: madrid, endpoint: https://h, keep: { daily: 0 } }\n"
    ));
}

#[test]
fn the_example_with_vault_loads_with_its_main_file() {
    let (_, policy) = examples().into_iter().find(|(name, _)| name == "vault.yaml").unwrap();
    let host = Host::with(&[("bkp.yaml", &main_with_vault()), ("vault.yaml", &policy)]);
    insta::assert_snapshot!(host.shown());
    let references: Vec<_> = host.load().unwrap().secrets();
    assert_eq!(
        references.len(),
        6,
        "three of sources; of the rotation both that are published, and that of who changes them"
    );
    assert_eq!(references[0].0.to_string(), "ref+vault://kv/ledger/postgres#/password");
}

#[test]
fn the_example_that_is_rotated_loads_with_its_main_file() {
    let (_, policy) = examples().into_iter().find(|(name, _)| name == "rotated.yaml").unwrap();
    let host = Host::with(&[("bkp.yaml", &main_with_vault()), ("rotated.yaml", &policy)]);
    let configuration = host.load().unwrap();
    let (_, rotation) = configuration.rotation("boutique-db").unwrap();
    assert_eq!((rotation.timing.window.len(), rotation.timing.freeze[0].to_string()), (1, "12-15..01-07".into()));
    assert_eq!(configuration.warnings, Vec::<String>::new());
}

#[test]
fn references_to_a_vault_that_nobody_named() {
    let policy = "policy: a\nsources:\n  x: { mysql: { host: h, password: 'ref+vault://kv/x#/password' } }\n";
    insta::assert_snapshot!(problems_of(policy));
}

#[test]
fn references_that_lead_nowhere() {
    let line = |name: &str, reference: &str| format!("  {name}: {{ redis: {{ host: h, password: '{reference}' }} }}\n");
    let lines = [
        line("field", "ref+vault://kv/x"),
        line("mount", "ref+vault://x#/password"),
        line("slash", "ref+vault:///kv/x#/password"),
        line("version", "ref+vault://kv/x?version=last#/password"),
        line("docker", "ref+docker-secret://"),
        line("scheme", "ref+valt://kv/x#/password"),
    ];
    let policy = format!("policy: a\nsources:\n{}", lines.concat());
    insta::assert_snapshot!(Host::with(&[("bkp.yaml", &main_with_vault()), ("a.yaml", &policy)]).problems());
}

#[test]
fn a_vault_that_is_not_described_well() {
    let table = [
        "vault: { approle: { role_id: x } }\n",
        "vault: { address: vault.example:8200 }\n",
        "vault: { address: 'https://me:hunter2@vault.example' , token: hunter2 }\n",
        "vault: { address: https://h, token: ref+env://T, userpass: { user: u } }\n",
        "vault: { address: https://h, token: 'ref+vault://kv/x#/token' }\n",
        "vault: { address: https://h, approle: { mount: auth/approle, wrapped: true } }\n",
        "vault: { address: https://h, kubernetes: { mount: ../x }, client_key_file: /k }\n",
        "vault: { address: https://h, userpass: { user: u }, namespace: 'a b' }\n",
        "vault: { address: https://h, jwt: { role: '' } }\n",
        "vault: { address: https://h, aprole: {} }\n",
    ];
    insta::assert_snapshot!(table.map(problems_of_main).join("\n----\n"));
}

#[test]
fn every_way_into_vault_is_shown_with_its_references() {
    let table = [
        "approle: { role_id: 1b2c, secret_id_file: /s }",
        "approle: { mount: team/approle, role_id: ref+cred://role }",
        "token: ref+cred://vault-token",
        "userpass: { user: bkp, password_file: /p }",
        "kubernetes: { role: bkp }",
        "jwt: { role: bkp, jwt: ref+env://JWT }",
    ];
    let shown = table.map(|way| {
        let main = format!("timezone: UTC\nvault: {{ address: https://h, timeout: 5s, {way} }}\n");
        Host::with(&[("bkp.yaml", &main)]).shown()
    });
    insta::assert_snapshot!(shown.join("\n----\n"));
}

#[test]
fn the_settings_of_an_example_are_those_it_says() {
    let examples = examples();
    let together = examples.iter().filter(|(name, _)| !NEED_VAULT.contains(&name.as_str()));
    let files: Vec<_> = together.map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let configuration = Host::with(&files).load().unwrap();
    let (policy, source) = configuration.source("tasks").unwrap();
    assert_eq!(policy.objectives.rpo.unwrap().as_secs(), 3600);
    assert_eq!(policy.keep.unwrap().hourly, Some(24));
    assert_eq!(policy.timezone.iana_name(), Some("America/Bogota"));
    let bkp::engine::Settings::Sqlite(settings) = &source.settings else { panic!("not sqlite") };
    assert_eq!(settings.path, Path::new("/var/lib/docker/volumes/flask_data/_data/app.db"));
    assert_eq!(configuration.source("logs").unwrap().0.timezone.iana_name(), Some("Europe/Madrid"));
}

#[test]
fn sources_are_chosen_by_name() {
    let a = "policy: shop\nsources:\n  shop: { volume: { path: /a } }\n  cart: { volume: { path: /b } }\n";
    let b = "policy: other\nsources:\n  docs: { volume: { path: /c } }\n";
    let configuration = Host::with(&[("a.yaml", a), ("b.yaml", b)]).load().unwrap();
    let select = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        configuration.select(&names).map(|chosen| chosen.iter().map(|(_, s)| s.name.clone()).collect::<Vec<_>>())
    };
    assert_eq!(select(&[]).unwrap(), ["shop", "cart", "docs"]);
    assert_eq!(select(&["docs", "cart", "docs"]).unwrap(), ["cart", "docs"]);
    assert_eq!(select(&["shop"]).unwrap(), ["shop", "cart"], "a name that is both means the policy");
    let failure = select(&["dosc"]).unwrap_err();
    assert_eq!(failure.to_string(), "there is no policy or source `dosc`; did you mean `docs`?");
    assert_eq!(failure.next_step(), Some("Configured are: cart, docs, other, shop"));
}

#[test]
fn no_file_at_all_is_an_empty_configuration() {
    let host = Host::with(&[]);
    let configuration = host.load().unwrap();
    assert!(configuration.policies.is_empty() && configuration.repository.is_none());
    assert_eq!(configuration.memory, bkp::repo::DEFAULT_MEMORY);
    fs::remove_dir(host.directory.path().join("policies.d")).unwrap();
    assert!(host.load().is_ok());
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let host = Host::with(&[]);
    let problems = policy::load(&host.paths(true)).unwrap_err();
    insta::assert_snapshot!(host.told(&problems));
    let failure: Failure = problems.into();
    assert_eq!(failure.kind(), Kind::Usage);
    assert!(failure.next_step().unwrap().contains("bkp config check"));
}

#[test]
fn an_empty_main_file_is_good_and_an_empty_policy_is_not() {
    assert!(Host::with(&[("bkp.yaml", "")]).load().is_ok());
    assert!(Host::with(&[("bkp.yaml", "# nothing yet\n")]).load().is_ok());
    insta::assert_snapshot!(problems_of("# nothing yet\n"));
}

#[test]
fn unknown_keys_come_with_a_suggestion() {
    insta::assert_snapshot!(problems_of(
        "policy: a\nshedule: '@daily'\nobjectives: { rpo: 24h, rtoo: 1h }\nsources:\n  db:\n    mysql: { container: x }\n  files:\n    volume:\n      paht: /srv\n"
    ));
}

#[test]
fn a_key_that_is_there_twice() {
    insta::assert_snapshot!(problems_of(
        "policy: a\nsources:\n  db: { sqlite: { path: /a.db } }\n  db: { sqlite: { path: /b.db } }\npolicy: b\n"
    ));
}

#[test]
fn wrong_types() {
    insta::assert_snapshot!(problems_of(
        "policy: [a]\nschedule:\nkeep: { daily: many, weekly: '4', monthly: 1.5, last: -1, yearly: 014, hourly: 0 }\nobjectives: 24h\nsources:\n  one: /srv\n  two: { command: { run: pg_dump shop } }\n  three: { volume: { path: { a: b }, exclude: [[x]] } }\n"
    ));
    insta::assert_snapshot!("wrong_types_of_a_whole_file", problems_of("- policy: a\n"));
}

#[test]
fn secrets_written_inline_are_refused_and_not_repeated() {
    let text = problems_of_main(
        "repository:\n  url: s3://AKIAME:hunter2@backups/prod\n  access_key: hunter2\n  secret_key: ${S3_SECRET}\n  session_token: ref+sops:///x\n  secrte_key: hunter2\n  password: |\n    hunter2\n",
    );
    assert!(!text.contains("hunter2"), "{text}");
    insta::assert_snapshot!(text);
    let text =
        problems_of_main("repository: { url: s3://backups, access_key: ref+env://A, secret_key: \"hunter2\" \"x\" }\n");
    assert!(!text.contains("hunter2"), "{text}");
    let text = problems_of_main("repository:\n  secret_key: >\n    hunter2\n   : [hunter2\n");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_repository_that_makes_no_sense() {
    insta::assert_snapshot!(problems_of_main(
        "repository:\n  url: file:///srv/backup\n  endpoint: https://minio:9000/\n  addressing: vritual\n  secret_key_file: relative\n  object_lock: { mode: goverance, keep: 36h }\n"
    ));
    insta::assert_snapshot!(
        "repository_urls",
        ["srv/backup", "file://srv", "s3:///x", "ftp://host/x", "s3://b.ucket/../x"]
            .map(|url| problems_of_main(&format!("repository: {{ url: '{url}' }}\n")))
            .join("\n----\n")
    );
}

#[test]
fn both_forms_of_a_secret() {
    insta::assert_snapshot!(problems_of_main(
        "repository:\n  url: s3://backups\n  access_key: ref+env://A\n  secret_key: ref+env://B\n  secret_key_file: /run/secrets/b\n"
    ));
}

#[test]
fn bad_schedules_durations_sizes_and_zones() {
    let a = "policy: a\nschedule: '61 2 * * *'\ntimezone: Europe/Madird\nobjectives: { rpo: 24, rto: 1.5h }\nsources: { x: { volume: { path: /x } } }\n";
    let b = "policy: b\nschedule: every day\nsources: { y: { volume: { path: /y } } }\n";
    insta::assert_snapshot!(Host::with(&[("bkp.yaml", "memory: 256\n"), ("a.yaml", a), ("b.yaml", b)]).problems());
}

#[test]
fn problems_of_all_files_are_told_at_once() {
    let broken = "policy: broken\nsources: { x: [ }\n";
    let typo =
        "policy: typo\nsources:\n  files: { volume: { path: srv/files } }\n  other: { volume: { name: 'a b' } }\n";
    insta::assert_snapshot!(
        Host::with(&[("bkp.yaml", "timezone: Mars/Olympus\n"), ("a.yaml", broken), ("b.yaml", typo)]).problems()
    );
}

#[test]
fn names_are_taken_once() {
    let a = "policy: a\nsources: { db: { sqlite: { path: /a.db } } }\n";
    let b = "policy: a\nsources:\n  db: { sqlite: { path: /b.db } }\n  .x: { sqlite: { path: /c.db } }\n";
    insta::assert_snapshot!(Host::with(&[("a.yaml", a), ("b.yaml", b)]).problems());
}

#[test]
fn sources_that_say_too_much_or_too_little() {
    insta::assert_snapshot!(problems_of(
        "policy: a\nsources:\n  none: {}\n  two: { sqlite: { path: /a }, volume: { path: /b } }\n  volume: { volume: { path: /a, name: aa } }\n  neither: { volume: { exclude: ['[a'] } }\n  sqlite: { sqlite: { volume: vol, path: ../app.db } }\n  command: { command: { run: [], stream: a/b } }\n"
    ));
    insta::assert_snapshot!("a_policy_without_sources", problems_of("policy: a\nsources: {}\n"));
    insta::assert_snapshot!("a_policy_without_anything", problems_of("schedule: '@daily'\n"));
}

#[test]
fn an_application_of_a_rehearsal_is_described_whole_and_shows_no_password() {
    let of = |source: &str, http: &str| {
        format!("policy: a\nsources: {{ db: {{ {source} }} }}\nrehearse:\n  assert:\n    - http: {http}\n")
    };
    let postgres = "postgres: { container: db, user: u }";
    for (http, told) in [
        ("{ port: 8080 }", "`image` of the application is missing"),
        ("{ image: shop }", "`port` of the application is missing"),
        ("{ image: shop, port: 70000 }", "expected a port"),
        ("{ image: shop, port: 80, path: shop }", "begins with `/`"),
        ("{ image: shop, port: 80, status: 9 }", "expected a status of HTTP"),
        (
            "{ image: shop, port: 80, environment: { DB: \"u:{password}@h\" } }",
            "is seen by whoever may inspect containers",
        ),
        ("{ image: shop, port: 80, command: [serve, \"{password}\"] }", "is seen by whoever may inspect containers"),
    ] {
        let problems = problems_of(&of(postgres, http));
        assert!(problems.contains(told), "{told}: {problems}");
    }
    let file = "{ image: shop, port: 80, files: { /etc/shop.ini: \"{password}\" } }";
    let host = Host::with(&[("a.yaml", &of(postgres, file))]);
    assert_eq!(host.load().unwrap().policies[0].rehearsals.as_ref().unwrap().assertions[0].1.name, "GET / of shop");
    assert!(problems_of(&of("sqlite: { path: /srv/a.db }", file)).contains("cannot be asked this"));
}

#[test]
fn layouts_that_are_none_or_not_for_this_source() {
    insta::assert_snapshot!(problems_of(
        "policy: a\nlayout: chunks\nsources:\n  files: { volume: { path: /srv/files }, layout: dedup }\n  \
         app: { sqlite: { path: /srv/app.db }, layout: dedupe }\n  db: { mysql: { container: db, layout: dedup } }\n  \
         typo: { sqlite: { path: /srv/b.db }, layuot: dedup }\n"
    ));
}

#[test]
fn the_layout_of_a_source_goes_before_that_of_its_policy() {
    let host = Host::with(&[(
        "a.yaml",
        "policy: a\nlayout: dedup\nsources:\n  one: { sqlite: { path: /srv/a.db } }\n  \
         two: { command: { run: [dump] }, layout: stream }\n  files: { volume: { path: /srv/files } }\n",
    )]);
    let layout = |name: &str| host.load().unwrap().source(name).unwrap().1.layout;
    assert_eq!([layout("one"), layout("two")], [Layout::Dedup, Layout::Stream]);
    let shown = host.shown();
    let of = |layout: &str| shown.lines().filter(|line| line.contains(&format!("layout: {layout}"))).count();
    assert_eq!((of("dedup"), of("stream")), (1, 1), "a volume has none:\n{shown}");
    assert!(shown.contains("a.yaml:2"), "where the default is from:\n{shown}");
}

#[test]
fn servers_that_cannot_be_found_or_are_asked_for_what_they_have_not() {
    insta::assert_snapshot!(problems_of(
        "policy: a\nsources:\n  nowhere: { mysql: { user: backup } }\n  twice: { postgres: { container: a, service: b, project: c } }\n  \
         no-project: { mysql: { service: db } }\n  alone: { redis: { container: a, project: b } }\n  \
         port: { mongo: { host: h, port: 70000 } }\n  other: { redis: { host: h, databases: [a], mongodump: true } }\n  \
         label: { mysql: { label: backup } }\n  inline: { mysql: { container: a, password: hunter2 } }\n  \
         sentinel: { redis: { sentinel: { addresses: [10.0.0.1] } } }\n  unknown: { postgres: { conteiner: a } }\n"
    ));
}

#[test]
fn servers_on_the_command_line_are_read_as_in_a_policy() {
    let source =
        policy::adhoc("mysql:container=shop-db,user=backup,password_file=/run/secrets/db,exclude=a+b").unwrap();
    assert_eq!(source.name, "shop-db");
    let written = Host::with(&[(
        "a.yaml",
        "policy: a\nsources:\n  shop-db:\n    mysql: { container: shop-db, user: backup, password_file: /run/secrets/db, exclude: [a, b] }\n",
    )]);
    assert_eq!(source, written.load().unwrap().source("shop-db").unwrap().1.clone());
    let told = |text: &str| policy::adhoc(text).unwrap_err().to_string();
    assert_eq!(told("redis:127.0.0.1"), "no name can be made from `redis:127.0.0.1`");
    assert_eq!(told("cache=redis:127.0.0.1"), "`127.0.0.1`: expected KEY=VALUE");
    assert_eq!(told("mysql:container=db,password=hunter2"), "a secret is never written here");
    assert_eq!(told("mongo:container=db,lock_tables=true"), "`lock_tables` means nothing for mongo");
}

#[test]
fn variables_that_are_not_set() {
    insta::assert_snapshot!(problems_of(
        "policy: a\nsources:\n  one: { sqlite: { path: '${DATA:?the directory of the databases}/a.db' } }\n  two:\n    sqlite:\n      path: /srv/${NONE}/b.db\n  three: { command: { run: [sh, -c, 'echo $HOME'] } }\n"
    ));
}

#[test]
fn variables_are_replaced_in_values() {
    let policy = "timezone: UTC\npolicy: ${HOST}\nkeep:\n  last: ${NONE:-3}\nsources:\n  x: { command: { run: [echo, $$HOME, '${HOST}'] } }\n";
    let host = Host::with(&[("bkp.yaml", "timezone: ${ZONE:-UTC}\n"), ("a.yaml", policy)]);
    insta::assert_snapshot!(host.shown());
}

#[test]
fn passwords_among_arguments_are_not_shown() {
    let policy =
        "policy: a\nsources: { x: { command: { run: [dump, --password=hunter2, 'postgres://u:hunter2@h/db'] } } }\n";
    let shown = Host::with(&[("a.yaml", policy)]).shown();
    assert!(!shown.contains("hunter2") && shown.contains("--password=*******"), "{shown}");
}

#[test]
fn indentation_with_tabs() {
    insta::assert_snapshot!(problems_of("policy: a\nsources:\n\tdb:\n\t\tsqlite: { path: /a.db }\n"));
}

#[test]
fn syntax_that_is_no_yaml() {
    let table = [
        "policy: a\nsources:\n  db: { sqlite: { path: /a.db }\n",
        "policy: a: b\n",
        "policy: *name\n",
        "policy: \"a\n",
        "policy: a\n---\npolicy: b\n",
        "policy: @daily\n",
        "policy: a\n  sources: b\n",
        "policy: !!int x\n",
        "policy: !custom x\n",
        "? [a, b]\n: c\n",
        "policy: a\nsources: { x: { volume: { path: /srv/${HOST}/x } } }\n",
    ];
    insta::assert_snapshot!(table.map(problems_of).join("\n----\n"));
}

#[test]
fn words_stay_what_was_written() {
    let host = Host::with(&[(
        "a.yaml",
        "policy: no\nstack: 0755\nsources:\n  1.10: { volume: { path: /x, exclude: [no, 0755, 1e3, ~, 12:30] } }\n",
    )]);
    insta::assert_snapshot!(host.problems());
    let good = "policy: no\nstack: 0755\nsources:\n  1.10: { volume: { path: /x, exclude: [no, 0755, 1e3, 12:30] } }\n";
    let host = Host::with(&[("bkp.yaml", "timezone: UTC\n"), ("a.yaml", good)]);
    insta::assert_snapshot!("words_stay_what_was_written_shown", host.shown());
}

#[test]
fn a_file_that_is_not_text() {
    let host = Host::with(&[]);
    host.write("a.yaml", b"policy: a\n# caf\xe9\n");
    insta::assert_snapshot!(host.problems());
}

#[test]
fn what_should_be_known_is_warned_of() {
    let good = "policy: a\nsources: { x: { volume: { path: /x } } }\n";
    let host = Host::with(&[
        ("a.yaml", good),
        ("b.yml", "not read"),
        (".hidden.yaml", "not read"),
        ("c.yaml.off", "not read"),
    ]);
    fs::set_permissions(host.path("a.yaml"), fs::Permissions::from_mode(0o666)).unwrap();
    let warnings = host.load().unwrap().warnings.join("\n");
    insta::assert_snapshot!("warnings", host.told(warnings));
}

#[test]
fn the_schema_knows_every_key_of_the_examples() {
    let schema = policy::schema();
    let text = schema.to_string();
    for key in ["repository", "secret_key_file", "object_lock", "sources", "terminator", "exclude", "rpo", "yearly"] {
        assert!(text.contains(&format!("\"{key}\"")), "{key}");
    }
    let policy = &schema["$defs"]["Policy"];
    assert_eq!(policy["additionalProperties"], false);
    let source = policy["properties"]["sources"].to_string();
    assert!(source.contains("#/$defs/Source"), "{source}");
    // Every reference leads somewhere.
    for reference in text.match_indices("\"#/$defs/").map(|(at, found)| &text[at + found.len()..]) {
        let name = &reference[..reference.find('"').unwrap()];
        assert!(schema["$defs"].get(name).is_some(), "{name}");
    }
}

#[test]
fn what_is_shown_as_json_is_the_same() {
    let main = "repository: { url: /srv/backup }\n";
    let host = Host::with(&[("bkp.yaml", main)]);
    let shown = serde_json::to_value(policy::show(&host.load().unwrap())).unwrap();
    assert_eq!(shown[0]["key"], serde_json::json!(["repository", "url"]));
    assert_eq!(shown[0]["value"], "file:///srv/backup");
    assert_eq!(shown[0]["origin"]["line"], 1);
    assert_eq!(shown[2]["origin"], serde_json::Value::Null);
}

/// A file with one character put in, or one taken out.
fn mistyped(text: &str, at: usize, typed: Option<char>) -> String {
    let characters: Vec<char> = text.chars().collect();
    let at = at % characters.len();
    let (before, after) = characters.split_at(at);
    let after = if typed.is_none() { &after[1..] } else { after };
    before.iter().chain(&typed).chain(after).collect()
}

fn typed() -> impl Strategy<Value = Option<char>> {
    proptest::option::of(proptest::sample::select(
        "\n\t :-#'\"[]{},&*!|>%@`$\\~xé\u{0}\u{1b}\u{feff}".chars().collect::<Vec<_>>(),
    ))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Whatever is mistyped, the secret beside it is not repeated, in either half.
    #[test]
    fn no_typing_error_shows_a_secret(at in 0usize..200, typed in typed(), shape in 0usize..4) {
        let text = [
            "repository: { url: s3://backups, access_key: ref+env://A, secret_key: hunttter2222 }\n",
            "repository:\n  url: s3://backups\n  access_key: ref+env://A\n  secret_key: hunttter2222\nmemory: lots\n",
            "notify:\n  - slack: { url: https://hooks.example/T0/hunttter2222 }\n    on: [failure]\n",
            "notify:\n  - mail:\n      smtp: smtp://me:hunttter2222@mail.example\n      pwd: hunttter2222\n      to: [a@b.example]\n",
        ][shape];
        let text = mistyped(text, at, typed);
        let host = Host::with(&[("bkp.yaml", &text)]);
        let told = match host.load() {
            Ok(configuration) => host.told(policy::show(&configuration)),
            Err(problems) => host.told(problems),
        };
        prop_assert!(!told.contains("huntt") && !told.contains("r2222"), "{}\n{}", text, told);
    }

    /// Every example with any typing error is read, or told of with a line that is there.
    #[test]
    fn no_typing_error_breaks_the_program(example in 0usize..4, at in 0usize..2000, typed in typed()) {
        let (name, text) = examples().swap_remove(example);
        let text = mistyped(&text, at, typed);
        let host = Host::with(&[(&name, &text)]);
        if let Err(Problems(problems)) = host.load() {
            for problem in problems {
                prop_assert!(problem.line.unwrap_or(1) <= text.lines().count().max(1), "{}", problem);
                prop_assert!(!problem.to_string().contains('\x1b'), "a control character");
            }
        }
    }
}

#[test]
fn labels_bring_accounts_and_nothing_that_says_where() {
    let told = problems_of(
        "policy: a\nlabels:\n  mysql: { container: db, user: backup }\n  redis: { databases: [a] }\n  run: [rm]\n",
    );
    for expected in
        ["the label tells which container it is", "`databases` means nothing for redis", "unknown key `run`"]
    {
        assert!(told.contains(expected), "`{expected}` is missing:\n{told}");
    }
    let host = Host::with(&[("a.yaml", "policy: a\nlabels: { own_accounts: true }\n")]);
    let configuration = host.load().unwrap();
    assert!(configuration.policies[0].sources.is_empty() && configuration.policies[0].labels.is_some());
    let without = Host::with(&[("a.yaml", "policy: a\nsources: { v: { volume: { path: /srv } } }\n")]).load().unwrap();
    assert_eq!(without.policies[0].labels, None, "off unless somebody says so");
}

#[test]
fn where_the_daemon_listens_and_who_is_let_in() {
    let load = |http: &str| Host::with(&[("bkp.yaml", &format!("http: {http}\n"))]).load();
    let http = |text: &str| load(text).unwrap().http;
    assert_eq!(http("{}").listen.unwrap().to_string(), "127.0.0.1:9427");
    assert!(!http("{}").chosen);
    assert_eq!(http("{ listen: off }").listen, None);
    let all = http("{ listen: \"[::]:80\", token: ref+cred://http, hosts: [BKP.Example] }");
    assert_eq!((all.listen.unwrap().port(), all.chosen, all.hosts), (80, true, vec!["bkp.example".to_owned()]));
    assert_eq!(http("{ listen: 127.0.0.2:1, token_file: /t }").token.unwrap().to_string(), "ref+file:///t");
    for (text, said) in [
        ("{ listen: 0.0.0.0:9427 }", "whoever reaches this address could read along"),
        ("{ listen: \"[2001:db8::1]:1\" }", "whoever reaches this address could read along"),
        ("{ listen: localhost }", "expected an address and a port"),
        ("{ listen: 9427 }", "expected an address and a port"),
        ("{ token: hunter2 }", "a secret is never written here"),
        ("{ token: ref+cred://a, token_file: /b }", "keep one of them"),
    ] {
        let told = load(text).unwrap_err().to_string();
        assert!(told.contains(said) && !told.contains("hunter2"), "{text}: {told}");
    }
    let log = |text: &str| Host::with(&[("bkp.yaml", &format!("log: {text}\n"))]).load();
    assert_eq!(log("json").unwrap().log, Some(policy::LogForm::Json));
    assert!(log("xml").is_err());
}

#[test]
fn who_else_holds_the_head_of_the_journal() {
    let copies = "copies: [{ name: far, url: /far }]\n";
    let load = |text: &str| Host::with(&[("bkp.yaml", &format!("{copies}evidence: {text}\n"))]).load();
    let evidence = |text: &str| load(text).unwrap().evidence;
    assert_eq!(evidence("{}").keep, std::time::Duration::from_secs(400 * 86_400));
    let all = evidence(
        "{ keep: 30d, anchor: { schedule: \"@daily\", to: [{ copy: far }, { file: /a }, { name: b, file: /b }, { mail: { to: [a@b.example], smtp: \"smtp://m.example\" } }, { timestamp: { url: \"https://tsa.example/\" } }] } }",
    );
    let places: Vec<_> = all.places.iter().map(|place| (place.name.as_str(), place.holder.kind())).collect();
    let expected = [("far", "copy"), ("file", "file"), ("b", "file"), ("mail", "mail"), ("timestamp", "timestamp")];
    assert_eq!(places, expected);
    assert_eq!(all.anchor.unwrap().schedule, "@daily");
    let several =
        evidence("{ anchor: { to: [{ timestamp: { url: [\"https://a.example/\", \"https://b.example/\"] } }] } }");
    assert_eq!(several.places[0].holder.address(), "https://a.example/, https://b.example/");
    for (text, said) in [
        ("{ anchor: { schedule: \"@daily\" } }", "the head of the journal goes nowhere else"),
        ("{ anchor: { to: [{ copy: madrid }] } }", "there is no copy `madrid`"),
        ("{ anchor: { to: [{ file: heads }] } }", "expected an absolute path"),
        ("{ anchor: { to: [{ file: /a }, { file: /b }] } }", "there are two places `file`"),
        ("{ anchor: { to: [{ file: /a, copy: far }] } }", "a place is of one kind"),
        ("{ anchor: { to: [{}] } }", "it is not said who is to hold it"),
        ("{ anchor: { to: [{ timestamp: {} }] } }", "`url` is missing"),
        ("{ anchor: { to: [{ timestamp: { url: tsa.example } }] } }", "expected an address"),
        ("{ anchor: { to: [{ timestamp: { url: [] } }] } }", "found an empty list"),
        ("{ anchor: { to: [{ timestamp: { url: [\"https://a.example/\", b.example] } }] } }", "expected an address"),
        (
            "{ anchor: { to: [{ timestamp: { url: \"https://a.example/\" } }, { name: b, timestamp: { url: \"https://b.example/\" } }] } }",
            "a head has one time stamp",
        ),
        ("{ anchor: { schedule: sometimes, to: [{ file: /a }] } }", "sometimes"),
        ("{ keep: long }", "expected a duration"),
        ("{ anchors: {} }", "unknown key `anchors`"),
    ] {
        let told = load(text).unwrap_err().to_string();
        assert!(told.contains(said), "{text}: {told}");
    }
}
