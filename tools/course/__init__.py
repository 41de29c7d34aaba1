"""Exercises with checks, assignments, and the grading of submissions that nobody trusts.

One master notebook per chapter, ``course/NN_name.ipynb``, holds texts, reference solutions, visible
checks, hidden tests and wrong answers. `release` makes the student's copy of it, `assignment` a
folder to hand out and a private one, `grade` a table of marks. `python -m course --help` lists the
commands; ``course/README.md`` says how to write a master.

The trusted side (`master`, `matching`, `scoring`, `grade`) reads a submission as text and never
runs it. The code of a submission runs behind `sandbox`, where `jail` has taken everything away
that it does not need, and talks through `wire`: numbers and arrays, in JSON.
"""
