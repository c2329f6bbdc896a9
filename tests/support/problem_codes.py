"""A check for Schemathesis: a problem has one of the codes that the extension `x-problem-codes` of its response lists."""

import schemathesis


def resolved(document, node):
    while "$ref" in node:
        target = document
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


@schemathesis.check
def problem_codes(ctx, response, case):
    if response.status_code < 400:
        return
    document = case.operation.schema.raw_schema
    operation = document["paths"][case.operation.path][case.operation.method.lower()]
    documented = operation["responses"].get(str(response.status_code))
    # `status_code_conformance` reports a status that is not documented.
    if documented is None:
        return
    body = response.json()
    if "ready" in body:
        return
    # Paths of the older service answer with an envelope, whose message begins with the code.
    code = body["message"].split(":")[0] if "message" in body else body["code"]
    codes = resolved(document, documented)["x-problem-codes"]
    assert code in codes, f"the code {code} is not in {codes}"
