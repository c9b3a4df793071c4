"""Kokoro-82M: natural voices in nine languages, on a CPU."""

KOKORO_REPOSITORY = "onnx-community/Kokoro-82M-v1.0-ONNX"
