"""The description of the API, and what breaks it."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from openapi_schema_validator import OAS31Validator, oas31_format_checker

PATH = Path(__file__).with_name("openapi.yaml")
WRITTEN = yaml.safe_load(PATH.read_text())


def resolved(node):
    """Return a part of the description with what its references stand for in their place."""
    if isinstance(node, list):
        return [resolved(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = WRITTEN
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return resolved(target)
    return {name: resolved(value) for name, value in node.items()}


DESCRIPTION = resolved(WRITTEN)
SCHEMAS = DESCRIPTION["components"]["schemas"]


def bare(schema):
    """Return a schema without its prose."""
    if isinstance(schema, list):
        return [bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: bare(value) for name, value in schema.items() if name != "description"}


def closed(schema):
    """Return a schema that allows no field beyond those it names."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tight = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return {**tight, **{name: closed(value) for name, value in schema.items()}}


def faults(value, schema):
    """Say what is wrong with a value; an empty list if nothing is."""
    validator = OAS31Validator(schema, format_checker=oas31_format_checker)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def address(path):
    """Return the description of a path and the ids in it; as OpenAPI asks, concrete ones come first."""
    for template in sorted(DESCRIPTION["paths"], key=lambda template: template.count("{")):
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)
        if found := re.fullmatch(pattern, path):
            return DESCRIPTION["paths"][template], found.groupdict()
    return None, {}


def faults_of_request(method, path, body):
    """Say how a request breaks the description.

    :param body: The JSON that is sent; None for no body.
    """
    item, ids = address(path)
    if item is None or method.lower() not in item:
        return [f"{method} {path} is not described"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in item["parameters"]}
    found = [fault for name, value in ids.items() for fault in faults(value, schemas[name])]
    if set(ids) != set(schemas):
        found.append(f"the path has {set(ids)}, described are {set(schemas)}")
    described = item[method.lower()].get("requestBody")
    if described is None or body is None:
        return found if described is body is None else [*found, "a body is sent or described, but not both"]
    return found + faults(body, described["content"]["application/json"]["schema"])


def faults_of_answer(method, path, response):
    """Say how the emulator's answer breaks the description; fields that are not described do too."""
    item, _ = address(path)
    common = DESCRIPTION["components"]["responses"]
    if item is None:
        answers = {"401": common["Unauthorized"], "404": common["NotFound"]}
    elif method.lower() not in item:
        answers = {"401": common["Unauthorized"], "405": common["MethodNotAllowed"]}
    else:
        answers = item[method.lower()]["responses"]
    if str(response.status) not in answers:
        return [f"{response.status} is not described for {method} {path}"]
    described = answers[str(response.status)]
    headers = described.get("headers", {})
    found = [f"{name} is missing" for name in headers if name not in response.headers]
    found += [
        fault
        for name in response.headers
        for fault in faults(response.headers[name], headers[name]["schema"])
    ]
    return found + faults(response.json, closed(described["content"]["application/json"]["schema"]))
