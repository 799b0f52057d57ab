"""Flask routes, under real gunicorn and, where no socket is needed, in Flask's test client."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import websocket
from flask import Blueprint, Flask, abort, request, url_for

import syncws
from syncws.flask import WebSockets
from syncws.protocol.masking import mask
from syncws.testing import WebSocketClient

from ..support.clients import exchange, handshake
from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with gunicorn() as running:
        yield running


def ask(server: Server, path: str, **options: Any) -> Any:
    client = websocket.create_connection(server.url(path), timeout=PATIENCE, **options)
    try:
        return json.loads(client.recv())
    finally:
        client.close()


def test_url_parameters_and_context(server: Server) -> None:
    said = ask(server, "/rooms/caf%C3%A9?user=ann", header=["User-Agent: tests"])
    assert said["room"] == "café"
    assert said["user"] == "ann", "before_request has run, and g is there"
    assert said["agent"] == "tests"
    assert said["address"][0] == "127.0.0.1"


def test_cookie_session(server: Server) -> None:
    browser = requests.Session()
    for _ in range(3):
        browser.get(server.url("/visit", "http"), timeout=PATIENCE)
    cookie = "; ".join(f"{c.name}={c.value}" for c in browser.cookies)
    assert ask(server, "/rooms/x", cookie=cookie)["visits"] == 3
    assert ask(server, "/rooms/x")["visits"] is None


def test_abort_acts_before_the_101(server: Server) -> None:
    head, sock, _ = exchange(server.port, handshake("/echo?forbidden=1"))
    sock.close()
    assert head.startswith("HTTP/1.1 401 ")


def plain(app: Flask, path: str, **options: Any) -> tuple[int, str]:
    response = app.test_client().open(path, **options)
    return response.status_code, response.text


def handler(session: syncws.Session, **parameters: Any) -> None: ...


def test_plain_request_to_a_websocket_route() -> None:
    app = Flask("tests")
    websockets = WebSockets(app, on_non_websocket_request=503)
    websockets.route("/one")(handler)
    websockets.route("/two/<int:n>", endpoint="two", on_non_websocket_request=404)(handler)
    assert plain(app, "/one") == (
        503,
        "This address speaks WebSocket only: the request has no 'Upgrade: websocket' header.\n",
    )
    assert plain(app, "/two/2")[0] == 404
    assert plain(app, "/two/x")[0] == 404
    assert plain(app, "/none")[0] == 404


def test_wsgi_application_answers_plain_requests() -> None:
    def page(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"a page on the same path"]

    app = Flask("tests")
    WebSockets(app).route("/both", on_non_websocket_request=page)(handler)
    assert plain(app, "/both") == (200, "a page on the same path")


def test_ordinary_route_on_the_same_path_goes_first() -> None:
    app = Flask("tests")
    WebSockets(app).route("/both")(handler)

    @app.route("/both", methods=["GET", "POST"], endpoint="page")
    def page() -> str:
        return "the page"

    assert plain(app, "/both") == (200, "the page")
    assert plain(app, "/both", method="POST") == (200, "the page")


def test_websocket_request_to_an_ordinary_route() -> None:
    app = Flask("tests")
    WebSockets(app)
    app.get("/page")(lambda: "page")
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert plain(app, "/page", headers=headers)[0] == 400


def test_malformed_handshake() -> None:
    app = Flask("tests")
    WebSockets(app, on_handshake_failure=404).route("/ws")(handler)
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    environ = {"SERVER_PROTOCOL": "HTTP/1.1"}
    status, body = plain(app, "/ws", headers=headers, environ_overrides=environ)
    assert (status, body) == (404, "The request has no Sec-WebSocket-Key header.\n")
    # Werkzeug takes this one for a plain request; the route knows better.
    headers = {"Connection": "Upgrade", "Upgrade": "h2c, websocket"}
    status, body = plain(app, "/ws", headers=headers, environ_overrides=environ)
    assert (status, body) == (404, "The request has no Sec-WebSocket-Key header.\n")


def test_after_request_sees_the_response() -> None:
    app = Flask("tests")
    WebSockets(app).route("/ws")(handler)
    seen = []

    @app.after_request
    def note(response: Any) -> Any:
        seen.append(response.status_code)
        response.headers["X-After"] = "yes"
        return response

    response = app.test_client().get("/ws")
    assert (response.status_code, seen) == (501, [501])
    assert response.headers["X-After"] == "yes"


def test_e1_installed_once_with_options_for_all_routes() -> None:
    app = Flask("tests")
    websockets = WebSockets(app, ping_interval=7, timeout=3, max_frame_size=100)

    @websockets.route("/one")
    @websockets.route("/two", endpoint="two")
    def say(session: syncws.Session) -> None:
        session.send(f"{session.ping_interval} {session.timeout}")
        session.receive()

    for path in ("/one", "/two"):
        with WebSocketClient(app).connect(path) as peer:
            assert peer.receive() == "7 3"
            peer.send("x" * 101)
            assert peer.wait_closed().code == 1009


def test_e1_masking_for_all_routes_raw_ones_too() -> None:
    app = Flask("tests")
    websockets = WebSockets(app, masking=True)
    websockets.route("/one")(lambda session: session.send("said"))

    @websockets.route("/raw", raw=True)
    def raw(session: syncws.RawSession) -> None:
        session.send_frame(syncws.Frame(syncws.Opcode.TEXT, b"said"))

    with syncws.serve(app, "127.0.0.1", 0) as running:
        for path in ("/one", "/raw"):
            _, sock, received = exchange(running.port, handshake(path))
            with sock:
                while len(received) < 10:
                    received += sock.recv(10)
                assert received[:2] == b"\x81\x84", "a size of 4, masked"
                assert mask(received[6:10], received[2:6]) == b"said"


def test_e2_a_routes_options_override_the_installed_ones_on_blueprints_too() -> None:
    app = Flask("tests")
    blueprint = Blueprint("chat", __name__, url_prefix="/chat")
    websockets = WebSockets(app, ping_interval=7, timeout=3)

    def say(session: syncws.Session, room: str) -> None:
        session.send(f"{room} {session.ping_interval} {session.timeout}")

    websockets.route("/ws/<room>", ping_interval=None)(say)
    websockets.route("/ws/<room>", blueprint, timeout=5)(say)
    app.register_blueprint(blueprint)
    for path, said in (("/ws/red", "red None 3"), ("/chat/ws/blue", "blue 7 5")):
        with WebSocketClient(app).connect(path) as peer:
            assert peer.receive() == said


class Greeter(syncws.Listener):
    def on_open(self, session: syncws.Session, room: str) -> None:
        session.send(room)


def greet(greeting: str, session: syncws.Session, room: str) -> None:
    session.send(f"{greeting} {room}")


def test_handlers_that_are_no_functions() -> None:
    app = Flask("tests")
    websockets = WebSockets(app)
    websockets.route("/listener/<room>")(Greeter())
    websockets.route("/callbacks/<room>")(
        syncws.callbacks(on_open=lambda session, room: session.send(room))
    )
    websockets.route("/partial/<room>")(functools.partial(greet, "hello,"))
    client = WebSocketClient(app)
    for path, said in (("listener", "red"), ("callbacks", "red"), ("partial", "hello, red")):
        with client.connect(f"/{path}/red") as peer:
            assert peer.receive() == said
    assert set(app.view_functions) >= {"Greeter", "Callbacks", "partial"}


class Rpc(syncws.Listener):
    def __init__(self) -> None:
        self.methods = {"add": "for the protocol, not for Flask"}

    def on_open(self, session: syncws.Session) -> None:
        session.send("open")


def test_a_functions_attributes_are_the_views_and_an_objects_are_not() -> None:
    def public(session: syncws.Session) -> None: ...

    vars(public)["is_public"] = True
    app = Flask("tests")
    websockets = WebSockets(app)
    websockets.route("/public")(public)
    websockets.route("/rpc")(Rpc())
    assert vars(app.view_functions["public"])["is_public"]
    with WebSocketClient(app).connect("/rpc") as peer:
        assert peer.receive() == "open"


def test_several_exchanges() -> None:
    app = Flask("tests")
    websockets = WebSockets(app)

    def rooms(room: str) -> list[str]:
        return [room]

    websockets.route("/named/<room>")(syncws.exchange(send=rooms, receive=print))
    websockets.route("/given")(syncws.exchange(send=["given"], receive=print))
    websockets.route("/nameless")(syncws.exchange(send=["given"], receive=functools.partial(print)))
    client = WebSocketClient(app)
    for path, said in (("/named/red", "red"), ("/given", "given"), ("/nameless", "given")):
        with client.connect(path) as peer:
            assert peer.receive() == said
    assert set(app.view_functions) >= {"rooms", "print", "exchange"}


def test_a_raw_route() -> None:
    app = Flask("tests")

    @WebSockets(app, compression="deflate").route("/raw/<word>", raw=True)
    def say(session: syncws.RawSession, word: str) -> None:
        session.send_frame(syncws.Frame(syncws.Opcode.PONG, word.encode()))

    with WebSocketClient(app).connect("/raw/word") as peer:
        assert peer.receive_pong() == b"word"
        assert peer.wait_closed().cause == "eof", "the handler has sent no Close"


def test_blueprints() -> None:
    app = Flask("tests")
    own = Blueprint("own", __name__, url_prefix="/own")
    WebSockets(own, on_non_websocket_request=502).route("/ws")(handler)
    app.register_blueprint(own)
    shared = Blueprint("shared", __name__)
    websockets = WebSockets(on_non_websocket_request=503)
    websockets.route("/ws", shared)(handler)
    outer = Blueprint("outer", __name__, url_prefix="/outer")
    outer.register_blueprint(shared, url_prefix="/inner")
    app.register_blueprint(outer)
    assert plain(app, "/own/ws")[0] == 502
    assert plain(app, "/outer/inner/ws")[0] == 503
    with app.test_request_context():
        assert url_for("own.handler") == "ws://localhost/own/ws"


def test_application_factory() -> None:
    websockets = WebSockets(on_non_websocket_request=503)
    websockets.route("/ws")(handler)
    for _ in range(2):
        app = Flask("tests")
        websockets.init_app(app)
        assert plain(app, "/ws")[0] == 503


def test_options_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="timeout"):
        WebSockets(timeout=-1)
    with pytest.raises(TypeError, match="max_size"):
        WebSockets(max_size=1)  # type: ignore[call-arg]  # that is the test
    websockets = WebSockets(Flask("tests"))
    with pytest.raises(ValueError, match="ping_interval"):
        websockets.route("/ws", ping_interval=0)
    with pytest.raises(TypeError, match="ping_intervall"):
        websockets.route("/ws", ping_intervall=5)(handler)  # type: ignore[call-overload]  # as above

    async def coroutine(session: syncws.Session) -> None: ...

    with pytest.raises(TypeError, match="remove 'async'"):
        websockets.route("/ws")(coroutine)


def test_what_can_be_no_rule_and_no_application() -> None:
    websockets = WebSockets(Flask("tests"))
    with pytest.raises(TypeError, match=r'write @websockets.route\("/..."\): .*<built-in'):
        websockets.route(print)  # type: ignore[call-overload]  # without its parentheses
    for wrong in ("app", Flask("tests").wsgi_app):
        with pytest.raises(TypeError, match="takes a Flask application or a blueprint, not "):
            WebSockets(wrong)  # type: ignore[arg-type]  # as a user might


def test_decorated_function_stays_itself() -> None:
    assert WebSockets(Flask("tests")).route("/ws")(handler) is handler


def test_without_a_server_the_error_names_those_that_work() -> None:
    app = Flask("tests")
    app.testing = True
    WebSockets(app).route("/ws")(handler)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    with pytest.raises(RuntimeError, match="gunicorn with the worker class"):
        app.test_client().get(
            "/ws", headers=headers, environ_overrides={"SERVER_PROTOCOL": "HTTP/1.1"}
        )


def test_guards_of_a_blueprint_see_plain_requests_too() -> None:
    app = Flask("tests")
    guarded = Blueprint("guarded", __name__)
    seen = []

    @guarded.before_request
    def guard() -> None:
        seen.append(request.endpoint)
        abort(401)

    def secret(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [b"secret"]

    WebSockets(guarded).route("/ws", on_non_websocket_request=secret)(handler)
    app.register_blueprint(guarded)
    assert plain(app, "/ws")[0] == 401
    assert seen == ["guarded.handler"]


def test_error_handlers_of_the_application_stay_in_charge() -> None:
    app = Flask("tests")
    WebSockets(app)
    app.get("/page")(lambda: "page")
    app.register_error_handler(400, lambda error: ("mine", 400))
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert plain(app, "/page", headers=headers) == (400, "mine")


def test_view_functions_look_like_their_handlers() -> None:
    """Extensions go by the name, the documentation and attributes of a view."""
    app = Flask("tests")

    def documented(session: syncws.Session) -> None:
        """Does nothing."""

    documented.public = True  # type: ignore[attr-defined]  # as extensions do
    WebSockets(app).route("/ws")(documented)
    view: Any = app.view_functions["documented"]
    assert (view.__name__, view.__doc__, view.public) == ("documented", "Does nothing.", True)


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def test_after_request_can_still_refuse() -> None:
    app = Flask("tests")
    WebSockets(app).route("/ws")(handler)

    @app.after_request
    def refuse(response: Any) -> Any:
        response.status_code = 403
        return response

    status, _ = plain(
        app, "/ws", headers=HANDSHAKE, environ_overrides={"SERVER_PROTOCOL": "HTTP/1.1"}
    )
    assert status == 403


def test_application_with_a_response_class_of_its_own(server: Server) -> None:
    with gunicorn("tests.support.app:other") as running:
        client = websocket.create_connection(running.url("/hello"), timeout=PATIENCE)
        assert client.getheaders()["x-own"] == "class"  # type: ignore[index]  # a dict once connected
        assert client.recv() == "hello"
        client.close()
        running.wait_for_line("closed the response")


def test_options_of_the_configuration() -> None:
    app = Flask(__name__)
    app.config["SYNCWS_MAX_MESSAGE_SIZE"] = 10
    inherits = WebSockets(app)
    overrides = WebSockets(app, max_message_size=100)

    def echo(session: syncws.Session) -> None:
        for message in session:
            session.send(message)

    inherits.route("/inherits", endpoint="inherits")(echo)
    inherits.route("/route", endpoint="route", max_message_size=100)(echo)
    overrides.route("/installed", endpoint="installed")(echo)
    client = WebSocketClient(app)
    for path in ("/route", "/installed"):
        with client.connect(path) as peer:
            peer.send("x" * 50)
            assert peer.receive() == "x" * 50
    with client.connect("/inherits") as peer:
        peer.send("x" * 50)
        assert peer.wait_closed().code == 1009
    app.config["SYNCWS_MAX_MESSAGE_SIZE"] = 1000  # loaded later
    with client.connect("/inherits") as peer:
        peer.send("x" * 50)
        assert peer.receive() == "x" * 50


@pytest.mark.parametrize(
    ("name", "value", "error", "match"),
    [
        ("SYNCWS_PING_INTERVALL", 5, TypeError, "SYNCWS_PING_INTERVALL.* is not an option"),
        ("SYNCWS_RAW", True, TypeError, "SYNCWS_RAW.* is not an option"),
        ("SYNCWS_TIMEOUT", 0, ValueError, r"app\.config.*: timeout must be greater than 0"),
        ("SYNCWS_TIMEOUT", "5", TypeError, r"app\.config.*: timeout is a number of seconds"),
    ],
)
def test_the_configuration_is_checked(
    name: str, value: Any, error: type[Exception], match: str
) -> None:
    app = Flask(__name__)
    app.config[name] = value
    websockets = WebSockets()
    with pytest.raises(error, match=match):
        websockets.init_app(app)
    late = Flask(__name__)
    late.testing = True  # exceptions reach the test
    WebSockets(late).route("/ws")(handler)
    late.config[name] = value
    with pytest.raises(error, match=match):
        WebSocketClient(late).connect("/ws")
