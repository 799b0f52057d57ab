"""Commands to Redis: names of keys, scripts, and how often a command is carried out.

All keys of a room have one hash tag, so that a script may use them together in a cluster.
"""

from __future__ import annotations

import hashlib
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    NoScriptError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

__all__ = ["APPEND", "COUNT", "ENTER", "LEAVE", "PRESENT", "READ", "TOUCH", "Commands", "Script"]

#: Seconds that a command may take.
TIMEOUT = 5.0

#: In front of every channel and key. The number changes with the format.
PREFIX = b"syncws:2:"
#: The channel that each process of the format before has, with its id behind.
PREFIX_BEFORE = b"syncws:1:process:"


class Script:
    """A Lua script, which Redis carries out as one step."""

    def __init__(self, text: str) -> None:
        self.text = _CLOCK + text
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_CLOCK = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
"""

#: Keep a message and publish it: the order of numbers is the order of delivery. Of the messages
#: that are too old the newest stays: by it a client that has it knows that it has missed nothing.
#: KEYS: log, last. ARGV: new epoch, envelope, messages, milliseconds, channel, publish command,
#: milliseconds for which the position is known.
APPEND = Script("""
local last = redis.call('HMGET', KEYS[2], 'epoch', 'number', 'time')
local epoch, number, before = last[1], tonumber(last[2]), tonumber(last[3])
if not (epoch and number and before) then
    if redis.call('EXISTS', KEYS[1]) == 1 then
        redis.call('DEL', KEYS[1])
    end
    epoch, number, before = ARGV[1], 0, 0
end
number = number + 1
local time = math.max(now, before)
redis.call('XADD', KEYS[1], 'MAXLEN', '=', tonumber(ARGV[3]) + 1,
    string.format('%.0f-%.0f', number, time), 'e', ARGV[2])
