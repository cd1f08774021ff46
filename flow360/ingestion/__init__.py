"""Layer 2: topics, consumer groups, the patterns of loading, and the trial of what a kill costs."""
