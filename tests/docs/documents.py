"""Markdown files of the repository: their commands, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

SHELL = ("", "bash", "sh")
"""Languages of blocks that hold commands; output is in ```text, a file in ```toml."""

_FENCE = re.compile(r" *(`{3,}|~{3,})([\w-]*)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the number of its first line, its lines."""

    language: str
    line: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A command of a document, on one line but for line breaks inside quotes."""

    document: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {self.text}"


def markdown_files() -> list[Path]:
    """Return the Markdown files of the repository, without hidden folders and outputs of runs."""
    own = [path for path in REPOSITORY.iterdir() if path.name[0] != "." and path.name != "runs"]
    files = [path for path in own if path.suffix == ".md"]
    folders = [path for path in own if path.is_dir()]
    return sorted(files + [path for folder in folders for path in folder.rglob("*.md")])


def documents() -> list[str]:
    """Return the documents whose commands readers type, relative to the repository."""
    folders = (REPOSITORY / "docs", REPOSITORY / "deploy")
    top = {REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"}
    return [
        path.relative_to(REPOSITORY).as_posix()
        for path in markdown_files()
        if path in top or any(path.is_relative_to(folder) for folder in folders)
    ]


def blocks(text: str) -> Iterator[Block]:
    """Give the fenced blocks of a document."""
    fence, language, first, inside = "", "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        found = _FENCE.match(line)
        if not fence and found:
            fence, language, first, inside = found[1], found[2], number + 1, []
        elif fence and line.strip() == fence:
            yield Block(language, first, tuple(inside))
            fence = ""
        elif fence:
            inside.append(line)
    assert not fence, f"the block that begins at line {first} has no end"


def prose(text: str) -> str:
    """Return a document without its fenced blocks, whose lines are left empty."""
    lines = text.splitlines()
    for block in blocks(text):
        begin, end = block.line - 2, block.line + len(block.lines)
        lines[begin:end] = [""] * (end - begin)
    return "\n".join(lines)


def commands_of(document: str) -> list[Command]:
    """Return the commands of a document, in its order; Python blocks are one each."""
    found = []
    for block in blocks((REPOSITORY / document).read_text(encoding="utf-8")):
        if block.language in SHELL:
            found += [Command(document, line, text) for line, text in shell_commands(block)]
        elif block.language == "python":
            found.append(Command(document, block.line, "\n".join(("#!python", *block.lines))))
    return found


def shell_commands(block: Block) -> Iterator[tuple[int, str]]:
    """Join continued lines and quotes over several lines; leave comments and prompts out."""
    text, first = "", 0
    for number, line in enumerate(block.lines, start=block.line):
        first = first if text else number
        text = f"{text}{line}" if not text or text.endswith(" ") else f"{text}\n{line}"
        text, in_quotes = without_comment(text)
        if text.endswith("\\"):
            text = f"{text[:-1].rstrip()} "
        elif not in_quotes:
            if text.strip():
                yield first, re.sub(r"  +", " ", text.strip()) if "\n" not in text else text
            text = ""
    assert not text, f"the command at line {first} has no end"


def without_comment(text: str) -> tuple[str, bool]:
    """Return a line without its comment, and whether it ends inside quotes."""
    quote = ""
    for place, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (place == 0 or text[place - 1].isspace()):
            return text[:place].rstrip(), False
    return (text if quote else text.rstrip()), bool(quote)


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    seen: dict[str, int] = {}
    for line in prose(text).splitlines():
        heading = re.match(r"#{1,6} +(.+?) *#*$", line)
        if heading:
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
            seen[slug] = seen.get(slug, -1) + 1
    return {
        slug if not n else f"{slug}-{n}" for slug, most in seen.items() for n in range(most + 1)
    }


def links(text: str) -> Iterable[tuple[int, str]]:
    """Give the targets of a document's links and pictures with their lines."""
    for number, line in enumerate(prose(text).splitlines(), start=1):
        # Text in `code` is no link.
        for target in re.findall(r"\]\(<?([^)>\s]+)>?\)", re.sub(r"`[^`]*`", "", line)):
            yield number, target
