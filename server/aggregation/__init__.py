"""Rules that turn the sites' adapters into one: pure functions over named matrices, a file each."""
