//! PostgreSQL, where two logins of one owner take turns; and a single role, whose gap somebody has accepted.

use super::emergency::{Held, KeepsSessions};
use super::kills;
use super::servers::is_rotated_without_a_gap;
use super::support::docker::Container;
use super::support::host_server::HostServer;
use super::support::vault::Vault;
use super::support::wait_for;
use super::world::{Target, World};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// What docs/ROTATION.md tells people to do once, for a server from before PostgreSQL 16.
pub fn set_up_once() -> String {
    let page = include_str!("../../docs/ROTATION.md");
    let (_, after) = page.split_once("```sql\nCREATE ROLE app_owner NOLOGIN;").unwrap();
    let statements = after.split_once("```").unwrap().0.lines().filter(|line| !line.contains("WITH ADMIN TRUE"));
    let statements = statements.collect::<Vec<_>>().join("\n").replace("a password of its own", "rights");
    format!("CREATE ROLE app_owner NOLOGIN;{statements}")
}

pub const TURNS: &str = "    account: app_owner\n    logins: [app_a, app_b]\n    published_user: PUBLISHED#/user\n";

/// As a program of the stack does it.
pub fn log_in(port: u16, user: &str, password: &str) -> Result<(), String> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user(user).password(password).dbname("postgres");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = runtime.block_on(async {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        let asking = async move { client.simple_query("create temporary table x (y int)").await };
        futures_util::future::join(asking, connection).await.0
    });
    asked.map(drop).map_err(|e| e.as_db_error().map_or_else(|| e.to_string(), ToString::to_string))
}

pub struct Postgres {
    server: Mutex<HostServer>,
    port: u16,
    standby: Option<HostServer>,
}

impl Postgres {
    pub fn start(part: &str, arguments: &[&str]) -> Option<Postgres> {
        let wanted = arguments.iter().fold(HostServer::postgres(), |wanted, argument| wanted.argument(argument));
        let server = wanted.start(part)?;
        server.query("", &set_up_once());
        let port = server.port();
        Some(Postgres { server: Mutex::new(server), port, standby: None })
    }

    fn with_standby(part: &str) -> Option<Postgres> {
        let mut primary = Postgres::start(part, &[])?;
        primary.standby = Some(primary.server.get_mut().unwrap().standby());
        Some(primary)
    }

    pub fn log(&self) -> String {
        self.server.lock().unwrap().log()
    }

    pub fn restart(&self) {
        let mut server = self.server.lock().unwrap();
        server.kill();
        server.start_again();
    }

    pub fn query(&self, statements: &str) -> String {
        self.server.lock().unwrap().query("", statements)
    }

    /// A session that stays, with nobody to end it.
    fn session(&self, user: &str, password: &str) -> Session {
        let mut command = Command::new("psql");
        command.args(["-X", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", user, "postgres"]);
        let child = command.env("PGPASSWORD", password).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let session = Session(child);
        wait_for("a session", 20, || (self.sessions(user) > 0).then_some(()));
        session
    }

    fn sessions(&self, user: &str) -> u32 {
        let question =
            format!("select count(*) from pg_stat_activity where usename = '{user}' and application_name = 'psql'");
        self.query(&question).parse().unwrap()
    }
}

/// Ends when it is dropped.
struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// A server after [`set_up_once`], whose two logins take turns.
pub trait ByTurns: Send + Sync + 'static {
    /// At which bkp and the clients reach it.
    fn port(&self) -> u16;

    /// As its superuser.
    fn query(&self, statements: &str) -> String;

    fn source(&self, password_file: &str) -> String {
        let (port, more) = (self.port(), self.more());
        format!(
            "{{ postgres: {{ host: 127.0.0.1, port: {port}, user: bkp_rot, password_file: {password_file}{more} }} }}"
        )
    }

    /// What the source has besides.
    fn more(&self) -> String {
        String::new()
    }

    fn of(&self, _admin_file: &str) -> String {
        "    source: db\n".into()
    }

    /// The lines of the rotation that name servers.
    fn nodes(&self) -> String {
        String::new()
    }

    /// After another password was set.
    fn is_set_up(&self, _password: &str) {}

    fn logs_in(&self, user: &str, password: &str) -> Result<(), String> {
        log_in(self.port(), user, password)
    }
}

impl<T: ByTurns> Target for T {
    fn source(&self, password_file: &str) -> String {
        ByTurns::source(self, password_file)
    }

    fn of(&self, admin_file: &str) -> String {
        ByTurns::of(self, admin_file)
    }

    fn admin_password(&self) -> String {
        "rights".into()
    }

    fn users(&self) -> Vec<&'static str> {
        vec!["app_a", "app_b"]
    }

    fn account(&self, published: &str) -> String {
        format!("{}{}", TURNS.replace("PUBLISHED", published), self.nodes())
    }

