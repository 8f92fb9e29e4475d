from __future__ import annotations

from importlib.util import find_spec

import pytest

from common.backbones.catalog import FAMILIES
from common.backbones.loading import family, load_backbone
from common.errors import BackboneError


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(BackboneError, match="did you mean 'chronos-bolt-nano'") as error:
        load_backbone("chronos-bolt-nanno")
    assert "folder of weights" in str(error.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_be_had(name: str) -> None:
    needs = FAMILIES[name].needs
    if needs and not find_spec(needs):
        with pytest.raises(BackboneError, match=rf"need the package {needs}.*fedvitals"):
            family(name)
        pytest.skip(f"the extra {FAMILIES[name].extra} is not installed")
    assert family(name).family == name
