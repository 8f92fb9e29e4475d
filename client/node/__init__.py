"""A hospital's own rule over what leaves it: settings, policy, gate, audit log, node."""
