//! Where a body ends (RFC 9112, sections 6 and 7).

use super::row::{LENGTH, Row, chunked, good, put, row, starting};
use super::support::{PATH, SAMPLE};

/// A body with these headers of its length, and another request behind it.
fn with(lines: &str) -> String {
    put(&format!("{lines}\r\n"), SAMPLE)
}

pub fn lengths() -> Vec<Row> {
    let all = chunked(SAMPLE) + &good();
    let both = format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", all.len());
    let reversed = format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", all.len());
    let few = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    vec![
        row("one length", with("Content-Length: 101"), "200, open"),
        // Chunks win and the connection ends (section 6.1): what another server would take for part of
        // the body, or for the next request, is nothing here.
        row("CL.TE", put(&both, &all), "200, closed"),
        row("TE.CL", put(&reversed, &all), "200, closed"),
        row("CL.TE with a short length", put(few, &all), "200, closed"),
        row("CL.TE of nothing", put(&both, &format!("0\r\n\r\n{}", good())), "400 GW-1001, closed"),
        row(
            "chunks and a length that is none",
            put("Transfer-Encoding: chunked\r\nContent-Length: x\r\n", &all),
            "200, closed",
        ),
        row(
            "a length that is none and chunks",
            put("Content-Length: x\r\nTransfer-Encoding: chunked\r\n", &all),
            "400 GW-1001, closed",
        ),
        // The same length twice is that length (RFC 9110, section 8.6).
        row("twice the same", with("Content-Length: 101\r\nContent-Length: 101"), "200, open"),
        row(
            "twice the same in other digits",
            with("Content-Length: 101\r\nContent-Length: 0101"),
            "200, open",
        ),
        row("two", with("Content-Length: 101\r\nContent-Length: 0"), "400 GW-1001, closed"),
        row(
            "two, the other way",
            with("Content-Length: 0\r\nContent-Length: 101"),
            "400 GW-1001, closed",
        ),
        row("a list", with("Content-Length: 101, 101"), "400 GW-1001, closed"),
        row("a list of two", with("Content-Length: 101, 0"), "400 GW-1001, closed"),
        row("a list with a gap", with("Content-Length: 101,"), "400 GW-1001, closed"),
        row("plus", with("Content-Length: +101"), "400 GW-1001, closed"),
        row("minus", with("Content-Length: -101"), "400 GW-1001, closed"),
        row("minus nothing", with("Content-Length: -0"), "400 GW-1001, closed"),
        row("hexadecimal", with("Content-Length: 0x65"), "400 GW-1001, closed"),
        row("an exponent", with("Content-Length: 101e0"), "400 GW-1001, closed"),
        row("a fraction", with("Content-Length: 101.0"), "400 GW-1001, closed"),
        row("an underscore", with("Content-Length: 1_01"), "400 GW-1001, closed"),
        row("digits of another script", with("Content-Length: ١٠١"), "400 GW-1001, closed"),
        row("empty", with("Content-Length:"), "400 GW-1001, closed"),
        row("a word", with("Content-Length: chunked"), "400 GW-1001, closed"),
        row("quoted", with("Content-Length: \"101\""), "400 GW-1001, closed"),
        row("a space within", with("Content-Length: 10 1"), "400 GW-1001, closed"),
        row("space around", with("Content-Length: \t 101 \t"), "200, open"),
        row("leading zeros", with("Content-Length: 0000000000000000000000000101"), "200, open"),
        row("2^64", with("Content-Length: 18446744073709551616"), "400 GW-1001, closed"),
        row("2^64 and 101", with("Content-Length: 18446744073709551717"), "400 GW-1001, closed"),
        // hyper's own word for it.
        row("2^64 less one", with("Content-Length: 18446744073709551615"), "431 GW-1007, closed"),
        row("2^63", with("Content-Length: 9223372036854775808"), "413 GW-1004, closed"),
        row("2^32 and 101", with("Content-Length: 4294967397"), "413 GW-1004, closed"),
        row("a space before the colon", with("Content-Length : 101"), "400 GW-1001, closed"),
        // Without a length there is no body: what comes is the next request, and a bad one.
        row("none, and a body all the same", put("", SAMPLE), "400 GW-1001, 400 GW-1001, closed"),
        row(
            "an underscore for the hyphen",
            with("Content_Length: 101"),
            "400 GW-1001, 400 GW-1001, closed",
        ),
        row("none, and a request behind it", put("", &good()), "400 GW-1001, 200, open"),
        row("nothing", put("Content-Length: 0\r\n", ""), "400 GW-1001, open"),
        row("too few", put("Content-Length: 100\r\n", SAMPLE), "400 GW-1001, 400 GW-1001, closed"),
        row("too many", put("Content-Length: 102\r\n", SAMPLE), "408 GW-1006, closed"),
        row(
            "too many, and the client ends",
            put("Content-Length: 102\r\n", SAMPLE),
            "400 GW-1001, closed",
        )
        .and_ends(),
        row(
            "too many, which takes the next one's first byte",
            put("Content-Length: 102\r\n", &format!("{SAMPLE}{}", good())),
            "400 GW-1001, 405 GW-1003, open",
        ),
    ]
}

