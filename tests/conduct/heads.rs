//! The lines of a head (RFC 9112, sections 2 to 5), and Host (section 3.2).

use super::row::{LENGTH, Row, chunked, good, put, row, starting};
use super::support::{PATH, SAMPLE};

pub fn lines() -> Vec<Row> {
    let line = |line: &str| put(&format!("{line}\r\n{LENGTH}"), &format!("{SAMPLE}{}", good()));
    let start = |start: &str| {
        starting(&format!("{start}\r\nHost: gateway\r\n"), LENGTH, &format!("{SAMPLE}{}", good()))
    };
    let put = |version: &str| start(&format!("PUT {PATH} {version}"));
    let (refused, both) = ("400 GW-1001, closed", "200, 200, open");
    vec![
        row("a folded line", line("X: y\r\n z"), refused),
        row("a line folded by a tab", line("X: y\r\n\tz"), refused),
        row(
            "a first line that is folded",
            start(&format!("PUT {PATH} HTTP/1.1\r\n X: y")),
            refused,
        ),
        // A single LF may end a line (section 2.2). Whoever stands before the gateway may not send one
        // on within a value (RFC 9110, section 5.5), and the gateway sends nothing on.
        row("bare LF", good().replace("\r\n", "\n"), "200, open"),
        row("bare LF before a header", line("X: y\nZ: z"), both),
        row(
            "bare LF before a coding",
            super::row::put(
                &format!("X: y\nTransfer-Encoding: chunked\r\n{LENGTH}"),
                &(chunked(SAMPLE) + &good()),
            ),
            "200, closed",
        ),
        row("bare LF before a length", line("X: y\nContent-Length: 0"), refused),
        row("bare LF and a folded line", line("X: y\n z"), refused),
        row("LF and CR", line("X: y\n\rZ: z"), refused),
        row("bare CR", line("X: y\rZ: z"), refused),
        row("two CR", line("X: y\r\r\nZ: z"), refused),
        row("a NUL in a value", line("X: y\0z"), refused),
        row("a NUL in a name", line("X\0: y"), refused),
        row("a NUL in the path", start("PUT /cms\0 HTTP/1.1"), refused),
        row("a NUL before all", format!("\0{}", good()), refused),
        row("another control character", line("X: y\u{1}z"), refused),
        row("DEL", line("X: y\u{7f}z"), refused),
        row("a tab in a value", line("X: y\tz"), both),
        row("not ASCII in a value", line("X: \u{fc}"), both),
        row("not ASCII in a name", line("\u{dc}: x"), refused),
        row("no name", line(": x"), refused),
        row("no colon", line("x"), refused),
        row("a space in a name", line("X Y: z"), refused),
        row("a space behind a name", line("X : z"), refused),
        row("a space before a name", line(" X: z"), refused),
        row("a parenthesis in a name", line("X(Y): z"), refused),
        row("no value", line("X:"), both),
        row("an empty line before all", format!("\r\n{}", good()), "200, open"),
        row("many empty lines", format!("{}{}", "\r\n".repeat(1000), good()), "200, open"),
        row("bare LF before all", format!("\n{}", good()), "200, open"),
        row("a space before all", format!(" {}", good()), refused),
        row("a byte-order mark", format!("\u{feff}{}", good()), refused),
        row("HTTP/0.9", format!("GET {PATH}\r\n"), "408 GW-1006, closed"),
        row("HTTP/0.9 and a head", start(&format!("PUT {PATH}")), refused),
        row("HTTP/0.9 by name", put("HTTP/0.9"), refused),
        row("HTTP/1.0", put("HTTP/1.0"), "200, closed"),
        row("HTTP/1.2", put("HTTP/1.2"), refused),
        row("HTTP/2.0", put("HTTP/2.0"), refused),
        row("HTTP/3", put("HTTP/3"), refused),
        row("HTTP/1.10", put("HTTP/1.10"), refused),
        row("HTTP/01.1", put("HTTP/01.1"), refused),
        row("HTTP/1", put("HTTP/1"), refused),
        row("http in lower case", put("http/1.1"), refused),
        row("another protocol", put("ICAP/1.1"), refused),
        row("a space behind the version", put("HTTP/1.1 "), refused),
        row("a tab for a space", start(&format!("PUT\t{PATH}\tHTTP/1.1")), refused),
        row("two spaces", start(&format!("PUT  {PATH}  HTTP/1.1")), refused),
        row(
            "a method in lower case",
            start(&format!("put {PATH} HTTP/1.1")),
            "405 GW-1003, 200, open",
        ),
        row("another method", start(&format!("PUTS {PATH} HTTP/1.1")), "405 GW-1003, 200, open"),
        row(
            "a method with a hyphen",
            start(&format!("PUT- {PATH} HTTP/1.1")),
            "405 GW-1003, 200, open",
        ),
        row("a method that is none", start(&format!("PU(T {PATH} HTTP/1.1")), refused),
        row("no method", start(&format!(" {PATH} HTTP/1.1")), refused),
        row("TLS", "\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\u{3}\r\n\r\n", refused),
    ]
}

