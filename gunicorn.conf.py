"""Settings for gunicorn, picked up when it is started in this folder."""

# Each WebSocket session runs on a thread of its own, beside gunicorn's pool of
# HTTP threads: open sessions do not keep HTTP requests waiting.
worker_class = "syncws.worker.WebSocketWorker"

# Threads for HTTP requests. Sessions do not use them.
threads = 8

# Connections in each worker, HTTP and WebSocket together; more wait in the
# operating system's queue. As many as there are threads are kept for HTTP. A session costs a
# thread and some 45 KiB.
worker_connections = 1000

# Where to listen.
bind = "127.0.0.1:8000"

# Seconds a worker may be stuck before it is killed. The main thread reports
# for duty, so neither long sessions nor long requests count.
timeout = 30

# Seconds that handlers get to finish after a stop or a reload. Every session
# is told at once (1001, "going away"), and a worker is gone as soon as its last
# handler has returned.
graceful_timeout = 30

# One line for each request and, when it is over, for each session: status 101,
# bytes sent, seconds.
accesslog = "-"
access_log_format = '%(h)s "%(r)s" %(s)s %(b)s bytes %(L)s s'
