"""Building blocks of Swin networks: tensors in, tensors out, channels last (B, H, W, C)."""
