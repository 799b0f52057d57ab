"""Bytes to events and events to bytes, as RFC 6455 and RFC 7692 say: no I/O, threads or clock."""
