"""A bill of materials in CycloneDX's JSON, https://cyclonedx.org/docs/1.6/json/.

The same distributions give the same bytes: its serial number is derived from its content, and it
states no time.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SPECIFICATION = "1.6"
LONGEST_LICENCE_NAME = 80
"""In the field where some write the name of their licence, others write all of it."""
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/schema/bom-1.6.schema.json")


@dataclass(frozen=True)
class Distribution:
    """One file that is installed.

    Attributes:
        name: normalised, as the registry's addresses have it.
        version: of the distribution.
        sha256: of the file.
        licences: as CycloneDX has them: one SPDX expression, or names; empty where none is stated.
        requires: what it needs, as its metadata writes it.
    """

    name: str
    version: str
    sha256: str
    licences: tuple[Mapping[str, Any], ...] = ()
    requires: tuple[str, ...] = ()

    @classmethod
    def of(cls, metadata: Mapping[str, Any], sha256: str) -> Distribution:
        """Read a distribution's metadata, as pip's report has it."""
        return cls(
            canonicalize_name(metadata["name"]),
            metadata["version"],
            sha256,
            tuple(licences(metadata)),
            tuple(metadata.get("requires_dist", ())),
        )

    @property
    def purl(self) -> str:
        """Its package URL, by which databases of vulnerabilities know it."""
        return f"pkg:pypi/{self.name}@{self.version}"


def licences(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a distribution says of its licence: expression, else classifiers, else a name."""
    if metadata.get("license_expression"):
        return [{"expression": metadata["license_expression"]}]
    classifiers = (text.split(" :: ") for text in metadata.get("classifier", ()))
    names = [parts[-1] for parts in classifiers if parts[0] == "License" and len(parts) > 2]
    stated = str(metadata.get("license") or "").strip()
    short = len(stated) <= LONGEST_LICENCE_NAME and len(stated.splitlines()) == 1
    if not names and short and stated != "UNKNOWN":
        names = [stated]
    return [{"license": {"name": name}} for name in names]


def who_needs_whom(
    requirements: Iterable[str], found: Sequence[Distribution]
) -> dict[str, list[str]]:
    """Follow the requirements, with the extras that are asked for, on this interpreter.

    Args:
        requirements: the project's own.
        found: what they come down to.

    Returns:
        The names that each name needs, by name; the project's own stand under the empty one.
    """
    by_name = {one.name: one for one in found}
    needs: dict[str, set[str]] = {"": set(), **{name: set() for name in by_name}}
    todo = [("", Requirement(text)) for text in requirements]
    followed: set[tuple[str, str]] = set()
    while todo:
        parent, wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        needs[parent].add(name)
        for extra in {"", *wanted.extras} - {extra for seen, extra in followed if seen == name}:
            followed.add((name, extra))
            todo += [(name, one) for one in _needed(by_name[name], extra)]
    return {name: sorted(others) for name, others in needs.items()}


def _needed(one: Distribution, extra: str) -> Iterator[Requirement]:
    for wanted in map(Requirement, one.requires):
        if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
            yield wanted


def bill_of_materials(
    name: str, version: str, requirements: Iterable[str], found: Sequence[Distribution]
) -> str:
    """Write the bill of what an image's environment is made of.

    Args:
        name: of what is made.
        version: of what is made.
        requirements: what it asks for.
        found: what that comes down to, sorted by name.
    """
    root = f"pkg:generic/{name}@{version}"
    purls = {"": root, **{one.name: one.purl for one in found}}
    content: dict[str, Any] = {
        "metadata": {
            "component": {"type": "application", "bom-ref": root, "name": name, "version": version}
        },
        "components": [_component(one) for one in found],
        "dependencies": [
            {"ref": purls[one], "dependsOn": [purls[other] for other in others]}
            for one, others in who_needs_whom(requirements, found).items()
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(content, sort_keys=True))
    head = {
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
    }
    return json.dumps({**head, **content}, indent=1) + "\n"


def _component(one: Distribution) -> dict[str, Any]:
    component = {
        "type": "library",
        "bom-ref": one.purl,
        "name": one.name,
        "version": one.version,
        "purl": one.purl,
        "hashes": [{"alg": "SHA-256", "content": one.sha256}],
    }
    return {**component, "licenses": list(one.licences)} if one.licences else component
