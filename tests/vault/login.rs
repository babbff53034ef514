//! Every way into Vault, and how long one stays in.

use super::support::vault::{Vault, request};
use super::support::{run, wait_for};
use super::{Client, approle, password, read, told};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bkp::error::Kind;
use bkp::secret::SecretRef;
use bkp::secret::vault::Login;
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[test]
fn a_role_logs_in_once_and_its_token_ends_with_the_process() {
    let Some(vault) = Vault::shared("AppRole") else { return };
    let client = Client::of_role(vault, &vault.address(), "role-plain");
    let secrets = client.begin();
    assert_eq!(read(&secrets, "role-plain"), Ok(password("role-plain")));
    assert_eq!(read(&secrets.clone(), "role-plain"), Ok(password("role-plain")));
    assert_eq!(vault.tokens_of("role-plain").len(), 1);
    drop(secrets);
    assert_eq!(vault.tokens_of("role-plain"), Vec::<Value>::new());
}

#[test]
fn a_wrapped_secret_id_is_unwrapped_once_and_kept_for_the_owner_only() {
    let Some(vault) = Vault::shared("AppRole, wrapped") else { return };
    let role_id = vault.role("role-wrapped", json!({}));
    vault.write("role-wrapped", json!({ "password": password("role-wrapped") }));
    let wrapped = vault.wrapped("POST", "auth/approle/role/role-wrapped/secret-id");
    let mut client = Client::new(&vault.address(), Login::Token(SecretRef::Env("NONE".into())));
    client.settings.login = approle(&role_id, client.keep("wrapped", &wrapped), true);
    assert_eq!(read(&client.begin(), "role-wrapped"), Ok(password("role-wrapped")));
    let kept = client.state().join("vault/secret-id.json");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&kept).unwrap().contains(&wrapped));
    // The wrapping token is used up, and is not needed any more.
    std::fs::remove_file(client.state().join("wrapped")).unwrap();
    assert_eq!(read(&client.begin(), "role-wrapped"), Ok(password("role-wrapped")));
    // Another host with the same token comes too late.
    let mut late = Client::new(&vault.address(), Login::Token(SecretRef::Env("NONE".into())));
    late.settings.login = approle(&role_id, late.keep("wrapped", &wrapped), true);
    let message = read(&late.begin(), "role-wrapped").unwrap_err();
    assert!(message.contains("used up") && message.contains("somebody else unwrapped it"), "{message}");
}

#[test]
fn a_new_wrapped_secret_id_takes_the_place_of_one_that_ended() {
    let Some(vault) = Vault::shared("AppRole, wrapped again") else { return };
    let role_id = vault.role("role-again", json!({}));
    vault.write("role-again", json!({ "password": password("role-again") }));
    let path = "auth/approle/role/role-again/secret-id";
    let mut client = Client::new(&vault.address(), Login::Token(SecretRef::Env("NONE".into())));
    client.settings.login = approle(&role_id, client.keep("wrapped", &vault.wrapped("POST", path)), true);
    assert!(read(&client.begin(), "role-again").is_ok());
    let kept: Value =
        serde_json::from_slice(&std::fs::read(client.state().join("vault/secret-id.json")).unwrap()).unwrap();
    vault.put(&format!("{path}/destroy"), json!({ "secret_id": kept["secret_id"] }));
    let message = read(&client.begin(), "role-again").unwrap_err();
    assert!(message.contains("refuses the login by AppRole") && message.contains("make a new secret id"), "{message}");
    client.keep("wrapped", &vault.wrapped("POST", path));
    assert_eq!(read(&client.begin(), "role-again"), Ok(password("role-again")));
}

#[test]
fn a_wrapping_token_that_holds_something_else_is_refused() {
    let Some(vault) = Vault::shared("AppRole, exchanged") else { return };
    let role_id = vault.role("role-exchanged", json!({}));
    vault.write("role-exchanged", json!({ "secret_id": "hunter2" }));
    let wrapped = vault.wrapped("GET", "kv/data/role-exchanged");
    let mut client = Client::new(&vault.address(), Login::Token(SecretRef::Env("NONE".into())));
    client.settings.login = approle(&role_id, client.keep("wrapped", &wrapped), true);
    let message = read(&client.begin(), "role-exchanged").unwrap_err();
    assert!(message.contains("holds no secret id: it was made at kv/data/role-exchanged"), "{message}");
    assert!(!client.state().join("vault/secret-id.json").exists());
}

