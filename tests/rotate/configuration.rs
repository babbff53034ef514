//! What is said of rotations that make no sense. Nothing is asked for that: neither server nor Vault.

use super::support::host::Host;
use std::fs;

const GOOD: &str = "    source: db
    account: app
    published: ref+vault://kv/shop/db#/password
    consumers:
      web: { env_file: /srv/shop/.env, variable: DB_PASSWORD, compose: { directory: /srv/shop, service: web } }
";

fn host(rotation: &str) -> Host {
    let host = Host::bare();
    host.configure("vault: { address: 'http://127.0.0.1:1', token_file: /run/secrets/token }\n");
    let policy = format!(
        "policy: shop\nsources:\n  db: {{ mysql: {{ host: db, user: backup, password: ref+env://X }} }}\n  docs: {{ volume: {{ path: /srv }} }}\nrotate:\n  shop-db:\n{rotation}"
    );
    fs::write(host.path("etc/policies.d/shop.yaml"), policy).unwrap();
    host
}

#[test]
fn a_good_one_is_shown_with_all_that_holds() {
    let shown = host(GOOD).run(&["config", "show"]).ends(0);
    for text in ["published", "ref+vault://kv/shop/db#/password", "url_safe", "web of /srv/shop", "distance"] {
        assert!(shown.out.contains(text), "{text}: {}", shown.out);
    }
}

#[test]
fn those_in_the_documentation_are_good() {
    let page = include_str!("../../docs/ROTATION.md");
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    let turns: Vec<&&str> = blocks.iter().filter(|block| block.contains("logins:")).collect();
    assert_eq!(turns.len(), 2);
    for block in turns {
        let host = host(GOOD);
        let sources = "  shop-database: { postgres: { host: db, user: backup, password: ref+env://X } }\n  shop-mongo: { mongo: { host: db, user: backup, password: ref+env://X } }\n";
        fs::write(host.path("etc/policies.d/shop.yaml"), format!("policy: shop\nsources:\n{sources}{block}")).unwrap();
        host.run(&["config", "check"]).ends(0);
    }
}

#[test]
fn the_example_has_a_consumer_of_each_kind() {
    let host = Host::bare();
    host.configure("vault: { address: 'http://127.0.0.1:1', token_file: /run/secrets/token }\n");
    fs::write(host.path("etc/policies.d/consumers.yaml"), include_str!("../../policies/consumers.yaml")).unwrap();
    let shown = host.run(&["config", "show"]).ends(0);
    for text in [
        "web of /srv/till, made again",
        "worker of /srv/till, replaced one by one, each ended within 30m",
        "printer of /srv/till, restarted",
        "till-proxy-1, sent HUP",
        "till_kiosk, given the secret db_password",
        "deployment site of till, given password of the Secret till-db",
        "/usr/local/bin/till-password",
        "till-test-*",
    ] {
        assert!(shown.out.contains(text), "{text}: {}", shown.out);
    }
}

/// In whichever order the policies are read.
#[test]
fn backups_of_another_policy_are_not_locked_out() {
    let other = |user: &str, password: &str| {
        format!(
            "policy: other\nsources:\n  other: {{ mysql: {{ host: DB, port: 3306, user: {user}, password: '{password}' }} }}\n"
        )
    };
    for file in ["a.yaml", "z.yaml"] {
        let host = host(GOOD);
        let path = host.path(&format!("etc/policies.d/{file}"));
        fs::write(&path, other("app", "ref+env://Y")).unwrap();
        let told = "backups of `other` use an account that `shop-db` rotates";
        host.run(&["config", "check"]).ends(2).says(told).says("ref+vault://kv/shop/db#/password");
        for (user, password) in [("app", "ref+vault://kv/shop/db#/password"), ("backup", "ref+env://Y")] {
            fs::write(&path, other(user, password)).unwrap();
            host.run(&["config", "check"]).ends(0);
        }
    }
}

/// One of two that take turns is rotated by nobody else.
#[test]
fn an_account_has_one_owner_whichever_way_it_is_rotated() {
    let host = host(&format!("{GOOD}    logins: [app_a, app_b]\n    published_user: ref+vault://kv/shop/db#/user\n"));
    let path = host.path("etc/policies.d/shop.yaml");
    let text = fs::read_to_string(&path).unwrap().replace("mysql: {", "postgres: {");
    fs::write(&path, &text).unwrap();
    let other = GOOD.replace("account: app", "account: app_b\n    accept_gap: true").replace("/srv/shop", "/srv/other");
    let other = other.replace("kv/shop/db", "kv/other/db").replace("source: db", "source: same");
    let source = "  same: { postgres: { host: db, user: backup, password: ref+env://X } }\n";
    let other = format!("policy: other\nsources:\n{source}rotate:\n  other-db:\n{other}");
    fs::write(host.path("etc/policies.d/z.yaml"), other).unwrap();
    host.run(&["config", "check"]).ends(2).says("rotates the account app_b already");
}

