"""The documentation is true: its links lead somewhere, and its programs run."""
