//! Tokens whose parts are spelled otherwise than RFC 7515 says, or say more than one thing.

use super::forge::{Forge, HEADER, encode, good, hostile, spelled};
use super::row::{Row, refused, served};

pub fn rows(forge: &Forge) -> Vec<Row> {
    let mut rows = base64url(forge);
    rows.extend(segments(forge));
    rows.extend(json(forge));
    rows.extend(doubled(forge));
    rows
}

/// One token has one spelling: RFC 7515, section 2 and appendix C.
fn base64url(forge: &Forge) -> Vec<Row> {
    let claims = hostile().to_string();
    // Signed as it is spelled, so that the spelling alone is wrong.
    let signed = |header: &str, claims: &str| {
        let message = format!("{header}.{claims}");
        let signature = encode(forge.es256(message.as_bytes()));
        format!("{message}.{signature}")
    };
    // "?>" in three places in a row gives both letters in which the alphabets differ.
    let marked = spelled(hostile(), "x", "\"?>?>?>~~~\u{fb}\u{ff}\"");
    let both = ["", " ", "  "].map(|end| encode(format!("{marked}{end}")));
    let both = both.into_iter().find(|it| it.contains('_') || it.contains('-')).unwrap();
    let standard = both.replace('-', "+").replace('_', "/");
    let whole = forge.with_claims(&claims);
    let (header, rest) = whole.split_once('.').unwrap();
    let (part, signature) = rest.split_once('.').unwrap();
    let spare = with_spare_bits(&claims);
    let spare_header = with_spare_bits(HEADER);
    let reason = "not_base64url";
    vec![
        refused("spare bits in the claims", signed(header, &spare), reason),
        refused("spare bits in the header", signed(&spare_header, part), reason),
        refused(
            "spare bits in the signature",
            format!("{header}.{part}.{}", next(signature)),
            reason,
        ),
        refused("a letter too many", format!("{whole}AAA"), reason),
        refused("padding at the end", format!("{whole}=="), reason),
        refused("more padding at the end", format!("{whole}===="), reason),
        refused("padding in the claims", signed(header, &format!("{part}=")), "characters"),
        refused("padding in the header", signed(&format!("{header}=="), part), "characters"),
        refused("the standard alphabet in the claims", signed(header, &standard), reason),
        refused("a plus in the signature", format!("{header}.{part}.+{}", &signature[1..]), reason),
        refused(
            "a slash in the signature",
            format!("{header}.{part}./{}", &signature[1..]),
            reason,
        ),
        refused("a tilde in the claims", signed(header, &format!("~{part}")), reason),
        refused("a space in the claims", signed(header, &format!("{part} ")), "characters"),
        refused("a tab in the claims", signed(header, &format!("{part}\t")), "characters"),
        refused("a percent sign", whole.replacen('.', "%2E", 1), "characters"),
        refused("not base64url at all", "hostile-.hostile-~.hostile-", reason),
        refused("quotes around it", format!("\"{whole}\""), "characters"),
    ]
}

/// The encoding of a text whose last letter has bits to spare, with one of them set.
fn with_spare_bits(text: &str) -> String {
    let spellings = ["", " "].map(|end| encode(format!("{text}{end}")));
    next(spellings.iter().find(|it| it.len() % 4 != 0).unwrap())
}

/// The same with the next letter of the alphabet in the last place.
fn next(part: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = part.split_at(part.len() - 1);
    let place = ALPHABET.find(last).unwrap();
    format!("{rest}{}", &ALPHABET[place + 1..place + 2])
}

