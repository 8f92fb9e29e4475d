from __future__ import annotations

from typing import Any

import pytest

from client.app.site_settings import check_site_settings
from common.config.run_config import RunConfig
from common.errors import UsageError

MIXED = {"aggregation.rule": "svd", "lora.min-rank": 2}
PRIVATE = {"privacy.epsilon": 8.0, "rounds": 2}


@pytest.mark.parametrize(
    ("run", "own"),
    [
        ({}, {}),
        ({}, {"lora-rank": "8"}),
        ({}, {"lora-rank": "0"}),
        (MIXED, {"lora-rank": 4}),
        (PRIVATE, {"patients": "40", "allow": "loss,validation.*"}),
        (PRIVATE, {"epsilon-limit": "8"}),
        (PRIVATE, {"epsilon-limit": 20.0, "epsilon-limit-delta": 1e-6}),
    ],
)
def test_settings_that_fit_the_run(run: dict[str, Any], own: dict[str, Any]) -> None:
    check_site_settings("micu", own, RunConfig.parse(run))


@pytest.mark.parametrize(
    ("run", "own", "reason"),
    [
        ({}, {"lora-rnk": 4}, "unknown setting of site micu 'lora-rnk'; did you mean 'lora-rank'"),
        ({}, {"data-path": "t"}, "unknown setting of site micu 'data-path'"),
        ({}, {"lora-rank": "four"}, "site micu: lora-rank must be a whole number, got 'four'"),
        ({}, {"lora-rank": "9999"}, "lora-rank must be from 0 to 1,024, got '9999'"),
        ({}, {"lora-rank": 4}, "allows 8; .* lora.min-rank = 4 with aggregation.rule = svd or"),
        ({}, {"lora-rank": 16}, "allows 8; leave lora-rank out, or raise lora.rank"),
        (MIXED, {"lora-rank": 1}, "its lora-rank is 1, the run allows 2 to 8; .*min-rank = 1$"),
        (PRIVATE, {"lora-rank": 4}, "only B is trained, as under privacy, all have one rank"),
        ({}, {"epsilon-limit": 8}, "its epsilon-limit is for a run with privacy"),
        ({}, {"patients": 8}, "its patients is for a run with privacy"),
        (PRIVATE, {"patients": "-1"}, "patients must be at least 0"),
        (PRIVATE, {"allow": "los"}, "unknown number in allow 'los'; did you mean 'loss'"),
        (PRIVATE, {"epsilon-limit-delta": 1e-6}, "set epsilon-limit too"),
        (PRIVATE, {"epsilon-limit": 8, "epsilon-limit-delta": 2}, "between 0 and 1"),
        (PRIVATE, {"epsilon-limit": 3}, "epsilon-limit is 3, the run spends 8.00 at delta 1e-05"),
    ],
)
def test_settings_that_do_not_are_refused_in_one_line(
    run: dict[str, Any], own: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        check_site_settings("micu", own, RunConfig.parse(run))
