//! A real Vault on loopback with its storage in a temporary directory, and a proxy that misbehaves in front of it.
#![allow(dead_code, clippy::unwrap_used)] // each test binary uses its own part of this, and all of it is test

use super::supervisor::Supervisor;
use super::{Server, free_port, require, wait_for};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::runtime::Runtime;

pub const VAULT: Server = Server { program: "vault", variable: "BKP_TEST_VAULT", install: "scripts/vault" };

const END: &str = r#"pid=$(cat "$1/pid")
[ -z "$pid" ] || kill -9 "$pid"
while [ -n "$pid" ] && kill -0 "$pid"; do sleep 0.1; done
rm -rf "$1""#;

/// Certificates of an authority of one's own.
const CERTIFICATES: &str = r"set -e
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 1 -subj /CN=authority 2>/dev/null
printf 'subjectAltName=IP:127.0.0.1' > extensions
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out request -subj /CN=vault 2>/dev/null
openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile extensions -out server.pem 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client.key -out request -subj /CN=bkp 2>/dev/null
openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile extensions -out client.pem 2>/dev/null
chmod 644 *.key";

/// Ended, and its files removed, when this is dropped.
pub struct Vault {
    program: PathBuf,
    directory: PathBuf,
    port: u16,
    tls: bool,
    child: Mutex<Option<Child>>,
    unseal_key: String,
    root: String,
    client: reqwest::Client,
    _supervisor: Supervisor,
}

