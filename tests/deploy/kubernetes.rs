//! The manifests of `deploy/kubernetes`: read as strictly as the API server reads them, and the configuration in them by bkp.

use crate::cli::Bkp;
use crate::support::{Server, require};
use crate::{finished, project, succeeded};
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
