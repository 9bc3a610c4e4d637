"""Where a loop's numbers and plots go: one small protocol, and a file for each logger that has it."""

from fourbeat.loggers.failures import LoggerWarning
from fourbeat.loggers.json_lines import JsonLines
from fourbeat.loggers.protocol import Logger
from fourbeat.loggers.several import Several
from fourbeat.loggers.tensorboard import TensorBoard

__all__ = ["JsonLines", "Logger", "LoggerWarning", "Several", "TensorBoard"]
