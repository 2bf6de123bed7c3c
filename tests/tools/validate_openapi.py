#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the API against schema/openapi.yaml.

validate_openapi.py reply METHOD PATH STATUS [FILE]   a reply's body from FILE or stdin; an empty
                                                      body must be one that the document allows
validate_openapi.py request METHOD PATH [FILE]        a request's body
validate_openapi.py log FILE [all]                    many exchanges, one JSON object a line:
                                                      {"method","path","status","request","reply"},
                                                      the last two as text; `all`: each operation
                                                      must be among them with a success
validate_openapi.py event [FILE]                      a whole stream of server-sent events
validate_openapi.py schema NAME [FILE]                JSON against components/schemas/NAME
validate_openapi.py routes                            METHOD PATH ROLES a line, as `cpubroker routes`
validate_openapi.py enum NAME                         the values of components/schemas/NAME
validate_openapi.py document                          the document itself: every $ref leads somewhere,
                                                      every schema is used and compiles

Strict: a member that the document does not name is an error, although readers are to ignore such.
Exit status 0, 1 (does not fit; stderr says where) or 2 (usage, or unreadable).
"""
import copy
import json
import os
import re
import sys

import jsonschema
import yaml

METHODS = ("get", "put", "post", "delete", "patch", "head")
DOCUMENT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../schema/openapi.yaml")


class Misfit(Exception):
    """What was given does not fit the document."""


class Document:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.root = yaml.safe_load(file)

    def follow(self, ref):
        """The node that a $ref names."""
        if not ref.startswith("#/"):
            raise Misfit(f"$ref {ref}: leads out of the document")
        node = self.root
        for part in ref[2:].split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            if part not in node:
                raise Misfit(f"$ref {ref}: leads nowhere")
            node = node[part]
        return node

    def resolve(self, node):
        while isinstance(node, dict) and "$ref" in node:
            node = self.follow(node["$ref"])
        return node

    def compiled(self, schema):
        """The schema as JSON Schema: references put in, nullable spelt out, objects closed."""
        schema = copy.copy(self.resolve(schema))
        nullable = schema.pop("nullable", False)
        if "allOf" in schema:
            schema = self.merged(schema)
        for key in ("oneOf", "anyOf"):
            if key in schema:
                schema[key] = [self.compiled(s) for s in schema[key]]
        if "properties" in schema:
            schema["properties"] = {k: self.compiled(v) for k, v in schema["properties"].items()}
            schema.setdefault("additionalProperties", False)
        if isinstance(schema.get("additionalProperties"), dict):
            schema["additionalProperties"] = self.compiled(schema["additionalProperties"])
        if "items" in schema:
            schema["items"] = self.compiled(schema["items"])
        return {"anyOf": [{"type": "null"}, schema]} if nullable else schema

    def merged(self, schema):
        """allOf as one schema, so that the object can be closed."""
        result = {k: v for k, v in schema.items() if k != "allOf"}
        for part in schema["allOf"]:
            part = self.resolve(part)
            part = self.merged(part) if "allOf" in part else part
            for key, value in part.items():
                if key == "properties":
                    result["properties"] = {**result.get("properties", {}), **value}
                elif key == "required":
                    result["required"] = result.get("required", []) + value
                else:
                    result.setdefault(key, value)
        return result

    def operation(self, method, path):
        """The operation that serves a real path ("/v1/nodes/a?x=y"), plain names before {names}."""
        path = path.split("?")[0]
        found = None
        for template, item in self.root["paths"].items():
            pattern = re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(template))
            if re.fullmatch(pattern, path) and (found is None or "{" not in template):
                found = item
        if found is None:
            return None
        return found.get("get" if method == "HEAD" else method.lower())


def check(schema, instance, what):
    validator = jsonschema.Draft4Validator(schema)
    errors = sorted(validator.iter_errors(instance), key=lambda e: list(e.path))
    if not errors:
        return
    lines = []
    for error in errors[:5]:
        while error.context:  # the branch of anyOf/oneOf that fits best
            error = max(error.context, key=lambda e: (e.validator != "type", len(e.path)))
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
        lines.append(f"{what}: {where or '(the whole)'}: {error.message[:300]}")
    raise Misfit("\n".join(lines))


def media_of(content, wanted):
    for media, body in content.items():
        if media.split(";")[0] == wanted:
            return body
    return None


def parse(text, what):
    try:
        return json.loads(text)
    except ValueError as problem:
        raise Misfit(f"{what}: no JSON: {problem}: {text[:200]!r}") from problem


def validate_reply(document, method, path, status, text):
    what = f"{method} {path}: {status}"
    operation = document.operation(method, path)
    if operation is None:  # no such route: 404 and 405 have the form of every error
        if status not in ("404", "405"):
            raise Misfit(f"{what}: the document has no such route")
        check(document.compiled({"$ref": "#/components/schemas/Error"}), parse(text, what), what)
        return
    responses = operation["responses"]
    if status not in responses and status[0] in "123":
        raise Misfit(f"{what}: the document has {', '.join(responses)}")
    response = document.resolve(responses.get(status, responses["default"]))
    content = response.get("content")
    if not content or method == "HEAD":
        if text:
            raise Misfit(f"{what}: a body where the document has none: {text[:200]!r}")
        return
    media = media_of(content, "application/json")
    if media:
        check(document.compiled(media["schema"]), parse(text, what), what)
    elif media_of(content, "text/event-stream"):
        validate_events(document, text)
    elif not text:
        raise Misfit(f"{what}: no body")


def validate_request(document, method, path, text):
    what = f"{method} {path}"
    operation = document.operation(method, path)
    if operation is None:
        raise Misfit(f"{what}: the document has no such route")
    body = document.resolve(operation.get("requestBody", {}))
    if not text:
        if body.get("required"):
            raise Misfit(f"{what}: a body is required")
        return
    if "content" not in body:
        raise Misfit(f"{what}: takes no body")
    check(document.compiled(body["content"]["application/json"]["schema"]), parse(text, what), what)


def validate_events(document, text):
    schema = document.compiled({"$ref": "#/components/schemas/Event"})
    last = 0
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = {}
        for line in block.split("\n"):
            if line and not line.startswith(":"):
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
        if not fields:
            continue
        what = f"event {fields.get('id', '(without id)')}"
        if set(fields) != {"id", "event", "data"}:
            raise Misfit(f"{what}: has {sorted(fields)}, expected id, event and data")
        data = parse(fields["data"], what)
        check(schema, data, what)
        if str(data["seq"]) != fields["id"] or data["kind"] != fields["event"]:
            raise Misfit(f"{what}: id and event do not say what data says")
        if data["seq"] <= last:
            raise Misfit(f"{what}: comes after {last}")
        last = data["seq"]


def operations(document):
    for path, item in document.root["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def validate_log(document, path, want_all):
    """Requests are held against the document only where the server took them."""
    count, problems, succeeded = 0, [], set()
    with open(path, encoding="utf-8") as file:
        for line in file:
            e = json.loads(line)
            count += 1
            try:
                if e["status"][0] == "2" and e["method"] not in ("GET", "HEAD"):
                    validate_request(document, e["method"], e["path"], e["request"])
                validate_reply(document, e["method"], e["path"], e["status"], e["reply"])
                operation = document.operation(e["method"], e["path"])
                if operation and e["status"][0] == "2":
                    succeeded.add(operation["operationId"])
            except Misfit as problem:
                problems.append(str(problem))
    for method, template, operation in operations(document) if want_all else ():
        if operation["operationId"] not in succeeded:
            problems.append(f"{method.upper()} {template}: never succeeded")
    if problems:
        raise Misfit("\n".join(problems))
    print(f"{count} requests and replies fit schema/openapi.yaml")


def print_routes(document):
    for method, path, operation in operations(document):
        print(method.upper(), path, ",".join(operation["x-roles"]) or "anybody")


def walk(node, at=""):
    yield at, node
    children = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node) if isinstance(node, list) else ()
    )
    for key, child in children:
        yield from walk(child, f"{at}/{key}")


def validate_document(document):
    refs = {}
    for at, node in walk(document.root):
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            refs.setdefault(node["$ref"], at)
            document.follow(node["$ref"])
            if len(node) > 1:
                raise Misfit(f"{at}: what stands beside a $ref is ignored")
    for group, members in document.root["components"].items():
        for name in members:
            used = f"#/components/{group}/{name}" in refs
            if not used and group != "securitySchemes":
                raise Misfit(f"components/{group}/{name}: nothing uses it")
    for name in document.root["components"]["schemas"]:
        schema = document.compiled({"$ref": f"#/components/schemas/{name}"})
        jsonschema.Draft4Validator.check_schema(schema)
        required = set(schema.get("required", [])) - set(schema.get("properties", {}))
        if required:
            raise Misfit(f"schemas/{name}: required, but not described: {sorted(required)}")
    for path, item in document.root["paths"].items():
        named = set(re.findall(r"\{([a-z]+)\}", path))
        shared = {document.resolve(p)["name"] for p in item.get("parameters", [])}
        if shared != named:
            raise Misfit(f"{path}: parameters {sorted(shared)} do not fit the path")
    ids = set()
    for method, path, operation in operations(document):
        for key in ("summary", "operationId", "x-roles", "responses", "tags"):
            if key not in operation:
                raise Misfit(f"{method} {path}: no {key}")
        if operation["operationId"] in ids:
            raise Misfit(f"{method} {path}: operationId {operation['operationId']} is doubled")
        ids.add(operation["operationId"])
        if "default" not in operation["responses"]:
            raise Misfit(f"{method} {path}: no default response")


def read(arguments):
    if not arguments:
        return sys.stdin.read()
    with open(arguments[0], encoding="utf-8") as file:
        return file.read()


def run(arguments):
    document = Document(DOCUMENT)
    mode, rest = arguments[0] if arguments else "", arguments[1:]
    if mode == "reply" and len(rest) in (3, 4):
        validate_reply(document, rest[0], rest[1], rest[2], read(rest[3:]))
    elif mode == "request" and len(rest) in (2, 3):
        validate_request(document, rest[0], rest[1], read(rest[2:]))
    elif mode == "log" and (len(rest) == 1 or rest[1:] == ["all"]):
        validate_log(document, rest[0], len(rest) == 2)
    elif mode == "event" and len(rest) < 2:
        validate_events(document, read(rest))
    elif mode == "schema" and len(rest) in (1, 2):
        schema = document.compiled({"$ref": f"#/components/schemas/{rest[0]}"})
        check(schema, parse(read(rest[1:]), rest[0]), rest[0])
    elif mode == "routes" and not rest:
        print_routes(document)
    elif mode == "enum" and len(rest) == 1:
        print("\n".join(document.follow(f"#/components/schemas/{rest[0]}")["enum"]))
    elif mode == "document" and not rest:
        validate_document(document)
    else:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    return 0


def main():
    try:
        return run(sys.argv[1:])
    except Misfit as problem:
        print(problem, file=sys.stderr)
        return 1
    except OSError as problem:
        print(problem, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
