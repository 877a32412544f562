"""Who is calling: API keys, JWTs, client certificates, each giving a caller or nothing."""
