"""Checks evidence of `cms-gateway audit prove` without cms-gateway: hashlib and Ed25519 alone.

python3 check_proof.py EVIDENCE KEYS, the keys as in keys.pub. README.md says what is checked.
"""
import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha256(data):
    return hashlib.sha256(data).digest()


def require(holds, what):
    if not holds:
        sys.exit(f"refused: {what}")


def verifier_key(line):
    """Name and key of `name+id+key`, of which the key may hold a plus as well."""
    name, stated, key = line.split("+", 2)
    key = base64.b64decode(key)
    require(len(key) == 33 and key[0] == 1, f"{name} has no Ed25519 key")
    require(key_id(name, key).hex() == stated, f"{name} has another key's id")
    return name, key


def key_id(name, key):
    return sha256(name.encode() + b"\n" + key)[:4]


def is_signed(text, line, keys):
    """Whether a signature line is one of the keys' over the text."""
    dash, name, signature = line.split(" ")
    signature = base64.b64decode(signature)
    for own, key in keys:
        if (dash, name) != ("\u2014", own) or signature[:4] != key_id(own, key):
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], text.encode())
        except InvalidSignature:
            require(False, f"the signature by {name} is wrong")
        return True
    return False


def root(leaf, index, size, path):
    """RFC 9162, section 2.1.3.2."""
    require(0 <= index < size, "a record is not in the tree")
    node, last, result = index, size - 1, leaf
    for sibling in path:
        require(last > 0, "an inclusion proof is too long")
        if node % 2 or node == last:
            result = sha256(b"\x01" + sibling + result)
            while node % 2 == 0 and node:
                node, last = node // 2, last // 2
        else:
            result = sha256(b"\x01" + result + sibling)
        node, last = node // 2, last // 2
    require(last == 0, "an inclusion proof is too short")
    return result


def check(evidence, keys):
    require(evidence["format"] == "cms-gateway/evidence/1", "another form")
    require(evidence["records"], "no record")
    # A signed note: its text, an empty line, a line for each signature.
    text, _, signatures = evidence["checkpoint"].rpartition("\n\n")
    text += "\n"
    signed = [line for line in signatures.splitlines() if is_signed(text, line, keys)]
    require(signed, "the checkpoint is signed by none of the keys")
    origin, size, head = text.split("\n")[:3]
    require(origin == signed[0].split(" ")[1], "the checkpoint is another log's")
    before = 0
    for record in evidence["records"]:
        sequence, line = record["sequence"], json.loads(record["line"])
        require(sequence > before, "the records are not in their order")
        before = sequence
        require(line["sequence"] == sequence, "a line has another sequence")
        require(line["request_id"] == evidence["request_id"], "a line is of another request")
        leaf = sha256(b"\x00" + record["line"].encode())
        path = [base64.b64decode(hash) for hash in record["inclusion"]]
        found = root(leaf, sequence - 1, int(size), path)
        require(found == base64.b64decode(head), "a record is not in the tree")


with open(sys.argv[2], encoding="utf-8") as file:
    trusted = [verifier_key(line.strip()) for line in file if line.strip()]
with open(sys.argv[1], encoding="utf-8") as file:
    evidence = json.load(file)
check(evidence, trusted)
print("proved", len(evidence["records"]))
