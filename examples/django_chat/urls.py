"""The addresses."""

from __future__ import annotations

from django.contrib.auth.views import LoginView
from django.urls import path

from . import views

urlpatterns = [
    path("", views.page),
    path("clear/", views.clear),
    path("accounts/login/", LoginView.as_view()),
    path("ws/<slug:room>/", views.chat),
]
