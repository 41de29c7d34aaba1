"""What crosses the wall of the sandbox: JSON in frames, arrays as numbers. No pickle, no zip.

The same file is used on both sides. The inside may send anything at all, so `decode` believes
nothing: kinds of numbers are on a list, sizes are checked against the bytes that came, depth and
length are bounded, and whatever does not fit raises `WireError`.
"""

from __future__ import annotations

import base64
import json
import math
import os
import select
import time
from typing import Any

import numpy as np

LARGEST = 4 * 2**20  # bytes of one frame
LONGEST = 10_000  # items of a list, characters of a string
BRACKETS = 50_000  # in one frame: as objects they take twenty times the bytes
DTYPES = ("float64", "float32", "int64", "int32", "bool")
_DEEPEST = 6


class WireError(ValueError):
    """What came through the wall cannot be used: too large, too late, or no message at all."""


def encode(value: Any, depth: int = 0) -> Any:
    """A value as JSON knows it; arrays and tensors become their bytes in base64."""
    if depth > _DEEPEST:
        raise WireError(f"the value is nested more than {_DEEPEST} deep")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        return encode(value.item(), depth + 1)
    if isinstance(value, int | float):
        return value
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {"kind": kind, "items": [encode(item, depth + 1) for item in value]}
    tensor = type(value).__module__.startswith("torch")
    if tensor:
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        if value.dtype.name not in DTYPES:
            raise WireError(f"an array of {value.dtype} is not one of {', '.join(DTYPES)}")
        if value.nbytes > LARGEST // 2:
            raise WireError(f"an array of {value.nbytes} bytes is larger than any answer needs")
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
        kind = "tensor" if tensor else "array"
        return {"kind": kind, "dtype": value.dtype.name, "shape": list(value.shape), "data": data}
    raise WireError(f"a {type(value).__name__} is neither a number nor an array, list or tuple")


def decode(message: Any, depth: int = 0) -> Any:
    """The value that `encode` wrote. Tensors come back as tensors where torch is."""
    if depth > _DEEPEST:
        raise WireError(f"the value is nested more than {_DEEPEST} deep")
    if message is None or isinstance(message, bool | float):
        return message
    if isinstance(message, str):
        if len(message) > LONGEST:
            raise WireError(f"a string of {len(message)} characters")
        return message
    if isinstance(message, int):
        if abs(message) > 2**63:
            raise WireError("an integer of more than 64 bits")
        return message
    if not isinstance(message, dict):
        raise WireError(f"a bare {type(message).__name__} is no encoded value")
    kind = message.get("kind")
    if kind in ("tuple", "list"):
        items = message.get("items")
        if not isinstance(items, list) or len(items) > LONGEST:
            raise WireError("a list of no or of too many items")
        found = [decode(item, depth + 1) for item in items]
        return tuple(found) if kind == "tuple" else found
    if kind not in ("array", "tensor"):
        raise WireError(f"unknown kind of value {_short(kind)}")
    return _decode_array(message, kind)


def _decode_array(message: dict[str, Any], kind: str) -> Any:
    dtype, shape, data = message.get("dtype"), message.get("shape"), message.get("data")
    if dtype not in DTYPES or not isinstance(data, str):
        raise WireError(f"an array of {_short(dtype)}")
    if not isinstance(shape, list) or len(shape) > 8:
        raise WireError("an array without a shape")
    if not all(type(side) is int and 0 <= side <= LARGEST for side in shape):
        raise WireError("an array with an impossible shape")
    try:
        raw = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise WireError("an array whose bytes are not base64") from error
    if math.prod(shape) * np.dtype(dtype).itemsize != len(raw):
        raise WireError("an array whose shape disagrees with its bytes")
    try:
        array = np.frombuffer(raw, dtype=dtype).reshape(shape).copy()
    except ValueError as error:  # one side is 0, and the others are astronomical
        raise WireError("an array with an impossible shape") from error
    if kind == "array":
        return array
    import torch

    return torch.from_numpy(array)


def _short(found: Any) -> str:
    return repr(found[:40]) if isinstance(found, str) else f"that is a {type(found).__name__}"


def send(descriptor: int, message: dict[str, Any], deadline: float | None = None) -> None:
    """Write one frame: eight bytes of length, then JSON."""
    body = json.dumps(message).encode()
    if len(body) > LARGEST:
        raise WireError(f"a message of {len(body)} bytes is larger than {LARGEST}")
    rest = memoryview(len(body).to_bytes(8, "big") + body)
    while rest:
        _wait(descriptor, deadline, write=True)
        rest = rest[os.write(descriptor, rest[:4096]) :]


def receive(descriptor: int, deadline: float | None = None) -> dict[str, Any]:
    """Read one frame, before the deadline (of `time.monotonic`) if there is one."""
    length = int.from_bytes(_read(descriptor, 8, deadline), "big")
    if length > LARGEST:
        raise WireError(f"announces {length} bytes, more than the {LARGEST} that are taken")
    body = _read(descriptor, length, deadline)
    if body.count(b"[") + body.count(b"{") > BRACKETS:
        raise WireError(f"has more than {BRACKETS} lists in it")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError("is not JSON") from error
    if not isinstance(message, dict):
        raise WireError("is JSON but not a message")
    return message


def _read(descriptor: int, count: int, deadline: float | None) -> bytes:
    found = bytearray()
    while len(found) < count:
        _wait(descriptor, deadline)
        part = os.read(descriptor, min(count - len(found), 65536))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


def _wait(descriptor: int, deadline: float | None, write: bool = False) -> None:
    if deadline is None:
        return
    left = deadline - time.monotonic()
    waiting = select.poll()  # unlike select, for any number of open files
    waiting.register(descriptor, select.POLLOUT if write else select.POLLIN)
    if left <= 0 or not waiting.poll(1000 * left):
        raise TimeoutError
