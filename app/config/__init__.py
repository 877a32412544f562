"""Applications, environments, issuers, callers, grants: model, loading, secrets, reload."""
