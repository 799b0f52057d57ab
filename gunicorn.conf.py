"""Settings for gunicorn, picked up when it is started in this folder."""

# Each WebSocket session runs on a thread of its own, beside gunicorn's pool of HTTP threads.
# Open sessions do not keep HTTP requests waiting.
worker_class = "syncws.worker.WebSocketWorker"

# Threads for HTTP requests. Sessions do not use them.
threads = 8

# Connections in each worker, HTTP and WebSocket together; more wait in the operating system's
# queue. As many as there are threads are kept for HTTP. A session costs a thread and some
# 45 KiB, and one or two descriptors ('ulimit -n').
worker_connections = 1000

# Where to listen.
bind = "127.0.0.1:8000"

# Seconds that a worker's main thread may be stuck before the worker is killed. Long sessions
# and long requests do not count.
timeout = 30

# Seconds that handlers get to finish after a stop or a reload. Every session gets its Close
# (1001, "going away") at once, and the worker ends when its last handler has returned.
graceful_timeout = 30

# Uncomment to spread these Closes over so many seconds, oldest sessions first. The clients of
# a large worker then do not all come back to the other workers in the same moment.
# raw_env = ["SYNCWS_GOODBYE_SECONDS=20"]

# One line for each request and, when it is over, for each session: status 101, bytes sent,
# seconds.
accesslog = "-"
access_log_format = '%(h)s "%(r)s" %(s)s %(b)s bytes %(L)s s'
