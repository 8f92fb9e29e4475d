"""`python -m client app`: the process that runs the researcher's app, apart from the node."""

from __future__ import annotations

from client.cli.options import SiteFile


def app(config: SiteFile) -> None:
    """Fetch work from the node and run the approved app on it.

    This process needs no network but the node's local interface. It alone reads the site table.
    """
    from client.config.site_config import load_site_config
    from client.node.isolation.app_process import run_app_process
    from common.backbones.weights_store import install_packaged

    settings = load_site_config(config)
    install_packaged()
    run_app_process(settings.node, settings.site.state)
