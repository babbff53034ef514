//! Accounts of a MinIO that may do only what a policy says: temporary ones, which its STS gives to the administrator.
//!
//! The request is signed here by hand (AWS Signature Version 4): the client of the tests speaks S3 only.
#![allow(clippy::unwrap_used)]

use super::minio::{Minio, PASSWORD, USER};
use bkp::secret::SecretRef;
use bkp::store::Settings;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// Files that hold what an account signs with.
pub struct Account {
    directory: PathBuf,
}

impl Account {
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The lines of the configuration that use it.
    pub fn yaml(&self, indent: &str) -> String {
        ["access_key", "secret_key", "session_token"]
            .iter()
            .map(|key| format!("{indent}{key}_file: {}\n", self.file(key).display()))
            .collect()
    }

    pub fn settings(&self, settings: Settings) -> Settings {
        let secret = |name: &str| Some(SecretRef::File(self.file(name)));
        let (access_key, secret_key) = (secret("access_key"), secret("secret_key"));
        Settings { access_key, secret_key, session_token: secret("session_token"), ..settings }
    }
}

impl Minio {
    /// An account that may do what `policy` says, and nothing else.
    pub fn account(&self, policy: &serde_json::Value) -> Account {
        let body = format!(
            "Action=AssumeRole&Version=2011-06-15&DurationSeconds=3600&Policy={}",
            percent_encoded(&policy.to_string())
        );
        let answer = self.signed_post(&body);
        // Removed with the server.
        let directory = self.data().with_file_name(format!("account-{}", bkp::durable::random_hex(4)));
        std::fs::create_dir(&directory).unwrap();
        for (name, tag) in
            [("access_key", "AccessKeyId"), ("secret_key", "SecretAccessKey"), ("session_token", "SessionToken")]
        {
            let (_, rest) = answer.split_once(&format!("<{tag}>")).unwrap_or_else(|| panic!("no account: {answer}"));
            write(&directory, name, rest.split_once('<').unwrap().0);
        }
        Account { directory }
    }

    fn signed_post(&self, body: &str) -> String {
        let host = format!("127.0.0.1:{}", self.port());
        let now = jiff::Timestamp::now();
        let (stamp, day) = (now.strftime("%Y%m%dT%H%M%SZ").to_string(), now.strftime("%Y%m%d").to_string());
        let scope = format!("{day}/us-east-1/sts/aws4_request");
        let canonical = format!(
            "POST\n/\n\nhost:{host}\nx-amz-date:{stamp}\n\nhost;x-amz-date\n{}",
            hex::encode(Sha256::digest(body))
        );
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
        let key = ["us-east-1", "sts", "aws4_request"]
            .iter()
            .fold(mac(format!("AWS4{PASSWORD}").as_bytes(), &day), |key, part| mac(&key, part));
        let signature = hex::encode(mac(&key, &to_sign));
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Date: {stamp}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={USER}/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(host).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).unwrap();
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn percent_encoded(text: &str) -> String {
    let one = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (b as char).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}