#[test]
fn user_and_password() {
    let Some(vault) = Vault::shared("userpass") else { return };
    vault.policy("of-user", "path \"kv/data/of-user\" { capabilities = [\"read\"] }");
    vault.write("of-user", json!({ "password": password("of-user") }));
    vault.put("auth/userpass/users/bkp", json!({ "password": "hunter2 right", "token_policies": "of-user" }));
    let mut client = Client::new(&vault.address(), Login::Token(SecretRef::Env("NONE".into())));
    let password_file = client.keep("password", "hunter2 right");
    client.settings.login = Login::Userpass { mount: "userpass".into(), user: "bkp".into(), password: password_file };
    assert_eq!(read(&client.begin(), "of-user"), Ok(password("of-user")));
    client.keep("password", "hunter2 wrong");
    let message = read(&client.begin(), "of-user").unwrap_err();
    assert!(
        message.contains("refuses the login by user and password at auth/userpass: invalid username or password"),
        "{message}"
    );
    let Login::Userpass { mount, .. } = &mut client.settings.login else { unreachable!() };
    *mount = "elsewhere".into();
    let message = read(&client.begin(), "of-user").unwrap_err();
    assert!(message.contains("auth/elsewhere") && message.contains("`mount`"), "{message}");
}

#[test]
fn a_token_that_is_given_is_used_as_it_is() {
    let Some(vault) = Vault::shared("token") else { return };
    vault.policy("of-token", "path \"kv/data/of-token\" { capabilities = [\"read\"] }");
    vault.write("of-token", json!({ "password": password("of-token") }));
    let made = vault.put("auth/token/create", json!({ "policies": ["of-token"], "period": "2s", "no_parent": true }));
    let mut client = Client::new(&vault.address(), Login::Token(SecretRef::Env("NONE".into())));
    client.settings.login = Login::Token(client.keep("token", made["auth"]["client_token"].as_str().unwrap()));
    let secrets = client.begin();
    assert_eq!(read(&secrets, "of-token"), Ok(password("of-token")));
    let accessor = json!({ "accessor": made["auth"]["accessor"] });
    // It would have ended after two seconds.
    wait_for("two renewals", 30, || {
        let (_, told) = vault.ask("POST", "auth/token/lookup-accessor", Some(accessor.clone()), &[]);
        let renewed = told["data"]["last_renewal_time"].as_i64()? - told["data"]["creation_time"].as_i64()?;
        (renewed >= 2).then_some(())
    });
    assert_eq!(read(&secrets, "of-token"), Ok(password("of-token")));
    drop(secrets);
    // It is somebody's, who may want to go on with it.
    assert_eq!(vault.ask("POST", "auth/token/lookup-accessor", Some(accessor.clone()), &[]).0, 200);
    vault.put("auth/token/revoke-accessor", accessor);
    let failure = client.begin().read(&super::reference("kv/of-token#/password")).unwrap_err();
    assert_eq!(failure.kind(), Kind::Key);
    assert!(told(&failure).contains("does not take the token of ref+file://"), "{}", told(&failure));
}

#[test]
fn a_token_from_a_login_is_renewed_and_replaced_when_it_cannot_be_any_more() {
    let Some(vault) = Vault::shared("renewal") else { return };
    let client = Client::of_role(vault, &vault.address(), "role-short");
    let short = json!({ "token_policies": "role-short", "token_ttl": "2s", "token_max_ttl": "4s" });
    vault.put("auth/approle/role/role-short", short);
    let secrets = client.begin();
    assert_eq!(read(&secrets, "role-short"), Ok(password("role-short")));
    let first = vault.tokens_of("role-short").remove(0);
    wait_for("a renewal", 30, || {
        vault.tokens_of("role-short").into_iter().find(|token| token["last_renewal_time"].is_number())
    });
    assert_eq!(read(&secrets, "role-short"), Ok(password("role-short")));
    wait_for("the end of the token", 30, || {
        vault.tokens_of("role-short").iter().all(|token| token["accessor"] != first["accessor"]).then_some(())
    });
    assert_eq!(read(&secrets, "role-short"), Ok(password("role-short")));
}

