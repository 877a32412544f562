"""The record: intents and outcomes, chained, durable before an answer's last byte."""
