"""HTTP/1.1 for callers: a connection's bytes on one side, an ASGI app on the other."""
