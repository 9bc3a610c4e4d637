"""Loads every package first.

pytest imports modules one by one for their doctests, and would put a module in the place of the function of
the same name (`fourbeat.runs.progress`), were its package not loaded already.
"""

import fourbeat
import fourbeat.cli

for _name in fourbeat.__all__:
    getattr(fourbeat, _name)
