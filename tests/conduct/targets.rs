//! What is asked for (RFC 9112, section 3.2).

use super::row::{LENGTH, Row, row, starting, to};
use super::support::{PATH, SAMPLE};

pub fn rows() -> Vec<Row> {
    let target = |target: &str| to(target, LENGTH, SAMPLE);
    let changed = |from: &str, by: &str| {
        let changed = PATH.replacen(from, by, 1);
        assert_ne!(changed, PATH, "{from}");
        to(&changed, LENGTH, SAMPLE)
    };
    let start = |start: &str| starting(&format!("{start}\r\nHost: gateway\r\n"), LENGTH, SAMPLE);
    let (none, refused) = ("404 GW-1002, open", "400 GW-1001, closed");
    vec![
        row("the path", target(PATH), "200, open"),
        row("two slashes before", target(&format!("/{PATH}")), none),
        row("two slashes within", changed("/voice", "//voice"), none),
        row("a slash behind", target(&format!("{PATH}/")), none),
        row("a dot segment", changed("/voice", "/./voice"), none),
        row("two dots", changed("/voice", "/x/../voice"), none),
        row("two dots at the root", target(&format!("/..{PATH}")), none),
        row("encoded dots", changed("/voice", "/%2e/voice"), none),
        row("two encoded dots", changed("/voice", "/x/%2e%2e/voice"), none),
        row("an encoded slash", changed("/voice", "%2fvoice"), none),
        row("an encoded slash in capitals", changed("/voice", "%2Fvoice"), none),
        row("an encoded backslash", changed("/voice", "%5cvoice"), none),
        row("a backslash", changed("/voice", "\\voice"), none),
        row("an encoded letter", changed("voice", "%76oice"), none),
        row("a doubly encoded letter", changed("voice", "%2576oice"), none),
        row("a wrong encoding", changed("voice", "%zzvoice"), none),
        row("a cut encoding", target(&format!("{PATH}%")), none),
        row("an overlong encoding", changed("/voice", "/%c0%afvoice"), none),
        row("an encoded NUL", target(&format!("{PATH}%00")), none),
        row("an encoded space", target(&format!("{PATH}%20")), none),
        row("an encoded end of line", target(&format!("{PATH}%0d%0aX:%20y")), none),
        row("an encoded question mark", target(&format!("{PATH}%3fx=y")), none),
        row("a parameter", target(&format!("{PATH};x=y")), none),
        row("a parameter within", changed("/voice", ";x=y/voice"), none),
        row("a parameter of dots", changed("/voice", "/..;/voice"), none),
        row("capitals", target(&PATH.to_uppercase()), none),
        row("one capital", changed("voice", "Voice"), none),
        row("an extension", target(&format!("{PATH}.json")), none),
        row("a shorter path", target("/cms"), none),
        row("the root", target("/"), none),
        row("a query", target(&format!("{PATH}?x=y")), "400 GW-1001, open"),
        row("an empty query", target(&format!("{PATH}?")), "400 GW-1001, open"),
        row("a query of another path", target("/?x=y"), none),
        // Not of HTTP, and it is let fall before anybody looks at the path.
        row("a fragment", target(&format!("{PATH}#x")), "200, open"),
        row("a fragment of another path", target("/#x"), none),
        row("a space behind", start(&format!("PUT {PATH}  HTTP/1.1")), refused),
        row("a space within", target(&format!("{PATH} x")), refused),
        row("a tab behind", target(&format!("{PATH}\t")), refused),
        row("a control character", target(&format!("{PATH}\u{1}")), refused),
        row("not ASCII", target(&format!("{PATH}\u{e4}")), none),
        row("a quotation mark", target(&format!("{PATH}\"")), none),
        row("a bracket", target(&format!("{PATH}<")), refused),
        row("no slash", target(PATH.trim_start_matches('/')), refused),
        row("no target", start("PUT HTTP/1.1"), refused),
        row("the absolute form", target(&format!("http://gateway{PATH}")), refused),
        row("the absolute form with another host", target(&format!("http://other{PATH}")), refused),
        row("the absolute form with a user", target(&format!("http://u:p@gateway{PATH}")), refused),
        row("the absolute form with TLS", target(&format!("https://gateway{PATH}")), refused),
        row("the absolute form of another scheme", target("file:///etc/passwd"), refused),
        row("the absolute form without a host", target(&format!("http://{PATH}")), refused),
        row("the absolute form of the host alone", target("http://gateway"), refused),
        row("the authority form", target("gateway:443"), none),
        row("the authority form with a user", target("u@gateway:443"), none),
        row("a name", target("gateway"), none),
        row("CONNECT", start("CONNECT gateway:443 HTTP/1.1"), "405 GW-1003, closed"),
        row(
            "CONNECT to the path",
            start(&format!("CONNECT {PATH} HTTP/1.1")),
            "405 GW-1003, closed",
        ),
        row("the asterisk", target("*"), none),
        row("OPTIONS of the asterisk", start("OPTIONS * HTTP/1.1"), "405 GW-1003, open"),
        row("GET of the asterisk", start("GET * HTTP/1.1"), none),
        row("two asterisks", target("**"), none),
        row("too long", target(&format!("/{}", "x".repeat(20 << 10))), "431 GW-1007, closed"),
        row("far too long", target(&format!("/{}", "x".repeat(70_000))), "431 GW-1007, closed"),
    ]
}
