"""HTTP on the caller's side: plain ASGI for the hot addresses, FastAPI for the others."""
