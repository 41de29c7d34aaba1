r"""Digits drawn from fonts: as many labelled images as wanted, from no file and no network.

An image shows one digit at a random place among parts of two others. Each is a glyph of a font,
an alpha mask :math:`a` on :math:`[-1, 1]^2`, seen through a random map: the pixel at u shows
:math:`a(q(u - t))` with

.. math:: q(v) = M v + \sum_{i \le j} c_{ij} v_i v_j, \qquad
          M = \tfrac1s \begin{pmatrix} 1 & k \\ 0 & 1 \end{pmatrix} R_\theta ,

a shift t, a scale s, a shear k, a rotation and a quadratic warp. Then come shades (dark on light
or light on dark), a gradient of light, and noise; and the 256 values of a file.

The random numbers of image i are the i-th rows of three streams, so that it is the same image
however many are drawn; arithmetic is entry by entry, without sums whose order could depend on n.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

__all__ = ["FONTS", "draw_glyphs"]

# Files that Matplotlib carries, so that no font of the machine matters.
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "cmb10",
    "cmr10",
    "cmss10",
    "cmti10",
    "cmtt10",
)

_CELL = 96  # pixels of a mask, finer than any image drawn from it
_HEIGHT = 0.62  # of a glyph, as a share of its cell
_CHUNK = 1024  # images at a time: 75 MB of masks

# What is drawn for each of the three glyphs, uniformly between -1 and 1, and its size.
_TURN, _SHEAR, _SHIFT, _BEND = 0.3, 0.3, 0.18, 0.1
_SCALE = (1.1, 0.2)  # centre and spread
_AWAY = (1.4, 0.15)  # how far from the centre the two intruders sit
_DRAWS = 13
_FAINT = 0.75  # an intruder's strength
_CONTRAST = (0.45, 0.95)  # between digit and ground
_LIGHT, _TINT, _NOISE = 0.15, 0.2, 0.07


@lru_cache(maxsize=1)
def _masks() -> Tensor:
    """The ten digits of each font, shape (fonts, 10, cell, cell), from 0 (ground) to 1 (ink)."""
    import matplotlib
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    with style.context("default"):  # whatever the caller set up: sketches, say
        figure = Figure(figsize=(10, len(FONTS)), dpi=_CELL, facecolor="white")
        canvas: Any = FigureCanvasAgg(figure)
        for row, name in enumerate(FONTS):
            font = FontProperties(fname=folder / f"{name}.ttf")
            for digit in range(10):
                outline = TextPath((0, 0), str(digit), size=100, prop=font)
                box = outline.get_extents()
                place = (
                    Affine2D()
                    .translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2)
                    .scale(_HEIGHT * _CELL / box.height)
                    .translate((digit + 0.5) * _CELL, (len(FONTS) - row - 0.5) * _CELL)
                )
                patch = PathPatch(outline, transform=place, facecolor="black", linewidth=0)
                figure.add_artist(patch)
        canvas.draw()
        ink = 255 - np.asarray(canvas.buffer_rgba())[..., 0]
    cells = ink.reshape(len(FONTS), _CELL, 10, _CELL).transpose(0, 2, 1, 3) / 255
    return torch.from_numpy(cells)


@lru_cache(maxsize=4)
def _blurred(size: int) -> Tensor:
    """The masks without what pixels of that size cannot show, shape (fonts * 10, cell, cell)."""
    from scipy.ndimage import gaussian_filter

    # One point of the mask stands for a pixel: without blur thin strokes would fall between.
    width = 0.4 * _CELL / size
    blurred = gaussian_filter(_masks().numpy(), width, axes=(2, 3), mode="constant")
    return torch.from_numpy(blurred).flatten(0, 1)


def _seen(masks: Tensor, which: Tensor, draws: Tensor, centre: Tensor, size: int) -> Tensor:
    """The masks ``which`` (m,) through their random maps, shape (m, size, size)."""
    turn, shear, scale = draws[:, 0] * _TURN, draws[:, 1] * _SHEAR, draws[:, 2]
    scale = _SCALE[0] + _SCALE[1] * scale
    ticks = (2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1
    x = ticks[None, None, :] - centre[:, 0, None, None]
    y = ticks[None, :, None] - centre[:, 1, None, None]
    cos, sin, k, s = (f[:, None, None] for f in (torch.cos(turn), torch.sin(turn), shear, scale))
    across, down = (cos * x - sin * y) / s, (sin * x + cos * y) / s
    across = across + k * down
    bend = _BEND * draws[:, 3:9, None, None]
    x2, xy, y2 = x * x, x * y, y * y
    across = across + bend[:, 0] * x2 + bend[:, 1] * xy + bend[:, 2] * y2
    down = down + bend[:, 3] * x2 + bend[:, 4] * xy + bend[:, 5] * y2
    grid = torch.stack((across, down), 3)
    return grid_sample(masks[which, None], grid, align_corners=False)[:, 0]


def _shapes(draws: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The alpha masks (m, size, size) of whole images, and their labels (m,)."""
    masks = _blurred(size)
    alpha = torch.zeros(len(draws), size, size, dtype=torch.float64)
    labels = (10 * draws[:, 0, 0]).long()
    for glyph in range(3):
        u = draws[:, glyph]
        digit, font = (10 * u[:, 0]).long(), (len(FONTS) * u[:, 1]).long()
        v = 2 * u[:, 2:] - 1
        if glyph == 0:
            centre, strength = _SHIFT * v[:, :2], 1.0
        else:
            away = _AWAY[0] + _AWAY[1] * v[:, 0]
            angle = torch.pi * v[:, 1]
            centre = torch.stack((away * torch.cos(angle), away * torch.sin(angle)), 1)
            strength = _FAINT
        seen = strength * _seen(masks, 10 * font + digit, v[:, 2:], centre, size)
        alpha = torch.maximum(alpha, seen)
    return alpha, labels


