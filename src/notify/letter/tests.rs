//! What letters say, in both languages, and what they must not.

use super::*;
use crate::journal::Job;
use crate::policy::{Carrier, Language};
use crate::secret::SecretRef;

fn channel(language: Language, detail: Detail) -> Channel {
    let digest = Digest { day: None, at: jiff::civil::Time::midnight() };
    let carrier = Carrier::Slack { url: SecretRef::Env("HOOK".into()) };
    Channel {
        name: "chat".into(),
        carrier,
        topics: vec![Topic::Failure],
        policies: Vec::new(),
        language,
        detail,
        digest,
    }
}

fn news(message: &str) -> News {
    let at: Timestamp = "2026-11-30T02:31:00Z".parse().unwrap();
    let about = About::Failed {
        job: Job::Backup,
        name: "mysql-auth".into(),
        message: message.into(),
        hint: Some("Look at the password".into()),
        since: at,
        last_good: Some("2026-11-29T02:30:00Z".parse().unwrap()),
    };
    News { id: "failure:1".into(), at, policy: Some("pontificia".into()), about }
}

fn letter(message: &str, language: Language, detail: Detail) -> Letter {
    let place = Place { host: "shop-1".into(), zone: TimeZone::get("America/Bogota").unwrap() };
    Letter::about(&[news(message)], &channel(language, detail), &place)
}

#[test]
fn it_says_what_failed_why_what_to_do_and_what_there_is() {
    let english = letter("access denied", Language::English, Detail::Full);
    assert_eq!(english.subject, "bkp shop-1: backup of mysql-auth failed");
    assert_eq!(
        english.text,
        "backup of mysql-auth failed\n  policy: pontificia\n  at: 2026-11-29 21:31 -05:00\n  why: access denied\n  \
         what to do: Look at the password\n  last good one: 2026-11-28 21:30 -05:00\n\nLook at it with: bkp status"
    );
    let spanish = letter("access denied", Language::Spanish, Detail::Full);
    assert_eq!(spanish.subject, "bkp shop-1: copia de seguridad de mysql-auth ha fallado");
    assert!(spanish.text.contains("  motivo: access denied\n  qué hacer: Look at the password\n"), "{}", spanish.text);
    assert!(spanish.text.ends_with("Consúltelo con: bkp status"));
}

#[test]
fn what_others_can_read_names_nothing() {
    let brief = letter("access denied for user backup", Language::English, Detail::Brief);
    let all = format!("{} {} {:?}", brief.subject, brief.text, brief.events);
    for word in ["mysql-auth", "pontificia", "denied", "password"] {
        assert!(!all.contains(word), "{word} is in {all}");
    }
    assert_eq!(brief.subject, "bkp shop-1: backup failed");
}

#[test]
fn what_a_server_said_cannot_add_lines_or_headers() {
    let letter = letter("no\r\nBcc: everybody@example.org\u{1b}[31m", Language::English, Detail::Full);
    assert!(letter.text.contains("why: no Bcc: everybody@example.org [31m\n"), "{}", letter.text);
    assert!(!letter.subject.contains('\n'));
}
