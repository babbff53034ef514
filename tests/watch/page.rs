//! The page: what it says in either language, that nothing on it can be more than text, and that it needs nothing else.

use super::client::{get, get_with};
use super::probes::listening;
use super::support::wait_for;
use super::world::World;

#[test]
fn the_page_says_whether_all_is_well_and_what_to_do_in_both_languages() {
    let world = World::new();
    world.daily("objectives: { rpo: 26h }\n");
    let (daemon, address) = listening(&world, "");
    let page = get(address, "/").body;
    for text in ["<html lang=\"en\">", "Needs attention", "app has no backup", "bkp backup app", "never", "0 10 * * *"]
    {
        assert!(page.contains(text), "{text} is not on {page}");
    }
    let spanish = get_with(address, "/", &[("Accept-Language", "es-CO,es;q=0.9")]);
    assert_eq!(spanish.headers["content-language"], "es");
    for text in
        ["<html lang=\"es\">", "Requiere atención", "app no tiene copia de seguridad", "bkp backup app", "nunca"]
    {
        assert!(spanish.body.contains(text), "{text} is not on {}", spanish.body);
    }
    assert_eq!(get_with(address, "/?lang=en", &[("Accept-Language", "es")]).headers["content-language"], "en");
    world.run(&["backup"]).ends(0);
    let page = wait_for("all is well", 30, || Some(get(address, "/").body).filter(|page| page.contains("All is well")));
    assert!(page.contains("protected") && !page.contains("app has no backup"));
    assert!(get(address, "/?lang=es").body.contains("Todo está bien"));
    world.stop(daemon);
}

#[test]
fn what_programs_said_is_text_and_nothing_else() {
    let world = World::new();
    let evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&";
    let run = format!("[sh, -c, 'printf \"%s\\n\" \"$0\" >&2; exit 1', '{}']", evil.replace('\'', "''"));
    world.policy("evil", &format!("policy: evil\nsources:\n  odd: {{ command: {{ run: {run} }} }}\n"));
    world.run(&["backup"]).ends(1);
    let (daemon, address) = listening(&world, "");
    for language in ["en", "es"] {
        let page = get(address, &format!("/?lang={language}")).body;
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    }
    // What is asked for is not repeated either.
    let asked = get(address, "/?lang=%3Cscript%3Ealert(3)%3C/script%3E");
    assert!(!asked.body.contains("<script") && !asked.body.contains("alert(3)"), "{}", asked.body);
    world.stop(daemon);
}

#[test]
fn the_page_needs_nothing_but_itself_and_is_read_without_eyes() {
    let world = World::new();
    world.daily("objectives: { rpo: 26h }\n");
    world.run(&["backup"]).ends(0);
    let (daemon, address) = listening(&world, "");
    let response = get(address, "/");
    let page = &response.body;
    for forbidden in
        ["<script", "<link", "<iframe", "src=", "url(", "@import", "http://", "https://", " style=", " onclick"]
    {
        assert!(!page.contains(forbidden), "{forbidden} is on {page}");
    }
    let policy = &response.headers["content-security-policy"];
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.contains("frame-ancestors 'none'"));
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    assert!(policy.contains(&sha256_base64(style)), "the style has another hash than {policy}");
    for (name, value) in
        [("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("x-frame-options", "DENY")]
    {
        assert_eq!(response.headers[name], value);
    }
    // Every header of a table says of what; every sign of a strip has its text.
    assert_eq!(page.matches("<th ").count(), page.matches("<th scope=").count());
    assert!(!page.contains("<th>"));
    assert_eq!(page.matches("class=\"only-read\"").count(), 30);
    assert!(page.contains("@media print"));
    world.stop(daemon);
}

fn sha256_base64(text: &str) -> String {
    use std::io::Write;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "openssl dgst -sha256 -binary | base64"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
