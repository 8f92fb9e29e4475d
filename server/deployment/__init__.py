"""The coordinator's services on a real machine: SuperLink, SuperExec, the sites' keys, and runs."""
