"""x."""

import numpy as np
from PIL import Image


def slice_of_picture(findings):
    return int(np.argmax(findings.areas.infection_mm2))


def draw_picture(volume, findings):
    return Image.new("RGB", (600, 400))
