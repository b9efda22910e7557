"""The images of a job, as a driver prepares them: indexed, split, and copied to the nodes that need them. Open
`prepare.py` first.
"""
