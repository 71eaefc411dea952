"""Compares a document of filters with what botocore's model of EC2 documents.

usage: filters_documented.py docs/lab-filters.md

Every filter that the model's documentation lists for an action must stand in the action's section, and every name in a
section must be in the documentation: as a filter of its own or as another name of one ("You can also use ..."). The range of
MaxResults, where the model has one, and whether it goes together with ids must be those of the document. Prints each difference
and ends with a non-zero exit status if there is one; prints the number of filters otherwise.
"""

import html
import re
import sys

import botocore.session

TAG = "tag:<key>"


def documented(model, action):
    """Filters of an action, and their other names."""
    members = model.operation_model(action).input_shape.members
    shape = next(members[name] for name in ("Filters", "Filter") if name in members)
    names, others = set(), set()
    for item in re.findall(r"<li>(.*?)</li>", shape.documentation, flags=re.S):
        text = html.unescape(re.sub(r"</?(code|p|a|i|b)[^>]*>", "", item)).strip()
        # `tag` with its key is written in two ways.
        name = re.match(r"\S+", text).group()
        names.add(TAG if name in ("tag", TAG) or name.startswith("tag:") else name)
        for also in re.findall(r"You can also use (.*?) as the filter names?", text):
            others.update(re.split(r"\s+or\s+|,\s*", also))
    return names, others


def pages(model, action):
    """Least and most MaxResults as far as the model says, and whether ids exclude it; None without pages."""
    shape = model.operation_model(action).input_shape.members.get("MaxResults")
    if shape is None:
        return None
    alone = "cannot specify this parameter and" in html.unescape(shape.documentation)
    return shape.metadata.get("min"), shape.metadata.get("max"), alone


def same_pages(said, known):
    if said is None or known is None:
        return said is known
    return said[2] == known[2] and all(k is None or s == k for s, k in zip(said[:2], known[:2]))


def listed(path):
    """Names in each section of the document, and its pages."""
    sections, ranges, action = {}, {}, None
    for line in open(path, encoding="utf-8"):
        if line.startswith("## "):
            action = line[3:].strip()
            sections[action], ranges[action] = set(), None
        elif found := re.match(r"`MaxResults`: (\d+) to (\d+)(, not together with ids)?\.", line):
            ranges[action] = int(found[1]), int(found[2]), found[3] is not None
        elif line.startswith("- `") and action:
            sections[action].add(line.strip()[3:-1])
    return sections, ranges


def main():
    model = botocore.session.get_session().get_service_model("ec2")
    wrong, count = [], 0
    sections, ranges = listed(sys.argv[1])
    for action, names in sections.items():
        known, others = documented(model, action)
        count += len(known)
        wrong += [f"{action}: documented, not listed: {name}" for name in sorted(known - names)]
        wrong += [f"{action}: listed, not documented: {name}" for name in sorted(names - known - others)]
        if not same_pages(ranges[action], pages(model, action)):
            wrong.append(f"{action}: MaxResults: {ranges[action]}, documented: {pages(model, action)}")
    if wrong or not count:
        sys.exit("\n".join(wrong) or "no filters found")
    print(count)


if __name__ == "__main__":
    main()
