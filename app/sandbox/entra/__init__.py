"""An emulated Entra: discovery, keys, and tokens for applications that prove who they are."""
