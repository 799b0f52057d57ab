"""One open connection: reading, writing, keepalive, its end, its handler, its registry."""
