"""How gunicorn runs the chat: ``gunicorn app:app`` in this folder reads it."""

worker_class = "syncws.worker.WebSocketWorker"
workers = 2
threads = 8  # for HTTP; sessions have threads of their own
worker_connections = 1000  # sessions and HTTP connections of one worker
graceful_timeout = 30  # seconds that handlers have at a stop
