"""Applications, environments, issuers, callers and grants: the model, loading, secrets by reference, reload."""
