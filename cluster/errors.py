"""What the running side refuses or cannot go on with."""

from pipeline.errors import LossatlasError


class ClusterError(LossatlasError):
    """The render cannot be started, or cannot go on, here and now."""
