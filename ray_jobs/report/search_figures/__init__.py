"""The figures of a search's report, one file each."""
