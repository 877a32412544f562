"""The OpenAPI document: FastAPI's part, and the hot addresses described by hand."""
