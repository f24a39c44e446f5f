#!/usr/bin/env python3
"""Makes fuzz/corpus and the tokens and keys that the target `authorization` knows.

    target/test-tools/bin/python fuzz/make_corpus.py

The keys are new each time, and their private halves are kept nowhere, so that nothing but these
tokens can ever be accepted. Needs `cryptography`, which tests/run installs there.
"""

import base64
import json
import pathlib
import shutil

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

HERE = pathlib.Path(__file__).parent
FOREVER = 253402300799  # the last second of the year 9999


def encode(part):
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def number(value, size):
    return encode(value.to_bytes(size, "big"))


es256 = ec.generate_private_key(ec.SECP256R1())
rs256 = rsa.generate_private_key(65537, 2048)
eddsa = ed25519.Ed25519PrivateKey.generate()


def sign_es256(message):
    r, s = decode_dss_signature(es256.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


SIGN = {
    "ES256": sign_es256,
    "RS256": lambda message: rs256.sign(message, padding.PKCS1v15(), hashes.SHA256()),
    "EdDSA": eddsa.sign,
    "Ed25519": eddsa.sign,
}
point, modulus = es256.public_key().public_numbers(), rs256.public_key().public_numbers()
JWKS = {
    "keys": [
        {"kty": "EC", "crv": "P-256", "kid": "es256", "alg": "ES256",
         "x": number(point.x, 32), "y": number(point.y, 32)},
        {"kty": "RSA", "kid": "rs256", "use": "sig", "n": number(modulus.n, 256), "e": "AQAB"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "eddsa", "key_ops": ["verify"],
         "x": encode(eddsa.public_key().public_bytes_raw())},
    ]
}


def token(header, claims, sign=None):
    parts = [part if isinstance(part, str) else json.dumps(part, separators=(",", ":"))
             for part in (header, claims)]
    message = ".".join(encode(part.encode()) for part in parts)
    signature = (sign or SIGN[header["alg"]])(message.encode())
    return message + "." + encode(signature)


CLAIMS = {"iss": "https://idp.example.com/", "aud": "cms-gateway", "sub": "app", "exp": FOREVER}
STRICT = {
    "iss": "https://strict.example.com/", "aud": ["x", "cms-gateway"], "sub": "app",
    "client_id": "client", "jti": "1", "iat": 1, "nbf": 1, "exp": FOREVER,
    "realm_access": {"roles": ["lead admin", "x"]}, "campaigns": [1, 2],
}
HEADER = {"alg": "ES256", "typ": "at+jwt", "kid": "es256"}
accepted = {
    "es256": token(HEADER, CLAIMS),
    "es256-without-kid": token({"alg": "ES256"}, {**CLAIMS, "roles": "supervisor remover"}),
    "rs256": token({"alg": "RS256", "typ": "JWT", "kid": "rs256"}, {**CLAIMS, "roles": ["x"]}),
    "eddsa": token({"alg": "Ed25519", "typ": "application/at+jwt"}, {**CLAIMS, "azp": "client"}),
    "strict": token(HEADER, STRICT),
}
none = lambda message: b""
zero = lambda message: bytes(64)
refused = {
    "alg-none": token({**HEADER, "alg": "none"}, CLAIMS, none),
    "alg-hs256": token({**HEADER, "alg": "HS256"}, CLAIMS, lambda message: bytes(32)),
    "alg-of-another-key": token({**HEADER, "alg": "RS256"}, CLAIMS, sign_es256),
    "kid-unknown": token({**HEADER, "kid": "../../x"}, CLAIMS),
    "kid-number": token({**HEADER, "kid": 1}, CLAIMS),
    "embedded-key": token({**HEADER, "jwk": JWKS["keys"][0]}, CLAIMS, zero),
    "crit": token({**HEADER, "crit": ["b64"], "b64": False}, CLAIMS),
    "typ-of-id-token": token({**HEADER, "typ": "id_token"}, CLAIMS),
    "cty": token({**HEADER, "cty": "JWT"}, CLAIMS),
    "signature-zero": token(HEADER, CLAIMS, zero),
    "signature-der": token(HEADER, CLAIMS, lambda m: es256.sign(m, ec.ECDSA(hashes.SHA256()))),
    "member-twice": token(HEADER, json.dumps(CLAIMS)[:-1] + ',"\\u0065xp":1}'),
    "deep": token(HEADER, '{"a":' * 200 + "1" + "}" * 200),
    "expired": token(HEADER, {**CLAIMS, "exp": 1}),
    "exp-float": token(HEADER, {**CLAIMS, "exp": 1e300}),
    "audience": token(HEADER, {**CLAIMS, "aud": "cms-gateway/"}),
    "issuer": token(HEADER, {**CLAIMS, "iss": "https://idp.example.com"}),
    "bound": token(HEADER, {**CLAIMS, "cnf": {"jkt": encode(bytes(32))}}),
    "roles-object": token(HEADER, {**CLAIMS, "roles": {"a": 1}}),
    "id-token": token(HEADER, {**STRICT, "nonce": "x"}),
}
good = accepted["es256"]
header, claims, signature = good.split(".")
authorization = {f"token-{name}": "Bearer " + text for name, text in {**accepted, **refused}.items()}
authorization |= {
    "scheme-lower-case": "bearer  " + good + " ",
    "scheme-basic": "Basic YTpi",
    "scheme-dpop": "DPoP " + good,
    "scheme-alone": "Bearer",
    "two-headers": f"Bearer {good}\nBearer {good}",
    "two-tokens": f"Bearer {good}, Bearer {good}",
    "padding": f"Bearer {good}==",
    "five-parts": f"Bearer {good}.{claims}.{signature}",
    "two-parts": f"Bearer {header}.{claims}",
    "empty-parts": "Bearer ..",
    "not-ascii": "Bearer \u00e9",
    "json-header": json.dumps({**HEADER, "crit": [], "x5c": ["MIIB"], "jku": "https://x/"}),
    "json-claims": json.dumps(CLAIMS),
    "json-claims-strict": json.dumps(STRICT),
    "json-claims-bound": json.dumps({**CLAIMS, "cnf": {"x5t#S256": encode(bytes(32))}}),
    "json-claims-of-all-kinds": json.dumps({**CLAIMS, "a": [None, True, 1.5, -1, {"b": "\u20ac"}]}),
}

SAMPLE = {"leadId": 2, "campaignId": 1, "assignedUserIds": ["anav_agent"],
          "unassignedUserIds": ["exe_gs", "madhur1"]}
sample = json.dumps(SAMPLE)
body = {
    "sample": sample,
    "sample-compact": json.dumps(SAMPLE, separators=(",", ":")),
    "sample-indented": json.dumps(SAMPLE, indent=1),
    "order": json.dumps(dict(reversed(SAMPLE.items()))),
    "one-list": json.dumps({**SAMPLE, "unassignedUserIds": []}),
    "both-empty": json.dumps({**SAMPLE, "assignedUserIds": [], "unassignedUserIds": []}),
    "largest-id": json.dumps({**SAMPLE, "leadId": 2147483647}),
    "too-large-id": json.dumps({**SAMPLE, "leadId": 2147483648}),
    "huge-id": sample.replace("2,", "18446744073709551616,", 1),
    "float-id": sample.replace("2,", "2.0,", 1),
    "exponent-id": sample.replace("2,", "2e0,", 1),
    "negative-id": sample.replace("2,", "-2,", 1),
    "minus-zero-id": sample.replace("2,", "-0,", 1),
    "text-id": sample.replace("2,", '"2",', 1),
    "null-list": sample.replace('["anav_agent"]', "null"),
    "null-user": sample.replace('"anav_agent"', "null"),
    "nested-list": sample.replace('"anav_agent"', '["anav_agent"]'),
    "object-list": sample.replace('["anav_agent"]', "{}"),
    "empty-user": sample.replace("anav_agent", ""),
    "long-user": sample.replace("anav_agent", "a" * 256),
    "longest-user": sample.replace("anav_agent", "\u20ac" * 255),
    "control-in-user": sample.replace("anav_agent", "\\u0000"),
    "escapes-in-user": sample.replace("anav_agent", "\\u0061\\\"\\\\\\/\\n\\ud83d\\ude00"),
    "lone-surrogate": sample.replace("anav_agent", "\\ud800"),
    "separators-in-user": sample.replace("anav_agent", "\u2028\u202e"),
    "user-twice": sample.replace("exe_gs", "madhur1"),
    "user-in-both": sample.replace("exe_gs", "anav_agent"),
    "user-twice-escaped": sample.replace("exe_gs", "\\u006dadhur1"),
    "too-many-users": json.dumps({**SAMPLE, "assignedUserIds": list("abcdef")}),
    "field-twice": sample[:-1] + ',"leadId":3}',
    "field-twice-escaped": sample[:-1] + ',"\\u006ceadId":3}',
    "field-unknown": sample[:-1] + ',"x/~":3}',
    "field-missing": json.dumps({"leadId": 2}),
    "field-case": sample.replace("leadId", "leadid"),
    "list-instead": "[2,1,[],[]]",
    "deep": "[" * 200,
    "trailing-comma": sample[:-1] + ",}",
    "trailing-space": sample + " \n\t\r",
    "trailing-garbage": sample + "{}",
    "comment": "/* */" + sample,
    "byte-order-mark": "\ufeff" + sample,
    "not-utf-8": sample.encode().replace(b"anav", b"\xff"),
    "overlong-utf-8": sample.encode().replace(b"anav", b"\xc0\xaf"),
    "empty": "",
    "cut": sample[:40],
}

known = HERE / "known"
known.joinpath("tokens").write_text("".join(text + "\n" for text in accepted.values()))
known.joinpath("jwks.json").write_text(json.dumps(JWKS, indent=1) + "\n")
for target, inputs in (("authorization", authorization), ("body", body)):
    folder = HERE / "corpus" / target
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in inputs.items():
        folder.joinpath(name).write_bytes(text if isinstance(text, bytes) else text.encode())
