//! The manifests of `deploy/kubernetes`: read as strictly as the API server reads them, and the configuration in them by bkp.

use crate::cli::Bkp;
use crate::images::{require as require_images, servers};
use crate::support::docker::Container;
use crate::support::host::Host;
use crate::support::{Server, require};
use crate::{finished, project, succeeded};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

const PART: &str = "the manifests of Kubernetes";
const CHECK: Server =
    Server { program: "kubernetes-check", variable: "BKP_TEST_KUBERNETES", install: "scripts/kubernetes-check" };

fn manifests() -> Vec<PathBuf> {
    let all = std::fs::read_dir(project("deploy/kubernetes")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = all.filter(|path| !path.ends_with("kustomization.yaml")).collect();
    all.sort();
    all
}

#[test]
fn the_cluster_would_take_the_manifests() {
    let Some(check) = require(PART, &CHECK) else { return };
    let kinds = succeeded(Command::new(&check).args(manifests()));
    for kind in ["ConfigMap", "CronJob", "Deployment", "Namespace", "NetworkPolicy", "PersistentVolumeClaim"] {
        assert!(kinds.lines().any(|line| line == kind), "{kind} is missing: {kinds}");
    }
    let listed = std::fs::read_to_string(project("deploy/kubernetes/kustomization.yaml")).unwrap();
    for path in manifests() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(listed.contains(&format!("- {name}")), "kustomization.yaml does not name {name}");
    }
    // A mistake is seen.
    let daemon = std::fs::read_to_string(project("deploy/kubernetes/daemon.yaml")).unwrap();
    let wrong = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(wrong.path(), daemon.replace("runAsNonRoot", "runAsNoRoot")).unwrap();
    let (code, _, stderr) = finished(Command::new(&check).arg(wrong.path()));
    assert!(code == 1 && stderr.contains("runAsNoRoot"), "{stderr}");
}

/// The text of `key: |` in a manifest.
fn text_of(manifest: &Path, key: &str) -> String {
    let text = std::fs::read_to_string(manifest).unwrap();
    let after = text.split(&format!("\n  {key}: |\n")).nth(1).unwrap_or_else(|| panic!("no {key}")).to_owned();
    let lines = after.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect()
}

#[test]
fn the_configuration_in_them_is_right() {
    let host = Bkp::new();
    let configuration = project("deploy/kubernetes/configuration.yaml");
    host.configure(&text_of(&configuration, "bkp.yaml"), &text_of(&configuration, "shop.yaml"));
    assert_eq!(host.ok(&["config", "check"]).stdout, "no problem in 2 files: 1 policy, 3 sources\n");
}

#[test]
fn the_probes_in_them_ask_the_daemon_of_the_pod() {
    let manifest = std::fs::read_to_string(project("deploy/kubernetes/daemon.yaml")).unwrap();
    let command = |line: &str| Some(line.trim().strip_prefix("command: [bkp, ")?.trim_end_matches(']').to_owned());
    let probes: Vec<String> = manifest.lines().filter_map(command).collect();
    assert_eq!(probes, ["healthcheck, --live", "healthcheck, --ready"]);
    let host = Bkp::new();
    for probe in probes {
        // Understood, and answered with no: there is no daemon here.
        let arguments: Vec<&str> = probe.split(", ").collect();
        host.run(&arguments).expect_code(1).says(&["no daemon of this host listens"]);
    }
}

/// The pod of `rehearse.yaml`, on an engine instead of a cluster: what a kubelet makes of a manifest, as far as this one says it.
struct Pod<'a> {
    spec: &'a Value,
    /// What stands behind configuration maps, secrets and claims, by name.
    given: &'a dyn Fn(&str) -> PathBuf,
}

