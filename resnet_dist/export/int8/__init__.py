"""Files in 8-bit integers, by a writer of our own. Open `writer.py` first; `placement.py` says what is quantised, and
`ranges.py` by which numbers.
"""
