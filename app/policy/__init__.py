"""Grants, schema and accesses in; allowed or refused, with the reason, out."""
