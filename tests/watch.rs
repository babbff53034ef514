//! How bkp is watched, through the real program: metrics, probes, page and log, whatever became of the runs before.
#![allow(clippy::unwrap_used)] // all of this is test

#[path = "watch/files.rs"]
mod files;
#[path = "watch/metrics.rs"]
mod metrics;
#[allow(dead_code)] // the other format comes with the daemon
#[path = "watch/scrape.rs"]
mod scrape;
mod support;

use scrape::Scrape;
use support::host::{Host, database};

/// A host with a database and a directory, in the policy `all`, which is scheduled each night.
fn host() -> Host {
    let host = Host::new();
    database(&host.path("data/app.db"), 10, "row");
    std::fs::create_dir(host.path("data/docs")).unwrap();
    std::fs::write(host.path("data/docs/a"), "a").unwrap();
    schedule(&host, "schedule: '30 2 * * *'\nobjectives: { rpo: 26h, rto: 30m }");
    host
}

/// Another policy for the same sources.
fn schedule(host: &Host, how: &str) {
    let text = format!(
        "policy: all\n{how}\nsources:\n  app: {{ sqlite: {{ path: \"{}\" }} }}\n  docs: {{ volume: {{ path: \"{}\" }} }}\n",
        host.text("data/app.db"),
        host.text("data/docs"),
    );
    std::fs::write(host.path("etc/policies.d/all.yaml"), text).unwrap();
}

/// What `bkp metrics` says, without a daemon.
fn measured(host: &Host) -> Scrape {
    Scrape::prometheus(&host.run(&["metrics"]).ends(0).out)
}