pub fn codings() -> Vec<Row> {
    let te =
        |value: &str| put(&format!("Transfer-Encoding:{value}\r\n"), &(chunked(SAMPLE) + &good()));
    let two = |first: &str, second: &str| te(&format!("{first}\r\nTransfer-Encoding:{second}"));
    let refused = "400 GW-1001, closed";
    let mut rows = vec![
        row("chunks", te(" chunked"), "200, 200, open"),
        row("without a space", te("chunked"), "200, 200, open"),
        row("in capitals", te(" CHUNKED"), "200, 200, open"),
        row("with tabs around", te("\tchunked\t"), "200, 200, open"),
        row("nothing", te(""), refused),
        row("xchunked", te(" xchunked"), refused),
        row("chunkedx", te(" chunkedx"), refused),
        row("quoted", te(" \"chunked\""), refused),
        row("in single quotes", te(" 'chunked'"), refused),
        row("with a parameter", te(" chunked;q=1"), refused),
        row("with a semicolon", te(" chunked;"), refused),
        row("identity", te(" identity"), refused),
        row("chunks, identity", te(" chunked, identity"), refused),
        row("identity, chunks", te(" identity, chunked"), refused),
        row("compressed chunks", te(" gzip, chunked"), refused),
        row("chunks, compressed", te(" chunked, gzip"), refused),
        row("chunks in chunks", te(" chunked, chunked"), refused),
        row("a comma before", te(" , chunked"), refused),
        row("a comma behind", te(" chunked,"), refused),
        row("with a letter of another script", te(" \u{441}hunked"), refused),
        row("with a vertical tab", te(" \u{b}chunked"), refused),
        row("with a form feed", te(" chunked\u{c}"), refused),
        row("with a NUL", te(" chunked\0"), refused),
        row("with a space that is not ASCII", te(" \u{a0}chunked"), refused),
        row("on a second line", te("\r\n chunked"), refused),
        row("on a second line after a tab", te("\r\n\tchunked"), refused),
        row("after a bare CR", te(" \rchunked"), refused),
        row("twice", two(" chunked", " chunked"), refused),
        row("identity and chunks", two(" identity", " chunked"), refused),
        row("chunks and identity", two(" chunked", " identity"), refused),
        row("chunks and nothing", two(" chunked", ""), refused),
        row("nothing and chunks", two("", " chunked"), refused),
        row("chunks and a word", two(" chunked", " cow"), refused),
    ];
    let lines = |lines: &str| put(&format!("{lines}\r\n"), &(chunked(SAMPLE) + &good()));
    let length = |line: &str| put(&format!("{LENGTH}{line}\r\n"), SAMPLE);
    rows.extend([
        row("a space before the colon", lines("Transfer-Encoding : chunked"), refused),
        row("a tab before the colon", lines("Transfer-Encoding\t: chunked"), refused),
        row("a space before the name", lines("X: y\r\n Transfer-Encoding: chunked"), refused),
        row("behind a bare CR", lines("X: y\rTransfer-Encoding: chunked"), refused),
        row("a name with an NUL", lines("Transfer-Encoding\0: chunked"), refused),
        row("without a colon", lines("Transfer-Encoding chunked"), refused),
        // Another header than the one that counts, beside a length: it is not looked at.
        row("an underscore for the hyphen", length("Transfer_Encoding: chunked"), "200, open"),
        row("a name before it", length("X-Transfer-Encoding: chunked"), "200, open"),
        row("TE.TE", length("Transfer-Encoding: x\r\nTransfer-Encoding: y"), refused),
        row("a length and no chunks", length("Transfer-Encoding: identity"), refused),
        row(
            "chunks in HTTP/1.0",
            starting(
                &format!("PUT {PATH} HTTP/1.0\r\nHost: gateway\r\n"),
                "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
                &(chunked(SAMPLE) + &good()),
            ),
            refused,
        ),
    ]);
    rows
}

