//! Workers of Celery: replaced one by one while there is work, and no task is lost or refused.

use super::deliveries::Stack;
use super::support::docker::engine::docker;
use super::support::docker::image_named;
use super::support::{Server, free_port, require, wait_for_every};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub const CELERY: Server =
    Server { program: "bkp-test-celery", variable: "BKP_TEST_CELERY", install: "scripts/celery" };
const PART: &str = "workers of Celery";

/// Each task logs in anew, with what the worker was given when it began.
const SHOP: &str = r#"
import os, sys, time
import pymysql
from celery import Celery

broker = os.environ["BROKER"]
app = Celery("shop", broker=broker, backend=broker)
app.conf.update(worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)

@app.task
def order(number):
    time.sleep(0.3)
    place = dict(host="127.0.0.1", port=int(os.environ["PORT"]), user="app")
    pymysql.connect(password=os.environ["DB_PASSWORD"], **place).close()
    return number

if os.path.exists("/shop/broken") and "worker" in sys.argv and not os.environ["DB_PASSWORD"].startswith(open("/shop/broken").read()):
    sys.exit("this is the wrong one")
"#;

/// Orders all the time until it is told to stop; then says how many there were, and which failed.
const CUSTOMER: &str = r#"
import os, sys, time
import shop

orders = []
while not os.path.exists(sys.argv[1]):
    orders.append(shop.order.delay(len(orders)))
    time.sleep(0.2)
failed = []
for order in orders:
    try:
        order.get(timeout=60)
    except Exception as why:
        failed.append(repr(why))
print(len(orders), failed)
"#;

const SERVICES: &str = r#"services:
  broker:
    image: REDIS
    network_mode: host
    command: [--port, "BROKER_PORT", --bind, 127.0.0.1, --save, ""]
    environment: { REDIS_PASSWORD: of-the-broker }
    healthcheck: { test: [CMD, redis-cli, -p, "BROKER_PORT", -a, of-the-broker, ping], interval: 1s, retries: 30 }
  worker:
    COMMON
    healthcheck: { disable: true }
    scale: 2
    depends_on: { broker: { condition: service_healthy } }
    volumes: ["./shop:/shop", "/usr:/usr:ro", MOUNTS]
    working_dir: /shop
    stop_grace_period: 1s
    entrypoint: [sh, -c, "cat /proc/sys/kernel/random/uuid > /tmp/name; exec PYTHON -m celery -A shop worker --concurrency 2 -n shop@$$(cat /tmp/name)"]
    environment: { HOME: /tmp, PORT: "PORT_IS", BROKER: "BROKER_IS", DB_PASSWORD: "${DB_PASSWORD}" }
"#;

const CONSUMERS: &str = r#"      worker:
        env_file: DIRECTORY/.env
        variable: DB_PASSWORD
        compose:
          directory: DIRECTORY
          service: worker
          one_by_one: true
          ready: [sh, -c, "PYTHON -m celery -A shop inspect ping -d shop@$$(cat /tmp/name)"]
          grace: 1m
        check: [docker, exec, PROJECT-broker-1, "true"]
        patience: 1m
"#;

struct Customer(Child);

impl Customer {
    fn begin(python: &Path, stack: &Stack, broker: &str) -> Customer {
        let mut command = Command::new(python);
        command.arg("customer.py").arg(stack.path("closed")).current_dir(stack.path("shop"));
        command.env_clear().env("BROKER", broker).stdout(Stdio::piped()).stderr(Stdio::inherit());
        Customer(command.spawn().unwrap())
    }

    /// How many orders there were; none failed.
    fn ends(mut self, stack: &Stack) -> u64 {
        fs::write(stack.path("closed"), "").unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.0.stdout.take().unwrap(), &mut said).unwrap();
        assert!(self.0.wait().unwrap().success());
        fs::remove_file(stack.path("closed")).unwrap();
        let (count, failed) = said.trim().split_once(' ').unwrap();
        assert_eq!(failed, "[]", "of {count} orders these failed");
        count.parse().unwrap()
    }
}

