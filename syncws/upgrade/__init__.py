"""From a WSGI request to an open session, or to a refusal."""
