"""Dataverse tokens: credentials, MSAL, a cache with one flight a key, leases."""
