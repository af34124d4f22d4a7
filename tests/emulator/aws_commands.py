"""Checks calls of the AWS CLI against the models of the services that botocore has, without a call to any.

Reads them from standard input: each argument ends in a NUL, and an empty one ends a call. Prints a line for each mistake. The CLI is made
from the same models; what it has beside them is named here. Source: AWS CLI Command Reference; botocore.
"""

import json
import sys

import jmespath
from botocore import xform_name
from botocore.exceptions import DataNotFoundError
from botocore.session import get_session
from botocore.utils import ArgumentGenerator
from botocore.validate import ParamValidator

# Options of every command.
GLOBAL = {"query", "output"}
# Commands that no service has.
OF_THE_CLI = {
    ("cloudformation", "deploy"): {"stack-name", "template-file", "capabilities", "parameter-overrides"},
    ("configure", "export-credentials"): {"format"},
}
# Options that no service has.
BESIDE = {
    ("ec2", "authorize-security-group-ingress"): {"protocol", "port", "cidr"},
    ("iot", "create-certificate-from-csr"): {"certificate-pem-outfile"},
}
# Each leaves the stream UPDATING or CREATING for a while, and all but the first are refused in that state.
CHANGES = {"create-stream", "increase-stream-retention-period", "start-stream-encryption"}

session = get_session()
changing = set()


class Mistake(Exception):
    pass


def kebab(name):
    return xform_name(name, "-")


def options(words):
    """The options with the words behind each."""
    found = {}
    for word in words:
        if word.startswith("--"):
            name = word[2:]
            if name in found:
                raise Mistake(f"--{name} is there twice")
            found[name] = []
        elif not found:
            raise Mistake(f"{word!r} belongs to no option")
        else:
            found[name].append(word)
    return found


def value(shape, words, name):
    """What the CLI makes of the words behind an option."""
    kind = shape.type_name
    if kind == "boolean" and not words:
        return True
    if kind == "list":
        return [value(shape.member, [word], name) for word in words]
    if len(words) != 1:
        raise Mistake(f"--{name} takes one value, and has {words}")
    (word,) = words
    if kind == "structure":
        if word.startswith("{"):
            return json.loads(word)
        return shorthand(shape, word, name)
    if kind in ("integer", "long"):
        return int(word)
    if kind == "string":
        if shape.enum and word not in shape.enum:
            raise Mistake(f"--{name} {word}: is none of {', '.join(shape.enum)}")
        if word.startswith("{"):
            json.loads(word)
        return word
    raise Mistake(f"--{name}: a {kind} is not known here")


def shorthand(shape, word, name):
    """KEY=VALUE,KEY=VALUE"""
    made = {}
    for pair in word.split(","):
        key, equals, text = pair.partition("=")
        if not equals or key not in shape.members:
            raise Mistake(f"--{name} {word}: {key!r} is none of {', '.join(shape.members)}")
        made[key] = value(shape.members[key], [text], name)
    return made


def operation(model, name):
    """The operation that a command calls, or that a waiter repeats."""
    found = [known for known in model.operation_names if kebab(known) == name]
    if not found:
        raise Mistake(f"{name} is no command of it")
    return model.operation_model(found[0])


def waiter(service, words):
    waiters = session.get_waiter_model(service)
    found = [known for known in waiters.waiter_names if words and kebab(known) == words[0]]
    if not found:
        raise Mistake(f"wait {' '.join(words[:1])} is not known")
    return kebab(waiters.get_waiter(found[0]).operation)


def check(words):
    service, command, *rest = words
    if (service, command) in OF_THE_CLI:
        unknown = options(rest).keys() - OF_THE_CLI[service, command] - GLOBAL
        if unknown:
            raise Mistake(f"--{' --'.join(sorted(unknown))}: unknown")
        return
    try:
        model = session.get_service_model(service)
    except DataNotFoundError:
        raise Mistake("there is no such service") from None
    if service == "kinesis":
        wait_for_changes(command, rest)
    if command == "wait":
        command, rest = waiter(service, rest), rest[1:]
    called = operation(model, command)
    given = options(rest)
    members = {kebab(name): (name, shape) for name, shape in called.input_shape.members.items()} if called.input_shape else {}
    arguments = {}
    for name, texts in given.items():
        if name in GLOBAL | BESIDE.get((service, command), set()):
            continue
        negated = name.removeprefix("no-")
        if name in members:
            member, shape = members[name]
            arguments[member] = value(shape, texts, name)
        elif negated in members and members[negated][1].type_name == "boolean" and not texts:
            arguments[members[negated][0]] = False
        else:
            raise Mistake(f"--{name}: unknown")
    if called.input_shape:
        report = ParamValidator().validate(arguments, called.input_shape).generate_report().splitlines()
        # What stands for an identifier may be shorter than one.
        wrong = [line for line in report if not line.startswith("Invalid length")]
        if wrong:
            raise Mistake("; ".join(wrong))
    if "query" in given:
        answer = ArgumentGenerator().generate_skeleton(called.output_shape)
        if lacks_something(jmespath.search(given["query"][0], answer)):
            raise Mistake(f"--query {given['query'][0]}: its answer has nothing there")


def lacks_something(found):
    return found is None or isinstance(found, list) and (not found or any(map(lacks_something, found)))


def wait_for_changes(command, rest):
    stream = "".join(options(rest[1:] if command == "wait" else rest).get("stream-name", []))
    if command == "wait":
        changing.discard(stream)
    elif command in CHANGES:
        if stream in changing:
            raise Mistake("the change before it may not be done; wait for the stream first")
        changing.add(stream)


calls = [call.split("\0") for call in sys.stdin.read().split("\0\0") if call]
for call in calls:
    try:
        check(call)
    except (Mistake, ValueError) as mistake:
        print(f"aws {' '.join(call)}: {mistake}")
