from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
from flwr.supercore.superexec.executor.types import ExecutionSpec

from client.host import app_process
from client.host.app_process import ForkServer, launch, run_app_process, trust_arguments
from client.site.config import load_site_config
from common.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[3]


class Forks:
    """Notes what would be forked."""

    def __init__(self, error: OSError | None = None) -> None:
        self.lines: list[list[str]] = []
        self._error = error

    def fork(self, arguments: list[str]) -> None:
        if self._error is not None:
            raise self._error
        self.lines.append(arguments)


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> list[ExecutionSpec]:
    started: list[ExecutionSpec] = []
    monkeypatch.setattr(app_process, "_COLD", lambda _executor, spec: started.append(spec))
    return started


def spec(task_type: str, **more: Any) -> ExecutionSpec:
    values = {"insecure": True, "root_certificates_path": None, **more}
    return cast(
        ExecutionSpec,
        type("Spec", (), {"task_type": task_type, "runtime_api_address": "127.0.0.1:1",
                          "token": "t", **values})(),
    )  # fmt: skip


def run(forks: Forks, one: ExecutionSpec) -> None:
    launch(cast(ForkServer, forks), cast(SubprocessExecutor, None), one)


def test_the_app_is_forked_with_the_command_line_that_flower_would_use(
    cold: list[ExecutionSpec],
) -> None:
    forks = Forks()
    run(forks, spec(TaskType.CLIENT_APP))
    run(forks, spec(TaskType.CLIENT_APP, insecure=False, root_certificates_path="ca.crt"))
    common = ["flwr-clientapp", "--runtime-api-address", "127.0.0.1:1", "--token", "t"]
    assert forks.lines == [
        [*common, "--insecure"],
        [*common, "--root-certificates", "ca.crt"],
    ]
    assert cold == []


def test_another_task_and_a_failed_fork_are_flowers(cold: list[ExecutionSpec]) -> None:
    other, failed = spec("server"), spec(TaskType.CLIENT_APP)
    run(Forks(), other)
    run(Forks(OSError("no memory")), failed)
    assert cold == [other, failed]


def site_toml(folder: Path, **changed: str) -> Path:
    text = (REPOSITORY / "deploy" / "site" / "site.toml").read_text()
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new)
    file = folder / "site.toml"
    file.write_text(text)
    return file


def test_a_node_that_starts_the_app_itself_needs_no_second_process(tmp_path: Path) -> None:
    own = {
        'isolation = "process"': 'isolation = "subprocess"',
        "client-api:": "127.0.0.1:",
        "client-api-": "# client-api-",
    }
    file = site_toml(tmp_path, **own)
    with pytest.raises(UsageError, match=r"node\.isolation = subprocess"):
        run_app_process(load_site_config(file).node)


def test_it_takes_work_from_none_but_the_node_that_it_is_told(tmp_path: Path) -> None:
    node = load_site_config(site_toml(tmp_path)).node
    with pytest.raises(UsageError, match=r"node\.client-api-ca names .*which is not there"):
        run_app_process(node)
    certificate = tmp_path / "private" / "client-api.crt"
    certificate.parent.mkdir()
    certificate.touch()
    assert trust_arguments(node) == ["--root-certificates", str(certificate)]
    assert trust_arguments(replace(node, client_api_tls=None)) == ["--insecure"]


def test_without_its_secret_it_gets_no_work(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "client-api.crt").touch()
    with pytest.raises(UsageError, match=r"node\.secret names .*which is not there"):
        run_app_process(load_site_config(site_toml(tmp_path)).node)