    fn set_up(&self, password: &str) {
        self.query(&format!("ALTER ROLE app_a LOGIN PASSWORD '{password}'; ALTER ROLE app_b NOLOGIN PASSWORD NULL"));
        self.is_set_up(password);
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        self.logs_in("app_a", password)
    }

    fn log_in_as(&self, user: &str, password: &str) -> Result<(), String> {
        self.logs_in(user, password)
    }
}

impl ByTurns for Postgres {
    fn port(&self) -> u16 {
        self.port
    }

    fn query(&self, statements: &str) -> String {
        Postgres::query(self, statements)
    }

    fn nodes(&self) -> String {
        self.standby.as_ref().map_or_else(String::new, |standby| {
            format!("    nodes: ['127.0.0.1:{}', '127.0.0.1:{}']\n", self.port, standby.port())
        })
    }

    fn is_set_up(&self, password: &str) {
        if let Some(standby) = &self.standby {
            wait_for("the standby", 20, || log_in_to_read(standby.port(), "app_a", password).ok());
        }
    }

    fn logs_in(&self, user: &str, password: &str) -> Result<(), String> {
        log_in(self.port, user, password)?;
        self.standby.as_ref().map_or(Ok(()), |standby| log_in_to_read(standby.port(), user, password))
    }
}

impl KeepsSessions for Postgres {
    fn hold(&self, user: &str, password: &str) -> Result<Held, String> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(password).dbname("postgres");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (client, connection) =
            runtime.block_on(config.connect(tokio_postgres::NoTls)).map_err(|e| e.to_string())?;
        runtime.spawn(connection);
        Ok(Box::new(move || runtime.block_on(client.simple_query("select 1")).is_ok()))
    }

    fn is_given(&self, user: &str, password: &str) {
        self.server.lock().unwrap().query("", &format!("ALTER ROLE {user} PASSWORD '{password}'"));
    }
}

/// A standby takes no tables.
fn log_in_to_read(port: u16, user: &str, password: &str) -> Result<(), String> {
    match log_in(port, user, password) {
        Err(said) if said.contains("read-only") => Ok(()),
        answer => answer,
    }
}

#[test]
fn two_logins_of_postgres_take_turns_without_a_gap() {
    let part = "rotation of PostgreSQL";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::start(part, &[])) else { return };
    let server = Arc::new(server);
    is_rotated_without_a_gap(vault, Arc::clone(&server) as Arc<dyn Target>);
    let roles = "select rolname, rolcanlogin, rolpassword like 'SCRAM-SHA-256$4096:%' from pg_authid where rolname like 'app%' order by 1";
    assert_eq!(server.query(roles), "app_a\tt\tt\napp_b\tf\t\napp_owner\tf", "the others have no password");
}

/// Nobody reads the new one before every standby lets it in.
#[test]
fn a_standby_is_waited_for() {
    let part = "rotation of PostgreSQL with a standby";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::with_standby(part)) else { return };
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    world.open_shop();
    let standby = server.standby.as_ref().unwrap();
    standby.query("", "select pg_wal_replay_pause()");
    let running = world.host.start(world.host.command(&["rotate", "shop-db"]));
    let accepted = "select 1 from pg_authid where rolname = 'app_b' and rolpassword is not null";
    wait_for("the new password at the primary", 60, || (server.query(accepted) == "1").then_some(()));
    world.nobody_was_refused();
    assert_eq!(world.published_user(), "app_a");
    assert_eq!(world.states().last().map(String::as_str), Some("pending"));
    standby.query("", "select pg_wal_replay_resume()");
    world.host.finish(running).ends(0);
    world.one_password_works(&world.old);
}

#[test]
fn killed_rotations_of_postgres_are_brought_to_their_end() {
    let part = "killed rotations of PostgreSQL";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::start(part, &[])) else { return };
    kills::converges(vault, Arc::new(server), kills::forward());
}

/// A server that was put back by other means than bkp.
#[test]
fn the_login_of_today_is_applied_again_and_only_the_others_are_locked() {
    let part = "logins of PostgreSQL that are applied again";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::start(part, &[])) else { return };
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    let first = world.old.clone();
    let is_as_published = |world: &World, refused: &str| {
        server.log_in_as("app_a", &world.published()).unwrap();
        server.log_in_as("app_a", refused).unwrap_err();
        server.log_in_as("app_b", refused).unwrap_err();
        assert_eq!(server.query("select rolcanlogin from pg_authid where rolname = 'app_b'"), "f");
    };
    // Vault knows no older version.
    server.set_up("of the backup");
    world.rotate(&["reapply", "shop-db"]).ends(0);
    is_as_published(&world, "of the backup");
    // In the middle of a rotation, where the new one was published already.
    world.dies_at("rotate:published", &["shop-db"]);
    server.set_up(&first);
    world.open_shop();
    world.rotate(&["resume", "shop-db"]).ends(0);
    world.one_password_works(&first);
    // The turn of the same user as in the point.
    kills::wait_for_distance(&world);
    world.rotate(&["shop-db"]).ends(0);
    world.close_shop();
    assert_eq!(world.published_user(), "app_a");
    let put_back = format!("alter role app_a password '{first}'; alter role app_b login password '{first}'");
    server.query(&put_back);
    world.rotate(&["reapply", "shop-db"]).ends(0);
    is_as_published(&world, &first);
    assert_ne!(world.published(), first);
}

