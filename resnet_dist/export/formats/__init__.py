"""One file for each format that a bundle can hold. Open `build.py` first; `load.py` opens what was written."""

from resnet_dist.runtime.telemetry import refuse_telemetry

# Here, since formats are written with ONNX Runtime, OpenVINO and NNCF, which are imported after it.
refuse_telemetry()
