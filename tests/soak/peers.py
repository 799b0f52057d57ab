"""What peers do in the soak: each function is one life of a session, to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from wsproto.events import Pong

from ..support.swarm import SwarmPeer
from .app import PING_INTERVAL, THINK, TIMEOUT

Life = Callable[[SwarmPeer, Random], Awaitable[None]]


def message(random: Random) -> str | bytes:
    """Small most of the time, now and then as large as may be."""
    largest = random.choices((20, 125, 4000, 70_000, 1_000_000), (40, 40, 16, 3.8, 0.2))[0]
    size = random.randrange(largest + 1)
    if random.random() < 0.5:
        return random.randbytes(size)
    return f"{random.random()} " + "ä" * (size // 2)


async def pause(peer: SwarmPeer, random: Random) -> None:
    await peer.idle(min(random.expovariate(1.0), 5.0))


async def echoes(peer: SwarmPeer, random: Random) -> None:
    for _ in range(random.randrange(1, 8)):
        sent = message(random)
        peer.send(sent)
        await peer.expect_echo(sent)
        await pause(peer, random)


async def talk(peer: SwarmPeer, random: Random) -> None:
    await echoes(peer, random)
    await peer.close()


async def open_and_close(peer: SwarmPeer, random: Random) -> None:
    await peer.close()


async def burst(peer: SwarmPeer, random: Random) -> None:
    """Many messages before the first answer is awaited."""
    for _ in range(random.randrange(1, 5)):
        sent = [message(random) for _ in range(random.randrange(2, 30))]
        for one in sent:
            peer.send(one)
        for one in sent:
            await peer.expect_echo(one)
        await pause(peer, random)
    await peer.close()


async def fragments_and_pings(peer: SwarmPeer, random: Random) -> None:
    for number in range(random.randrange(1, 8)):
        payload = b"%d" % number
        peer.ping(payload)
        await peer.expect_pong(payload)
        parts = [random.randbytes(random.randrange(500)) for _ in range(5)]
        for part in parts:
            peer.send(part, finished=False)
        peer.send(b"")
        await peer.expect_echo(b"".join(parts))
        await pause(peer, random)
    await peer.close()


async def long_idle(peer: SwarmPeer, random: Random) -> None:
    await peer.idle((2.0 + random.random()) * PING_INTERVAL)
    if not peer.pings:
        raise AssertionError("no ping came")
    await talk(peer, random)


async def busy_handler(peer: SwarmPeer, random: Random) -> None:
    """A ping is answered, though the handler is away."""
    peer.send(THINK)
    peer.ping(b"are you there?")
    event = await peer.next_event()
    if not isinstance(event, Pong):
        raise AssertionError(f"{event} instead of a pong")
    await peer.expect_echo(THINK)
    await peer.close()


async def reset(peer: SwarmPeer, random: Random) -> None:
    await echoes(peer, random)
    peer.send(message(random))
    peer.reset()


async def gone(peer: SwarmPeer, random: Random) -> None:
    await echoes(peer, random)
    peer.drop()


async def half_close(peer: SwarmPeer, random: Random) -> None:
    await echoes(peer, random)
    peer.half_close()
    await peer.expect_end()


async def stall_while_sending(peer: SwarmPeer, random: Random) -> None:
    """The echo has nowhere to go: the session is given up when TIMEOUT is over."""
    await echoes(peer, random)
    peer.stop_reading()
    for _ in range(200):
        peer.send(random.randbytes(50_000))
    await asyncio.sleep(2 * TIMEOUT)
    peer.read_on()
    await peer.expect_end()


async def stall_silently(peer: SwarmPeer, random: Random) -> None:
    """Pings are not answered: the session is given up TIMEOUT after one."""
    await echoes(peer, random)
    peer.stop_reading()
    await asyncio.sleep(PING_INTERVAL + 2 * TIMEOUT)
    peer.read_on()
    await peer.expect_end()


#: Lives that the server has to end, and those that end without a Close.
STALLS = {stall_while_sending, stall_silently}
LEAVES = {reset, gone, half_close}

#: Each with how often, out of a hundred.
LIVES: dict[Life, int] = {
    talk: 35,
    open_and_close: 5,
    burst: 10,
    fragments_and_pings: 12,
    long_idle: 10,
    busy_handler: 6,
    reset: 6,
    gone: 5,
    half_close: 5,
    stall_while_sending: 2,
    stall_silently: 4,
}
