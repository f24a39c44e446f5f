//! What concerns a connection: its options (RFC 9110, sections 7.6.1, 7.8 and 10.1.1), and several
//! requests on it (RFC 9112, section 9.3).

use super::row::{LENGTH, Row, chunked, good, put, row, starting, to};
use super::support::{PATH, SAMPLE};

pub fn options() -> Vec<Row> {
    let line = |lines: &str| put(&format!("{lines}\r\n{LENGTH}"), SAMPLE);
    let refused = "400 GW-1001, closed";
    let expecting = |lines: &str, body: &str| put(&format!("Expect: {lines}\r\n"), body);
    vec![
        row("keep-alive", line("Connection: keep-alive"), "200, open"),
        row(
            "keep-alive with its header",
            line("Connection: keep-alive\r\nKeep-Alive: 5"),
            "200, open",
        ),
        row("close", line("Connection: close"), "200, closed"),
        row("close in capitals", line("Connection: CLOSE"), "200, closed"),
        row("close in a list", line("Connection: x, close"), "200, closed"),
        row("keep-alive, close", line("Connection: keep-alive, close"), "200, closed"),
        row(
            "close and then keep-alive",
            line("Connection: close\r\nConnection: keep-alive"),
            "200, closed",
        ),
        row("an option that names nothing", line("Connection: x"), "200, open"),
        row("TE", line("Connection: TE\r\nTE: trailers"), "200, open"),
        row("TE that is not named", line("TE: trailers, deflate"), "200, open"),
        row("a proxy's option", line("Proxy-Connection: close"), "200, open"),
        row(
            "a header of which the gateway makes nothing",
            line("Connection: X\r\nX: y"),
            "200, open",
        ),
        // Headers of which a server before this one would have made nothing.
        row("the token", line("Connection: authorization"), refused),
        row("the token in a list", line("Connection: keep-alive,\tAuthorization "), refused),
        row("the length", line("Connection: content-length"), refused),
        row("the host", line("Connection: Host, close"), refused),
        row("the type", line("Connection: close\r\nConnection: content-type"), refused),
        row(
            "the coding",
            put(
                "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
                &chunked(SAMPLE),
            ),
            refused,
        ),
        row("websocket", line("Connection: upgrade\r\nUpgrade: websocket"), refused),
        row(
            "h2c",
            line("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "),
            refused,
        ),
        row("an upgrade to TLS", line("Connection: Upgrade\r\nUpgrade: TLS/1.2"), refused),
        row("an upgrade that is not named", line("Upgrade: h2c"), refused),
        row("an upgrade to nothing", line("Connection: upgrade"), refused),
        row(
            "expecting to be asked",
            expecting("100-continue\r\nContent-Length: 101", SAMPLE),
            "100, 200, open",
        ),
        row(
            "expecting it in capitals",
            expecting("100-Continue\r\nContent-Length: 101", SAMPLE),
            "100, 200, open",
        ),
        row(
            "expecting to be asked for chunks",
            expecting("100-continue\r\nTransfer-Encoding: chunked", &chunked(SAMPLE)),
            "100, 200, open",
        ),
        row(
            "expecting it without a body",
            expecting("100-continue\r\nContent-Length: 0", ""),
            "400 GW-1001, open",
        ),
        row("expecting it without a length", expecting("100-continue", ""), "400 GW-1001, open"),
        row(
            "expecting it with too much",
            expecting("100-continue\r\nContent-Length: 70000", ""),
            "413 GW-1004, closed",
        ),
        row(
            "expecting it without a token",
            expecting("100-continue\r\nContent-Length: 101", "").replacen("Authorization", "X", 1),
            "401 GW-2001, closed",
        ),
        row(
            "expecting it of another path",
            to("/", &format!("Expect: 100-continue\r\n{LENGTH}"), ""),
            "404 GW-1002, closed",
        ),
        row(
            "expecting it in HTTP/1.0",
            starting(
                &format!("PUT {PATH} HTTP/1.0\r\nHost: gateway\r\n"),
                &format!("Expect: 100-continue\r\n{LENGTH}"),
                SAMPLE,
            ),
            "200, closed",
        ),
        // What is expected beyond that may be passed over.
        row(
            "expecting something else",
            expecting("tea\r\nContent-Length: 101", SAMPLE),
            "200, open",
        ),
        row(
            "expecting two things",
            expecting("100-continue, tea\r\nContent-Length: 101", SAMPLE),
            "200, open",
        ),
    ]
}

pub fn in_a_row() -> Vec<Row> {
    let good = good();
    let closing = put(&format!("Connection: close\r\n{LENGTH}"), SAMPLE);
    let no_token = good.replacen("Authorization", "X", 1);
    let other = to("/other", LENGTH, SAMPLE);
    let broken = put("Transfer-Encoding: chunked\r\n", "xyz\r\n");
    let chunks = put("Transfer-Encoding: chunked\r\n", &chunked(SAMPLE));
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    vec![
        row("three", good.repeat(3), "200, 200, 200, open"),
        row("chunks and lengths", format!("{chunks}{good}{chunks}"), "200, 200, 200, open"),
        row("empty lines between", format!("{good}\r\n\r\n{good}"), "200, 200, open"),
        row(
            "ones that are refused between",
            format!("{good}{no_token}{good}{other}{good}"),
            "200, 401 GW-2001, 200, 404 GW-1002, 200, open",
        ),
        row("nothing after the last", format!("{good}{closing}{good}"), "200, 200, closed"),
        row(
            "nothing after garbage",
            format!("{good}garbage\r\n\r\n{good}"),
            "200, 400 GW-1001, closed",
        ),
        row(
            "nothing after a broken body",
            format!("{good}{broken}{good}"),
            "200, 400 GW-1001, closed",
        ),
        row(
            "nothing after a folded line",
            format!("{good}{}{good}", put(&format!("X: y\r\n z\r\n{LENGTH}"), SAMPLE)),
            "200, 400 GW-1001, closed",
        ),
        row(
            "nothing after two Hosts",
            format!("{good}{}{good}", good.replacen("Host:", "Host: x\r\nHost:", 1)),
            "200, 400 GW-1001, closed",
        ),
        row(
            "nothing after a head that is too large",
            format!(
                "{good}{}{good}",
                put(&format!("X: {}\r\n{LENGTH}", "y".repeat(17 << 10)), SAMPLE)
            ),
            "200, 431 GW-1007, closed",
        ),
        row(
            "nothing after too much",
            format!("{good}{}{good}", put("Content-Length: 70000\r\n", &" ".repeat(70_000))),
            "200, 413 GW-1004, closed",
        ),
        row(
            "nothing after HTTP/1.0",
            format!("{}{good}", good.replacen("HTTP/1.1", "HTTP/1.0", 1)),
            "200, closed",
        ),
        row(
            "nothing after an upgrade",
            format!(
                "{}{good}",
                put(&format!("Connection: upgrade\r\nUpgrade: h2c\r\n{LENGTH}"), SAMPLE)
            ),
            "400 GW-1001, closed",
        ),
        row("HTTP/2 after HTTP/1.1", format!("{good}{preface}{good}"), "200, nothing"),
        row("a head that does not end", format!("{good}PUT"), "200, 408 GW-1006, closed"),
    ]
}