def _shaded(alpha: Tensor, draws: Tensor, noise: Tensor) -> Tensor:
    """The images (m, channels, size, size) in [0, 1], ground and ink and light and noise."""
    channels, size = noise.shape[1:3]
    u = draws[:, :, None, None, None]
    contrast = _CONTRAST[0] + (_CONTRAST[1] - _CONTRAST[0]) * u[:, 0]
    dark = (1 - contrast) * u[:, 1]
    ink_is_light = u[:, 2] < 0.5
    ground = torch.where(ink_is_light, dark, dark + contrast)
    ink = torch.where(ink_is_light, dark + contrast, dark)
    if channels == 3:  # hues around the shades
        ground = ground + _TINT * (2 * draws[:, 5:8, None, None] - 1)
        ink = ink + _TINT * (2 * draws[:, 8:11, None, None] - 1)
    ticks = (2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1
    light = _LIGHT * ((2 * u[:, 3] - 1) * ticks + (2 * u[:, 4] - 1) * ticks[:, None])
    images = ground + (ink - ground) * alpha[:, None] + light + _NOISE * noise
    return images.clamp(0, 1)


def draw_glyphs(n: int, seed: int, size: int, colour: bool) -> tuple[Tensor, Tensor]:
    """Returns n images, uint8 (n, channels, size, size), and the digits they show, int64 (n,).

    Examples
    --------
    >>> images, labels = draw_glyphs(3, seed=0, size=16, colour=False)
    >>> images.shape, images.dtype, labels.shape
    (torch.Size([3, 1, 16, 16]), torch.uint8, torch.Size([3]))
    """
    channels = 3 if colour else 1
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)]
    images = torch.empty(n, channels, size, size, dtype=torch.uint8)
    labels = torch.empty(n, dtype=torch.int64)
    for first in range(0, n, _CHUNK):
        m = min(_CHUNK, n - first)
        shapes = torch.from_numpy(streams[0].random((m, 3, _DRAWS)))
        shades = torch.from_numpy(streams[1].random((m, 11)))
        noise = torch.from_numpy(streams[2].standard_normal((m, channels, size, size)))
        alpha, labels[first : first + m] = _shapes(shapes, size)
        drawn = _shaded(alpha, shades, noise)
        images[first : first + m] = (255 * drawn).round().to(torch.uint8)
    return images, labels
