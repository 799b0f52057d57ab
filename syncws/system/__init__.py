"""Sockets, time, waking and deadlines; nothing here knows of WebSockets."""
