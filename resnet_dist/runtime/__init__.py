"""A bundle's answers without torch: decoding, preprocessing, engines, the operating point. Open `predictor.py`
first.
"""

from resnet_dist.runtime.telemetry import refuse_telemetry

# Here, since nothing of this package may load ONNX Runtime before, in whatever process it is used.
refuse_telemetry()
