"""The images' lock files and bills of materials: whole, and in step with pyproject.toml."""

from __future__ import annotations

import json
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st

from deploy import lock
from deploy.lock import (
    CUDA,
    CUDA_HEAD,
    IMAGES,
    LockError,
    Project,
    faults,
    lock_text,
    read_lock,
    read_project,
    read_report,
)
from deploy.sbom import Distribution, bill_of_materials, dependency_graph, licences
from tests.integration.setup.deployed import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
ONE, OTHER = "1" * 64, "2" * 64


@cache
def shipped(image: str) -> tuple[str, str]:
    folder = DEPLOY / image
    return (folder / "requirements.lock").read_text(), (folder / "sbom.cdx.json").read_text()


@cache
def bill(image: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(shipped(image)[1])
    return content


@pytest.mark.parametrize("image", IMAGES)
def test_the_shipped_files_fit(image: str) -> None:
    assert faults(read_project(image), *shipped(image)) == []


@pytest.mark.parametrize("image", IMAGES)
def test_the_shipped_bill_is_cyclonedx(image: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(shipped(image)[1]) is None


@pytest.mark.parametrize("image", IMAGES)
def test_every_component_is_known_by_name_version_hash_and_nearly_all_by_licence(
    image: str,
) -> None:
    components = bill(image)["components"]
    assert len(components) > 80
    for one in components:
        assert one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}"
        assert one["bom-ref"] == one["purl"]
        assert re.fullmatch("[0-9a-f]{64}", one["hashes"][0]["content"])
    assert sum("licenses" not in one for one in components) <= 2


def reached(image: str) -> Iterator[str]:
    """The package URLs that an image's project needs, directly or not."""
    needs = {one["ref"]: one["dependsOn"] for one in bill(image)["dependencies"]}
    todo, seen = [bill(image)["metadata"]["component"]["bom-ref"]], set()
    while todo:
        for ref in needs[todo.pop()]:
            if ref not in seen:
                seen.add(ref)
                todo.append(ref)
                yield ref


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_is_locked_that_nothing_needs(image: str) -> None:
    assert set(reached(image)) == {one["purl"] for one in bill(image)["components"]}


@pytest.mark.parametrize("image", IMAGES)
def test_what_another_torch_leaves_out_is_needed_by_torch_alone(image: str) -> None:
    kept, cut = (read_lock(part.strip()) for part in shipped(image)[0].split(CUDA_HEAD))
    assert not [name for name in kept if CUDA.fullmatch(name)]
    assert all(CUDA.fullmatch(name) for name in cut)
    names = {one["purl"]: one["name"] for one in bill(image)["components"]}
    for one in bill(image)["dependencies"]:
        if names.get(one["ref"]) in kept:
            # The other torch is there.
            assert {names[ref] for ref in one["dependsOn"]} & set(cut) <= {"torch"}


def test_the_images_have_what_their_extras_ask_for() -> None:
    assert "duckdb" in read_lock(shipped("site")[0])
    assert "duckdb" not in read_lock(shipped("server")[0])
    for image in IMAGES:
        assert "setuptools" in read_lock(shipped(image)[0]), "what builds our own package"


PROJECT = Project("fed", "1.0", ("one>=1", "other==2"))
FOUND = [Distribution("one", "1.5", ONE), Distribution("other", "2", OTHER)]
LOCK = lock_text(PROJECT, FOUND)
SBOM = bill_of_materials("fed-site", "1.0", PROJECT.requirements, FOUND)


def test_files_that_fit_have_no_fault() -> None:
    assert faults(PROJECT, LOCK, SBOM) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (f" --hash=sha256:{ONE}", "", "'one==1.5' is no name==version --hash"),
        (ONE, ONE[1:], "is no name==version --hash"),
        ("other==2 ", "other==3 ", "requires other==2, locked is 3"),
        (f"other==2 --hash=sha256:{OTHER}\n", "", "requires other==2, locked is none"),
        ("other==2 ", "one==2 ", "one occurs twice"),
        (ONE, OTHER, "lists other files than the lock"),
        ("one==1.5", "one==1.6", "lists other files than the lock"),
        (PROJECT.digest, "0" * 64, "has other requirements"),
    ],
)
def test_a_lock_that_was_changed_is_seen(old: str, new: str, said: str) -> None:
    assert old in LOCK
    assert said in "; ".join(faults(PROJECT, LOCK.replace(old, new), SBOM))


