from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import client.app.dataset
from client.app.dataset import SiteData, declared_patients, load_site, site_tables
from client.app.node_config import NodeSettings, read_node_settings
from common.config.run_config import RunConfig, WindowConfig
from common.errors import CohortError, FedvitalsError, PrivacyError, SiteTableError, UsageError
from common.files.paths import use_cohort

WINDOWS = WindowConfig(context=24, stride=6)


def simulated(place: int, nodes: int) -> NodeSettings:
    return settings_of({"partition-id": place, "num-partitions": nodes})


def settings_of(node: dict[str, Any]) -> NodeSettings:
    return read_node_settings(node, RunConfig(), "run")


def test_sites_are_divided_among_the_nodes(tiny_cohort: Path) -> None:
    config = RunConfig(data=str(tiny_cohort))
    for nodes in (1, 2, 3, 5):
        shares = [site_tables(simulated(place, nodes), config) for place in range(nodes)]
        names = sorted(name for share in shares for name in share)
        assert names == ["ccu", "micu", "sicu"]


def test_the_cohort_prepared_last_is_the_default(tiny_cohort: Path) -> None:
    with pytest.raises(CohortError, match="no cohort is prepared"):
        site_tables(simulated(0, 1), RunConfig())
    use_cohort(tiny_cohort)
    assert list(site_tables(simulated(0, 1), RunConfig())) == ["ccu", "micu", "sicu"]


def test_a_hospitals_node_has_its_own_table_alone(tiny_cohort: Path) -> None:
    path = tiny_cohort / "sites" / "micu.parquet"
    # The run's settings come from the server: they must not choose what a hospital opens.
    config = RunConfig(data="/etc")
    node = {"data-path": str(path), "site-id": "north", "partition-id": 0, "num-partitions": 1}
    assert site_tables(settings_of(node), config) == {"north": path}
    assert len(load_site(settings_of(node), config, "north", WINDOWS).train)


@pytest.mark.parametrize("site", ["micu", "../../secret", "/etc/passwd", ""])
def test_a_node_opens_no_table_but_its_own(tiny_cohort: Path, site: str) -> None:
    with pytest.raises(UsageError, match="unknown site of this node"):
        load_site(simulated(0, 3), RunConfig(data=str(tiny_cohort)), site, WINDOWS)


def test_windows_of_training_and_validation_patients(tiny_cohort: Path) -> None:
    data = load_site(simulated(0, 1), RunConfig(data=str(tiny_cohort)), "micu", WINDOWS)
    assert len(data.train) > len(data.validation) > 0
    assert not set(data.train.patient_ids) & set(data.validation.patient_ids)


def test_a_declared_number_of_patients_precedes_the_tables(tiny_cohort: Path) -> None:
    config = RunConfig(data=str(tiny_cohort))
    some, none = (
        load_site(simulated(0, 1), config, "micu", windows)
        for windows in (WINDOWS, WindowConfig(context=64, min_context=64))
    )
    assert not len(none.train)
    # The table's own number, whatever windows are cut.
    assert some.training_patients == none.training_patients >= len(some.train.patient_ids) > 0
    assert declared_patients(simulated(0, 1), none) == some.training_patients
    table = {"data-path": str(tiny_cohort / "sites" / "micu.parquet")}
    assert declared_patients(settings_of({**table, "patients": 5}), some) == 5
    with pytest.raises(PrivacyError, match=r"set patients in \[site\] of site\.toml"):
        declared_patients(settings_of(table), some)


def test_a_changed_table_is_read_anew(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cohort"
    shutil.copytree(tiny_cohort, folder)
    config = RunConfig(data=str(folder))
    before = load_site(simulated(0, 1), config, "ccu", WINDOWS)
    (folder / "sites" / "micu.parquet").replace(folder / "sites" / "ccu.parquet")
    assert len(load_site(simulated(0, 1), config, "ccu", WINDOWS).train) > len(before.train)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="holds no cohort"):
        site_tables(simulated(0, 1), RunConfig(data=str(tmp_path)))
    node = {"data-path": str(tmp_path / "absent.parquet")}
    with pytest.raises(SiteTableError, match="there is no site table"):
        load_site(settings_of(node), RunConfig(), "absent", WINDOWS)
    assert issubclass(SiteTableError, FedvitalsError)


def test_the_cache_keeps_no_more_than_its_bytes(
    tiny_cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(data=str(tiny_cohort))
    sites = ["ccu", "micu", "sicu"]

    def load() -> list[SiteData]:
        return [load_site(simulated(0, 1), config, site, WINDOWS) for site in sites]

    monkeypatch.setattr(client.app.dataset, "_CACHE", client.app.dataset._Cache())
    kept = load()
    assert [one is other for one, other in zip(kept, load(), strict=True)] == [True] * 3
    # Room for the last two: the first makes room, and then so does each next one.
    monkeypatch.setattr(client.app.dataset, "CACHE_BYTES", kept[1].nbytes + kept[2].nbytes)
    before = load()
    assert not any(one is other for one, other in zip(before, load(), strict=True))
    monkeypatch.setattr(client.app.dataset, "CACHE_BYTES", 0)
    assert len(load()[0].train), "a site larger than the cache is read each time"
