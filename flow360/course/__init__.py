"""The machinery of the course: the registry, notebooks, labs, their runs, the learner's progress."""
