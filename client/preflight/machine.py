"""Checks of the machine: Flower's release, disk, GPU, and the backbone's weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from client.config.site_config import SiteConfig
from client.node.flower_patches import check_flower_version
from client.preflight.check_result import CheckResult, fail, ok, warn
from common.errors import FedvitalsError

DISK_FAIL_BYTES = 200 * 2**20
DISK_WARN_BYTES = 2 * 2**30


def check_machine(config: SiteConfig, backbone: str) -> Iterator[CheckResult]:
    """Check the machine; yield the results.

    Args:
        config: the site's settings.
        backbone: the frozen model that the run will use.
    """
    try:
        check_flower_version()
        yield ok("flower", "Flower is the release that the gate is made for")
    except FedvitalsError as problem:
        yield fail("flower", str(problem), "install fedvitals with its pinned versions")
    yield _disk(config.site.state)
    yield _gpu()
    yield _backbone(config, backbone)


def _disk(state: Path) -> CheckResult:
    folder = next(path for path in (state, *state.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    what = f"{free / 2**30:.1f} GB free for site.state = {state}"
    if free < DISK_FAIL_BYTES:
        return fail("disk", what, "make room: without its audit log the site sends nothing")
    if free < DISK_WARN_BYTES:
        return warn("disk", what, "make room before it runs out")
    return ok("disk", what)


def _gpu() -> CheckResult:
    import torch

    if not torch.cuda.is_available():
        return ok("gpu", "no GPU; the site trains on the processor")
    return ok("gpu", f"{torch.cuda.get_device_name(0)}")


def _backbone(config: SiteConfig, name: str) -> CheckResult:
    from common.backbones.loading import load_backbone

    try:
        digest = load_backbone(name).digest
    except FedvitalsError as problem:
        return fail("backbone", str(problem), "install the weights of the run's backbone here")
    declared = config.backbones.get(name)
    what = f"{name} has the digest {digest}"
    if declared == digest:
        return ok("backbone", what)
    if declared is not None:
        return fail(
            "backbone", f"{what}, site.toml declares {declared}", "find out which one is right"
        )
    return warn(
        "backbone",
        f"{what}, which site.toml does not declare; private runs with it are refused",
        f'if it may be used here, add to [backbones] of site.toml: "{name}" = "{digest}"',
    )
