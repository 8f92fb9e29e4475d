"""Attacks on our own privacy: what somebody who knows everything else can tell of one patient."""
