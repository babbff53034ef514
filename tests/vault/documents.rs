//! What `docs/VAULT.md` tells people to run, run as it stands there.

use super::Client;
use super::support::vault::Vault;
use super::{approle, reference};
use bkp::secret::SecretRef;
use bkp::secret::vault::{Given, Login};
use std::process::Command;

#[test]
fn the_commands_that_let_bkp_in_do_so() {
    let Some(vault) = Vault::bare("the commands of docs/VAULT.md") else { return };
    let page = include_str!("../../docs/VAULT.md");
    let (_, after) = page.split_once("documents.rs runs this as it is -->\n```sh\n").unwrap();
    let (commands, _) = after.split_once("```").unwrap();
    let mut client = Client::new(&vault.address(), Login::Token(SecretRef::Env("NONE".into())));
    let programs = client.state().join("programs");
    std::fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(vault.program(), programs.join("vault")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-euc", commands])
        .current_dir(client.state())
        .env_clear()
        .envs([("PATH", path.as_str()), ("HOME", client.state().to_str().unwrap())])
        .envs([("VAULT_ADDR", vault.address().as_str()), ("VAULT_TOKEN", vault.root_token())])
        .env("DATABASE_PASSWORD", "hunter2 of the page")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = |name: &str| SecretRef::File(client.state().join(name));
    let Login::AppRole { mount, secret_id, wrapped, .. } = approle("", file("vault-secret-id"), true) else {
        unreachable!()
    };
    let role_id = Given::Kept(file("vault-role-id"));
    client.settings.login = Login::AppRole { mount, role_id, secret_id, wrapped, renew: false };
    let password = client.begin().read(&reference("kv/shop/database#/password")).unwrap();
    assert_eq!(password.expose(), "hunter2 of the page");
}
