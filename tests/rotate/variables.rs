//! The `.env` of a real Compose project: all variables that are the password, the right project, and what is left of both when bkp
//! is killed in the middle.

use super::deliveries::Stack;
use super::kills::wait_for_distance;
use super::support::docker::engine::docker;
use super::support::wait_for;
use rustix::process::Signal;
use std::fs;

/// Logs in with what stands in its address.
const SERVICES: &str = r#"services:
  web:
    COMMON
    volumes: ["./shop:/shop"]
    EXTRA
    environment: { PORT: "PORT_IS", MODE: web, DB_PASSWORD: "${DB_PASSWORD}", DATABASE_URL: "${DATABASE_URL:-none}" }
    entrypoint:
      - bash
      - -c
      - |
        LIVES
        [ "$$DATABASE_URL" = none ] && MYSQL_PWD="$$DB_PASSWORD" || MYSQL_PWD="$${DATABASE_URL#*app:}"
        export MYSQL_PWD="$${MYSQL_PWD%@*}"
        lives
    healthcheck: { test: [CMD, test, -e, /tmp/used], interval: 1s, retries: 60 }
"#;

const CONSUMERS: &str = r#"      web:
        env_file: DIRECTORY/.env
        variable: VARIABLE
        compose: { directory: DIRECTORY, service: web }
        check: ["true"]
        patience: 20s
"#;

fn start(part: &str, extra: &str, variable: &str) -> Option<Stack> {
    let services = SERVICES.replace("    EXTRA\n", extra);
    let stack = Stack::start(part, &services, &CONSUMERS.replace("VARIABLE", variable))?;
    fs::write(stack.path(".env"), env(&stack.world.old)).unwrap();
    Some(stack)
}

fn env(password: &str) -> String {
    format!("DB_PASSWORD='{password}' # by hand\nTZ=UTC\nDATABASE_URL=mysql://app:{password}@127.0.0.1/app\n")
}

