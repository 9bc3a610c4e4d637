"""The same small job in fourbeat and in other libraries, each in an environment of its own."""
