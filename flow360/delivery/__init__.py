"""Layer 7: linters for workflows and Dockerfiles, and which layers of an image a change builds again."""
