"""Renderer of Helm templates, for the part of the language that our charts use.

Knows `define`, `include`, `if`, `else`, `with`, `range`, pipelines and the functions of
`FUNCTIONS`; anything else is an error, so that a chart cannot use what is not tested. It is no
Helm: hooks, `lookup`, sub-charts, the merging of several values files and what an API server would
say of the manifests are not covered. `test_helm.py` asks the binary `helm` too, where it is on the
path.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_ACTION = re.compile(r"(\s*)\{\{-\s*(.*?)\s*(-)?\}\}|\{\{\s*(.*?)\s*(-)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[()|]|[^\s()|]+')
_OPENS = ("if", "with", "range", "define")


class ChartError(Exception):
    """A chart rejects its values, or uses a construct that this renderer lacks."""


@dataclass
class Node:
    """Piece of a template: text, an expression, or a block with its pieces."""

    kind: str
    text: str = ""
    body: list[Node] = field(default_factory=list)
    otherwise: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Chart:
    """A chart's folder."""

    folder: Path

    @property
    def values(self) -> dict[str, Any]:
        loaded: dict[str, Any] = yaml.safe_load((self.folder / "values.yaml").read_text())
        return loaded

    @property
    def schema(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / "values.schema.json").read_text())
        return loaded

    @property
    def templates(self) -> list[Path]:
        return sorted((self.folder / "templates").glob("*.yaml"))

    def render(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the manifests."""
        rendered = (self.render_file(path, values) for path in self.templates)
        return [one for text in rendered for one in yaml.safe_load_all(text) if one is not None]

    def render_file(self, path: Path, values: Mapping[str, Any]) -> str:
        """Return one template as text."""
        defined: dict[str, list[Node]] = {}
        for helper in (self.folder / "templates").glob("*.tpl"):
            for node in parse(helper.read_text()):
                if node.kind == "define":
                    defined[json.loads(node.text)] = node.body
        chart = yaml.safe_load((self.folder / "Chart.yaml").read_text())
        root = {
            "Values": values,
            "Release": {"Name": "fed", "Namespace": "fedvitals", "Service": "Helm"},
            "Chart": {"Name": chart["name"], "Version": chart["version"]},
        }
        return Renderer(root, defined).render(parse(path.read_text()), root)


def parse(text: str) -> list[Node]:
    """Parse a template into pieces."""
    root = Node("root")
    open_blocks: list[tuple[Node, list[Node]]] = [(root, root.body)]
    position = 0
    for match in _ACTION.finditer(text):
        before = text[position : match.start()]
        position = match.end()
        action, trims_after = (match[2], match[3]) if match[4] is None else (match[4], match[5])
        if trims_after:
            position += len(text[position:]) - len(text[position:].lstrip())
        open_blocks[-1][1].append(Node("text", before))
        _take(action, open_blocks)
    open_blocks[-1][1].append(Node("text", text[position:]))
    if len(open_blocks) != 1:
        raise ChartError(f"{open_blocks[-1][0].kind} {open_blocks[-1][0].text} has no end")
    return root.body


def _take(action: str, open_blocks: list[tuple[Node, list[Node]]]) -> None:
    word, _, rest = action.partition(" ")
    if action.startswith("/*"):
        return
    if word in _OPENS:
        node = Node(word, rest.strip())
        open_blocks[-1][1].append(node)
        open_blocks.append((node, node.body))
    elif action == "else":
        node, _ = open_blocks.pop()
        open_blocks.append((node, node.otherwise))
    elif action == "end":
        if len(open_blocks) == 1:
            raise ChartError("an end too many")
        open_blocks.pop()
    else:
        open_blocks[-1][1].append(Node("expression", action))


class Renderer:
    """Renderer of pieces with values."""

    def __init__(self, root: Mapping[str, Any], defined: Mapping[str, list[Node]]) -> None:
        self._root = root
        self._defined = defined

    def render(self, nodes: list[Node], dot: Any) -> str:
        return "".join(self._one(node, dot) for node in nodes)

    def _one(self, node: Node, dot: Any) -> str:
        if node.kind == "text":
            return node.text
        if node.kind == "define":
            return ""
        value = self._evaluate(node.text, dot)
        if node.kind == "expression":
            return _shown(value)
        if not value:
            return self.render(node.otherwise, dot)
        if node.kind == "range":
            return "".join(self.render(node.body, one) for one in value)
        return self.render(node.body, value if node.kind == "with" else dot)

    def _evaluate(self, text: str, dot: Any) -> Any:
        tokens = _TOKEN.findall(text)
        value = self._pipeline(iter(tokens), dot)
        if tokens.count("(") != tokens.count(")"):
            raise ChartError(f"brackets do not match in {text}")
        return value

    def _pipeline(self, tokens: Iterator[str], dot: Any) -> Any:
        words: list[Any] = []
        name: str | None = None
        piped: list[Any] = []
        for token in tokens:
            if token == ")":
                break
            if token == "|":
                piped, words, name = [self._call(name, [*words, *piped])], [], None
            elif token == "(":
                words.append(self._pipeline(tokens, dot))
            elif name is None and not words and re.fullmatch(r"[a-zA-Z0-9]+", token):
                name = token
            else:
                words.append(self._operand(token, dot))
        return self._call(name, [*words, *piped])

    def _call(self, name: str | None, arguments: list[Any]) -> Any:
        if name is None:
            (value,) = arguments
            return value
        if name == "include":
            template, dot = arguments
            return self.render(self._defined[template], dot)
        if name not in FUNCTIONS:
            raise ChartError(f"the function {name} is not known here")
        return FUNCTIONS[name](*arguments)

    def _operand(self, token: str, dot: Any) -> Any:
        if token.startswith('"'):
            return json.loads(token)
        if re.fullmatch(r"\d+", token):
            return int(token)
        if not token.startswith((".", "$.")):
            raise ChartError(f"{token} is not known here")
        value = self._root if token.startswith("$") else dot
        for part in token.lstrip("$").split("."):
            if part:
                # Helm renders a missing value as empty; in our charts it is a mistake.
                if part not in value:
                    raise ChartError(f"{token} is not in the values")
                value = value[part]
        return value


def _required(message: str, value: Any) -> Any:
    if value in (None, ""):
        raise ChartError(message)
    return value


def _fail(message: str) -> Any:
    raise ChartError(message)


def _indented(spaces: int, text: str) -> str:
    return "\n".join(" " * spaces + line for line in str(text).split("\n"))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda one, other: one == other,
    "fail": _fail,
    "nindent": lambda spaces, text: "\n" + _indented(spaces, text),
    "not": lambda value: not value,
    "quote": lambda value: json.dumps(str(value)),
    "required": _required,
    "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "toYaml": lambda value: yaml.safe_dump(value, sort_keys=True).rstrip("\n"),
}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