fn segments(forge: &Forge) -> Vec<Row> {
    let whole = forge.with_claims(hostile().to_string());
    let parts: Vec<&str> = whole.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let jwe = encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#);
    let nested = forge.with_claims(&whole);
    let typed = forge.with_header(r#"{"alg":"ES256","kid":"es256","cty":"JWT"}"#);
    vec![
        refused("one part", header, "not_compact"),
        refused("two parts", format!("{header}.{claims}"), "not_compact"),
        refused("four parts", format!("{whole}.{signature}"), "not_compact"),
        refused("a dot at the end", format!("{whole}."), "not_compact"),
        refused("a dot at the start", format!(".{whole}"), "not_compact"),
        refused("two dots in a row", whole.replacen('.', "..", 1), "not_compact"),
        refused("dots alone", "..", "header"),
        refused("many dots", ".".repeat(8000), "not_compact"),
        refused("no header", format!(".{claims}.{signature}"), "header"),
        refused("no claims", format!("{header}..{signature}"), "claims"),
        refused("a JWE", format!("{jwe}.{claims}.{signature}.{claims}.{signature}"), "not_compact"),
        refused("a JWE in three parts", format!("{jwe}.{claims}.{signature}"), "algorithm"),
        refused("a token within a token", nested, "claims"),
        refused("cty JWT", typed, "type"),
        refused("a JWS in JSON", format!("{{\"payload\":\"{claims}\"}}"), "characters"),
        refused("an opaque token", "hostile-0123456789abcdef", "not_compact"),
    ]
}

fn json(forge: &Forge) -> Vec<Row> {
    let claims = hostile().to_string();
    let deep = |start: &str, end: &str, levels| start.repeat(levels) + "1" + &end.repeat(levels);
    let nested = |levels| spelled(hostile(), "x", &deep("[", "]", levels));
    let fine = |levels| spelled(good(), "x", &deep("[", "]", levels));
    let not_utf_8 = |text: &str| {
        let at = text.find('"').unwrap() + 1;
        [&text.as_bytes()[..at], b"\xc3\x28", &text.as_bytes()[at..]].concat()
    };
    let mut rows = vec![
        served("a hundred levels in the claims", forge.with_claims(fine(100))),
        refused("1,000 levels in the claims", forge.with_claims(nested(1_000)), "claims"),
        refused("2,500 levels in the claims", forge.with_claims(nested(2_500)), "claims"),
        refused("5,000 levels in the claims", forge.with_claims(nested(5_000)), "too_large"),
        // Larger than a request's head may be, whatever is in it.
        served("10,000 levels in the claims", forge.with_claims(nested(10_000)))
            .turned_away(431, "GW-1007"),
        served("10,000 levels in the header", forge.with_header(deep("[", "]", 10_000)))
            .turned_away(431, "GW-1007"),
        refused("4,500 levels and no end", forge.with_claims("[".repeat(4_500)), "claims"),
        refused("objects in objects", forge.with_claims(deep("{\"a\":", "}", 800)), "claims"),
        refused("2,000 levels in the header", forge.with_header(deep("[", "]", 2_000)), "header"),
        served("space around the claims", forge.with_claims(format!(" {}\n\t\r", good()))),
    ];
    for (name, end) in [("a brace", "}"), ("an object", "{}"), ("NUL", "\0"), ("a comma", ",")] {
        let name = |of| format!("{name} behind the {of}");
        let header = format!("{HEADER}{end}");
        rows.push(refused(name("header"), forge.with_header(header), "header"));
        rows.push(refused(name("claims"), forge.with_claims(format!("{claims}{end}")), "claims"));
    }
    for (name, of_header, of_claims) in [
        ("not UTF-8", not_utf_8(HEADER), not_utf_8(&claims)),
        (
            "a byte-order mark",
            format!("\u{feff}{HEADER}").into(),
            format!("\u{feff}{claims}").into(),
        ),
        ("a list", format!("[{HEADER}]").into(), format!("[{claims}]").into()),
        ("a text", format!("{HEADER:?}").into(), format!("{claims:?}").into()),
        ("null", "null".into(), "null".into()),
        ("empty", "".into(), "".into()),
        ("cut", HEADER[..20].into(), claims[..40].into()),
        ("a comma too many", HEADER.replace('}', ",}").into(), claims.replace('}', ",}").into()),
        ("a comment", format!("/**/{HEADER}").into(), format!("{claims}//").into()),
        ("single quotes", HEADER.replace('"', "'").into(), claims.replace('"', "'").into()),
        (
            "a lone surrogate",
            HEADER.replace("es256", "\\ud800").into(),
            spelled(hostile(), "sub", r#""\udc00hostile-""#).into(),
        ),
        (
            "surrogates the wrong way round",
            HEADER.replace("es256", "\\udc00\\ud800").into(),
            spelled(hostile(), "sub", r#""\udc00\ud800hostile-""#).into(),
        ),
        (
            "an unknown escape",
            HEADER.replace("es256", "\\x").into(),
            spelled(hostile(), "sub", r#""\xhostile-""#).into(),
        ),
        (
            "a bare control character",
            HEADER.replace("es256", "\n").into(),
            spelled(hostile(), "sub", "\"\nhostile-\"").into(),
        ),
        ("UTF-16", utf_16(HEADER), utf_16(&claims)),
        ("NaN", HEADER.replace("\"es256\"", "NaN").into(), spelled(hostile(), "x", "NaN").into()),
        (
            "a number beyond all",
            HEADER.replace("\"es256\"", "1e999").into(),
            spelled(hostile(), "x", "1e999").into(),
        ),
    ] {
        let (of_header, of_claims): (Vec<u8>, Vec<u8>) = (of_header, of_claims);
        rows.push(refused(format!("header: {name}"), forge.with_header(of_header), "header"));
        rows.push(refused(format!("claims: {name}"), forge.with_claims(of_claims), "claims"));
    }
    rows
}

fn utf_16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Which of the two counts differs from reader to reader (RFC 8725, section 2.4).
fn doubled(forge: &Forge) -> Vec<Row> {
    let before = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    let after = |text: &str, member: &str| format!("{},{member}}}", &text[..text.len() - 1]);
    let mut rows = Vec::new();
    for member in [
        r#""alg":"none""#,
        r#""alg":"ES256""#,
        r#""kid":"hostile-""#,
        r#""\u0061lg":"HS256""#,
        r#""typ":"JWT""#,
        r#""x":{"y":1,"y":2}"#,
    ] {
        let token = forge.with_header(before(HEADER, member));
        rows.push(refused(format!("header: {member} before"), token, "header"));
        let token = forge.with_header(after(HEADER, member));
        rows.push(refused(format!("header: {member} after"), token, "header"));
    }
    let claims = hostile().to_string();
    for member in [
        r#""iss":"https://hostile-.example.com/""#,
        r#""exp":9999999999"#,
        r#""\u0065xp":9999999999"#,
        r#""aud":"cms-gateway""#,
        r#""sub":"hostile-other""#,
        r#""roles":["hostile-role"]"#,
        r#""x":{"y":1,"\u0079":2}"#,
    ] {
        let token = forge.with_claims(before(&claims, member));
        rows.push(refused(format!("claims: {member} before"), token, "claims"));
        let token = forge.with_claims(after(&claims, member));
        rows.push(refused(format!("claims: {member} after"), token, "claims"));
    }
    let once = good().to_string().replace("\"exp\"", r#""\u0065xp""#);
    rows.push(served("claims: exp once, in another spelling", forge.with_claims(once)));
    rows
}
