"""Where a thing is, in every layer: `flow360 trace order 100933`, `lesson.trace(order=100933)`.

    way.py        what a hop is, and how a way of them is asked, each with a short deadline
    orders.py     the hops of an order, in the order in which it travels
    vans.py       those of a van's day
    programs.py   whether the program that would bring a thing runs
    drawing.py    a trace as a table, as a Mermaid drawing, as JSON

A hop is one function under `@WAY.hop(…)` in orders.py or vans.py, at its place on the way.
"""
