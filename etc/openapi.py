#!/usr/bin/env python3
"""Writes admin/openapi.json, which is served, from admin/openapi.yaml, which is written by hand.

    etc/openapi.py           writes it
    etc/openapi.py --check   exit code 1 when it is not up to date
"""

import json
import sys
from pathlib import Path

import yaml

ADMIN = Path(__file__).resolve().parents[1] / "admin"


class Loader(yaml.SafeLoader):
    """Dates stay text; a member that stands twice is a mistake."""

    def construct_mapping(self, node, deep=False):
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {n for n in names if names.count(n) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"twice: {', '.join(map(str, twice))}", node.start_mark)
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {first: [(tag, regex) for tag, regex in resolvers if tag != "tag:yaml.org,2002:timestamp"]
                                  for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}


def document():
    return yaml.load((ADMIN / "openapi.yaml").read_text(encoding="utf-8"), Loader)


def text():
    return json.dumps(document(), ensure_ascii=False, separators=(",", ":")) + "\n"


def main():
    path = ADMIN / "openapi.json"
    made = text()
    if sys.argv[1:] == ["--check"]:
        if not path.exists() or path.read_text(encoding="utf-8") != made:
            sys.exit("admin/openapi.json is not up to date; run: etc/openapi.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        path.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
