"""A bundle's answers without torch: decoding, preprocessing, engines, the operating point. Open `predictor.py`
first.
"""
