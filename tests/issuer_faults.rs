//! `check` names every fault of an issuer's table, and of what its rules need elsewhere.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;

use support::{World, run, write_secret};

/// An issuer's table, of which each row of [`FAULTS`] changes one thing.
const SOUND: &str = r#"[[issuers]]
issuer = "https://{name}.example.com/"
audiences = ["cms-gateway"]
algorithms = ["ES256", "RS256"]
jwks = { file = "jwks.json" }
"#;
const INTROSPECTION: &str = "introspection = { url = \"https://idp.example.com/introspect\", \
                             client_id = \"cms-gateway\", client_secret = \"secret\" }";

/// What is put for what of [`SOUND`], and the fault: the start of its line, its key within the
/// issuer, and some of its words.
const FAULTS: &[(&str, &str, &str, &str, &str)] = &[
    ("\"RS256\"]", "\"HS256\"]", "algorithms", "algorithms", "HS256 is symmetric"),
    ("\"RS256\"]", "\"none\"]", "algorithms", "algorithms", "\"none\" is not an algorithm"),
    ("\"RS256\"]", "\"ES256\"]", "algorithms", "algorithms", "\"ES256\" stands here twice"),
    ("algorithms = [\"ES256\", \"RS256\"]\n", "", "[[issuers]]", "algorithms", "is missing"),
    ("[\"ES256\", \"RS256\"]", "[\"ES384\"]", "jwks", "jwks.file", "holds no key for any of"),
    ("audiences = [\"cms-gateway\"]\n", "", "[[issuers]]", "audiences", "is missing"),
    ("\"cms-gateway\"]", "\"\"]", "audiences", "audiences", "is not a text in quotes"),
    ("\"jwks.json\"", "\"jwks.json\", discover = true", "jwks", "jwks.url", "only one of file"),
    (
        "\"jwks.json\"",
        "\"jwks.json\", url = \"https://idp.example.com/\"",
        "jwks",
        "jwks.url",
        "only one of file, url and discover",
    ),
    ("file = \"jwks.json\"", "", "jwks", "jwks.url", "is missing"),
    ("jwks = { file = \"jwks.json\" }\n", "", "[[issuers]]", "jwks.url", "is missing"),
    ("jwks.json", "garbage.json", "jwks", "jwks.file", "can't be read as a JSON Web Key Set"),
    ("jwks.json", "gone.json", "jwks", "jwks.file", "No such file"),
    (
        "file = \"jwks.json\"",
        "url = \"http://idp.example.com/jwks\"",
        "jwks",
        "jwks.url",
        "is not loopback",
    ),
    ("file = \"jwks.json\"", "url = \"/jwks\"", "jwks", "jwks.url", "is no whole URL"),
    (
        "file = \"jwks.json\"",
        "url = \"https://a:b@idp.example.com/\"",
        "jwks",
        "jwks.url",
        "holds a user name",
    ),
    (
        "file = \"jwks.json\"",
        "url = \"https://idp.example.com/\", ca = \"jwks.json\"",
        "jwks",
        "jwks.ca",
        "jwks.json",
    ),
    // Read without an end, or waited for, if it were read.
    (
        "file = \"jwks.json\"",
        "url = \"https://idp.example.com/\", ca = \"/dev/null\"",
        "jwks",
        "jwks.ca",
        "is not a file",
    ),
    (
        "\"jwks.json\"",
        "\"jwks.json\", refresh = \"2h\", max_stale = \"1h\"",
        "jwks",
        "jwks.max_stale",
        "is shorter than refresh",
    ),
    ("\"jwks.json\"", "\"jwks.json\", refresh = \"0s\"", "jwks", "jwks.refresh", "is not a time"),
    (
        "\"jwks.json\"",
        "\"jwks.json\", cool_down = \"10ms\"",
        "jwks",
        "jwks.cool_down",
        "is not a time from 1s",
    ),
    (
        "\"jwks.json\"",
        "\"jwks.json\", cooldown = \"1s\"",
        "jwks",
        "jwks.cooldown",
        "did you mean cool_down?",
    ),
    ("jwks", "leeway = \"301s\"\njwks", "leeway", "leeway", "is not a time from 0s to 5m"),
    ("jwks", "leeway = 30\njwks", "leeway", "leeway", "30 is not a time"),
    ("jwks", "max_lifetime = \"1s\"\njwks", "max_lifetime", "max_lifetime", "from 10s to 1year;"),
    ("jwks", "profile = \"oidc\"\njwks", "profile", "profile", "\"rfc9068\""),
    ("jwks", "types = [\"id_token\"]\njwks", "types", "types", "\"id_token\" is not known"),
    (
        "jwks",
        "roles = { x = \"north-dialer\", y = [\"remover\", \"owner\"] }\njwks",
        "roles",
        "roles.y",
        "\"owner\" is not a role",
    ),
    ("jwks", "roles = { x = 1 }\njwks", "roles", "roles.x", "1 is not a text or a list"),
    ("jwks", "mtls = true\njwks", "mtls", "mtls", "needs listen.tls.client_ca"),
    ("jwks", "mtls = \"yes\"\njwks", "mtls", "mtls", "is not true or false"),
    ("jwks", "dpop = {}\njwks", "dpop", "dpop", "needs listen.public_url"),
    ("jwks", "dpop = { lifetime = \"1h\" }\njwks", "dpop", "dpop.lifetime", "is not a time"),
    (
        "jwks",
        "require_binding = true\njwks",
        "require_binding",
        "require_binding",
        "needs mtls = true, or dpop",
    ),
    ("jwks", "leway = \"1s\"\njwks", "leway", "leway", "did you mean leeway?"),
    // Beside keys, each of both kinds is a fault; and only one issuer can be asked.
    ("jwks", "INTROSPECTION\njwks", "jwks", "jwks", "stands beside introspection"),
    ("jwks", "INTROSPECTION\njwks", "algorithms", "algorithms", "stands beside introspection"),
    (
        "jwks",
        "INTROSPECTION\njwks",
        "introspection",
        "introspection",
        "is there for another issuer",
    ),
];

