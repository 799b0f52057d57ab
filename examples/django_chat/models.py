"""What was said."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import models


class Line(models.Model):
    """A line of the chat."""

    author: models.ForeignKey[User, User] = models.ForeignKey(User, on_delete=models.CASCADE)
    room: models.SlugField[str, str] = models.SlugField()
    text: models.TextField[str, str] = models.TextField()

    def __str__(self) -> str:
        return f"{self.author}: {self.text}"
