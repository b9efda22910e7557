"""The tree of a whole job: name, seed and a section for each concern."""
