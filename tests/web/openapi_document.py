"""Checks an OpenAPI document, and each of its examples against the schema beside it."""

import json
import sys

import jsonschema_rs
from openapi_spec_validator import OpenAPIV31SpecValidator

with open(sys.argv[1]) as file:
    document = json.load(file)

OpenAPIV31SpecValidator(document).validate()

found = 0
ids = set()


def check(example, schema, place):
    global found
    found += 1
    # References in the schema are to the document's root.
    whole = {"components": document["components"], **schema}
    jsonschema_rs.validator_for(whole, validate_formats=True).validate(example)


def walk(node, place):
    if isinstance(node, list):
        for index, item in enumerate(node):
            walk(item, f"{place}/{index}")
    elif isinstance(node, dict):
        schema = node.get("schema", node)
        examples = []
        if "example" in node:
            examples.append(node["example"])
        if isinstance(node.get("examples"), dict):
            examples += [example["value"] for example in node["examples"].values()]
        if isinstance(node.get("examples"), list):
            examples += node["examples"]
        for example in examples:
            check(example, schema, place)
        if "operationId" in node:
            assert node["operationId"] not in ids, place
            assert node.get("summary"), place
            ids.add(node["operationId"])
        for name, item in node.items():
            if name not in ("example", "examples"):
                walk(item, f"{place}/{name}")


walk(document, "")
assert found > 10, found
