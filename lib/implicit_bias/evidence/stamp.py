"""What a result was made with."""

from __future__ import annotations

import platform
import time

__all__ = ["stamp", "versions"]

_BEGAN = time.perf_counter()


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide the numbers.

    Examples
    --------
    >>> sorted(versions())
    ['numpy', 'python', 'scipy', 'torch']
    """
    import numpy
    import scipy
    import torch

    return {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "torch": torch.__version__,
    }


def stamp(seed: int) -> str:
    """Returns one line: versions, device, seed, and seconds since the package was imported.

    Parameters
    ----------
    seed : int
        The seed that the results depend on.

    Examples
    --------
    >>> "seed 3" in stamp(seed=3)
    True
    """
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    parts = [f"{name} {version}" for name, version in versions().items()]
    seconds = time.perf_counter() - _BEGAN
    return ", ".join([*parts, device, f"seed {seed}", f"{seconds:.0f} s"])
