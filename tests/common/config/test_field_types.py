from __future__ import annotations

from typing import Annotated

import pytest

from common.config.field_types import checked_values
from common.config.strict_model import StrictModel
from common.errors import UsageError
from common.names import check_site_name


class Names(StrictModel):
    names: Annotated[dict[str, str], checked_values(check_site_name)]


def test_each_text_of_a_table_is_checked_and_the_wrong_one_named() -> None:
    assert Names.load({"names": {"A": "micu", "B": "sicu"}}).names == {"A": "micu", "B": "sicu"}
    with pytest.raises(UsageError, match=r"names.*B.* is not valid: .*'../sicu'"):
        Names.load({"names": {"A": "micu", "B": "../sicu"}})