impl Vault {
    /// The server that all tests of this process share: it stays as it is, and each uses names of its own.
    pub fn shared(part: &str) -> Option<&'static Vault> {
        static SHARED: OnceLock<Option<Vault>> = OnceLock::new();
        SHARED.get_or_init(|| Vault::alone(part)).as_ref()
    }

    /// A server of one test's own.
    pub fn alone(part: &str) -> Option<Vault> {
        Vault::start(part, false).map(Vault::furnished)
    }

    /// One that was just set up, without engines and logins.
    pub fn bare(part: &str) -> Option<Vault> {
        Vault::start(part, false)
    }

    /// One that keeps its data by itself, and can give and take snapshots of it; just set up.
    pub fn with_raft(part: &str) -> Option<Vault> {
        Vault::begin(part, false, true)
    }

    /// With TLS, and a certificate of an authority that only [`Vault::file`] `ca.pem` knows; it wants one of its clients, too.
    pub fn with_tls(part: &str) -> Option<Vault> {
        Vault::start(part, true).map(Vault::furnished)
    }

    fn start(part: &str, tls: bool) -> Option<Vault> {
        Vault::begin(part, tls, false)
    }

    fn begin(part: &str, tls: bool, raft: bool) -> Option<Vault> {
        let program = require(part, &VAULT)?;
        let directory = tempfile::Builder::new().prefix("bkp-vault-").tempdir().unwrap().keep();
        fs::write(directory.join("pid"), "").unwrap();
        let supervisor = Supervisor::new(END, &[directory.as_os_str()]);
        let mut client = reqwest::Client::builder().timeout(Duration::from_secs(20)).no_proxy();
        let port = free_port();
        let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let security = if tls {
            super::run("sh", &["-c", CERTIFICATES], &directory);
            let identity = [fs::read(path("client.pem")).unwrap(), fs::read(path("client.key")).unwrap()].concat();
            let authority = reqwest::Certificate::from_pem(&fs::read(path("ca.pem")).unwrap()).unwrap();
            client = client.tls_certs_only([authority]).identity(reqwest::Identity::from_pem(&identity).unwrap());
            format!(
                "tls_cert_file = \"{}\" tls_key_file = \"{}\" tls_client_ca_file = \"{}\" tls_require_and_verify_client_cert = true",
                path("server.pem"),
                path("server.key"),
                path("ca.pem")
            )
        } else {
            client = client.tls_certs_only([]);
            "tls_disable = true".into()
        };
        let storage = match raft {
            true => "storage \"raft\" {\n node_id = \"one\"\n performance_multiplier = 1\n",
            false => "storage \"file\" {\n",
        };
        let addresses = match raft {
            true => {
                format!("api_addr = \"http://127.0.0.1:{port}\"\ncluster_addr = \"http://127.0.0.1:{}\"\n", free_port())
            }
            false => String::new(),
        };
        fs::create_dir(path("data")).unwrap();
        let configuration = format!(
            "{storage} path = \"{}\"\n}}\n{addresses}listener \"tcp\" {{ address = \"127.0.0.1:{port}\" {security} }}\ndisable_mlock = true\n",
            path("data")
        );
        fs::write(directory.join("vault.hcl"), configuration.replace("\" tls_", "\"\n tls_")).unwrap();
        let mut vault = Vault {
            program,
            directory,
            port,
            tls,
            child: Mutex::default(),
            unseal_key: String::new(),
            root: String::new(),
            client: client.build().unwrap(),
            _supervisor: supervisor,
        };
        vault.run();
        let keys = vault.ask("PUT", "sys/init", Some(json!({ "secret_shares": 1, "secret_threshold": 1 })), &[]).1;
        vault.unseal_key = keys["keys"][0].as_str().unwrap().into();
        vault.root = keys["root_token"].as_str().unwrap().into();
        vault.unseal();
        Some(vault)
    }

    fn furnished(self) -> Vault {
        self.put("sys/mounts/kv", json!({ "type": "kv", "options": { "version": "2" } }));
        self.put("sys/mounts/old", json!({ "type": "kv", "options": { "version": "1" } }));
        // A mount of version 2 is not ready at once.
        wait_for("the key-value engine", 30, || {
            self.try_put("kv/data/probe", json!({ "data": { "a": "b" } })).then_some(())
        });
        for method in ["approle", "userpass", "jwt", "kubernetes"] {
            self.put(&format!("sys/auth/{method}"), json!({ "type": method }));
        }
        self
    }

    pub fn address(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A file of the server's.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn root_token(&self) -> &str {
        &self.root
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn unseal_key(&self) -> &str {
        &self.unseal_key
    }

    /// A directory for PATH with the program, for whoever may not look where it was built.
    pub fn program_for_everybody(&self) -> PathBuf {
        let directory = self.directory.join("bin");
        if !directory.exists() {
            let readable = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            readable(&self.directory);
            fs::create_dir(&directory).unwrap();
            let program = directory.join("vault");
            if fs::hard_link(&self.program, &program).is_err() {
                fs::copy(&self.program, &program).unwrap();
                readable(&program);
            }
            readable(&directory);
        }
        directory
    }

    /// Everything that is in it now, where it keeps its data by itself.
    pub fn snapshot(&self) -> Vec<u8> {
        self.raft(self.client.get(format!("{}/v1/sys/storage/raft/snapshot", self.address())))
    }

    /// Goes back to that.
    pub fn go_back_to(&self, snapshot: &[u8]) {
        let url = format!("{}/v1/sys/storage/raft/snapshot-force", self.address());
        self.raft(self.client.post(url).body(snapshot.to_vec()));
        let is_open = || (self.ask("GET", "sys/health", None, &[]).0 == 200).then_some(());
        wait_for("Vault after its restore", 60, is_open);
    }

    fn raft(&self, request: reqwest::RequestBuilder) -> Vec<u8> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let request = request.header("X-Vault-Token", &self.root);
        runtime().spawn(async move {
            let response = request.send().await.unwrap();
            assert!(response.status().is_success(), "{}", response.status());
            sender.send(response.bytes().await.unwrap().to_vec()).unwrap();
        });
        receiver.recv().expect("Vault answers")
    }

    /// Other unseal keys, from now on.
    pub fn rekey(&mut self) {
        let begun =
            self.ask("PUT", "sys/rekey/init", Some(json!({ "secret_shares": 1, "secret_threshold": 1 })), &[]).1;
        let update = json!({ "key": self.unseal_key, "nonce": begun["nonce"] });
        let keys = self.ask("PUT", "sys/rekey/update", Some(update), &[]).1;
        self.unseal_key = keys["keys"][0].as_str().unwrap().into();
    }

    /// Opens it with these keys, which are not its own.
    pub fn unseal_with(&self, key: &str) {
        self.put("sys/unseal", json!({ "key": key }));
        wait_for("the unsealing", 60, || (self.ask("GET", "sys/health", None, &[]).0 == 200).then_some(()));
    }

    pub fn is_sealed(&self) -> bool {
        self.ask("GET", "sys/health", None, &[]).0 == 503
    }

    /// The same node, asked as the root of the cluster whose snapshot it took.
    pub fn asked_with(&mut self, root: &str) -> &Vault {
        self.root = root.into();
        self
    }

    fn run(&self) {
        let log = File::options().create(true).append(true).open(self.directory.join("log")).unwrap();
        let child = Command::new(&self.program)
            .arg("server")
            .arg(format!("-config={}", self.directory.join("vault.hcl").display()))
            .env_clear()
            .env("HOME", &self.directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        fs::write(self.directory.join("pid"), child.id().to_string()).unwrap();
        *self.child.lock().unwrap() = Some(child);
        wait_for("the start of Vault", 60, || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    pub fn seal(&self) {
        self.put("sys/seal", json!({}));
    }

    pub fn unseal(&self) {
        self.put("sys/unseal", json!({ "key": self.unseal_key }));
        wait_for("the unsealing", 60, || (self.ask("GET", "sys/health", None, &[]).0 == 200).then_some(()));
    }

    /// As a failure of its machine would; its data stays.
    pub fn stop(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        fs::write(self.directory.join("pid"), "").unwrap();
    }

    pub fn start_again(&self) {
        self.run();
        self.unseal();
    }

    /// Status and answer.
    pub fn ask(&self, method: &str, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> (u16, Value) {
        let runtime = runtime();
        let url = format!("{}/v1/{path}", self.address());
        let mut request = self.client.request(method.parse().unwrap(), url).header("X-Vault-Token", &self.root);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            sender.send((status, response.text().await.unwrap())).unwrap();
        });
        let (status, text) = receiver.recv().expect("Vault answers");
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    pub fn try_put(&self, path: &str, body: Value) -> bool {
        (200..300).contains(&self.ask("POST", path, Some(body), &[]).0)
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask("POST", path, Some(body), &[]);
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, None, &[]);
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer["data"].clone()
    }

    /// Writes a secret of the mount `kv`.
    pub fn write(&self, path: &str, fields: Value) {
        self.put(&format!("kv/data/{path}"), json!({ "data": fields }));
    }

    pub fn policy(&self, name: &str, text: &str) {
        self.put(&format!("sys/policies/acl/{name}"), json!({ "policy": text }));
    }

    /// An AppRole that may read `kv/NAME`, and its role id. `extra`: further settings of the role.
    pub fn role(&self, name: &str, extra: Value) -> String {
        self.policy(name, &format!("path \"kv/data/{name}\" {{ capabilities = [\"read\"] }}"));
        let mut settings = json!({ "token_policies": name });
        settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.put(&format!("auth/approle/role/{name}"), settings);
        self.get(&format!("auth/approle/role/{name}/role-id"))["role_id"].as_str().unwrap().into()
    }

    pub fn secret_id(&self, role: &str) -> String {
        let made = self.put(&format!("auth/approle/role/{role}/secret-id"), json!({}));
        made["data"]["secret_id"].as_str().unwrap().into()
    }

    /// A token that gives the answer to this request once.
    pub fn wrapped(&self, method: &str, path: &str) -> String {
        let body = (method == "POST").then(|| json!({}));
        let (_, answer) = self.ask(method, path, body, &[("X-Vault-Wrap-TTL", "120")]);
        answer["wrap_info"]["token"].as_str().unwrap_or_else(|| panic!("{answer}")).into()
    }

    /// The tokens that a login of an AppRole made and that are still good, as Vault tells of them.
    pub fn tokens_of(&self, role: &str) -> Vec<Value> {
        let (_, list) = self.ask("LIST", "auth/token/accessors", None, &[]);
        let accessors = list["data"]["keys"].as_array().unwrap().iter().cloned();
        let told = accessors.map(|accessor| {
            let (status, told) =
                self.ask("POST", "auth/token/lookup-accessor", Some(json!({ "accessor": accessor })), &[]);
            if status == 200 { told["data"].clone() } else { Value::Null }
        });
        told.filter(|token| token["meta"]["role_name"] == role).collect()
    }

    pub fn revoke(&self, token: &Value) {
        self.put("auth/token/revoke-accessor", json!({ "accessor": token["accessor"] }));
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.stop();
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

/// What the proxy does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers by itself.
    Answer(u16, &'static str),
    /// Takes the request and says nothing.
    Silence,
    /// Lets it take place, and loses the answer.
    Lose,
    /// Lets so many bytes of the answer through, and breaks off.
    Cut(u64),
    Pass,
}

/// Stands between bkp and something that speaks HTTP without TLS. Remembers requests, heads only.
pub struct Proxy {
    port: u16,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    /// One for each request; then `always`.
    next: VecDeque<Act>,
    always: Option<Act>,
    /// From the first request whose path begins so, everything after is answered like this.
    after: Option<(String, Act)>,
    /// Every request whose path begins so, whatever was said of all.
    on: Option<(String, Act)>,
    /// So many requests pass, and none after them.
    passing: Option<(usize, Act)>,
    heads: Vec<String>,
}

impl Plan {
    fn act(&mut self, head: &str) -> Act {
        self.heads.push(head.to_owned());
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if let Some((_, act)) = self.on.as_ref().filter(|(prefix, _)| path.starts_with(prefix.as_str())) {
            return act.clone();
        }
        if let Some((left, act)) = &mut self.passing {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => return act.clone(),
            }
        }
        let act = self.next.pop_front().or_else(|| self.always.clone()).unwrap_or(Act::Pass);
        if self.after.as_ref().is_some_and(|(prefix, _)| path.starts_with(prefix.as_str())) {
            self.always = self.after.take().map(|(_, act)| act);
        }
        act
    }
}

impl Proxy {
    pub fn new(upstream: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::<Mutex<Plan>>::default();
        let shared = plan.clone();
        std::thread::spawn(move || {
            for line in listener.incoming() {
                let (line, plan) = (line.unwrap(), shared.clone());
                std::thread::spawn(move || serve(line, upstream, &plan));
            }
        });
        Proxy { port, plan }
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn next(&self, acts: &[Act]) {
        self.plan.lock().unwrap().next.extend(acts.iter().cloned());
    }

    pub fn always(&self, act: Act) {
        self.plan.lock().unwrap().always = Some(act);
    }

    /// Every request for this path and those below it.
    pub fn on(&self, path: &str, act: Act) {
        self.plan.lock().unwrap().on = Some((path.to_owned(), act));
    }

    /// So many requests pass, and to all others this happens.
    pub fn pass(&self, requests: usize, then: Act) {
        self.plan.lock().unwrap().passing = Some((requests, then));
    }

    /// What was planned for the next ones is not.
    pub fn passes_all(&self) {
        self.plan.lock().unwrap().next.clear();
    }

    /// Everything passes again. Whether all did until now.
    pub fn is_mended(&self) -> bool {
        let passing = self.plan.lock().unwrap().passing.take();
        passing.is_none_or(|(left, _)| left > 0)
    }

    /// From the second request on, counted from the first one for this path.
    pub fn after(&self, path: &str, act: Act) {
        self.plan.lock().unwrap().after = Some((path.to_owned(), act));
    }

    /// The heads of all requests, and none twice.
    pub fn heads(&self) -> Vec<String> {
        std::mem::take(&mut self.plan.lock().unwrap().heads)
    }
}

/// One request for each connection.
fn serve(mut line: TcpStream, upstream: u16, plan: &Mutex<Plan>) -> Option<()> {
    let (head, body) = request(&mut line)?;
    let act = plan.lock().unwrap().act(&head);
    match act {
        Act::Silence => {
            let _ = line.read(&mut [0]);
        }
        Act::Answer(status, body) => {
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} Told\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            line.write_all(answer.as_bytes()).ok()?;
        }
        Act::Pass | Act::Lose | Act::Cut(_) => {
            let mut server = TcpStream::connect(("127.0.0.1", upstream)).ok()?;
            let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            server.write_all(head.as_bytes()).ok()?;
            server.write_all(&body).ok()?;
            match act {
                Act::Lose => _ = std::io::copy(&mut server, &mut std::io::sink()),
                Act::Cut(bytes) => _ = std::io::copy(&mut server.take(bytes), &mut line),
                _ => _ = std::io::copy(&mut server, &mut line),
            }
        }
    }
    line.shutdown(Shutdown::Both).ok()
}

/// The head with its empty line, and the body.
pub fn request(line: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        line.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    line.read_exact(&mut body).ok()?;
    Some((head, body))
}
