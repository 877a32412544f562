"""Callers' rates and concurrency, and fair shares of Dataverse's own limits."""
