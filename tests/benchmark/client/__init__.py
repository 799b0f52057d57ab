"""The programs that drive the servers."""
