"""Keys and tokens, kept between runs, since a hundred thousand signatures take a while."""

import functools
import json
import multiprocessing
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ISSUER = "https://idp.example.com/"
AUDIENCE = "cms-gateway"
ROLE = "campaign-supervisor"
KEY_ID = "bench"
LIFETIME = 24 * 3600
# Tokens that end sooner are made anew.
REMAINING = 3 * 3600


class Signer:
    """An issuer with one key for signing."""

    def __init__(self, folder: Path, algorithm):
        self.folder, self.algorithm = folder, algorithm
        self._file = folder / f"{algorithm}.pem"
        if not self._file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._file.touch(mode=0o600)
            self._file.write_bytes(new_key(algorithm).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ))

    def public_pem(self):
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()

    def jwks(self, keys=1):
        """Its key set, in which the key that signs is the last."""
        others = [self._jwk(new_key(self.algorithm), f"other-{n}") for n in range(keys - 1)]
        return json.dumps({"keys": [*others, self._jwk(self._key, KEY_ID)]})

    def token(self, number=0, **changes):
        """The token of one service; `changes` are claims that it has otherwise."""
        now = int(time.time())
        claims = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": f"svc-{number}", "client_id": f"svc-{number}",
            "iat": now, "nbf": now - 5, "exp": now + LIFETIME, "jti": f"id-{now}-{number}",
            "roles": [ROLE],
        }
        headers = {"kid": KEY_ID, "typ": "at+jwt"}
        return jwt.encode(claims | changes, self._key, self.algorithm, headers)

    def tokens(self, count):
        """A file of so many different tokens, one a line."""
        file = self.folder / f"{self.algorithm}-{count}.tokens"
        is_new = file.exists() and time.time() - file.stat().st_mtime < LIFETIME - REMAINING
        if not is_new or file.stat().st_mtime < self._file.stat().st_mtime:
            with multiprocessing.get_context("spawn").Pool() as pool:
                made = pool.imap(self.token, range(count), chunksize=500)
                file.write_text("".join(f"{token}\n" for token in made))
        return file

    @functools.cached_property
    def _key(self):
        return serialization.load_pem_private_key(self._file.read_bytes(), None)

    def _jwk(self, key, key_id):
        jwk = jwt.get_algorithm_by_name(self.algorithm).to_jwk(key.public_key(), as_dict=True)
        # `use` says it, and RFC 7517 wants one of the two.
        jwk.pop("key_ops", None)
        return jwk | {"kid": key_id, "alg": self.algorithm, "use": "sig"}

    def __getstate__(self):
        # A key can't be sent to another process; its file can be read there.
        return {name: value for name, value in vars(self).items() if name != "_key"}


def new_key(algorithm):
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def one_token(folder, token):
    file = folder / "token"
    file.write_text(f"{token}\n")
    return file
