"""Logs, metrics and traces: for operators, and allowed to be lost."""