pub fn hosts() -> Vec<Row> {
    let host = |lines: &str| starting(&format!("PUT {PATH} HTTP/1.1\r\n{lines}"), LENGTH, SAMPLE);
    let old = |lines: &str| {
        let keep = format!("Connection: keep-alive\r\n{LENGTH}");
        starting(&format!("PUT {PATH} HTTP/1.0\r\n{lines}"), &keep, SAMPLE)
    };
    let refused = "400 GW-1001, closed";
    vec![
        row("a port", host("Host: gateway:8080\r\n"), "200, open"),
        row("no port behind the colon", host("Host: gateway:\r\n"), "200, open"),
        row("an address", host("Host: 127.0.0.1:8080\r\n"), "200, open"),
        row("an address of IPv6", host("Host: [::1]:8080\r\n"), "200, open"),
        row("an underscore", host("Host: cms_gateway.internal\r\n"), "200, open"),
        row("none", host(""), refused),
        row("twice the same", host("Host: gateway\r\nHost: gateway\r\n"), refused),
        row("two", host("Host: gateway\r\nX: y\r\nhost: other\r\n"), refused),
        row("empty", host("Host:\r\n"), refused),
        row("a space", host("Host: gate way\r\n"), refused),
        row("a list", host("Host: gateway, other\r\n"), refused),
        row("a list without a space", host("Host: gateway,other\r\n"), refused),
        row("a user", host("Host: user@gateway\r\n"), refused),
        row("a user and a password", host("Host: user:password@gateway\r\n"), refused),
        row("a path", host("Host: gateway/cms\r\n"), refused),
        row("a whole URL", host("Host: http://gateway/\r\n"), refused),
        row("a query", host("Host: gateway?x\r\n"), refused),
        row("a fragment", host("Host: gateway#x\r\n"), refused),
        row("a port that is none", host("Host: gateway:x\r\n"), refused),
        row("a port with a sign", host("Host: gateway:+80\r\n"), refused),
        row("a port that is too large", host("Host: gateway:65536\r\n"), refused),
        row("two ports", host("Host: gateway:80:80\r\n"), refused),
        row("only a port", host("Host: :80\r\n"), refused),
        row("a bracket", host("Host: [::1\r\n"), refused),
        row("no address in brackets", host("Host: [gateway]\r\n"), refused),
        row("an address of IPv6 without brackets", host("Host: ::1\r\n"), refused),
        row("a percent sign", host("Host: gateway%2ea\r\n"), refused),
        row("not ASCII", host("Host: g\u{e4}teway\r\n"), refused),
        row("a space before the colon", host("Host : gateway\r\n"), refused),
        row("a folded line", host("Host:\r\n gateway\r\n"), refused),
        row("HTTP/1.0 with one", old("Host: gateway\r\n"), "200, as HTTP/1.0 has it"),
        row("HTTP/1.0 with none", old(""), "200, as HTTP/1.0 has it"),
        row("HTTP/1.0 with two", old("Host: a\r\nHost: a\r\n"), refused),
        row("HTTP/1.0 with one that is none", old("Host: a, b\r\n"), refused),
        row(
            "forwarded ones",
            host("Host: gateway\r\nX-Forwarded-Host: a/b\r\nForwarded: host=x\r\n"),
            "200, open",
        ),
    ]
}
