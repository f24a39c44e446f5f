"""Checks evidence of `cms-gateway audit prove` without cms-gateway: hashlib and Ed25519 alone.

python3 check_proof.py EVIDENCE VERIFIER_KEY
"""
import base64
import hashlib
import json
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha256(data):
    return hashlib.sha256(data).digest()


def root(leaf, index, size, path):
    """RFC 9162, section 2.1.3.2."""
    node, last, result = index, size - 1, leaf
    assert index < size
    for sibling in path:
        assert last > 0
        if node % 2 or node == last:
            result = sha256(b"\x01" + sibling + result)
            while node % 2 == 0 and node:
                node, last = node // 2, last // 2
        else:
            result = sha256(b"\x01" + result + sibling)
        node, last = node // 2, last // 2
    assert last == 0
    return result


evidence = json.load(open(sys.argv[1]))
name, _, key = open(sys.argv[2]).read().strip().split("+", 2)
key = base64.b64decode(key)
assert key[0] == 1

# A signed note: its text, an empty line, an em dash, the key's name, the key's id and signature.
text, signature = evidence["checkpoint"].split("\n\n")
text += "\n"
dash, signer, signature = signature.split()
signature = base64.b64decode(signature)
assert (dash, signer) == ("\u2014", name)
assert signature[:4] == sha256(name.encode() + b"\n" + key)[:4]
Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], text.encode())

origin, size, head = text.split("\n")[:3]
assert origin == name
for record in evidence["records"]:
    line = json.loads(record["line"])
    assert line["request_id"] == evidence["request_id"]
    assert line["sequence"] == record["sequence"]
    path = [base64.b64decode(hash) for hash in record["inclusion"]]
    leaf = sha256(b"\x00" + record["line"].encode())
    assert root(leaf, record["sequence"] - 1, int(size), path) == base64.b64decode(head)
print("proved", len(evidence["records"]))
