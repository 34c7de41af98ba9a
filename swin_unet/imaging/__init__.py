"""Files to volumes to network input, and label maps back to files."""

from swin_unet.imaging.alignment import OnMismatch, align
from swin_unet.imaging.formats import Content, split_name
from swin_unet.imaging.planes import Plane, thick_plane
from swin_unet.imaging.preprocessing import PreparedVolume, Preprocessing
from swin_unet.imaging.readers import read, read_header, read_image, read_labels, source_files
from swin_unet.imaging.volume import Grid, Header, Volume, check_same_grid, with_colours
from swin_unet.imaging.writers import write_labels

__all__ = [
    "Content",
    "Grid",
    "Header",
    "OnMismatch",
    "Plane",
    "PreparedVolume",
    "Preprocessing",
    "Volume",
    "align",
    "check_same_grid",
    "read",
    "read_header",
    "read_image",
    "read_labels",
    "source_files",
    "split_name",
    "thick_plane",
    "with_colours",
    "write_labels",
]