for _ = 1, 100 do
    local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 2)
    if #oldest < 2 or tonumber(oldest[2][1]:match('%-(%d+)')) >= now - tonumber(ARGV[4]) then
        break
    end
    redis.call('XDEL', KEYS[1], oldest[1][1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[2], 'epoch', epoch,
    'number', string.format('%.0f', number), 'time', string.format('%.0f', time))
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call(ARGV[6], ARGV[5],
    string.format('2 %s %.0f %.0f %.0f\\n', epoch, number, time, before) .. ARGV[2])
return {epoch, number, time}
""")

#: Read what came after a position, or the last messages.
#: KEYS: log, last. ARGV: epoch ('' for the last messages), number, time, limit, milliseconds,
#: messages. Gives the last position, whether something is missing, and pairs of id and envelope.
READ = Script("""
local last = redis.call('HMGET', KEYS[2], 'epoch', 'number', 'time')
local after = ARGV[1] ~= ''
if not (last[1] and last[2] and last[3]) then
    return {'', 0, 0, after and 1 or 0}
end
local answer = {last[1], tonumber(last[2]), tonumber(last[3]), 0}
local limit, oldest = tonumber(ARGV[4]), now - tonumber(ARGV[5])
local function add(entry)
    local number, time = entry[1]:match('^(%d+)%-(%d+)$')
    if tonumber(time) < oldest or tonumber(number) <= answer[2] - tonumber(ARGV[6]) then
        return false
    end
    answer[#answer + 1] = entry[1]
    answer[#answer + 1] = entry[2][2]
    return true
end
if not after then
    if limit > 0 then
        local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT',
            math.min(limit, tonumber(ARGV[6])))
        for i = #newest, 1, -1 do
            add(newest[i])
        end
    end
    return answer
end
local number = tonumber(ARGV[2])
local id = ARGV[2] .. '-' .. ARGV[3]
if ARGV[1] ~= last[1] or number > answer[2] or (number == answer[2] and ARGV[3] ~= last[3]) then
    answer[4] = 1
    return answer
end
if number == answer[2] then
    return answer
end
local from = '(' .. id
local same = redis.call('XRANGE', KEYS[1], ARGV[2] .. '-0', ARGV[2] .. '-18446744073709551615')
if #same > 0 and same[1][1] ~= id then
    answer[4] = 1
    return answer
end
if #same == 0 then
    answer[4] = 1
end
local missed = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', limit)
if #missed == 0 or tonumber(missed[1][1]:match('^(%d+)')) ~= number + 1 then
    answer[4] = 1
end
for i = 1, #missed do
    if not add(missed[i]) then
        answer[4] = 1
    end
end
return answer
""")

#: A process has members in a room, and is alive. KEYS: counts, members. ARGV: process, count,
#: milliseconds for which that is believed. Gives 1 when that is news.
TOUCH = Script("""
if ARGV[2] == '0' then
    redis.call('HDEL', KEYS[1], ARGV[1])
    return 0
end
local news = redis.call('HSET', KEYS[1], ARGV[1],
    string.format('%s %.0f', ARGV[2], now + tonumber(ARGV[3])))
for _, key in ipairs(KEYS) do
    if redis.call('PTTL', key) < tonumber(ARGV[3]) then
        redis.call('PEXPIRE', key, ARGV[3])
    end
end
return news
""")

#: The members of a room in other processes that are alive. KEYS: counts. ARGV: process.
COUNT = Script("""
local count = 0
local counts = redis.call('HGETALL', KEYS[1])
for i = 1, #counts, 2 do
    local members, ends = counts[i + 1]:match('^(%d+) (%d+)$')
    if not members or tonumber(ends) <= now then
        redis.pcall('HDEL', KEYS[1], counts[i])
    elseif counts[i] ~= ARGV[1] then
        count = count + tonumber(members)
    end
end
return count
""")

#: A member is here. KEYS: members. ARGV: process:member, information, milliseconds for which the
#: process is believed to be alive, channel, publish command, what to publish.
ENTER = Script("""
redis.call('HSET', KEYS[1], ARGV[1], '0 ' .. ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
redis.call(ARGV[5], ARGV[4], ARGV[6])
return 1
""")

#: A member has left, and counts for a while. KEYS: members. ARGV: process:member, milliseconds,
#: channel, publish command, what to publish.
LEAVE = Script("""
local value = redis.call('HGET', KEYS[1], ARGV[1])
if value then
    local info = value:match('^%d+ (.*)$') or 'null'
    redis.call('HSET', KEYS[1], ARGV[1],
        string.format('%.0f ', now + tonumber(ARGV[2])) .. info)
    if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
    end
end
redis.call(ARGV[4], ARGV[3], ARGV[5])
return 1
""")

#: The members of a room. KEYS: members, counts. Gives after how many milliseconds that changes
#: by itself (-1: it does not), and pairs of member and information.
PRESENT = Script("""
local alive = {}
local counts = redis.call('HGETALL', KEYS[2])
for i = 1, #counts, 2 do
    local ends = counts[i + 1]:match('^%d+ (%d+)$')
    alive[counts[i]] = ends and tonumber(ends) > now
end
local answer, changes = {-1}, -1
local here, leaving = {}, {}
local members = redis.call('HGETALL', KEYS[1])
for i = 1, #members, 2 do
    local process, member = members[i]:sub(1, 32), members[i]:sub(34)
    local ends, info = members[i + 1]:match('^(%d+) (.*)$')
    ends = tonumber(ends)
    if ends == 0 and alive[process] then
        here[member] = info
    elseif ends and ends > now then
        leaving[member] = info
        if changes < 0 or ends - now < changes then
            changes = ends - now
        end
    else
        redis.pcall('HDEL', KEYS[1], members[i])
    end
end
for member, info in pairs(leaving) do
    here[member] = here[member] or info
end
answer[1] = changes
for member, info in pairs(here) do
    answer[#answer + 1] = member
    answer[#answer + 1] = info
end
return answer
""")


class Commands:
    """A redis-py client, used by any thread."""

    def __init__(self, client: Any, prefix: str) -> None:
        # (Any: redis-py's own types do not tell str from bytes.)
        kinds: tuple[Any, ...] = (redis.Redis, RedisCluster)
        if not any(isinstance(client, kind) for kind in kinds):
            raise TypeError(f"client is a client of redis-py, not {client!r}")
        if client.get_encoder().decode_responses:
            raise ValueError(
                "the client has decode_responses=True, which binary messages do not survive: "
                "give the hub a client without it"
            )
        self.client = client
        self.cluster = isinstance(client, RedisCluster)
        db = 0 if self.cluster else client.connection_pool.connection_kwargs.get("db") or 0
        self._prefix = PREFIX + b"%d:" % int(db) + _quote(prefix) + b":"
        self._room_prefix = self._prefix + b"{room:"
        #: Whether messages go only to the nodes of a cluster that need them. A server before
        #: Redis 7 has no such channels.
        self._sharded: bool | None = None if self.cluster else False

    def sharded(self) -> bool:
        """Whether the server has sharded channels, asked once. Raises ``redis.RedisError``."""
        if self._sharded is None:
            info = self.client.execute_command(
                "INFO", "server", target_nodes=self.client.get_random_node()
            )
            self._sharded = int(str(info["redis_version"]).partition(".")[0]) >= 7
        return self._sharded

    def publish_command(self) -> str:
        return "SPUBLISH" if self.sharded() else "PUBLISH"

    # Names

    def channel(self, room: str) -> bytes:
        return self._room_prefix + _quote(room) + b"}"

    def key(self, room: str, kind: bytes) -> bytes:
        return self.channel(room) + b":" + kind

    def process_channel(self, process: bytes) -> bytes:
        return self._prefix + b"process:" + process.hex().encode()

    def room_of(self, channel: bytes) -> str | None:
        if not channel.startswith(self._room_prefix) or not channel.endswith(b"}"):
            return None
        quoted = channel[len(self._room_prefix) : -1]
        for character, code in reversed(_QUOTED):
            quoted = quoted.replace(code, character)
        return quoted.decode(errors="replace")

    # Commands

    def once(self, key: bytes, *command: Any) -> Any:
        """Carry out a command at most once.

        redis-py sends a command again when its answer was lost. This sends it again only when
        Redis can not have got it whole: when there was no connection, or it broke while the
        command was written.
        """
        error: Exception = redis.ConnectionError("the cluster is being changed")
        for _ in range(2 if not self.cluster else 6):
            pool = self._pool(key)
            try:
                connection = pool.get_connection()
            except redis.ConnectionError as exc:
                error = exc
                self._look_for_nodes()
                continue
            try:
                try:
                    connection.send_command(*command)
                except redis.ConnectionError as exc:
                    error = exc
                    continue
                return connection.read_response()
            except (AskError, TryAgainError, ClusterDownError):
                # That node of a cluster has not done it.
                self._look_for_nodes()
            except ResponseError:
                raise
            except BaseException:
                connection.disconnect()
                raise
            finally:
                pool.release(connection)
        raise error

    def _look_for_nodes(self) -> None:
        if self.cluster:
            self.client.nodes_manager.initialize()

    def _pool(self, key: bytes) -> Any:
        if not self.cluster:
            return self.client.connection_pool
        node = self.client.get_node_from_key(key)
        if node is None:
            raise redis.ConnectionError("no node of the cluster has this key")
        return self.client.get_redis_connection(node).connection_pool

    def run_once(self, script: Script, keys: list[bytes], *arguments: Any) -> Any:
        """Run a script at most once."""
        try:
            return self.once(keys[0], "EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # which is an answer: it has not run
            return self.once(keys[0], "EVAL", script.text, len(keys), *keys, *arguments)

    def run_all(self, calls: list[tuple[Script, list[bytes], list[Any]]]) -> list[Any]:
        """Run scripts that may run twice; gives for each what it gave or raised."""
        if not self.cluster:
            pipeline = self.client.pipeline(transaction=False)
            for script, keys, arguments in calls:
                pipeline.eval(script.text, len(keys), *keys, *arguments)
            return list(pipeline.execute(raise_on_error=False))
        results = []
        for script, keys, arguments in calls:
            try:
                results.append(self.client.eval(script.text, len(keys), *keys, *arguments))
            except ResponseError as exc:
                results.append(exc)
        return results

    def run(self, script: Script, keys: list[bytes], *arguments: Any) -> Any:
        """Run a script that may run twice."""
        return self.client.eval(script.text, len(keys), *keys, *arguments)

    def ping(self) -> None:
        """Raises ``redis.RedisError`` when commands do not get through."""
        self.client.ping()

    def old_processes(self) -> bool:
        """Whether workers are there that use the format before this one."""
        found = self.client.execute_command("PUBSUB", "CHANNELS", PREFIX_BEFORE + b"*")
        return bool(found)


def client_for(url: str) -> Any:
    """A client of the hub's own."""
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 1),
    )


#: The percent sign first: it stands in the codes.
_QUOTED = [(b"%", b"%25"), (b"{", b"%7B"), (b"}", b"%7D"), (b":", b"%3A")]


def _quote(name: str) -> bytes:
    """``name`` without what has a meaning in a key."""
    quoted = name.encode()
    for character, code in _QUOTED:
        quoted = quoted.replace(character, code)
    return quoted
