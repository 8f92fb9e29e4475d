"""What a site table holds and what looks wrong with it, before anything is trained on it."""
