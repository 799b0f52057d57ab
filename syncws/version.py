"""The version of syncws, for the package, its metadata and the client's User-Agent."""

__version__ = "1.0.0rc1"
