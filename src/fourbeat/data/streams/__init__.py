"""Streams: data that is read in order, from what has a state of its own."""

from fourbeat.data.streams.stream import Stream

__all__ = ["Stream"]
