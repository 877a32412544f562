"""Walks the chain from the configuration to the record, and says what is wrong and what to do."""
