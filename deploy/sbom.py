"""Bill of materials in CycloneDX's JSON format, https://cyclonedx.org/docs/1.6/json/.

The same distributions give the same bytes: the serial number is derived from the content, and there
is no timestamp.
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
"""Longer texts in the field `license` are the licence itself, not its name."""
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/schema/bom-1.6.schema.json")


@dataclass(frozen=True)
class Distribution:
    """Installed distribution, which is one file.

    Attributes:
        name: normalised name, as in the registry's URLs.
        version: version of the distribution.
        sha256: digest of the file.
        licences: in CycloneDX's form: one SPDX expression, or names; empty if none is stated.
        requires: requirements, as in its metadata.
    """

    name: str
    version: str
    sha256: str
    licences: tuple[Mapping[str, Any], ...] = ()
    requires: tuple[str, ...] = ()

    @classmethod
    def of(cls, metadata: Mapping[str, Any], sha256: str) -> Distribution:
        """Parse a distribution's metadata from pip's report."""
        return cls(
            canonicalize_name(metadata["name"]),
            metadata["version"],
            sha256,
            tuple(licences(metadata)),
            tuple(metadata.get("requires_dist", ())),
        )

    @property
    def purl(self) -> str:
        """Package URL, as used by vulnerability databases."""
        return f"pkg:pypi/{self.name}@{self.version}"


def licences(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a distribution's stated licence: expression, else classifiers, else a name."""
    if metadata.get("license_expression"):
        return [{"expression": metadata["license_expression"]}]
    classifiers = (text.split(" :: ") for text in metadata.get("classifier", ()))
    names = [parts[-1] for parts in classifiers if parts[0] == "License" and len(parts) > 2]
    stated = str(metadata.get("license") or "").strip()
    short = len(stated) <= LONGEST_LICENCE_NAME and len(stated.splitlines()) == 1
    if not names and short and stated != "UNKNOWN":
        names = [stated]
    return [{"license": {"name": name}} for name in names]


def dependency_graph(
    requirements: Iterable[str], found: Sequence[Distribution]
) -> dict[str, list[str]]:
    """Return the dependencies of each distribution on this interpreter, with requested extras.

    Args:
        requirements: the project's requirements.
        found: the resolved distributions.

    Returns:
        The required names by name; the project's own under the empty name.
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
    """Return the bill of materials of an image's environment as JSON.

    Args:
        name: name of the image.
        version: version of the image.
        requirements: the project's requirements.
        found: the resolved distributions, sorted by name.
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
            for one, others in dependency_graph(requirements, found).items()
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
