//! Workloads of Kubernetes: the real API server and the real controllers make pods and take them away. Their kubelet is played here:
//! a pod is ready when its password lets it in, keeps what it was given when it began, and logs in all the time until it is gone.

use super::kills::wait_for_distance;
use super::servers::Mariadb;
use super::support::supervisor::Supervisor;
use super::support::vault::Vault;
use super::support::{Server, free_port, require, wait_for};
use super::world::{Target, World};
use base64::Engine as _;
use bkp::durable::random_hex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PLANE: Server = Server {
    program: "kubernetes-control-plane",
    variable: "BKP_TEST_CONTROL_PLANE",
    install: "scripts/kubernetes-control-plane",
};
const END: &str = r#"pid=$(cat "$1/pid")
[ -z "$pid" ] || kill -9 "$pid"
while [ -n "$pid" ] && kill -0 "$pid"; do sleep 0.1; done
rm -rf "$1""#;
/// How long a pod goes on after it was told to end.
const LINGERS: Duration = Duration::from_millis(400);

/// The API, as somebody who may do everything.
#[derive(Clone)]
struct Api {
    port: u16,
    token: String,
    client: reqwest::Client,
    runtime: Arc<tokio::runtime::Runtime>,
}

impl Api {
    fn ask(&self, method: &str, path: &str, form: &str, body: Option<String>) -> (u16, Value) {
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let mut request = self.client.request(method.parse().unwrap(), url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("Content-Type", form).body(body);
        }
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
        })
    }

    #[track_caller]
    fn does(&self, method: &str, path: &str, form: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, form, Some(body.to_string()));
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    fn create(&self, path: &str, body: &Value) -> Value {
        self.does("POST", path, "application/json", body)
    }

    fn get(&self, path: &str) -> Value {
        self.ask("GET", path, "", None).1
    }
}

struct Cluster {
    api: Api,
    directory: PathBuf,
    process: Child,
    _supervisor: Supervisor,
}