#[test]
fn rotations_of_postgres_are_taken_back() {
    let part = "rotations of PostgreSQL that are taken back";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::start(part, &[])) else { return };
    let mut world = World::new(vault, server);
    world.open_shop();
    for point in ["rotate:accepted", "rotate:published", "rotate:delivered", "rotate:moved#2", "rotate:unused"] {
        world.dies_at(point, &["shop-db"]);
        let pending = world.record()["pending"].as_str().unwrap().to_owned();
        assert_eq!(world.record()["pending_user"], "app_b");
        world.rotate(&["rollback", "shop-db"]).ends(0).says("as it was before");
        assert_eq!(world.one_password_works(&pending), world.old, "{point}");
        assert_eq!(world.published_user(), "app_a");
    }
    // By itself, too, and whatever it was killed at on its way.
    kills::all_are_taken_back(&world, kills::BACK.into_iter());
    assert_eq!((world.published(), world.published_user()), (world.old.clone(), "app_a".to_owned()));
}

/// Whoever is still there under the old name was not moved, however young the session is.
#[test]
fn sessions_of_the_old_login_are_seen() {
    let part = "old sessions in PostgreSQL";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::start(part, &[])) else { return };
    let server = Arc::new(server);
    let world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    let commands = fs::read_to_string(world.host.path("etc/policies.d/shop.yaml")).unwrap();
    // Nobody waits for clients here.
    fs::write(world.host.path("etc/policies.d/shop.yaml"), commands.replace("until [", "until true || [")).unwrap();
    world.dies_at("rotate:moved#2", &["shop-db"]);
    let session = server.session("app_a", &world.old);
    let resumed = world.host.start(world.host.command(&["rotate", "resume", "shop-db"]));
    wait_for("both consumers", 60, || {
        (world.states().iter().filter(|state| *state == "moved").count() >= 3).then_some(())
    });
    server.log_in_as("app_a", &world.old).unwrap();
    drop(session);
    world.host.finish(resumed).ends(0);
    server.log_in_as("app_a", &world.old).unwrap_err();
    // Where it is urgent, they are ended.
    let new = world.published();
    let session = server.session("app_b", &new);
    world.rotate(&["shop-db", "--emergency"]).ends(0);
    assert_eq!(server.sessions("app_b"), 0);
    assert_eq!(world.published_user(), "app_a");
    drop(session);
    // Who may end none says so, and the rotation is over: the old one is gone all the same.
    server.query("revoke pg_signal_backend from bkp_rot");
    kills::wait_for_distance(&world);
    let session = server.session("app_a", &world.published());
    world.rotate(&["shop-db", "--emergency"]).ends(0).says("sessions could not be ended: ");
    world.rotate(&["status"]).ends(0).says("nothing under way");
    drop(session);
}

/// With the rights of PostgreSQL 16 and newer, which have to be given for each role; everything by what bkp says.
#[test]
fn what_is_missing_for_turns_is_said_as_statements() {
    let part = "roles of PostgreSQL that are not set up";
    let (Some(vault), Some(container)) = (Vault::shared(part), Container::postgres_18().start(part)) else { return };
    container.query("", "CREATE ROLE bkp_rot LOGIN PASSWORD 'rights'; CREATE ROLE app LOGIN");
    let container = Arc::new(New(container));
    let mut world = World::with(vault, Arc::clone(&container) as Arc<dyn Target>, "");
    world.open_shop();
    let refused =
        world.rotate(&["shop-db", "--dry-run"]).fails(13, "cannot take turns", "CREATE ROLE \"app_b\" NOLOGIN");
    let statements = refused.err.split_once("As a superuser: ").unwrap().1;
    for part in ["SET role = 'app'", "WITH ADMIN TRUE", "pg_read_all_stats", "CREATEROLE"] {
        assert!(statements.contains(part), "{part}: {statements}");
    }
    container.0.query("", statements);
    world.rotate(&["shop-db", "--dry-run"]).ends(0).says("app and app_b by turns");
    world.rotate(&["shop-db"]).ends(0);
    world.one_password_works(&world.old);
    assert_eq!(world.published_user(), "app_b");
    // What the new one makes belongs to the owner, as before.
    let made = container.as_app_b(
        &world.published(),
        "CREATE TABLE public.made (); SELECT tableowner FROM pg_tables WHERE tablename = 'made'",
    );
    assert_eq!(made, "app");
    kills::wait_for_distance(&world);
    container.0.query("", "CREATE SCHEMA theirs AUTHORIZATION app_b");
    world.rotate(&["shop-db"]).fails(13, "app_b itself owns 1 things", "REASSIGN OWNED BY \"app_b\" TO \"app\"");
}

