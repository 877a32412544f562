"""A working day in front of the sandbox: what `make demo` plays, and a test of the whole path."""