impl Pod<'_> {
    /// `more`: options of the engine for what the manifest does not have.
    fn command(&self, more: &[&str], image: &str) -> Command {
        let container = &self.spec["containers"][0];
        let (of_pod, of_container) = (&self.spec["securityContext"], &container["securityContext"]);
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "--label", "bkp-test=1", "--network=none"]);
        assert_eq!(of_container["readOnlyRootFilesystem"], true);
        assert_eq!(of_container["capabilities"]["drop"][0], "ALL");
        assert_eq!(of_container["allowPrivilegeEscalation"], false);
        command.args(["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--no-healthcheck"]);
        command.args(["--user", &format!("{}:{}", of_pod["runAsUser"], of_pod["runAsGroup"])]);
        let memory = container["resources"]["limits"]["memory"].as_str().unwrap().replace("Gi", "g");
        command.args(["--memory", &memory]);
        for variable in container["env"].as_array().unwrap() {
            let (name, value) = (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
            command.args(["--env", &format!("{name}={value}")]);
        }
        for mount in container["volumeMounts"].as_array().unwrap() {
            command.args(self.mount(mount));
        }
        let arguments = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
        command.args(more).arg(image).args(arguments);
        command
    }

    fn mount(&self, mount: &Value) -> [String; 2] {
        let all = self.spec["volumes"].as_array().unwrap();
        let volume = all.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let path = mount["mountPath"].as_str().unwrap();
        if volume["emptyDir"]["medium"] == "Memory" {
            let size = volume["emptyDir"]["sizeLimit"].as_str().unwrap().replace("Mi", "m");
            return ["--tmpfs".into(), format!("{path}:size={size},mode=1777")];
        }
        let mut from = (self.given)(mount["name"].as_str().unwrap());
        from.extend(mount["subPath"].as_str());
        let read_only = if mount["readOnly"] == true { ":ro" } else { "" };
        ["--volume".into(), format!("{}:{path}{read_only}", from.display())]
    }
}

#[test]
fn the_job_for_rehearsals_restores_a_server_with_what_its_manifest_gives_it() {
    let Some(()) = require_images(PART) else { return };
    let Some(server) = Container::postgres().start(PART) else { return };
    server.query("", "create database shop");
    server.query("shop", "create table orders as select i as id, i / 3.0 as amount from generate_series(1, 1000) i");
    let host = Host::new();
    host.sources(&[format!("shop-db: {{ postgres: {{ container: {} }} }}", server.name())]);
    host.run(&["backup"]).ends(0);

    let manifest = fs::read_to_string(project("deploy/kubernetes/rehearse.yaml")).unwrap();
    let documents = manifest.split("\n---\n").map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    let job = documents.into_iter().find(|document| document["kind"] == "CronJob").unwrap();
    let spec = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let group = u32::try_from(spec["securityContext"]["fsGroup"].as_u64().unwrap()).unwrap();
    let volumes = tempfile::tempdir().unwrap();
    let given = |name: &str| {
        let path = volumes.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let own = |path: &Path, mode: u32| {
        chown(path, None, Some(group)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::set_permissions(volumes.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let store = given("repository");
    succeeded(Command::new("cp").arg("-a").arg(host.store().join(".")).arg(&store));
    succeeded(Command::new("chmod").args(["-R", "a+rX"]).arg(&store));
    let configuration = project("deploy/kubernetes/configuration.yaml");
    let main = text_of(&configuration, "bkp.yaml");
    let of_store = main.split("timezone").next().unwrap();
    let main = main.replace(of_store, "repository: { url: file:///repository }\n");
    fs::write(given("configuration").join("bkp.yaml"), main).unwrap();
    fs::write(given("policies").join("shop.yaml"), text_of(&configuration, "shop.yaml")).unwrap();
    given("store");
    fs::copy(host.identity(), given("rehearser").join("key.txt")).unwrap();
    own(&given("rehearser").join("key.txt"), 0o440);
    for name in ["state", "cache"] {
        own(&given(name), 0o2775);
    }
    let store = format!("{}:/repository:ro", store.display());
    let mut command = Pod { spec, given: &given }.command(&["--volume", &store], servers());
    let (code, told, complaints) = finished(&mut command);
    assert_eq!(code, 0, "{told}\n{complaints}");
    assert!(told.contains("ok  shop-db") && told.contains("equal") && told.contains("process"), "{told}");
}
