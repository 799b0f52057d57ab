"""``serve()``: an HTTP/1.1 server with a thread for each connection."""
