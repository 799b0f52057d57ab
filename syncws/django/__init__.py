"""WebSocket views for Django::

    from syncws.django import messages, websocket

    @websocket
    def room(request, session, room):
        for message in messages(session):
            ...

    urlpatterns = [path("ws/<room>/", room)]

Middleware acts first: sessions, authentication, and everything else that may refuse the
request. The WebSocket opens after the view's response has gone through all middleware and
Django has ended the request.

Put ``"syncws.django"`` into ``INSTALLED_APPS``, above ``"django.contrib.staticfiles"``, and
``manage.py runserver`` serves WebSockets too, and ``manage.py check`` finds guards that would
come too late. The setting ``SYNCWS`` has the options of all views and the hub.
"""

from .configuration import hub
from .views import messages, websocket

__all__ = ["hub", "messages", "websocket"]

# Users read "syncws.django.websocket" in tracebacks and documentation.
for _member in (hub, messages, websocket):
    _member.__module__ = __name__
del _member
