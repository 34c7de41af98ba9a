"""Files to volumes to network input, and label maps back to files."""

from swin_unet.imaging.preprocessing import PreparedVolume, Preprocessing
from swin_unet.imaging.readers import OnMismatch, read, read_image, read_labels
from swin_unet.imaging.volume import Volume, check_same_grid
from swin_unet.imaging.writers import write_labels

__all__ = [
    "OnMismatch",
    "PreparedVolume",
    "Preprocessing",
    "Volume",
    "check_same_grid",
    "read",
    "read_image",
    "read_labels",
    "write_labels",
]
