"""A volume in, its label map out, in memory that does not grow with the classes."""

from swin_unet.inference.cleanup import Cleanup
from swin_unet.inference.segmenter import Segmenter
from swin_unet.inference.volumes import VolumeSegmenter

__all__ = ["Cleanup", "Segmenter", "VolumeSegmenter"]
