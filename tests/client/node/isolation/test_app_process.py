from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResultStatus

from client.config.node_section import Address
from client.config.site_config import load_site_config
from client.node.isolation.app_process import (
    ForkServer,
    WarmExecutor,
    local_api_ca,
    run_app_process,
)
from common.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[4]


class Forks:
    """Records the command lines that would be forked."""

    def __init__(self, error: OSError | None = None) -> None:
        self.lines: list[list[str]] = []
        self._error = error

    def fork(self, arguments: list[str]) -> None:
        if self._error is not None:
            raise self._error
        self.lines.append(arguments)


def spec(task_type: TaskType, **more: Any) -> ExecutionSpec:
    values = {"insecure": True, "root_certificates_path": None, **more}
    return ExecutionSpec(
        task_type=task_type,
        runtime_api_address="127.0.0.1:1",
        token="t",
        runtime_dependency_install=False,
        parent_pid=None,
        suppress_output=False,
        task_id=1,
        **values,
    )


def launch(forks: Forks, one: ExecutionSpec) -> LaunchResultStatus:
    return WarmExecutor(cast(ForkServer, forks)).launch(one).status


def test_the_app_is_forked_with_the_command_line_that_flower_would_use() -> None:
    forks = Forks()
    secured = spec(TaskType.CLIENT_APP, insecure=False, root_certificates_path="ca.crt")
    assert launch(forks, spec(TaskType.CLIENT_APP)) == LaunchResultStatus.ACCEPTED
    assert launch(forks, secured) == LaunchResultStatus.ACCEPTED
    common = ["flwr-clientapp", "--runtime-api-address", "127.0.0.1:1", "--token", "t"]
    assert forks.lines == [
        [*common, "--insecure"],
        [*common, "--root-certificates", "ca.crt"],
    ]


def test_another_task_is_not_started_and_a_failed_fork_is_told() -> None:
    forks = Forks()
    assert launch(forks, spec(TaskType.MODEL)) == LaunchResultStatus.FAILED
    assert forks.lines == []
    failing = Forks(OSError("no memory"))
    assert launch(failing, spec(TaskType.CLIENT_APP)) == LaunchResultStatus.FAILED


def test_flower_asks_for_its_executor_where_ours_is_put() -> None:
    source = Path(run_superexec.__file__).read_text()
    assert "executor = get_executor(" in source
    assert "executor.reconcile()" in source


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
        run_app_process(load_site_config(file).node, tmp_path)


def test_it_takes_work_from_none_but_the_node_that_it_is_told(tmp_path: Path) -> None:
    node = load_site_config(site_toml(tmp_path)).node
    with pytest.raises(UsageError, match=r"node\.client-api-ca = .*is missing"):
        run_app_process(node, tmp_path)
    certificate = tmp_path / "private" / "client-api.crt"
    certificate.parent.mkdir()
    certificate.touch()
    assert local_api_ca(node) == certificate
    paths = dict.fromkeys(("client_api_certificate", "client_api_key", "client_api_ca"))
    plain = node.replace(client_api=Address("127.0.0.1", 9094), **paths)
    assert local_api_ca(plain) is None


def test_without_its_secret_it_gets_no_work(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "client-api.crt").touch()
    with pytest.raises(UsageError, match=r"node\.secret = .*is missing"):
        run_app_process(load_site_config(site_toml(tmp_path)).node, tmp_path)