/// A token as an identity provider makes it.
fn signed(directory: &Path, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(claims));
    std::fs::write(directory.join("text"), &text).unwrap();
    run("openssl", &["dgst", "-sha256", "-sign", "jwt.key", "-out", "signature", "text"], directory);
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(std::fs::read(directory.join("signature")).unwrap()))
}

fn key_pair(directory: &Path) -> String {
    run("sh", &["-c", "openssl genrsa -out jwt.key 2048 2>/dev/null"], directory);
    run("openssl", &["rsa", "-in", "jwt.key", "-pubout", "-out", "jwt.pub"], directory);
    std::fs::read_to_string(directory.join("jwt.pub")).unwrap()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[test]
fn a_token_of_an_identity_provider() {
    let Some(vault) = Vault::shared("JWT") else { return };
    vault.policy("of-jwt", "path \"kv/data/of-jwt\" { capabilities = [\"read\"] }");
    vault.write("of-jwt", json!({ "password": password("of-jwt") }));
    let mut client = Client::new(&vault.address(), Login::Token(SecretRef::Env("NONE".into())));
    let public = key_pair(client.state());
    vault.put("auth/jwt/config", json!({ "jwt_validation_pubkeys": [public] }));
    let role =
        json!({ "role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub", "token_policies": "of-jwt" });
    vault.put("auth/jwt/role/bkp", role);
    let directory = client.state().to_owned();
    let token = |audience: &str| {
        signed(&directory, &json!({ "sub": "host-7", "aud": audience, "iat": now(), "exp": now() + 300 }))
    };
    let jwt = client.keep("jwt", &token("vault"));
    client.settings.login = Login::Jwt { mount: "jwt".into(), role: Some("bkp".into()), jwt };
    assert_eq!(read(&client.begin(), "of-jwt"), Ok(password("of-jwt")));
    let foreign = token("others");
    client.keep("jwt", &foreign);
    let message = read(&client.begin(), "of-jwt").unwrap_err();
    assert!(message.contains("refuses the login by JWT at auth/jwt") && !message.contains(&foreign), "{message}");
}

/// Answers what the API of Kubernetes does when it is asked whose token this is.
fn token_review() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for line in listener.incoming() {
            let mut line = line.unwrap();
            let Some((head, body)) = request(&mut line) else { continue };
            assert!(head.starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews"), "{head}");
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let user = json!({ "username": "system:serviceaccount:backup:bkp", "uid": "u-1", "groups": ["system:serviceaccounts"] });
            let answer = json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": asked["spec"],
                "status": { "authenticated": true, "user": user, "audiences": asked["spec"]["audiences"] },
            });
            let answer = answer.to_string();
            let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
            let _ = line.write_all(format!("{head} {}\r\n\r\n{answer}", answer.len()).as_bytes());
        }
    });
    address
}

#[test]
fn a_pod_logs_in_with_the_token_of_its_service_account() {
    let Some(vault) = Vault::shared("Kubernetes") else { return };
    vault.policy("of-pod", "path \"kv/data/of-pod\" { capabilities = [\"read\"] }");
    vault.write("of-pod", json!({ "password": password("of-pod") }));
    let mut client = Client::new(&vault.address(), Login::Token(SecretRef::Env("NONE".into())));
    key_pair(client.state());
    let settings =
        json!({ "kubernetes_host": token_review(), "disable_local_ca_jwt": true, "token_reviewer_jwt": "reviewer" });
    vault.put("auth/kubernetes/config", settings);
    let role = |namespace: &str| {
        let bound = json!({ "bound_service_account_names": "bkp", "bound_service_account_namespaces": namespace,
            "token_policies": "of-pod", "audience": "vault" });
        vault.put("auth/kubernetes/role/bkp", bound);
    };
    role("backup");
    let claims = json!({
        "iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:backup:bkp", "aud": ["vault"],
        "iat": now(), "exp": now() + 300,
        "kubernetes.io": { "namespace": "backup", "serviceaccount": { "name": "bkp", "uid": "u-1" } },
    });
    let jwt = client.keep("token", &signed(client.state(), &claims));
    client.settings.login = Login::Kubernetes { mount: "kubernetes".into(), role: "bkp".into(), jwt };
    assert_eq!(read(&client.begin(), "of-pod"), Ok(password("of-pod")));
    role("elsewhere");
    let message = read(&client.begin(), "of-pod").unwrap_err();
    assert!(message.contains("refuses the login by Kubernetes") && message.contains("service account"), "{message}");
}