pub fn chunks() -> Vec<Row> {
    let te = |body: &str| put("Transfer-Encoding: chunked\r\n", body);
    let one = |size: &str| te(&format!("{size}\r\n{SAMPLE}\r\n0\r\n\r\n{}", good()));
    let trailer = |lines: &str| te(&format!("65\r\n{SAMPLE}\r\n0\r\n{lines}\r\n{}", good()));
    let (half, other) = SAMPLE.split_at(50);
    let (refused, both, last) = ("400 GW-1001, closed", "200, 200, open", "200, closed");
    let many: String = SAMPLE.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    vec![
        row("two chunks", te(&format!("32\r\n{half}\r\n33\r\n{other}\r\n0\r\n\r\n")), "200, open"),
        row("a chunk for each byte", te(&format!("{many}0\r\n\r\n{}", good())), both),
        row("leading zeros", one("00000000000000000000000000000065"), both),
        row("an extension", one("65;name=value"), both),
        row("an extension in quotes", one("65;name=\"a;b\""), both),
        row("space before an extension", one("65 ;name"), both),
        // Section 7.1 has no space there; nobody takes it for another size.
        row("space behind the size", one("65 "), both),
        row("a large extension", one(&format!("65;{}", "x".repeat(17 << 10))), refused),
        row("an extension with a bare LF", one("65;a\nb"), refused),
        row("an extension with a bare CR", one("65;a\rb"), refused),
        row("a bare CR", one("65\r"), refused),
        row("no size", one(""), refused),
        row("a word", one("xyz"), refused),
        row("hexadecimal with its mark", one("0x65"), refused),
        row("plus", one("+65"), refused),
        row("minus", one("-65"), refused),
        row("an underscore", one("6_5"), refused),
        row("a comma", one("65,65"), refused),
        row("a space before the size", one(" 65"), refused),
        row("a space within", one("6 5"), refused),
        row("a NUL", one("65\0"), refused),
        row("2^64", one("10000000000000000"), refused),
        row("2^64 and 101", one("10000000000000065"), refused),
        // As much as that is waited for, and no longer than for any body.
        row("2^64 less one", one("ffffffffffffffff"), "408 GW-1006, closed"),
        row("2^63", one("8000000000000000"), "408 GW-1006, closed"),
        row("more than it says", one("64"), refused),
        row("less than it says", one("66"), refused),
        row(
            "bare LF behind the size",
            te(&format!("65\n{SAMPLE}\r\n0\r\n\r\n{}", good())),
            refused,
        ),
        row(
            "bare LF behind the data",
            te(&format!("65\r\n{SAMPLE}\n0\r\n\r\n{}", good())),
            refused,
        ),
        row(
            "bare LF behind the last size",
            te(&format!("65\r\n{SAMPLE}\r\n0\n\r\n{}", good())),
            refused,
        ),
        // hyper takes it for a trailer's first byte, and what comes next for trailers.
        row("bare LF at the end", te(&format!("65\r\n{SAMPLE}\r\n0\r\n\n{}", good())), last),
        row(
            "bare CR behind the data",
            te(&format!("65\r\n{SAMPLE}\r0\r\n\r\n{}", good())),
            refused,
        ),
        row("nothing behind the data", te(&format!("65\r\n{SAMPLE}0\r\n\r\n{}", good())), refused),
        row("no last chunk", te(&format!("65\r\n{SAMPLE}\r\n")), "408 GW-1006, closed"),
        row("no last chunk, and the client ends", te(&format!("65\r\n{SAMPLE}\r\n")), refused)
            .and_ends(),
        row("no end, and the client ends", te(&format!("65\r\n{SAMPLE}\r\n0\r\n")), refused)
            .and_ends(),
        row(
            "no last chunk, and another request",
            te(&format!("65\r\n{SAMPLE}\r\n{}", good())),
            refused,
        ),
        row("no data", te(&format!("0\r\n\r\n{}", good())), "400 GW-1001, 200, open"),
        row(
            "too much",
            te(&format!("{:x}\r\n{}", 70 << 10, " ".repeat(70 << 10))),
            "413 GW-1004, closed",
        ),
        // Trailers are let fall, whatever they say. hyper forgives bare LF in them, after which not
        // everybody finds the next request in one place, so there is none.
        row("a trailer", trailer("X-Checksum: 1\r\n"), last),
        row("trailers that frame", trailer("Content-Length: 5\r\nTransfer-Encoding: x\r\n"), last),
        row("a trailer that names a host", trailer("Host: other\r\n"), last),
        row("a trailer with a token", trailer("Authorization: Bearer x\r\n"), last),
        row("a trailer with a type", trailer("Content-Encoding: gzip\r\nConnection: x\r\n"), last),
        row("a trailer that ends with bare LF", trailer("X: y\n\n"), last),
        row("a trailer without a colon", trailer("X\r\n"), refused),
        row("a folded trailer", trailer("X: y\r\n z\r\n"), refused),
        row("a trailer with a bare LF", trailer("X: y\nZ: z\r\n"), refused),
        row("a trailer with a NUL", trailer("X: \0\r\n"), refused),
        row("many trailers", trailer(&"X: y\r\n".repeat(1000)), refused),
        row("a large trailer", trailer(&format!("X: {}\r\n", "y".repeat(70 << 10))), refused),
        row(
            "a token that is a trailer",
            te(&format!("65\r\n{SAMPLE}\r\n0\r\nAuthorization: Bearer $TOKEN\r\n\r\n")).replacen(
                "Authorization",
                "X-Authorization",
                1,
            ),
            "401 GW-2001, closed",
        ),
    ]
}
