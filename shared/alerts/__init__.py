"""From verdicts and platform facts to alerts and notices.

Pure (no clock, no I/O): conditions, lifecycle, mutes, notices, rules. With I/O: tick, delivery, webhook, steps to tell.
"""
