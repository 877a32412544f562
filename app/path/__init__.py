"""What `broker` walks on: what counts now, one exchange, judging, carrying, recording."""
