"""Export: a training run in, one checked .tflite out. Runs from a checkout; the SDK never imports it."""

from l3edge.errors import Error


class ExportError(Error):
    """An export that cannot go on, or whose result is outside its tolerance."""
