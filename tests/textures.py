"""Pictures that are all different, and different in detail, as photographs are."""

import numpy as np
from PIL import Image, ImageFilter


def texture(seed: int, side: int = 64) -> Image.Image:
    """Grey, 8 bits, [side, side]: noise, smoothed, of much contrast."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    values = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2.5)), np.float32)
    return Image.fromarray(np.clip(128 + 6 * (values - values.mean()), 20, 235).astype(np.uint8))
