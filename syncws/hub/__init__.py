"""Rooms: one message for all sessions in a room, in this process and in others.

``hub`` has the public class. ``members`` knows the sessions in this process, ``history`` the
messages that are kept, ``presence`` the members by name, ``wire`` the format of a message between
processes. A ``bus`` connects processes: the one in memory has only this process, ``redis_bus``
talks to Redis. Only the modules named ``redis_…`` import redis-py.
"""
