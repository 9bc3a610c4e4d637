"""Readers: examples by their numbers, as each kind of source gives them best."""

from fourbeat.data.readers.choice import reader_of
from fourbeat.data.readers.reader import Reader, ReadExamples

__all__ = ["ReadExamples", "Reader", "reader_of"]
