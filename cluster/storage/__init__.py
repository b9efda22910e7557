"""Durable and local files: any storage by URI, leases, copies on this node, atomic replacement. Open `store.py`
first.
"""
