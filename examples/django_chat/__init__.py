"""A chat with Django: its users, its permissions, its database, and a hub.

Run it from the folder above ``examples``::

    python -m examples.django_chat.manage migrate
    python -m examples.django_chat.manage createsuperuser
    python -m examples.django_chat.manage runserver

Open http://localhost:8000/ in two browsers. In production, several workers share a Redis, and the
proxy in front serves the static files::

    REDIS_URL=redis://localhost:6379/0 gunicorn -w 4 examples.django_chat.wsgi:application
"""
