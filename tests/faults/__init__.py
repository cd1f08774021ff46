"""What happens when things break: each test breaks one, prints one line of counts, and compares sets.

The counts come from the broker and the tables. An operation has three outcomes: acked, failed, unknown (no answer came:
it may have happened); only what was acked can be lost.
"""
