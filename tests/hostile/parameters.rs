//! Parameters of the header that say that a token is something else than it seems.

use super::forge::{Forge, HEADER, encode, good, hostile, token};
use super::row::{Row, refused, served};

pub fn rows(forge: &Forge) -> Vec<Row> {
    let mut rows = critical(forge);
    rows.extend(types(forge));
    rows
}

/// RFC 7515, section 4.1.11; RFC 7797.
fn critical(forge: &Forge) -> Vec<Row> {
    let mut rows = Vec::new();
    for member in [
        r#""crit":["exp"],"exp":1"#,
        r#""crit":["hostile-"],"hostile-":1"#,
        r#""crit":["kid"]"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""crit":"kid""#,
        r#""crit":["b64"],"b64":false"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""b64":null"#,
        r#""\u0062\u0036\u0034":false"#,
    ] {
        let header = HEADER.replacen('{', &format!("{{{member},"), 1);
        rows.push(refused(format!("header: {member}"), forge.with_header(header), "critical"));
    }
    // RFC 7797's own form: the claims are signed as they are.
    let header = HEADER.replacen('{', r#"{"crit":["b64"],"b64":false,"#, 1);
    let claims = hostile().to_string();
    let detached = token(&header, &claims, |_| {
        forge.es256([encode(&header).as_bytes(), b".", claims.as_bytes()].concat().as_slice())
    });
    rows.push(refused("b64 false, signed like that", detached, "critical"));
    let unknown = HEADER.replacen('{', r#"{"x":1,"CRIT":["x"],"#, 1);
    let unknown = token(unknown, good().to_string(), |it| forge.es256(it));
    rows.push(served("header: members that mean nothing", unknown));
    rows
}

/// RFC 8725, section 3.11.
fn types(forge: &Forge) -> Vec<Row> {
    let header = |typ: &str| HEADER.replace("\"at+jwt\"", typ);
    let mut rows = Vec::new();
    for typ in [
        "at+jwt",
        "AT+JWT",
        "At+Jwt",
        "JWT",
        "jwt",
        "application/at+jwt",
        "APPLICATION/AT+JWT",
        "application/jwt",
    ] {
        let fine = token(header(&format!("{typ:?}")), good().to_string(), |it| forge.es256(it));
        rows.push(served(format!("typ {typ}"), fine));
    }
    for typ in [
        r#""id_token""#,
        r#""ID""#,
        r#""dpop+jwt""#,
        r#""logout+jwt""#,
        r#""secevent+jwt""#,
        r#""entity-statement+jwt""#,
        r#""refresh+jwt""#,
        r#""JWT ""#,
        r#"" JWT""#,
        r#""at+jwt\u0000""#,
        r#""\u0430t+jwt""#,
        r#""at jwt""#,
        r#""at+jwt; charset=utf-8""#,
        r#""application/application/at+jwt""#,
        r#""text/at+jwt""#,
        r#""JOSE""#,
        r#""JWE""#,
        r#""""#,
        "1",
        "null",
        "true",
        r#"["at+jwt"]"#,
        r#"{"at+jwt":1}"#,
    ] {
        rows.push(refused(format!("typ {typ}"), forge.with_header(header(typ)), "type"));
    }
    for cty in [r#""JWT""#, r#""at+jwt""#, r#""""#, "null"] {
        let header = HEADER.replacen('{', &format!("{{\"cty\":{cty},"), 1);
        rows.push(refused(format!("cty {cty}"), forge.with_header(header), "type"));
    }
    rows
}
