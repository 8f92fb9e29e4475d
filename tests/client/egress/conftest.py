"""A site behind its gate."""

from __future__ import annotations

from tests.client.egress.gated_site import answers, make

__all__ = ["answers", "make"]