/// Nothing of bkp is left beside the file.
#[track_caller]
fn is_tidy(stack: &Stack) {
    let names = fs::read_dir(stack.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.contains("bkp")).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_second_variable_with_the_password_is_seen_and_exchanged_with_the_first() {
    let given = "    env_file: [jobs.env]\n";
    let Some(stack) = start("two variables of one .env", given, "DB_PASSWORD") else { return };
    let (old, env_file) = (stack.world.old.clone(), stack.path(".env"));
    let jobs_env = |password: &str| format!("JOBS_PASSWORD={password}\n");
    fs::write(stack.path("jobs.env"), jobs_env("of-something-else")).unwrap();
    stack.compose(&["up", "--detach"]);
    stack.uses("web-1", &old);
    let second = format!("{}#DATABASE_URL (beside DB_PASSWORD)", env_file.display());
    let advice = "in web: `variable: [DB_PASSWORD, DATABASE_URL]`";
    stack.rotate(&["shop-db", "--dry-run"]).fails(13, &second, advice).says_not(&old);
    stack.rotate(&["shop-db"]).fails(13, &second, advice).says_not(&old);
    assert_eq!(stack.world.published(), old, "nothing was begun");

    // Others are told by variables of their own, in this file and another one: `web` is given all of them, and keeps none.
    let told = |consumer: &str, file: &str, variable: &str, reload: &str| {
        format!("      {consumer}: {{ env_file: DIRECTORY/{file}, variable: {variable}, {reload} }}\n")
    };
    let mut consumers = CONSUMERS.replace("VARIABLE", "DB_PASSWORD");
    consumers += &told("mails", ".env", "DATABASE_URL", "command: [\"true\"]");
    consumers += &told("jobs", "jobs.env", "JOBS_PASSWORD", "command: [\"true\"]");
    fs::write(stack.path("jobs.env"), jobs_env(&old)).unwrap();
    stack.compose(&["up", "--detach"]);
    stack.uses("web-1", &old);
    stack.consumers(&consumers);
    let kept = format!("variable JOBS_PASSWORD, by which jobs is told in {}", stack.path("jobs.env").display());
    stack.rotate(&["shop-db"]).fails(13, &kept, "").says("name this one as a consumer of that file, too");
    consumers += &told("web-again", "jobs.env", "JOBS_PASSWORD", "compose: { directory: DIRECTORY, service: web }");
    stack.consumers(&consumers);
    stack.rotate(&["shop-db"]).ends(0);
    let new = stack.one_password_works(&old);
    assert_eq!(fs::read_to_string(&env_file).unwrap(), env(&new));
    assert_eq!(fs::read_to_string(stack.path("jobs.env")).unwrap(), jobs_env(&new));
    stack.uses("web-1", &new);
    stack.nobody_was_refused();
    is_tidy(&stack);
}

/// Its address stands in a file that the project takes in from elsewhere, where nobody looks before.
#[test]
fn who_comes_up_with_the_old_password_is_not_taken_for_moved() {
    let extra = "    extends: { file: common/base.yaml, service: base }\n";
    let Some(stack) = start("consumers that keep the old password", extra, "DB_PASSWORD") else { return };
    let old = stack.world.old.clone();
    let base = |password: &str| {
        let url = format!("mysql://app:{password}@127.0.0.1/app");
        fs::create_dir_all(stack.path("common")).unwrap();
        let text = format!("services:\n  base:\n    environment: {{ REPORTS_URL: \"{url}\" }}\n");
        fs::write(stack.path("common/base.yaml"), text).unwrap();
    };
    base(&old);
    let env_file = stack.path(".env");
    fs::write(&env_file, format!("DB_PASSWORD={old}\n")).unwrap();
    stack.compose(&["up", "--detach"]);
    stack.uses("web-1", &old);
    let place = format!("still has the other password: container {}-web-1 (variable REPORTS_URL)", stack.project);
    // Somebody who wants others to be locked out does not want that of a consumer.
    stack.rotate(&["shop-db", "--despite-unknown"]).fails(1, &place, "rotate again").says_not(&old);
    assert_eq!(stack.world.published(), old, "it was taken back");
    stack.world.target.log_in(&old).unwrap();
    assert_eq!(fs::read_to_string(&env_file).unwrap(), format!("DB_PASSWORD={old}\n"));

    // Put back by somebody after its gate, and before the old one is taken away.
    base("something-else");
    stack.compose(&["up", "--detach"]);
    wait_for_distance(&stack.world);
    let sleeper = stack.begin(&["shop-db"], ("BKP_STOP_AT", "rotate:unused"));
    let stat = format!("/proc/{}/stat", sleeper.child.id());
    wait_for("it is suspended", 120, || fs::read_to_string(&stat).unwrap().contains(") T ").then_some(()));
    let there = fs::read_to_string(&env_file).unwrap();
    fs::write(&env_file, format!("DB_PASSWORD={old}\n")).unwrap();
    sleeper.signal(Signal::CONT);
    stack.world.host.finish(sleeper).fails(1, "web: it would not find the new password any more", "rotate again");
    stack.world.target.log_in(&old).unwrap();
    assert_ne!(there, fs::read_to_string(&env_file).unwrap());
    stack.uses("web-1", &old);
    stack.nobody_was_refused();
    is_tidy(&stack);
}

#[test]
fn a_project_that_runs_under_another_name_is_not_taken_for_a_new_one() {
    let Some(stack) = start("Compose projects with a name of their own", "", "[DB_PASSWORD, DATABASE_URL]") else {
        return;
    };
    let old = stack.world.old.clone();
    stack.rotate(&["shop-db"]).fails(13, "has no container in the project", "docker compose up -d web");
    // What the user's shell said when it was started, which nothing in the directory tells.
    let text = fs::read_to_string(stack.path("compose.yaml")).unwrap();
    fs::write(stack.path("compose.yaml"), text.replacen(&format!("name: {}", stack.project), "name: shop", 1)).unwrap();
    stack.compose(&["--project-name", &stack.project, "up", "--detach"]);
    stack.uses("web-1", &old);
    let runs = format!("runs as the project {}, and Compose takes it for shop", stack.project);
    let advice = format!("project: {} }}", stack.project);
    stack.rotate(&["shop-db", "--dry-run"]).fails(13, &runs, &advice);
    stack.rotate(&["shop-db"]).fails(13, &runs, &advice);
    assert_eq!(stack.world.published(), old, "nothing was begun");
    let named = CONSUMERS.replace("VARIABLE", "[DB_PASSWORD, DATABASE_URL]");
    stack.consumers(&named.replace("service: web }", "service: web, project: PROJECT }"));
    // What else was changed is taken up, too, and told before.
    let text = fs::read_to_string(stack.path("compose.yaml")).unwrap();
    fs::write(stack.path("compose.yaml"), text.replace("MODE: web", "MODE: other")).unwrap();
    stack.rotate(&["shop-db", "--dry-run"]).ends(0).says("web: its project was changed since it was started");
    stack.rotate(&["shop-db"]).ends(0);
    let new = stack.one_password_works(&old);
    stack.uses("web-1", &new);
    let all = docker(&["ps", "--all", "--filter", "label=com.docker.compose.service=web", "--format", "{{.Names}}"]);
    assert_eq!(all.lines().filter(|name| name.starts_with("shop-")).count(), 0, "{all}");
    stack.nobody_was_refused();
}

#[test]
fn what_was_killed_beside_the_file_is_brought_to_its_end() {
    let Some(stack) = start("killed rotations of a .env", "", "[DB_PASSWORD, DATABASE_URL]") else { return };
    let (mut current, env_file) = (stack.world.old.clone(), stack.path(".env"));
    stack.compose(&["up", "--detach"]);
    stack.uses("web-1", &current);
    // The temporary file of the copy, the copy itself, the temporary file of the new one; between `up` and its gate.
    for point in ["rotate-consumer:written", "rotate-consumer:copied", "rotate-consumer:written#2", "rotate:reloaded"] {
        wait_for_distance(&stack.world);
        stack.dies_at(point, &["shop-db"]);
        stack.rotate(&["resume", "shop-db"]).ends(0);
        current = stack.one_password_works(&current);
        assert_eq!(fs::read_to_string(&env_file).unwrap(), env(&current), "{point}");
        stack.uses("web-1", &current);
        is_tidy(&stack);
    }
    // The same on the way back.
    wait_for_distance(&stack.world);
    stack.dies_at("rotate:moved", &["shop-db"]);
    let pending = stack.world.record()["pending"].as_str().unwrap().to_owned();
    stack.rotate(&["shop-db", "--despite-unknown"]).fails(2, "shop-db is under way", "bkp rotate resume shop-db");
    stack.dies_at("rotate-consumer:written", &["rollback", "shop-db"]);
    stack.rotate(&["resume", "shop-db"]).ends(0);
    assert_eq!(stack.one_password_works(&pending), current);
    assert_eq!(fs::read_to_string(&env_file).unwrap(), env(&current));
    stack.uses("web-1", &current);
    stack.nobody_was_refused();
    is_tidy(&stack);
}

/// Workers, as those of Celery but quicker, one of which is replaced after the other.
const WORKERS: &str = r#"services:
  worker:
    COMMON
    scale: 1
    volumes: ["./shop:/shop"]
    environment: { PORT: "PORT_IS", MODE: worker, MYSQL_PWD: "${DB_PASSWORD}" }
    entrypoint:
      - bash
      - -c
      - |
        LIVES
        trap 'exit 0' TERM
        lives
    healthcheck: { disable: true }
"#;

const THEIR_CONSUMER: &str = r#"      worker:
        env_file: DIRECTORY/.env
        variable: DB_PASSWORD
        compose: { directory: DIRECTORY, service: worker, one_by_one: true, ready: [test, -e, /tmp/used], grace: 10s }
        check: ["true"]
        patience: 20s
"#;

#[test]
fn there_are_as_many_workers_as_before_wherever_it_was_killed() {
    let Some(stack) = Stack::start("killed rotations of workers", WORKERS, THEIR_CONSUMER) else { return };
    let mut current = stack.world.old.clone();
    fs::write(stack.path(".env"), format!("DB_PASSWORD={current}\n")).unwrap();
    // One more than the project says.
    stack.compose(&["up", "--detach", "--scale", "worker=2"]);
    let names = || {
        let filter = format!("label=com.docker.compose.project={}", stack.project);
        let listed = docker(&["ps", "--filter", &filter, "--format", "{{.Names}}"]);
        listed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all_use = |password: &str| {
        let names = names();
        assert_eq!(names.len(), 2, "{names:?}");
        for name in names {
            assert!(!name.contains("bkp-2"), "{name} has its own name again");
            stack.uses(name.strip_prefix(&format!("{}-", stack.project)).unwrap(), password);
        }
    };
    all_use(&current);
    for point in ["rotate-consumer:marked", "rotate-consumer:made", "rotate-consumer:ended", "rotate-consumer:made#2"] {
        wait_for_distance(&stack.world);
        stack.dies_at(point, &["shop-db"]);
        stack.rotate(&["resume", "shop-db"]).ends(0);
        current = stack.one_password_works(&current);
        all_use(&current);
    }
    // In the middle of the second one, and back.
    wait_for_distance(&stack.world);
    stack.dies_at("rotate-consumer:made#2", &["shop-db"]);
    let pending = stack.world.record()["pending"].as_str().unwrap().to_owned();
    stack.dies_at("rotate-consumer:ended", &["rollback", "shop-db"]);
    stack.rotate(&["resume", "shop-db"]).ends(0);
    assert_eq!(stack.one_password_works(&pending), current);
    all_use(&current);
    stack.nobody_was_refused();
    is_tidy(&stack);
}
