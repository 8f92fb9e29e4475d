from __future__ import annotations

from pathlib import Path

import pytest

from client.config.site_config import SiteConfig, load_site_config
from client.node.min_patients import require_min_patients, training_patients
from client.policy.policy import Policy, load_policy
from common.errors import PolicyError

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def config() -> SiteConfig:
    return load_site_config(REPOSITORY / "deploy" / "site" / "site.toml")


@pytest.fixture
def policy() -> Policy:
    shipped = load_policy(REPOSITORY / "deploy" / "site" / "policy.toml")
    return shipped.replace(privacy_required=False)


def at(config: SiteConfig, table: Path, patients: int = 0) -> SiteConfig:
    return config.replace(site=config.site.replace(table=table, patients=patients))


def test_the_table_is_counted_where_it_can_be_read(
    config: SiteConfig, policy: Policy, tiny_cohort: Path
) -> None:
    table = tiny_cohort / "sites" / "ccu.parquet"
    counted = training_patients(table)
    assert counted is not None
    assert 0 < counted < policy.min_patients
    with pytest.raises(PolicyError, match=f"has {counted} training patients.*not take part"):
        require_min_patients(at(config, table, patients=1000), policy)
    require_min_patients(at(config, table), policy.replace(min_patients=counted))


def test_what_the_site_states_is_judged_where_it_cannot(
    config: SiteConfig, policy: Policy, tmp_path: Path
) -> None:
    absent = tmp_path / "absent.parquet"
    require_min_patients(at(config, absent, patients=policy.min_patients), policy)
    with pytest.raises(PolicyError, match="has 49 training patients"):
        require_min_patients(at(config, absent, patients=policy.min_patients - 1), policy)


def test_where_nothing_is_stated_either_the_node_does_not_start(
    config: SiteConfig, policy: Policy, tmp_path: Path
) -> None:
    absent = at(config, tmp_path / "absent.parquet")
    with pytest.raises(PolicyError, match=r"set site\.patients in site\.toml"):
        require_min_patients(absent, policy)
    require_min_patients(absent, policy.replace(min_patients=0))


def test_under_privacy_the_site_declares_all_and_no_table_is_read(
    config: SiteConfig, policy: Policy, tiny_cohort: Path
) -> None:
    required = policy.replace(privacy_required=True)
    small = at(config, tiny_cohort / "sites" / "ccu.parquet", patients=1000)
    with pytest.raises(PolicyError, match=r"does not declare site\.source, site\.rule, backbones"):
        require_min_patients(small, required)
    own = small.site.replace(source="own data", rule="explicit")
    declared = small.replace(site=own, backbones={"chronos-bolt-nano": "ab" * 32})
    assert require_min_patients(declared, required) == 1000