#[test]
fn what_cannot_be_is_told_where_it_stands() {
    for (from, to, what) in [
        ("source: db", "source: docs", "passwords of a volume source cannot be rotated"),
        ("source: db", "source: dbb", "no source `dbb`; did you mean `db`?"),
        ("account: app", "account: backup", "does not change its own password"),
        ("account: app", "accounts: app", "unknown key"),
        ("ref+vault://kv/shop/db#/password", "ref+file:///run/x", "published in Vault"),
        ("ref+vault://kv/shop/db#/password", "ref+vault://kv/shop/db?version=3#/password", "no fixed version"),
        ("variable: DB_PASSWORD, ", "", "belong together"),
        ("variable: DB_PASSWORD", "variable: 'DB PASSWORD'", "name of a variable"),
        (", service: web", "", "needs the directory of the project and a service"),
        ("service: web }", "service: web }, command: [x]", "keep one of them"),
        ("service: web }", "service: web }, container: { name: x }", "keep one of them"),
        ("service: web }", "service: web, signal: HUP }", "does not let a process see other variables"),
        (
            "env_file: /srv/shop/.env, variable: DB_PASSWORD",
            "env_file: /x, variable: X, secret_file: /x",
            "keep one of them",
        ),
        ("env_file: /srv/shop/.env, variable: DB_PASSWORD", "secret_file: x", "absolute"),
        ("service: web }", "service: web, ready: [x] }", "means nothing without `one_by_one: true`"),
        ("service: web }", "service: web, one_by_one: true, signal: HUP }", "keep one of them"),
        ("service: web }", "service: web }, swarm: { service: x, secret: y }", "keep one of them"),
        (
            "env_file: /srv/shop/.env, variable: DB_PASSWORD, compose: { directory: /srv/shop, service: web }",
            "kubernetes: { namespace: x, deployment: y, stateful_set: z }",
            "keep one of them",
        ),
        (
            "env_file: /srv/shop/.env, variable: DB_PASSWORD, compose: { directory: /srv/shop, service: web }",
            "kubernetes: { namespace: x, deployment: y, secret: z }",
            "belong together",
        ),
        (
            "env_file: /srv/shop/.env, variable: DB_PASSWORD, compose: { directory: /srv/shop, service: web }",
            "kubernetes: { namespace: x, deployment: y, server: 'http://x' }",
            "address of the API",
        ),
        ("compose: { directory: /srv/shop, service: web }", "container: { name: x }", "a restart does not let"),
        (
            "env_file: /srv/shop/.env, variable: DB_PASSWORD, compose: { directory: /srv/shop, service: web }",
            "secret_file: /x, container: { name: x, signal: KILL }",
            "expected one of HUP",
        ),
        (", compose: { directory: /srv/shop, service: web }", "", "how this consumer takes up"),
        ("account: app", "account: app\n    password: { length: 8 }", "24 to 128"),
        ("account: app", "account: app\n    nodes: [db1]", "HOST:PORT"),
        ("account: app", "account: app\n    admin: { user: app, password_file: /x }", "name another one"),
        ("account: app", "account: app\n    schedule: sometimes", "schedule"),
        ("account: app", "account: app\n    jitter: 1h", "means nothing without a `schedule`"),
        ("account: app", "account: app\n    window: [weekend]", "hours in which it may begin"),
        ("account: app", "account: app\n    freeze: [december]", "expected days, such as"),
    ] {
        assert!(GOOD.contains(from));
        host(&GOOD.replace(from, to)).run(&["config", "check"]).ends(2).says(what);
    }
    for (from, to, what) in [
        ("mysql: {", "mysql: {", "an account of a mysql source keeps its name"),
        ("mysql: {", "postgres: {", ""),
        ("[app_a, app_b]", "[app_a, app_a]", "two different users"),
        ("[app_a, app_b]", "[app_a, backup]", "backups log in as backup"),
        ("kv/shop/db#/user", "kv/shop/other#/user", "beside each other"),
        ("kv/shop/db#/user", "kv/shop/db#/password", "beside each other"),
        ("    published_user: ref+vault://kv/shop/db#/user\n", "", "belong together"),
        ("account: app", "account: app\n    accept_gap: true", "take turns without a gap"),
    ] {
        let turns = "    logins: [app_a, app_b]\n    published_user: ref+vault://kv/shop/db#/user\n";
        let host = host(&format!("{GOOD}{turns}").replace(from, to));
        let path = host.path("etc/policies.d/shop.yaml");
        let kind = if what.contains("mysql") { "mysql: {" } else { "postgres: {" };
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("mysql: {", kind)).unwrap();
        let answer = host.run(&["config", "check"]);
        if what.is_empty() {
            answer.ends(0);
        } else {
            answer.ends(2).says(what);
        }
    }
    let two = format!("{GOOD}  again:\n{GOOD}");
    host(&two).run(&["config", "check"]).ends(2).says("a password has one owner");
    // The same server by another name, in another policy; and two passwords in one variable.
    let other = "policy: other\nsources:\n  again: { mysql: { host: DB, port: 3306, user: backup, password: ref+env://X } }\nrotate:\n  other-db:\n";
    let good = GOOD.replace("source: db", "source: again");
    for (from, to, what) in [
        ("kv/shop/db", "kv/shop/other", "rotates the account app already"),
        ("account: app", "account: reader", "rotates what is published at ref+vault://kv/shop/db#/password already"),
        (
            "account: app\n    published: ref+vault://kv/shop/db",
            "account: reader\n    published: ref+vault://kv/x",
            "DB_PASSWORD of /srv/shop/.env already",
        ),
    ] {
        assert!(good.contains(from));
        let host = host(GOOD);
        fs::write(host.path("etc/policies.d/other.yaml"), format!("{other}{}", good.replace(from, to))).unwrap();
        host.run(&["config", "check"]).ends(2).says("`other-db` of another policy").says(what);
    }
    let named = host(GOOD);
    let path = named.path("etc/policies.d/shop.yaml");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("shop-db:", "resume:")).unwrap();
    named.run(&["config", "check"]).ends(2).says("is a word of `bkp rotate`");
}