#[test]
fn every_fault_of_an_issuer_is_named_in_one_run_with_its_line_and_key() {
    let world = World::start();
    let folder = world.folder.path();
    fs::write(folder.join("garbage.json"), "{").unwrap();
    write_secret(&folder.join("secret"), "of the gateway");
    let file = world.config();
    let config = file.to_str().unwrap();
    let sound = fs::read_to_string(&file).unwrap();
    let check = |tables: &str| {
        // Behind the first issuer.
        let text = sound.replacen("[roles.", &format!("{tables}[roles."), 1);
        fs::write(&file, &text).unwrap();
        let checked = run(&["check", "--config", config]);
        let words = [checked.stdout, checked.stderr].concat();
        (text, checked.status.code(), String::from_utf8(words).unwrap())
    };
    // One that is asked, and no fault.
    let (before, _) = SOUND.split_once("algorithms").unwrap();
    let asked = format!("{before}{INTROSPECTION}\n").replace("{name}", "asked");
    let (_, status, words) = check(&(asked.clone() + &SOUND.replace("{name}", "sound")));
    assert_eq!(status, Some(0), "{words}");

    let mut tables = asked;
    for (number, (from, to, ..)) in FAULTS.iter().enumerate() {
        let table = SOUND.replacen(from, &to.replace("INTROSPECTION", INTROSPECTION), 1);
        assert_ne!(table, SOUND, "{from}");
        tables += &table.replace("{name}", &number.to_string());
    }
    tables += &SOUND.replace("{name}", "7");
    let (text, status, words) = check(&tables);
    assert_eq!(status, Some(2), "{words}");
    let lines: Vec<&str> = text.lines().collect();
    let mut tables = lines.iter().enumerate().filter(|(_, line)| **line == "[[issuers]]").skip(2);
    for (number, (.., start, key, what)) in FAULTS.iter().enumerate() {
        let (first, _) = tables.next().unwrap();
        let line = first + lines[first..].iter().position(|it| it.starts_with(start)).unwrap() + 1;
        let key = format!("issuers[{}].{key}", number + 2);
        let found = words
            .lines()
            .any(|own| own.starts_with(&format!("{config}:{line}: {key}: ")) && own.contains(what));
        assert!(found, "no {line} {key} {what} in:\n{words}");
    }
    let twice = format!("issuers[{}].issuer: is an issuer that another", FAULTS.len() + 2);
    assert!(words.contains(&twice), "{words}");
    // Nothing else, but that each row of introspection has the three faults of all of them, one dpop
    // has two faults, and the last issuer is there twice.
    assert_eq!(words.lines().filter(|line| line.starts_with(config)).count(), FAULTS.len() + 8);
}

#[test]
fn what_an_issuers_rules_need_elsewhere_is_named_where_it_lacks() {
    let world = World::start();
    let file = world.config();
    let config = file.to_str().unwrap();
    let sound = fs::read_to_string(&file).unwrap();
    let listed =
        "[token_cache]\nsize = \"1KiB\"\nmax_age = \"25h\"\n[revocation]\nfile = \"jwks.json\"\n";
    for (from, to, expected) in [
        (
            "[audit]\n",
            &format!("{listed}[audit]\n")[..],
            &[
                "token_cache.size: \"1KiB\" is not a size from 64.0 KiB",
                "token_cache.max_age: \"25h\" is not a time",
                "revocation.file: ",
            ][..],
        ),
        (
            "[listen]\n",
            "[listen]\npublic_url = \"https://gateway.example.com/api\"\n",
            &["listen.public_url: names a path"],
        ),
        (
            "[listen]\n",
            "[listen]\npublic_url = \"http://gateway.example.com\"\n",
            &["listen.public_url: is http"],
        ),
        ("[[issuers]]\n", "[[other]]\n", &["issuers: is missing", "other: is not a known key"]),
        ("issuer = \"http://127", "issuer = \"http://idp.example.com/?x=\" # ", &[]),
    ] {
        fs::write(&file, sound.replacen(from, to, 1)).unwrap();
        let checked = run(&["check", "--config", config]);
        let words = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
        let status = if expected.is_empty() { 0 } else { 2 };
        assert_eq!(checked.status.code(), Some(status), "{to}: {words}");
        for words_expected in expected {
            assert!(words.contains(words_expected), "{words_expected} in:\n{words}");
        }
    }
    for (issuer, what) in [
        ("idp", "is no whole URL"),
        ("https://idp.example.com/?x", "has a query or a fragment"),
        ("https://idp.example.com/#x", "has a query or a fragment"),
        ("http://idp.example.com/", "is not loopback"),
        ("not a URL", "is no URL"),
    ] {
        let (before, after) = sound.split_once("issuer = \"").unwrap();
        let (_, after) = after.split_once('"').unwrap();
        let text = format!("{before}issuer = \"{issuer}\"{after}");
        fs::write(&file, text.replace("file = \"jwks.json\"", "discover = true")).unwrap();
        let checked = run(&["check", "--config", config]);
        let words = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
        let line = text.lines().position(|line| line.starts_with("issuer")).unwrap() + 1;
        let found = words.lines().any(|own| {
            own.starts_with(&format!("{config}:{line}: issuers[0].issuer: ")) && own.contains(what)
        });
        assert!(checked.status.code() == Some(2) && found, "{issuer}: {words}");
    }
}
