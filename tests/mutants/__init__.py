"""Mutants: each solved exercise with one small mistake in it, made by machine, and what its check says to that.

A check that calls a mutant "Correct" has a gap, unless the mutant means the same as the solution. Those that do are
found by their result where the answer is a value; the others stand in `equivalent.toml`, each with the reason.

    flow360 mutants 02 --exercise safe_group --sample 20 --seed 1

`edits` is one change of a text; `python`, `sql` and `texts` find the changes in a language; `lab` knows which cells of
a solved lab are the answer; `worker` runs one mutant in a process of its own; `trial` runs them all and adds up.
"""
