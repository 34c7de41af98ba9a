"""Deep supervision: while it trains, a network classifies its coarser scales as well."""

from __future__ import annotations

from torch import Tensor, nn

from swin_unet.config import UserError
from swin_unet.models.unet import SwinUNet


class DeeplySupervised(nn.Module):
    """Put a head on every scale of a network's decoder.

    The heads are no part of the network: its checkpoint and its parameters stay what they are
    without deep supervision, and nothing of the heads is left when training is done.

    Args:
        network: The network; trained through this module and used without it.

    Attributes:
        strides: Pixels per side of a position of each scale, finest first; the first is 1.

    Raises:
        UserError: When the network has no coarser scale.
    """

    def __init__(self, network: SwinUNet) -> None:
        super().__init__()
        self.network = network
        # With patches of one pixel the decoder's finest scale is that of the network's own head.
        pairs = zip(network.encoder.strides[:-1], network.encoder.channels, strict=False)
        scales = [(stride, channels) for stride, channels in pairs if stride > 1]
        if not scales:
            raise UserError(
                "train.deep_supervision",
                expected="a network with coarser scales than its pixels",
                found="two stages with patches of one pixel",
                fix="Remove it, or use larger patches or more stages.",
            )
        self.strides = (1, *(stride for stride, _ in scales))
        num_classes = network.head.out_channels
        self.heads = nn.ModuleList(
            nn.Conv2d(channels, num_classes, kernel_size=1, bias=False) for _, channels in scales
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the logits of images (B, in_channels, H, W) at every scale.

        Returns:
            (B, num_classes, ceil(H / stride), ceil(W / stride)) for each of `strides`.
        """
        H, W = image.shape[-2:]
        logits, maps = self.network.forward_scales(image)
        coarser = maps[-len(self.heads) :]
        outputs = [logits]
        for head, stride, x in zip(self.heads, self.strides[1:], coarser, strict=True):
            height, width = -(-H // stride), -(-W // stride)
            outputs.append(head(x.permute(0, 3, 1, 2))[..., :height, :width])
        return outputs
