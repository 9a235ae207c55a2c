"""Sessions by their key, and nobody removes those that have ended: 0.4 MiB/s."""
from pace import MIB, ticks

# What malloc takes for the text, its key, and its part of the table.
SESSION = 1968 + 64 + 50

sessions = {}
for t in ticks():
    while len(sessions) * SESSION < 0.4 * MIB * t:
        number = len(sessions)
        sessions[f"session-{number}"] = "x" * (1900 - len(str(number))) + str(number)
