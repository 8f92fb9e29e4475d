"""Checks before a site's node is started: each finding has a code, a level and a remedy."""
