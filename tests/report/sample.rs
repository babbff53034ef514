//! The sample reports are made by a script, from a real run: it must go on making them.

use crate::support::vault::VAULT;
use crate::support::{not_run, require};
use std::process::Command;

#[test]
fn the_sample_reports_are_made_from_a_month_of_real_backups() {
    if !rustix::process::geteuid().is_root() {
        return not_run(
            "the sample reports",
            "they are made on a host of their own, which only root can have: sudo make test",
        );
    }
    let Some(vault) = require("the sample reports", &VAULT) else { return };
    let to = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/sample-report");
    let log = to.path().join("log");
    let mut command = Command::new(script);
    command
        .arg(to.path())
        .env("BKP", env!("CARGO_BIN_EXE_bkp"))
        .env("BKP_SAMPLE_LOG", &log)
        .env("BKP_TEST_VAULT", vault);
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name: &str| std::fs::read(to.path().join(name)).unwrap();
    for (name, told) in [
        (
            "2026-11-iso27001-en.html",
            [
                "not run: 2",
                "Emptied by a faulty migration",
                "3 of 3 sources with one at least",
                "the chain is whole; it fits what was sealed and anchored",
                "expected at least 20000)",
                "HR-118: a developer left",
            ],
        ),
        (
            "2026-11-ens-es.html",
            [
                "no ejecutadas: 2",
                "mp.info.6 Copias de seguridad",
                "proceso de un usuario sin privilegios en un directorio privado; sin red",
                "orders: /srv/shop/shop.db no existe",
                "no había nada en marcha; la suple la ejecución prevista de",
                "site no tiene la contraseña publicada",
            ],
        ),
    ] {
        let text = String::from_utf8(read(name)).unwrap();
        for told in told {
            assert!(text.contains(told), "{told} is missing in {name}:\n{}", std::fs::read_to_string(&log).unwrap());
        }
    }
    for name in ["2026-11-iso27001-en.pdf", "2026-11-ens-es.pdf"] {
        assert!(read(name).starts_with(b"%PDF-1.7"), "{name}");
    }
}