impl Drop for Customer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn workers(stack: &Stack) -> Vec<String> {
    let mut ids: Vec<String> =
        stack.compose(&["ps", "--all", "--quiet", "worker"]).split_whitespace().map(str::to_owned).collect();
    ids.sort();
    ids
}

#[test]
fn workers_are_replaced_one_by_one_and_no_task_is_lost() {
    let Some(python) = require(PART, &CELERY) else { return };
    let output =
        Command::new(&python).args(["-c", "import sys; print(sys.prefix); print(sys.base_prefix)"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mounts: Vec<String> = text
        .lines()
        .map(PathBuf::from)
        .filter(|path| !path.starts_with("/usr"))
        .map(|path| format!("\"{0}:{0}:ro\"", path.display()))
        .collect();
    let port = free_port();
    let broker = format!("redis://:of-the-broker@127.0.0.1:{port}/0");
    let python_text = python.to_str().unwrap();
    let services = SERVICES
        .replace("BROKER_PORT", &port.to_string())
        .replace("BROKER_IS", &broker)
        .replace("REDIS\n", &format!("{}\n", image_named("redis")))
        .replace("MOUNTS", &mounts.join(", "))
        .replace("PYTHON", python_text)
        .replace("    stop_grace_period: 1s\n", "");
    let Some(stack) = Stack::start(PART, &services, &CONSUMERS.replace("PYTHON", python_text)) else { return };
    let old = stack.world.old.clone();
    fs::write(stack.path(".env"), format!("DB_PASSWORD={old}\n")).unwrap();
    fs::write(stack.path("shop/shop.py"), SHOP).unwrap();
    fs::write(stack.path("shop/customer.py"), CUSTOMER).unwrap();
    stack.compose(&["up", "--detach"]);
    let first = workers(&stack);
    assert_eq!(first.len(), 2);
    let ping = format!("{python_text} -m celery -A shop inspect ping -d shop@$(cat /tmp/name)");
    for id in &first {
        wait_for_every(500, "a worker", 60, || {
            let output = Command::new("docker").args(["exec", id, "sh", "-c", &ping]).output().unwrap();
            output.status.success().then_some(())
        });
    }

    let customer = Customer::begin(&python, &stack, &broker);
    stack.rotate(&["shop-db"]).ends(0);
    let new = stack.one_password_works(&old);
    assert!(customer.ends(&stack) > 5);
    let second = workers(&stack);
    assert!(second.len() == 2 && second.iter().all(|id| !first.contains(id)), "{first:?} {second:?}");
    for id in &second {
        let given = docker(&["inspect", "--format", "{{json .Config.Env}}", id]);
        assert!(given.contains(&format!("DB_PASSWORD={new}")));
    }

    // Killed between a new worker and the end of an old one: that is finished first, and there are two again.
    crate::kills::wait_for_distance(&stack.world);
    let customer = Customer::begin(&python, &stack, &broker);
    stack.dies_at("rotate-consumer:made", &["shop-db"]);
    assert_eq!(workers(&stack).len(), 3);
    stack.rotate(&["resume", "shop-db"]).ends(0);
    let new = stack.one_password_works(&new);
    assert!(customer.ends(&stack) > 5);
    let third = workers(&stack);
    assert!(third.len() == 2 && third.iter().all(|id| !second.contains(id)), "{second:?} {third:?}");
    let second = third;

    // New workers that do not come up: the old ones were never touched.
    fs::write(stack.path("shop/broken"), &new[..12]).unwrap();
    let path = stack.world.host.path("etc/policies.d/shop.yaml");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("patience: 1m", "patience: 5s")).unwrap();
    let customer = Customer::begin(&python, &stack, &broker);
    crate::kills::wait_for_distance(&stack.world);
    stack.rotate(&["shop-db"]).fails(1, "a new container of worker is not ready", "rotate again");
    assert_eq!(stack.one_password_works(&old), new);
    assert!(customer.ends(&stack) > 5);
    assert_eq!(workers(&stack), second);
    wait_for_every(200, "both workers", 30, || {
        let states = docker(&[&["inspect", "--format", "{{.State.Status}}"][..], &[&second[0], &second[1]]].concat());
        (states == "running\nrunning").then_some(())
    });
}
