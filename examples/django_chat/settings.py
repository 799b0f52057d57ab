"""Django's settings. A real project has a secret key of its own, and DEBUG off in production."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent

DEBUG = True
SECRET_KEY = "an example's"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "syncws.django",  # above staticfiles: both have a command runserver
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "examples.django_chat",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [FOLDER / "templates"],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("CHAT_DATABASE", FOLDER / "chat.sqlite3"),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "examples.django_chat.urls"
WSGI_APPLICATION = "examples.django_chat.wsgi.application"
STATIC_URL = "static/"
STATICFILES_DIRS = [FOLDER.parent / "static"]  # the look that all examples share
LOGIN_REDIRECT_URL = "/"

SYNCWS = {
    # A line of a chat is short: nobody needs to send more.
    "OPTIONS": {"max_message_size": 16 * 1024},
    # Without REDIS_URL the rooms are this process's.
    "HUB": {"url": os.environ.get("REDIS_URL")},
}
