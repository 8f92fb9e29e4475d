"""A site behind its gate, and a site's processes, as a hostile coordinator or app meets them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.scenarios.hostile_apps import plant
from tests.attacks.scenarios.local_node import LocalNode
from tests.client.egress.gated_site import answers, make

__all__ = ["answers", "make", "node"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A site whose processes run in a folder into which an app has written."""
    made = LocalNode(tmp_path_factory.mktemp("site"))
    plant(made.folder / "state", made.folder / "imported")
    with made.open(made.folder / "state"):
        yield made