#[test]
fn those_of_keys_in_the_documentation_are_good() {
    let page = include_str!("../../docs/ROTATION_KEYS.md");
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let rotations: Vec<&str> = blocks.filter(|block| block.contains("rotate:\n")).collect();
    assert!(rotations.len() >= 3);
    for block in rotations {
        let host = host(GOOD);
        let sources = "policy: shop\nsources:\n  docs: { volume: { path: /srv } }\n";
        let text = if block.starts_with("policy:") { block.to_owned() } else { format!("{sources}{block}") };
        fs::write(host.path("etc/policies.d/shop.yaml"), text).unwrap();
        host.run(&["config", "check"]).ends(0);
    }
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let minio = "    minio: { endpoint: 'http://minio:9000', bucket: shop }
    account: shop
    admin: { user: root, password_file: /etc/secret }
    published: ref+vault://kv/shop/s3#/secret_key
    published_user: ref+vault://kv/shop/s3#/access_key
    consumers: { web: { command: [\"true\"] } }
";
    let signing = "    signing_key: { jwks: 'ref+vault://kv/shop/jwks#/keys', overlap: 5m, lifetime: 1h }
    published: ref+vault://kv/shop/signing#/key
    published_user: ref+vault://kv/shop/signing#/kid
    consumers: { web: { command: [\"true\"] } }
";
    for good in [minio, signing] {
        host(good).run(&["config", "show"]).ends(0);
    }
    let table = [
        (minio.replace("    minio", "    source: db\n    minio"), "a rotation is of one thing"),
        (minio.replace(", bucket: shop", ""), "`minio` has no `bucket`"),
        (minio.replace("    admin: { user: root, password_file: /etc/secret }\n", ""), "does not replace itself"),
        (minio.replace("    published_user: ref+vault://kv/shop/s3#/access_key\n", ""), "where the name of the key"),
        (minio.replace("account", "logins: [a, b]\n    account"), "none take turns"),
        (minio.replace("account", "password: { length: 64 }\n    account"), "always made of 20 and 40"),
        (signing.replace("kv/shop/jwks#", "kv/shop/signing#"), "could read the key that signs"),
        (signing.replace(", lifetime: 1h", ""), "`signing_key` has no `lifetime`"),
        (signing.replace("overlap: 5m", "overlap: 5m, algorithm: HS256"), "expected `ES256`, `EdDSA` or `RS256`"),
        (signing.replace("published:", "account: app\n    published:"), "`account` means nothing"),
        (
            signing.replace("command: [\"true\"]", "env_file: /srv/.env, variable: KEY, command: [\"true\"]"),
            "several lines",
        ),
        (signing.replace("command: [\"true\"]", "swarm: { service: web, secret: key }"), "holds one only"),
        (minio.replace("account", "accept_gap: true\n    account"), "no gap that bkp could accept"),
    ];
    for (rotation, wrong) in table {
        let answer = host(&rotation).run(&["config", "check"]);
        assert!(answer.err.contains(wrong), "{wrong}: {}", answer.err);
    }
    // One mail account, in two policies.
    let mail = "    smtp: { server: 'smtp://mail:587' }
    account: shop@example.com
    published: ref+vault://kv/shop/mail#/password
    consumers: { web: { command: [\"true\"] } }
";
    let host = host(mail);
    let other = mail.replace("kv/shop/mail", "kv/shop/again");
    let sources = "policy: other\nsources:\n  docs: { volume: { path: /srv } }\nrotate:\n  other-mail:\n";
    fs::write(host.path("etc/policies.d/other.yaml"), format!("{sources}{other}")).unwrap();
    host.run(&["config", "check"]).ends(2).says("rotates the account shop@example.com already");
}
