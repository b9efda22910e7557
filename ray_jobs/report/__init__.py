"""JSON records rendered as HTML pages that need no network. Open `page.py` first, `search_page.py` for a search's
report.
"""
