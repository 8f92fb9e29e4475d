"""The frozen foundation models: one protocol, a file a family, each imported only when used."""
