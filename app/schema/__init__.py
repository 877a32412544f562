"""The tables, columns and relationships that an environment's $metadata tells of. Pure."""
