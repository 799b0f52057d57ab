"""A bot in the chat: it answers ``!time``, ``!roll 2d6``, ``!remind 10 tea`` and ``!help``.

Start the chat, then the bot, and write ``!help`` in the page::

    gunicorn examples.chat:app
    python -m examples.bot ws://127.0.0.1:8000/chat

The bot is a client, which connects again when the chat is restarted.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import sys
import threading
import time

import syncws

NAME = "bot"
HELP = "I know !time, !roll 2d6 (dice), !remind 10 tea (seconds) and !help."
MOST_REMINDERS = 100


def roll(dice: str) -> str:
    found = re.fullmatch(r"(\d{1,2})?d(\d{1,3})", dice.strip() or "1d6")
    if found is None or int(found[2]) < 1:
        return "Write !roll 2d6, for example."
    thrown = [random.randint(1, int(found[2])) for _ in range(int(found[1] or 1))]
    return f"{' + '.join(map(str, thrown))} = {sum(thrown)}"


def remind(session: syncws.ClientSession, name: str, words: str) -> str:
    found = re.fullmatch(r"(\d{1,5}) (.+)", words.strip())
    if found is None:
        return "Write !remind 10 tea, for example."
    if threading.active_count() > MOST_REMINDERS:
        return "I have too many reminders already."
    # Any thread may send. If the session has ended by then, there is nobody to remind.
    text = f"{name}: {found[2]}"
    timer = threading.Timer(int(found[1]), session.try_send, [text])
    timer.daemon = True
    timer.start()
    return f"In {found[1]} s."


def answer(session: syncws.ClientSession, name: str, text: str) -> str | None:
    """What to say to a line of the chat. None: nothing."""
    command, _, words = text.partition(" ")
    if command == "!time":
        return time.strftime("It is %H:%M:%S.")
    if command == "!roll":
        return roll(words)
    if command == "!remind":
        return remind(session, name, words)
    return HELP if command == "!help" else None


def main(url: str) -> None:
    for session in syncws.reconnect(url):
        with session:
            session.send(NAME)
            for message in session:
                if json.loads(message)["type"] == "here":
                    break  # what came before was said before the bot was there
            session.send(f"Hello. {HELP}")
            for message in session:
                line = json.loads(message)
                if line["type"] == "say" and line["name"] != NAME:
                    words = answer(session, line["name"], line["text"])
                    if words is not None:
                        session.send(words)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8000/chat")
