"""Requests read into the accesses that Dataverse would perform, and written again. Pure."""
