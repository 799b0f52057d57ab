"""The scripts that Redis carries out, each as one step.

All keys of a script have one hash tag, so that a cluster has them on one node. A script writes
before it publishes: if Redis refuses to write, nothing is published.
"""

from __future__ import annotations

import hashlib

__all__ = ["APPEND", "COUNT", "ENTER", "LEAVE", "PRESENT", "READ", "TOUCH", "Script"]


class Script:
    """A Lua script, which Redis carries out as one step."""

    def __init__(self, text: str) -> None:
        self.text = _CLOCK + text
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_CLOCK = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
"""

#: Keep a message and publish it, so that the order of numbers is the order of delivery. The newest
#: of the messages that are too old stays: a client that has it is then known to have missed none.
#: ``due`` is the time of the second message that is kept, or of one before it. Until that is too
#: old, the script does not read the oldest messages, which may be large.
#: KEYS: log, last. ARGV: new epoch, envelope, messages, milliseconds, channel, publish command,
#: milliseconds for which the position is known.
APPEND = Script("""
local last = redis.call('HMGET', KEYS[2], 'epoch', 'number', 'time', 'due')
local epoch, number, before = last[1], tonumber(last[2]), tonumber(last[3])
local due = tonumber(last[4]) or 0
if not (epoch and number and before) then
    if redis.call('EXISTS', KEYS[1]) == 1 then
        redis.call('DEL', KEYS[1])
    end
    epoch, number, before, due = ARGV[1], 0, 0, 0
end
number = number + 1
local time = math.max(now, before)
redis.call('XADD', KEYS[1], 'MAXLEN', '=', tonumber(ARGV[3]) + 1,
    string.format('%.0f-%.0f', number, time), 'e', ARGV[2])
for _ = 1, 100 do
    if due >= now - tonumber(ARGV[4]) then
        break
    end
    local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 2)
    if #oldest < 2 then
        due = time
        break
    end
    due = tonumber(oldest[2][1]:match('%-(%d+)'))
    if due < now - tonumber(ARGV[4]) then
        redis.call('XDEL', KEYS[1], oldest[1][1])
    end
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[2], 'epoch', epoch, 'number', string.format('%.0f', number),
    'time', string.format('%.0f', time), 'due', string.format('%.0f', due))
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call(ARGV[6], ARGV[5],
    string.format('2 %s %.0f %.0f %.0f\\n', epoch, number, time, before) .. ARGV[2])
return {epoch, number, time}
""")

#: Read the messages after a position, or the last ones. The script takes one entry at a time: it
#: stops when it has enough bytes, and an entry's size is not known before.
#: KEYS: log, last. ARGV: epoch ('' for the last messages, '*' for all), number, time, limit,
#: milliseconds, messages, bytes that are enough, new epoch for a room without one ('' for none),
#: milliseconds for which the position is known. Returns the last position, whether some are
#: missing, and pairs of id and envelope.
READ = Script("""
local last = redis.call('HMGET', KEYS[2], 'epoch', 'number', 'time')
local known = ARGV[1] ~= '' and ARGV[1] ~= '*'
if not (last[1] and last[2] and last[3]) then
    local answer = {'', 0, 0, known and 1 or 0}
    -- A Redis that refuses to write still reads. HSET comes first: after it has written, Redis
    -- does not refuse the script's other commands for want of memory.
    if ARGV[8] ~= '' and type(redis.pcall('HSET', KEYS[2], 'epoch', ARGV[8], 'number', 0,
        'time', string.format('%.0f', now))) == 'number'
    then
        redis.pcall('DEL', KEYS[1])
        redis.pcall('PEXPIRE', KEYS[2], ARGV[9])
        answer[1], answer[3] = ARGV[8], now
    end
    return answer
end
local answer = {last[1], tonumber(last[2]), tonumber(last[3]), 0}
if ARGV[8] ~= '' and answer[2] == 0 then
    redis.pcall('PEXPIRE', KEYS[2], ARGV[9])
end
local number, limit, messages = tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[6])
if known and (ARGV[1] ~= last[1] or number > answer[2] or
    (number == answer[2] and ARGV[3] ~= last[3]))
then
    answer[4] = 1
    return answer
end
local gap = false
if known and number > 0 and number < answer[2] then
    local same = redis.call('XRANGE', KEYS[1], ARGV[2] .. '-0', ARGV[2] .. '-18446744073709551615')
    if #same > 0 and same[1][1] ~= ARGV[2] .. '-' .. ARGV[3] then
        answer[4] = 1
        return answer
    end
    gap = #same == 0
end
local kept = answer[2] - messages
if ARGV[1] == '' then
    number = math.max(0, answer[2] - limit)
end
if number < kept then
    number, gap = kept, true
end
local from = string.format('(%.0f-18446744073709551615', number)
local size = 0
while number < answer[2] and limit > 0 and size < tonumber(ARGV[7]) do
    local found = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)
    if #found == 0 then
        gap = true
        break
    end
    local id, envelope = found[1][1], found[1][2][2]
    local at, time = id:match('^(%d+)%-(%d+)$')
    gap = gap or tonumber(at) ~= number + 1
    from, number = '(' .. id, tonumber(at)
    if tonumber(time) < now - tonumber(ARGV[5]) then
        gap = true
    else
        limit, size = limit - 1, size + #envelope
        answer[#answer + 1] = id
        answer[#answer + 1] = envelope
    end
end
answer[4] = gap and ARGV[1] ~= '' and 1 or 0
return answer
""")

#: Note that a process is alive and has members in a room. KEYS: counts, members. ARGV: process,
#: count, milliseconds for which that is valid. Returns 1 if the process was not known.
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

#: Count the members of a room in other processes that are alive. KEYS: counts. ARGV: process.
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

#: Note that a member is here. KEYS: members. ARGV: process:member, information, milliseconds for
#: which the process counts as alive, channel, publish command, data to publish.
ENTER = Script("""
redis.call('HSET', KEYS[1], ARGV[1], '0 ' .. ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
redis.call(ARGV[5], ARGV[4], ARGV[6])
return 1
""")

#: Note that a member has left. It counts for some milliseconds more. KEYS: members. ARGV:
#: process:member, milliseconds, channel, publish command, data to publish.
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

#: List the members of a room. KEYS: members, counts. ARGV: process. Returns after how many
#: milliseconds the list changes by itself (-1: it does not), whether the process is known to have
#: members in the room, and pairs of member and information.
PRESENT = Script("""
local alive = {}
local counts = redis.call('HGETALL', KEYS[2])
for i = 1, #counts, 2 do
    local ends = counts[i + 1]:match('^%d+ (%d+)$')
    alive[counts[i]] = ends and tonumber(ends) > now
end
local answer, changes = {-1, alive[ARGV[1]] and 1 or 0}, -1
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
