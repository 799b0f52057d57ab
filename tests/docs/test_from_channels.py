"""The programs in ``from-channels.md``: a room does the same with Channels and with syncws."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from asgiref.testing import ApplicationCommunicator
from channels.routing import URLRouter
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from django.urls import path

import examples.django_echo  # noqa: F401  # configures Django
import syncws
from syncws.testing import WebSocketClient

from ..support.pairs import PATIENCE
from .blocks import DOCS, blocks_of

CONSUMER, VIEW, ASGI, URLS = blocks_of(DOCS / "coming-from" / "from-channels.md")


class Messages:
    """Stands for the model: it remembers what is created."""

    def __init__(self) -> None:
        self.created: list[dict[str, str]] = []
        self.objects = self

    def create(self, **fields: str) -> None:
        self.created.append(fields)


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The modules of a project with both programs."""
    modules = {name: ModuleType(name) for name in ("chat", "chat.models", "chat.consumers")}
    modules |= {"chat.views": ModuleType("chat.views"), "urls": ModuleType("urls")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    messages = Messages()
    vars(modules["chat.models"])["Message"] = messages
    exec(CONSUMER.compile(), vars(modules["chat.consumers"]))
    exec(VIEW.compile(), vars(modules["chat.views"]))
    exec(URLS.compile(), vars(modules["urls"]))
    asgi: dict[str, Any] = {"__name__": "asgi"}
    with override_settings(
        ROOT_URLCONF="urls",
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        MIDDLEWARE=["tests.docs.test_from_channels.logged_in"],
        LOGIN_URL="/login",
        CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
        SYNCWS={"HUB": {}},
    ):
        exec(ASGI.compile(), asgi)
        yield {"messages": messages, "consumer": vars(modules["chat.consumers"])["RoomConsumer"]}
    assert asgi["CHANNEL_LAYERS"]["default"]["BACKEND"].endswith("RedisChannelLayer")
    assert set(vars(modules["urls"])["SYNCWS"]) == {"HUB"}


def logged_in(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.user = SimpleNamespace(is_authenticated="stranger" not in request.GET)
        return get_response(request)

    return middleware


#: What two members say, one after the other. The second one is not there yet at the first.
SAID = [{"room": "red", "text": "hello"}, {"room": "red", "text": "hello, ann"}]


def test_with_channels(chat: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    router = URLRouter([path("ws/<room>/", chat["consumer"].as_asgi())])

    async def connect(*, known: bool = True) -> Any:
        user = SimpleNamespace(is_authenticated=known)
        scope = {"type": "websocket", "path": "/ws/red/", "user": user, "headers": []}
        member: Any = ApplicationCommunicator(router, scope)  # type: ignore[no-untyped-call]  # it has no types
        await member.send_input({"type": "websocket.connect"})
        answer = await member.receive_output(PATIENCE)
        assert answer["type"] == ("websocket.accept" if known else "websocket.close")
        return member

    async def say(member: Any, text: str) -> None:
        await member.send_input({"type": "websocket.receive", "text": json.dumps({"text": text})})

    async def heard(member: Any) -> Any:
        return json.loads((await member.receive_output(PATIENCE))["text"])

    async def talk() -> None:
        ann = await connect()
        await say(ann, "hello")
        assert await heard(ann) == {"text": "hello"}
        bob = await connect()
        await say(bob, "hello, ann")
        for one in (ann, bob):
            assert await heard(one) == {"text": "hello, ann"}
        stranger = await connect(known=False)
        for one in (ann, bob, stranger):
            await one.send_input({"type": "websocket.disconnect", "code": 1000})
            await one.wait(PATIENCE)

    # The threads in which asgiref runs what blocks would outlive the test.
    with ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(SyncToAsync, "single_thread_executor", threads)
        asyncio.run(talk())
    assert chat["messages"].created == SAID


def test_with_syncws(chat: dict[str, Any]) -> None:
    client = WebSocketClient(WSGIHandler(), timeout=PATIENCE)
    with client.connect("/ws/red/") as ann:
        ann.send_json({"text": "hello"})
        assert ann.receive_json() == {"text": "hello"}
        with client.connect("/ws/red/") as bob:
            bob.send_json({"text": "hello, ann"})
            for one in (ann, bob):
                assert one.receive_json() == {"text": "hello, ann"}
    assert chat["messages"].created == SAID
    with pytest.raises(syncws.HandshakeError) as refused:
        client.connect("/ws/red/?stranger")
    assert refused.value.status == 302
