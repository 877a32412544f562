"""Requests and grants made up by a grammar, for readers to differ over."""