/// Of a role that was there before: it is the owner and one of both.
struct New(Container);

impl New {
    fn as_app_b(&self, password: &str, statements: &str) -> String {
        let command = ["psql", "-XAtq", "-h", "127.0.0.1", "-U", "app_b", "-d", "postgres", "-c", statements];
        let output = self.0.exec_with(&[("PGPASSWORD", password)], &command, b"");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Target for New {
    fn source(&self, password_file: &str) -> String {
        let name = self.0.name();
        format!("{{ postgres: {{ container: {name}, user: bkp_rot, password_file: {password_file} }} }}")
    }

    fn admin_password(&self) -> String {
        "rights".into()
    }

    fn users(&self) -> Vec<&'static str> {
        vec!["app", "app_b"]
    }

    fn account(&self, published: &str) -> String {
        TURNS.replace("app_owner", "app").replace("app_a", "app").replace("PUBLISHED", published)
    }

    fn set_up(&self, password: &str) {
        self.0.query("", &format!("ALTER ROLE app PASSWORD '{password}'; GRANT CREATE ON SCHEMA public TO app"));
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        self.log_in_as("app", password)
    }

    fn log_in_as(&self, user: &str, password: &str) -> Result<(), String> {
        let ip = self.0.ip().to_string();
        let mut config = tokio_postgres::Config::new();
        config.host(&ip).user(user).password(password).dbname("postgres");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(config.connect(tokio_postgres::NoTls)).map(drop).map_err(|e| e.to_string())
    }
}

/// One role with one password.
pub struct Single(pub Postgres);

impl Target for Single {
    fn source(&self, password_file: &str) -> String {
        Target::source(&self.0, password_file)
    }

    fn admin_password(&self) -> String {
        self.0.admin_password()
    }

    fn account(&self, _: &str) -> String {
        "    account: app\n    accept_gap: true\n".into()
    }

    fn set_up(&self, password: &str) {
        self.0.query(&format!("CREATE ROLE app LOGIN PASSWORD '{password}'"));
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        log_in(self.0.port, "app", password)
    }
}

#[test]
fn the_gap_of_a_single_role_is_said_before_and_is_as_short_as_it_can_be() {
    let part = "rotation of a single role of PostgreSQL";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::start(part, &[])) else { return };
    let world = World::with(vault, Arc::new(Single(server)), "");
    let path = world.host.path("etc/policies.d/shop.yaml");
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, policy.replace("    accept_gap: true\n", "")).unwrap();
    world.rotate(&["shop-db", "--dry-run"]).ends(2).says("only one password for an account");
    fs::write(&path, policy.replace("until [", "until true || [")).unwrap();
    world.rotate(&["shop-db", "--dry-run"]).ends(0).says("up to 120 s").says("there is no way back");
    let plan = world.rotate(&["shop-db", "--dry-run", "--json"]).ends(0).json();
    assert_eq!(plan["gap_seconds"], 120.0);
    // Whoever comes after publishes at once what is in force.
    world.dies_at("rotate:accepted", &["shop-db"]);
    assert_eq!(world.published(), world.old);
    world.rotate(&["resume", "shop-db"]).ends(0);
    let new = world.one_password_works(&world.old);
    kills::wait_for_distance(&world);
    world.rotate(&["shop-db"]).ends(0);
    world.one_password_works(&new);
}

/// Nobody knows whether the only password is the old one or the new one, but the server.
#[test]
fn killed_rotations_of_a_single_role_are_brought_to_their_end() {
    let part = "killed rotations of a single role of PostgreSQL";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::start(part, &[])) else { return };
    let world = World::with(vault, Arc::new(Single(server)), "");
    let path = world.host.path("etc/policies.d/shop.yaml");
    let policy = fs::read_to_string(&path).unwrap();
    // Without clients: they would be refused in the gap.
    fs::write(&path, policy.replace("until [", "until true || [")).unwrap();
    // The old one is refused from the first moment: it is neither tested nor retired, and has no sessions to wait for.
    let passed_over = ["rotate:tested", "rotate:draining", "rotate:unused", "rotate:retired"];
    kills::all_converge(&world, kills::forward().filter(|point| !passed_over.contains(point)));
}