def test_a_project_that_was_changed_is_seen() -> None:
    wider = replace(PROJECT, requirements=("one>=1", "other==2", "third"))
    assert "requires third, locked is none" in "; ".join(faults(wider, LOCK, SBOM))
    looser = replace(PROJECT, requirements=("one", "other==2"))
    assert "has other requirements" in "; ".join(faults(looser, LOCK, SBOM))
    assert "not that of version 1.1" in "; ".join(
        faults(replace(PROJECT, version="1.1"), LOCK, SBOM)
    )


def test_the_order_of_pyproject_does_not_matter() -> None:
    assert replace(PROJECT, requirements=PROJECT.requirements[::-1]).digest == PROJECT.digest


def test_the_check_names_the_command_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for image in IMAGES:
        shutil.copytree(DEPLOY / image, tmp_path / "deploy" / image)
    monkeypatch.setattr(lock, "REPOSITORY", tmp_path)
    lock.main(["--check"])
    file = tmp_path / "deploy" / "site" / "requirements.lock"
    file.write_text(re.sub(r"(?m)^torch==.*\n", "", file.read_text()))
    with pytest.raises(LockError, match=r"deploy/site: .*torch.*locked is none.*run `make lock`"):
        lock.main(["--check"])
    file.unlink()
    with pytest.raises(LockError, match="deploy/site: missing; run `make lock`"):
        lock.main(["--check"])


def item(url: str, digest: str | None = ONE, **metadata: Any) -> dict[str, Any]:
    """An entry of pip's report."""
    hashes = {} if digest is None else {"sha256": digest}
    origin = {"url": url, "archive_info": {"hashes": hashes}}
    return {"metadata": {"name": "One.X", "version": "1", **metadata}, "download_info": origin}


def test_pips_report_is_read() -> None:
    report = {"install": [item("https://files/one.whl", requires_dist=["two>=1"])]}
    (one,) = read_report(report)
    assert one == Distribution("one-x", "1", ONE, (), ("two>=1",))


@pytest.mark.parametrize(
    ("url", "digest"),
    [
        ("file:///wheels/one.whl", ONE),
        ("https://files/one.tar.gz", ONE),
        ("https://files/one.whl", None),
    ],
)
def test_a_file_that_another_machine_cannot_check_is_not_locked(
    url: str, digest: str | None
) -> None:
    with pytest.raises(LockError, match=r"One\.X comes from"):
        read_report({"install": [item(url, digest)]})


def test_another_machine_than_the_images_locks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(LockError, match="this is Linux riscv64"):
        lock.resolve(PROJECT)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"license_expression": "MIT OR 0BSD", "license": "x"}, [{"expression": "MIT OR 0BSD"}]),
        (
            {"classifier": ["License :: OSI Approved :: MIT License", "Typing :: Typed"]},
            [{"license": {"name": "MIT License"}}],
        ),
        (
            {"classifier": ["License :: OSI Approved"], "license": "BSD"},
            [{"license": {"name": "BSD"}}],
        ),
        ({"license": "Copyright\nAll of it"}, []),
        ({"license": "UNKNOWN"}, []),
        ({"license": ""}, []),
        ({}, []),
    ],
)  # fmt: skip
def test_a_licence_is_told_as_it_is_stated(metadata: dict[str, Any], expected: list[Any]) -> None:
    assert licences(metadata) == expected


def test_extras_and_markers_are_followed() -> None:
    found = [
        Distribution("a", "1", ONE, requires=("b[x]", "gone; sys_platform == 'none'")),
        Distribution("b", "1", ONE, requires=("c; extra == 'x'", "gone; extra == 'y'", "a")),
        Distribution("c", "1", ONE),
    ]
    assert dependency_graph(["A"], found) == {"": ["a"], "a": ["b"], "b": ["a", "c"], "c": []}


NAMES = st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), unique=True, min_size=1)


@given(names=NAMES)
def test_the_same_distributions_give_the_same_bytes(names: list[str]) -> None:
    found = [Distribution(name, "1", ONE) for name in sorted(names)]
    made = bill_of_materials("fed", "1", names, found)
    assert made == bill_of_materials("fed", "1", names[::-1], found)
    assert made != bill_of_materials("fed", "2", names, found)
    project = Project("fed", "1", tuple(names))
    assert faults(project, lock_text(project, found), made) == []
