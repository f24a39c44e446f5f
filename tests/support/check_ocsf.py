"""Checks events against the published schema of the OCSF version that each of them names.

python3 check_ocsf.py < EVENTS, a line of JSON each. Says what is wrong, and exits with 1 then.
"""
import json
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

CLASS = "api_activity"
CLASS_UID = 6003
schemas = {}


def schema_of(version):
    if version not in schemas:
        published = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))
        schemas[version] = published.get_class_schema(class_name=CLASS)
    return schemas[version]


def deprecated(value, schema, root, place):
    """The attributes of an event whose use the schema advises against."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from deprecated(item, schema.get("items", {}), root, f"{place}/{index}")
    if isinstance(value, dict):
        for name, member in value.items():
            attribute = schema.get("properties", {}).get(name, {})
            if attribute.get("deprecated"):
                yield f"{place}/{name} is deprecated"
            yield from deprecated(member, attribute, root, f"{place}/{name}")


faults, number = [], 0
for number, line in enumerate(sys.stdin, 1):
    event = json.loads(line)
    schema = schema_of(event["metadata"]["version"])
    if event["class_uid"] != CLASS_UID:
        faults.append(f"{number}: class_uid is {event['class_uid']}")
    for error in Draft202012Validator(schema).iter_errors(event):
        faults.append(f"{number}: {error.json_path}: {error.message}")
    faults.extend(f"{number}: {what}" for what in deprecated(event, schema, schema, ""))
print("\n".join(faults) if faults else f"{number} events of {', '.join(schemas)}")
sys.exit(1 if faults else 0)
