"""A hostile coordinator gives a run another id, version or digest than its bundle's own."""

from __future__ import annotations

import hashlib
import io
import zipfile

import pytest
from flwr.cli.config_utils import get_fab_metadata
from hypothesis import given
from hypothesis import strategies as st

from client.policy.bundle_identity import check_run_bundle
from client.policy.refusal import RefusedError
from tests.client.node.hospital import other_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return other_bundle(tmp_path_factory.mktemp("bundle") / "app")


def test_a_run_says_of_its_bundle_what_the_bundle_says(bundle: bytes) -> None:
    """The bundle's own id, version and hash pass; any other are refused.

    Before: all three were the coordinator's to choose.
    """
    own = (*get_fab_metadata(bundle), hashlib.sha256(bundle).hexdigest())
    check_run_bundle(*own, bundle)
    for place, others in enumerate(
        (("/", "", "a/b", "../x", own[0].upper()), ("/../planted", "", "9"), ("", own[2][:8]))
    ):
        for other in others:
            said = [*own[:place], other, *own[place + 1 :]]
            with pytest.raises(RefusedError, match="the run gives"):
                check_run_bundle(said[0], said[1], said[2], bundle)
    with pytest.raises(RefusedError, match="is not an app bundle"):
        check_run_bundle(own[0], own[1], hashlib.sha256(b"no zip").hexdigest(), b"no zip")


@pytest.mark.parametrize(
    ("name", "version"),
    [("../x", "1"), ("a/b", "1"), ("x", "/../planted"), ("x", "1/.."), ("x", "1..2"), ("", "1")],
)
def test_a_bundle_cannot_name_a_folder_elsewhere_either(
    bundle: bytes, name: str, version: str
) -> None:
    """The bundle's own id and version must be safe in a path too.

    Before: they became a path unchecked.
    """
    changed = renamed(bundle, name, version)
    with pytest.raises(RefusedError):
        check_run_bundle(f"fedvitals/{name}", version, hashlib.sha256(changed).hexdigest(), changed)


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_two_texts_make_a_run_of_a_bundle(bundle: bytes, fab_id: str, version: str) -> None:
    """Any id and version other than the bundle's own are refused.

    Before: any text with one slash was taken.
    """
    own = get_fab_metadata(bundle)
    if (fab_id, version) != own:
        with pytest.raises(RefusedError):
            check_run_bundle(fab_id, version, hashlib.sha256(bundle).hexdigest(), bundle)


def renamed(bundle: bytes, name: str, version: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle)) as given_, zipfile.ZipFile(made, "w") as archive:
        for one in given_.namelist():
            content = given_.read(one)
            if one == "pyproject.toml":
                text = content.decode()
                own, own_version = get_fab_metadata(bundle)
                text = text.replace(f'name = "{own.split("/")[1]}"', f'name = "{name}"', 1)
                text = text.replace(f'version = "{own_version}"', f'version = "{version}"', 1)
                content = text.encode()
            archive.writestr(one, content)
    return made.getvalue()
