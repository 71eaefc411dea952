"""Holds what this project knows of EC2 against EC2's published model, as botocore ships it.

usage: botocore_model.py < ACTIONS > REPORT

ACTIONS is JSON: a list of {"name", "parameters", "elements", "exchanges"}. Parameters and elements are {"path", "kind", "words"}
with list entries as `N` (parameters) or `item` (elements). Exchanges are {"request": FORM, "request_id", "answer": XML}.

REPORT is JSON: {"complaints": [TEXT], "requests": {NAME: [FORM]}}. Complaints name what the model does not have, what it has
in another type, and every value of an answer that botocore's own parser does not give back. The forms are the requests as
botocore's own serializer writes them from the values it was given.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree

import botocore.model
import botocore.parsers
import botocore.serialize
import botocore.session

NAMESPACE = "{http://ec2.amazonaws.com/doc/2016-11-15/}"
VERSION = "2016-11-15"

# Types of the model by kinds of ours.
TYPES = {
    "text": {"string"},
    "integer": {"integer", "long"},
    "boolean": {"boolean"},
    "timestamp": {"timestamp"},
    "words": {"string"},
}

# Words that EC2 says though its model does not have them, by the model's shape: the documented answer of CreateNetworkInterface
# shows `pending`, and the documented filter `interface-type` has `nat_gateway` where the model has `natGateway`.
BEYOND_THE_MODEL = {"NetworkInterfaceStatus": {"pending"}, "NetworkInterfaceType": {"nat_gateway"}}

# Parameters that are either there or not, for all actions alike; they must be accepted wherever the model has them.
EVERYWHERE = ("DryRun", "MaxResults", "NextToken", "Filter.N.Name", "Filter.N.Value.N", "ClientToken", "TagSpecification.N.Tag.N.Key")


def query_name(name, shape):
    """How a member is called in a request: EC2's protocol has a name for it, or capitalizes the answer's."""
    own = shape.serialization.get("queryName") or shape.serialization.get("name") or name
    return own[0].upper() + own[1:]


def parameters(shape, at="", inside=()):
    """All parameters below a shape of a request: (name, shape)."""
    if shape.type_name == "structure":
        if shape.name in inside:
            return
        for name, member in shape.members.items():
            yield from parameters(member, f"{at}.{query_name(name, member)}".lstrip("."), (*inside, shape.name))
    elif shape.type_name == "list":
        yield from parameters(shape.member, f"{at}.N", inside)
    else:
        yield at, shape


def elements(shape, at="", inside=()):
    """All elements with text below a shape of an answer: (path, shape)."""
    if shape.type_name == "structure":
        if shape.name in inside:
            return
        for name, member in shape.members.items():
            tag = member.serialization.get("name", name)
            yield from elements(member, f"{at}/{tag}".lstrip("/"), (*inside, shape.name))
    elif shape.type_name == "list":
        yield from elements(shape.member, f"{at}/{shape.member.serialization.get('name', 'member')}", inside)
    else:
        yield at, shape


def compare_names(what, ours, model):
    """Complaints about names or types of ours that the model does not have."""
    for member in ours:
        shape = model.get(member["path"])
        if shape is None:
            yield f"{what} {member['path']} is not in the model"
        elif shape.type_name not in TYPES[member["kind"]]:
            yield f"{what} {member['path']} is {shape.type_name} in the model, not {member['kind']}"
        else:
            model_words = set(getattr(shape, "enum", None) or member["words"]) | BEYOND_THE_MODEL.get(shape.name, set())
            words = set(member["words"]) - model_words
            if words:
                yield f"{what} {member['path']}: the model does not have the words {sorted(words)}"


def compare_requirements(ours, operation):
    """Complaints about parameters that everybody may send and that are not accepted."""
    if operation.input_shape is None:
        return
    accepted = {member["path"] for member in ours}
    model = [name for name, _ in parameters(operation.input_shape)]
    for name in operation.input_shape.required_members:
        first = query_name(name, operation.input_shape.members[name])
        if not any(path == first or path.startswith(first + ".") for path in accepted):
            yield f"the required parameter {first} is not accepted"
    for name in EVERYWHERE:
        if name in model and name not in accepted:
            yield f"the parameter {name} is not accepted"


def typed(text, shape):
    """A value of a request as a Python program would give it."""
    if shape.type_name == "boolean":
        return {"true": True, "false": False}[text]
    return int(text) if shape.type_name in TYPES["integer"] else text


def tree(pairs):
    """The flat parameters of a request as nested dictionaries."""
    root = {}
    for name, value in pairs:
        at = root
        *way, last = name.split(".")
        for step in way:
            at = at.setdefault(step, {})
        at[last] = value
    return root


def values_of(node, shape, at=""):
    """What a Python program gives botocore to have these parameters sent."""
    if shape.type_name == "structure":
        members = {query_name(name, member): (name, member) for name, member in shape.members.items()}
        unknown = node.keys() - members.keys()
        if unknown:
            raise ValueError(f"{at}: {sorted(unknown)} are not in the model")
        return {
            members[key][0]: values_of(below, members[key][1], f"{at}.{key}")
            for key, below in node.items()
        }
    if shape.type_name == "list":
        return [values_of(node[key], shape.member, f"{at}.{key}") for key in sorted(node, key=int)]
    return typed(node, shape)


def written_by_botocore(form, operation):
    """The same request, written by botocore from values."""
    pairs = urllib.parse.parse_qsl(form, keep_blank_values=True, strict_parsing=True)
    pairs = [(name, value) for name, value in pairs if name not in ("Action", "Version")]
    values = values_of(tree(pairs), operation.input_shape)
    request = botocore.serialize.create_serializer("ec2", include_validation=False).serialize_to_request(values, operation)
    return urllib.parse.urlencode(request["body"])


def text_of(value, shape):
    """A value that botocore parsed, as EC2 writes it."""
    if shape.type_name == "timestamp":
        return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z"
    if shape.type_name == "boolean":
        return {True: "true", False: "false"}[value]
    return str(value)


def compare_values(element, value, shape, at):
    """Complaints about what is in the document and not, or not so, in what botocore parsed of it, and the other way round."""
    if shape.type_name == "structure":
        members = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
        unseen = set(value)
        for child in element:
            tag = child.tag.removeprefix(NAMESPACE)
            name, member = members.get(tag, (None, None))
            if name is None:
                yield f"{at}/{tag} is not in the model"
            elif name not in value:
                yield f"{at}/{tag} was not parsed"
            else:
                unseen.discard(name)
                yield from compare_values(child, value[name], member, f"{at}/{tag}")
        if unseen:
            yield f"{at}: parsed {sorted(unseen)} out of nothing"
    elif shape.type_name == "list":
        if len(element) != len(value):
            yield f"{at}: {len(element)} entries were written, {len(value)} parsed"
        for index, (child, entry) in enumerate(zip(element, value), 1):
            yield from compare_values(child, entry, shape.member, f"{at}[{index}]")
    elif text_of(value, shape) != (element.text or "") or len(element):
        yield f"{at}: {element.text!r} was written, {value!r} parsed"


def compare_answer(exchange, name, operation):
    """Complaints about an answer that botocore does not read as it was written."""
    document = exchange["answer"]
    root = xml.etree.ElementTree.fromstring(document)
    if root.tag != f"{NAMESPACE}{name}Response":
        yield f"the answer is a <{root.tag}>"
    response = {"status_code": 200, "headers": {}, "body": document.encode()}
    parsed = botocore.parsers.create_parser("ec2").parse(response, operation.output_shape)
    metadata = parsed.pop("ResponseMetadata")
    if metadata["RequestId"] != exchange["request_id"]:
        yield f"the request id {exchange['request_id']} became {metadata['RequestId']}"
    request_id = root.find(f"{NAMESPACE}requestId")
    if request_id is not None:
        root.remove(request_id)
    if operation.output_shape is not None:
        yield from compare_values(root, parsed, operation.output_shape, "")
    elif [(child.tag, child.text) for child in root] not in ([], [(f"{NAMESPACE}return", "true")], [(f"{NAMESPACE}return", "false")]):
        yield "the model has no answer, and this says more than <return>"


def answer_elements(operation):
    """Of actions that answer nothing in the model, EC2 says `<return>true</return>`, which botocore passes over."""
    if operation.output_shape is None:
        flag = botocore.model.Shape("Boolean", {"type": "boolean"})
        return {"return": flag}
    return dict(elements(operation.output_shape))


def compare_action(action, model, forms):
    name = action["name"]
    if name not in model.operation_names:
        yield "is not in the model"
        return
    operation = model.operation_model(name)
    yield from compare_names("the parameter", action["parameters"], dict(parameters(operation.input_shape)))
    yield from compare_requirements(action["parameters"], operation)
    yield from compare_names("the element", action["elements"], answer_elements(operation))
    for exchange in action["exchanges"]:
        forms.append(written_by_botocore(exchange["request"], operation))
        yield from compare_answer(exchange, name, operation)


def main():
    actions = json.load(sys.stdin)
    model = botocore.session.get_session().get_service_model("ec2", VERSION)
    complaints, requests = [], {}
    for action in actions:
        forms = requests.setdefault(action["name"], [])
        complaints += [f"{action['name']}: {text}" for text in compare_action(action, model, forms)]
    json.dump({"complaints": complaints, "requests": requests}, sys.stdout)


if __name__ == "__main__":
    main()
