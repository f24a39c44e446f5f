//! Tokens that do not come as they should (RFC 6750, section 2.1), and ones that are too large.

use super::forge::{Forge, HEADER, changed, encode, good, hostile, token};
use super::row::{Row, refused, served, with_head};
use super::support::{PATH, SAMPLE};

pub fn rows(forge: &Forge) -> Vec<Row> {
    let mut rows = headers(forge);
    rows.extend(elsewhere(forge));
    rows.extend(sizes(forge));
    rows
}

fn headers(forge: &Forge) -> Vec<Row> {
    let bad = forge.with_claims(hostile().to_string());
    let fine = forge.with_claims(good().to_string());
    let sends = |name: &str, value: String| {
        Row::sends(name, with_head(format!("Authorization: {value}\r\n")))
    };
    let two = |first: &str, second: &str| {
        let lines =
            format!("Authorization: {first}\r\nX-Between: x\r\nauthorization: {second}\r\n");
        Row::sends(format!("two headers, {} and {}", &first[..6], &second[..6]), with_head(lines))
    };
    let bearer = format!("Bearer {bad}");
    let mut rows = vec![
        two(&bearer, &bearer).refused_as("two_headers"),
        two(&bearer, "Basic aG9zdGlsZQ==").refused_as("two_headers"),
        two("Basic aG9zdGlsZQ==", &bearer).refused_as("two_headers"),
        sends("two tokens with a comma", format!("{bearer}, {bearer}")).refused_as("characters"),
        sends("two tokens with a space", format!("{bearer} {bad}")).refused_as("characters"),
        sends("a parameter", format!("{bearer}, realm=\"x\"")).refused_as("characters"),
        sends("bearer in lower case", format!("bearer {fine}")),
        sends("bearer in upper case", format!("BEARER {fine}")),
        sends("several spaces", format!("Bearer    {fine}")),
        sends("space around it", format!("   Bearer {fine}   ")),
        sends("no token", "Bearer".into()).refused_as("no_token"),
        sends("spaces for a token", "Bearer   ".into()).refused_as("no_token"),
        sends("an empty header", String::new()).refused_as("no_token"),
        sends("a tab for the space", format!("Bearer\t{bad}")).refused_as("no_token"),
        sends("a tab behind the space", format!("Bearer \t{bad}")).refused_as("characters"),
        sends("no space", format!("Bearer{bad}")).refused_as("no_token"),
        sends("a colon", format!("Bearer: {bad}")).refused_as("no_token"),
        sends("an equals sign", format!("Bearer={bad}")).refused_as("no_token"),
        sends("the token alone", bad.clone()).refused_as("no_token"),
        sends("Basic", format!("Basic {bad}")).refused_as("no_token"),
        sends("Basic with the CMS's account", "Basic Y21zLXNlcnZpY2U6Y21zLXBhc3N3b3Jk".into())
            .refused_as("no_token"),
        sends("Token", format!("Token {bad}")).refused_as("no_token"),
        sends("JWT", format!("JWT {bad}")).refused_as("no_token"),
        sends("not ASCII", format!("{bearer}\u{e9}")).refused_as("characters"),
        sends("a look-alike scheme", format!("Be\u{430}rer {bad}")).refused_as("characters"),
        sends("a space without a break", format!("Bearer\u{a0}{bad}")).refused_as("characters"),
        sends("padding alone", "Bearer ====".into()).refused_as("characters"),
        sends("a quotation", format!("Bearer \"{bad}\"")).refused_as("characters"),
        sends("a new line", format!("{bearer}\n{bad}")).turned_away(400, "GW-1001"),
        sends("a folded line", format!("Bearer\r\n {bad}")).turned_away(400, "GW-1001"),
        sends("NUL", format!("{bearer}\0")).turned_away(400, "GW-1001"),
        sends("DEL", format!("{bearer}\u{7f}")).turned_away(400, "GW-1001"),
    ];
    let bytes = [b"Authorization: Bearer \xff\xfe", bad.as_bytes(), b"\r\n"].concat();
    rows.push(Row::sends("not UTF-8", with_head(bytes)).refused_as("characters"));
    rows
}

/// A token counts in the one header alone.
fn elsewhere(forge: &Forge) -> Vec<Row> {
    let bad = forge.with_claims(hostile().to_string());
    let header = |line: &str| {
        Row::sends(format!("in {line}"), with_head(format!("{line}{bad}\r\n")))
            .refused_as("no_token")
    };
    let query = |more: &str| {
        let target = format!("PUT {PATH}?access_token={bad} HTTP/1.1\r\nHost: gateway\r\n{more}");
        format!("{target}Connection: close\r\nContent-Length: {}\r\n\r\n{SAMPLE}", SAMPLE.len())
    };
    let authorized = format!("Authorization: Bearer {bad}\r\n");
    let form = format!("access_token={bad}");
    let form = format!(
        "PUT {PATH} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    vec![
        Row::sends("in the query", query("")).turned_away(400, "GW-1001"),
        Row::sends("in the query too", query(&authorized)).turned_away(400, "GW-1001"),
        Row::sends("in a form", form).refused_as("no_token"),
        Row::sends("nowhere", with_head("")).refused_as("no_token"),
        header("Cookie: access_token="),
        header("Cookie: Authorization=Bearer "),
        header("Proxy-Authorization: Bearer "),
        header("X-Forwarded-Authorization: Bearer "),
        header("X-Authorization: Bearer "),
        header("X-Access-Token: "),
        header("X-Forwarded-User: hostile-"),
        header("Authorization_: Bearer "),
        Row::sends(
            "in a header with a space in its name",
            with_head(format!("Authorization : Bearer {bad}\r\n")),
        )
        .turned_away(400, "GW-1001"),
    ]
}

fn sizes(forge: &Forge) -> Vec<Row> {
    let largest = sized(forge, good(), 8192);
    let larger = sized(forge, hostile(), 8193);
    let words = "hostile-".repeat(13 << 10);
    vec![
        served("8,192 bytes", largest),
        refused("8,193 bytes", larger, "too_large"),
        refused("12 KiB", sized(forge, hostile(), 12 << 10), "too_large"),
        // More than the head of a request may have, which is looked at before.
        served("100 KiB", sized(forge, hostile(), 100 << 10)).turned_away(431, "GW-1007"),
        served("100 KiB of no token", words).turned_away(431, "GW-1007"),
    ]
}

/// A token of this length.
fn sized(forge: &Forge, claims: serde_json::Value, length: usize) -> String {
    let empty = changed(claims.clone(), "x", "").to_string().len();
    for spaces in 0..3 {
        let header = format!("{HEADER}{}", " ".repeat(spaces));
        // What is left for the claims, of which four letters hold three bytes.
        let left = length - encode(&header).len() - 2 - encode([0; 64]).len();
        let size = left * 3 / 4;
        if left % 4 != 1 {
            let claims = changed(claims, "x", "h".repeat(size - empty)).to_string();
            let token = token(header, claims, |it| forge.es256(it));
            assert_eq!(token.len(), length);
            return token;
        }
    }
    panic!("no token of {length} bytes")
}
