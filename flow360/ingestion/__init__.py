"""Layer 2: topics, consumer groups, paged lists, dead letters, loads that may run again, and the trial of a kill."""
