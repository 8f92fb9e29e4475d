"""The process at a site in which the researcher's app runs, apart from the node and its keys."""