impl Cluster {
    fn start(part: &str) -> Option<Cluster> {
        let program = require(part, &PLANE)?;
        let directory = tempfile::Builder::new().prefix("bkp-kubernetes-").tempdir().unwrap().keep();
        let token = random_hex(16);
        // The second is the service account of docs/ROTATION.md.
        let tokens =
            format!("{token},admin,1,\"system:masters\"\n{},system:serviceaccount:bkp:bkp,2\n", random_hex(16));
        fs::write(directory.join("tokens.csv"), tokens).unwrap();
        fs::write(directory.join("pid"), "").unwrap();
        let supervisor = Supervisor::new(END, &[directory.as_os_str()]);
        let port = free_port();
        let log = fs::File::create(directory.join("log")).unwrap();
        let mut command = Command::new(program);
        command.arg(&directory).arg(port.to_string()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = command.process_group(0).spawn().unwrap();
        fs::write(directory.join("pid"), process.id().to_string()).unwrap();
        wait_for("the control plane of Kubernetes", 120, || {
            let log = || fs::read_to_string(directory.join("log")).unwrap();
            assert!(process.try_wait().unwrap().is_none(), "it ended: {}", log());
            directory.join("ready").exists().then_some(())
        });
        let authority = fs::read(directory.join("certificates/apiserver.crt")).unwrap();
        let authorities = reqwest::Certificate::from_pem_bundle(&authority).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only(authorities).build().unwrap();
        let runtime =
            Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
        let api = Api { port, token, client, runtime };
        let cluster = Cluster { api, directory, process, _supervisor: supervisor };
        cluster.api.create("/api/v1/namespaces", &json!({ "metadata": { "name": "shop" } }));
        cluster.lets_bkp_in();
        Some(cluster)
    }

    /// With the rights that the page gives, and no others.
    fn lets_bkp_in(&self) {
        let page = include_str!("../../docs/ROTATION.md");
        let (_, rights) = page.split_once("<!-- tests/rotate/kubernetes.rs gives these rights -->\n```yaml\n").unwrap();
        for document in rights.split_once("```").unwrap().0.split("---\n") {
            let kind = document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap().to_lowercase();
            let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/shop/{kind}s");
            let (status, answer) = self.api.ask("POST", &path, "application/yaml", Some(document.to_owned()));
            assert_eq!(status, 201, "{answer}");
        }
    }

    fn token_of_bkp(&self) -> String {
        let tokens = fs::read_to_string(self.directory.join("tokens.csv")).unwrap();
        tokens.lines().nth(1).unwrap().split(',').next().unwrap().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program in a pod.
struct Pod {
    password: String,
    told_to_end: Option<Instant>,
}

type Only = Arc<Mutex<Option<(&'static str, String)>>>;

/// Starts pods, runs them, and ends them.
struct Kubelet {
    logins: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    /// The programs of this workload work with this password only.
    only: Only,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Kubelet {
    fn start(api: Api, target: Arc<dyn Target>) -> Kubelet {
        let (logins, failures) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (only, ends) = (Only::default(), Arc::<AtomicBool>::default());
        let mut kubelet = Kubelet {
            logins: Arc::clone(&logins),
            failures: Arc::clone(&failures),
            only: Arc::clone(&only),
            ends: Arc::clone(&ends),
            thread: None,
        };
        let work = move || {
            let mut pods = HashMap::new();
            while !ends.load(SeqCst) {
                let list = api.get("/api/v1/namespaces/shop/pods");
                for pod in list["items"].as_array().into_iter().flatten() {
                    tend(&api, target.as_ref(), &only, pod, &mut pods);
                }
                for Pod { password, .. } in pods.values() {
                    match target.log_in(password) {
                        Ok(()) => drop(logins.fetch_add(1, SeqCst)),
                        Err(said) => failures.lock().unwrap().push(said),
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        kubelet.thread = Some(std::thread::spawn(work));
        kubelet
    }

    #[track_caller]
    fn nobody_was_refused(&self) {
        let before = self.logins.load(SeqCst);
        wait_for("logins of pods", 60, || (self.logins.load(SeqCst) > before + 3).then_some(()));
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} of {before} logins failed: {failures:?}", failures.len());
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.ends.store(true, SeqCst);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// One look at one pod.
fn tend(api: &Api, target: &dyn Target, only: &Only, pod: &Value, pods: &mut HashMap<String, Pod>) {
    let name = pod["metadata"]["name"].as_str().unwrap();
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/namespaces/shop/pods/{name}");
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        let known = pods.get_mut(&uid);
        let since = known.map(|pod| *pod.told_to_end.get_or_insert_with(Instant::now));
        if since.is_none_or(|since| since.elapsed() > LINGERS) {
            pods.remove(&uid);
            api.ask("DELETE", &path, "application/json", Some(json!({ "gracePeriodSeconds": 0 }).to_string()));
        }
        return;
    }
    if pods.contains_key(&uid) {
        return;
    }
    let spec = &pod["spec"];
    let by_variable = &spec["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["name"];
    let secret = by_variable.as_str().or(spec["volumes"][0]["secret"]["secretName"].as_str()).unwrap();
    let secret = api.get(&format!("/api/v1/namespaces/shop/secrets/{secret}"));
    let decoded = |key: &str| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let password = match by_variable.is_string() {
        true => decoded("password"),
        false => decoded("url").split_once("app:").unwrap().1.split_once('@').unwrap().0.to_owned(),
    };
    let only = only.lock().unwrap().clone().filter(|(app, _)| pod["metadata"]["labels"]["app"] == *app);
    let works = only.is_none_or(|(_, only)| only == password) && target.log_in(&password).is_ok();
    let ready = if works { "True" } else { "False" };
    let state = if works { json!({ "running": {} }) } else { json!({ "waiting": { "reason": "CrashLoopBackOff" } }) };
    let status = json!({ "status": {
        "phase": "Running",
        "conditions": [{ "type": "Ready", "status": ready }, { "type": "ContainersReady", "status": ready }],
        "containerStatuses": [{ "name": "shop", "ready": works, "restartCount": 0, "image": "shop", "imageID": "", "state": state }],
    } });
    let (code, _) =
        api.ask("PATCH", &format!("{path}/status"), "application/merge-patch+json", Some(status.to_string()));
    if works && code == 200 {
        pods.insert(uid, Pod { password, told_to_end: None });
    }
}

/// A shop in a cluster: a Deployment that has the password in a variable, a StatefulSet that has an address in a file.
struct Shop {
    /// It ends before the others do.
    kubelet: Kubelet,
    cluster: Cluster,
    world: World,
}

fn workload(kind: &str, name: &str, replicas: u32, spec: &Value) -> Value {
    let labels = json!({ "app": name });
    let mut pod = json!({ "nodeName": "node", "containers": [{ "name": "shop", "image": "shop" }] });
    pod.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name }, "spec": {
        "replicas": replicas, "selector": { "matchLabels": labels },
        "template": { "metadata": { "labels": labels }, "spec": pod } } })
}

impl Shop {
    fn open(part: &str) -> Option<Shop> {
        let (cluster, vault, server) = (Cluster::start(part)?, Vault::shared(part)?, Mariadb::start(part)?);
        let target: Arc<dyn Target> = Arc::new(server);
        let world = World::with(vault, Arc::clone(&target), "");
        let api = &cluster.api;
        let texts = json!({ "password": world.old, "url": format!("mysql://app:{}@db/app", world.old), "other": "x" });
        api.create(
            "/api/v1/namespaces/shop/secrets",
            &json!({ "metadata": { "name": "db", "labels": { "app": "shop" } }, "stringData": texts }),
        );
        let variable =
            json!([{ "name": "DB_PASSWORD", "valueFrom": { "secretKeyRef": { "name": "db", "key": "password" } } }]);
        let web = json!({ "containers": [{ "name": "shop", "image": "shop", "env": variable }] });
        api.create("/apis/apps/v1/namespaces/shop/deployments", &workload("Deployment", "web", 2, &web));
        let items = json!([{ "key": "url", "path": "url" }]);
        let worker = json!({ "volumes": [{ "name": "db", "secret": { "secretName": "db", "items": items } }] });
        api.create("/apis/apps/v1/namespaces/shop/statefulsets", &workload("StatefulSet", "worker", 1, &worker));
        let kubelet = Kubelet::start(api.clone(), target);
        fs::write(world.host.path("kubernetes-token"), cluster.token_of_bkp()).unwrap();
        let place = format!(
            "server: 'https://127.0.0.1:{}', ca_file: {}, token_file: {}",
            api.port,
            cluster.directory.join("certificates/apiserver.crt").display(),
            world.host.text("kubernetes-token")
        );
        world.consumers_are(&format!(
            "      web:\n        kubernetes: {{ namespace: shop, deployment: web, secret: db, key: password, {place} }}\n        patience: 30s\n      worker:\n        kubernetes: {{ namespace: shop, stateful_set: worker, secret: db, key: url, {place} }}\n        patience: 30s\n"
        ));
        let shop = Shop { kubelet, cluster, world };
        shop.is_ready();
        Some(shop)
    }

    fn is_ready(&self) {
        wait_for("three pods that are ready", 60, || {
            let web = &self.cluster.api.get("/apis/apps/v1/namespaces/shop/deployments/web")["status"]["readyReplicas"];
            let worker =
                &self.cluster.api.get("/apis/apps/v1/namespaces/shop/statefulsets/worker")["status"]["readyReplicas"];
            (*web == 2 && *worker == 1).then_some(())
        });
    }

    /// Names of the Secrets that the two are given.
    fn given(&self) -> [String; 2] {
        let web = self.cluster.api.get("/apis/apps/v1/namespaces/shop/deployments/web");
        let worker = self.cluster.api.get("/apis/apps/v1/namespaces/shop/statefulsets/worker");
        let pod = "/spec/template/spec";
        [
            web.pointer(&format!("{pod}/containers/0/env/0/valueFrom/secretKeyRef/name")),
            worker.pointer(&format!("{pod}/volumes/0/secret/secretName")),
        ]
        .map(|name| name.unwrap().as_str().unwrap().to_owned())
    }

    fn secrets(&self) -> Vec<String> {
        let list = self.cluster.api.get("/api/v1/namespaces/shop/secrets");
        let all = list["items"].as_array().unwrap().iter();
        let mut names: Vec<String> = all.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// Exactly what is published works, and is what all pods have; of versions only those that are given are left.
    #[track_caller]
    fn one_password_works(&self, refused: &str) -> String {
        let published = self.world.published();
        assert_ne!(published, refused);
        self.world.target.log_in(&published).unwrap();
        self.world.target.log_in(refused).unwrap_err();
        let mut expected = self.given().to_vec();
        expected.extend(["db".to_owned()]);
        expected.sort();
        expected.dedup();
        assert_eq!(self.secrets(), expected);
        self.kubelet.nobody_was_refused();
        self.world.is_told_nowhere(&published);
        published
    }
}

#[test]
fn pods_are_given_a_secret_of_another_name_and_nobody_is_refused() {
    let Some(shop) = Shop::open("rotations in Kubernetes") else { return };
    let (world, old) = (&shop.world, shop.world.old.clone());
    // Who is given it and was not told of is seen.
    let api = &shop.cluster.api;
    let pod = json!({ "restartPolicy": "Never", "containers": [{ "name": "shop", "image": "shop", "envFrom": [{ "secretRef": { "name": "db" } }] }] });
    let job = json!({ "metadata": { "name": "nightly" }, "spec": { "schedule": "0 3 * * *", "jobTemplate": { "spec": { "template": { "spec": pod } } } } });
    api.create("/apis/batch/v1/namespaces/shop/cronjobs", &job);
    let what = "workload nightly (cronjob in namespace shop, given the Secret db)";
    world.rotate(&["shop-db", "--dry-run"]).fails(13, what, "--despite-unknown");
    api.does("DELETE", "/apis/batch/v1/namespaces/shop/cronjobs/nightly", "application/json", &json!({}));

    // What the told ones have it in besides: another key of the same Secret, and what stands in the template.
    let web = "/apis/apps/v1/namespaces/shop/deployments/web";
    let variables = |reports: Value| {
        let change = json!([{ "op": "add", "path": "/spec/template/spec/containers/0/env/1", "value": reports }]);
        api.does("PATCH", web, "application/json-patch+json", &change);
    };
    variables(json!({ "name": "URL", "valueFrom": { "secretKeyRef": { "name": "db", "key": "url" } } }));
    variables(json!({ "name": "REPORTS_URL", "value": format!("mysql://app:{old}@db/reports") }));
    world
        .rotate(&["shop-db", "--dry-run"])
        .fails(13, "db#url (given to deployment web in namespace shop)", "--despite-unknown")
        .says("workload web (variable REPORTS_URL in its template)")
        .says_not(&old);
    let both = json!([{ "op": "remove", "path": "/spec/template/spec/containers/0/env/2" }, { "op": "remove", "path": "/spec/template/spec/containers/0/env/1" }]);
    api.does("PATCH", web, "application/json-patch+json", &both);
    shop.is_ready();

    let plan = world.rotate(&["shop-db", "--dry-run"]).ends(0);
    plan.says("a new version of the Secret db with another password, named by deployment web in namespace shop");
    world.rotate(&["shop-db"]).ends(0);
    let new = shop.one_password_works(&old);
    let first = shop.given();
    let secret = shop.cluster.api.get(&format!("/api/v1/namespaces/shop/secrets/{}", first[0]));
    assert_eq!(
        (&secret["immutable"], secret["data"].as_object().unwrap().len()),
        (&true.into(), 3),
        "what is beside it stays"
    );
    assert_eq!(shop.cluster.api.get("/api/v1/namespaces/shop/secrets/db")["data"]["other"], secret["data"]["other"]);

    // Killed when the template was changed, and gone on with: the versions before are deleted, and only those.
    wait_for_distance(world);
    world.dies_at("rotate:delivered", &["shop-db"]);
    shop.kubelet.nobody_was_refused();
    world.rotate(&["resume", "shop-db"]).ends(0);
    let newer = shop.one_password_works(&new);
    let second = shop.given();
    assert!(first[0] != second[0] && first[1] != second[1]);

    // A program that does not take the new one up: the ones from before are given again.
    let path = world.host.path("etc/policies.d/shop.yaml");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("patience: 30s", "patience: 4s")).unwrap();
    for app in ["web", "worker"] {
        *shop.kubelet.only.lock().unwrap() = Some((app, newer.clone()));
        wait_for_distance(world);
        world.rotate(&["shop-db"]).fails(1, "CrashLoopBackOff", "rotate again");
        shop.is_ready();
        assert_eq!(shop.given(), second, "{app}");
        assert_eq!(shop.one_password_works(&new), newer);
    }

    fs::write(world.host.path("kubernetes-token"), "wrong").unwrap();
    world.rotate(&["shop-db", "--dry-run"]).fails(12, "the token is not accepted", "kubernetes-token");
}
