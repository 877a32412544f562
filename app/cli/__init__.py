"""`token-broker …`: what people and pipelines call, and what starts the server."""
