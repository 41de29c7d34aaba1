"""Images are what they say: their ranges, their labels, where they come from.

No test reaches a network: archives of a few images, laid out as the published ones, are served
from this machine, under their own checksums.
"""

import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import io
import itertools
import math
import re
import struct
import tarfile
import threading

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from implicit_bias import archives, glyphs
from implicit_bias.data import (
    ImageData,
    NotDownloaded,
    load_cifar10,
    load_cifar100,
    load_digits,
    load_mnist,
    make_glyphs,
)
from scipy.ndimage import map_coordinates

BLANK = np.zeros((4, 1, 2, 3))
AB = ("a", "b")

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=gpu)]


def numbered(n, classes=3):
    """n images that can be told apart: image i is grey i / n."""
    images = np.broadcast_to((np.arange(n) / n)[:, None, None, None], (n, 1, 1, 1))
    return ImageData(images, np.arange(n) % classes, [str(c) for c in range(classes)])


def numbers(data, n):
    return [round(v * n) for v in data.images.flatten().tolist()]


# --- the record


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_keeps_floats_in_single_precision(dtype):
    grey = np.linspace(0, 1, 24).reshape(4, 1, 2, 3).astype(dtype)
    data = ImageData(grey, np.array([0, 1, 1, 0], np.int8), ["a", "b"])
    assert data.images.dtype == torch.float32
    assert data.labels.dtype == torch.int64
    np.testing.assert_array_equal(data.images, grey.astype(np.float32))
    assert (data.n, data.classes, data.labels.tolist()) == (4, AB, [0, 1, 1, 0])
    assert repr(data) == "ImageData(4 images, 1 x 2 x 3, 2 classes)"


def test_bytes_are_divided_by_255():
    data = ImageData(torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16), [0], ["a"])
    np.testing.assert_array_equal(
        data.images.flatten(), np.arange(256, dtype=np.float32) / np.float32(255)
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_is_a_copy_and_frozen(dtype):
    images, labels = torch.ones(2, 1, 1, 1, dtype=dtype), torch.zeros(2, dtype=torch.int64)
    data = ImageData(images, labels, AB)
    white = data.images.tolist()
    images[:], labels[:] = 0, 1
    assert data.images.tolist() == white
    assert data.labels.tolist() == [0, 0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.labels = labels


def holes(value):
    images = BLANK.copy()
    images[2, 0, 1, 1] = value
    return images


BAD = [
    ((BLANK[0], [0] * 4, AB), ValueError, r"\(n, channels, height, width\).*\(1, 2, 3\).*channels"),
    ((BLANK[:0], [], AB), ValueError, r"at least one.*\(0, 1, 2, 3\)"),
    (([[1.0], [1.0, 2.0]], [0], AB), TypeError, "images cannot be read.*NumPy array"),
    ((BLANK.astype(int), [0] * 4, AB), TypeError, "int64.*white.*uint8"),
    ((BLANK + 0j, [0] * 4, AB), TypeError, "complex128.*floats in"),
    ((holes(255.0), [0] * 4, AB), ValueError, "from 0 to 255.*Divide"),
    ((holes(1.001), [0] * 4, AB), ValueError, "from 0 to 1.001.*Divide"),
    ((holes(-0.1), [0] * 4, AB), ValueError, "from -0.1 to 0.*Divide"),
    ((holes(math.nan), [0] * 4, AB), ValueError, "nan.*remove or impute"),
    ((holes(math.inf), [0] * 4, AB), ValueError, "inf.*Divide"),
    ((BLANK, [0.0] * 4, AB), TypeError, r"float64.*integer.*astype\(int\)"),
    ((BLANK, [True] * 4, AB), TypeError, "bool.*integer"),
    ((BLANK, ["a"] * 4, AB), TypeError, "labels cannot be read.*class number"),
    ((BLANK, [0] * 3, AB), ValueError, r"shape \(4,\).*got \(3,\).*argmax"),
    ((BLANK, np.eye(4, 2, dtype=int), AB), ValueError, r"got \(4, 2\).*argmax"),
    ((BLANK, [0, 1, 2, 0], AB), ValueError, "from 0 to 2.*2 classes.*0 to 1.*from 0"),
    ((BLANK, [0, -1, 1, 0], AB), ValueError, "from -1 to 1.*from 0"),
    ((BLANK, [0] * 4, "ab"), TypeError, "classes = 'ab'.*one string for each"),
    ((BLANK, [0] * 4, [0, 1]), TypeError, "sequence of names"),
    ((BLANK, [0] * 4, ["a", "a"]), ValueError, "different names"),
    ((BLANK, [0] * 4, []), ValueError, "at least one"),
    (
        (BLANK, torch.zeros(4, dtype=torch.int64, device="meta"), AB),
        ValueError,
        r"cpu and labels on meta.*\.to\(",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_refuses_and_says_what_to_do(arguments, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        ImageData(*arguments)


@pytest.mark.parametrize("device", DEVICES)
def test_draws_the_same_wherever_it_lives(device):
    data = numbered(20)
    moved = data.to(device)
    assert moved.images.device.type == moved.labels.device.type == device
    for here, there in [
        (data, moved),
        (data.split([5])[0], moved.split([5])[0]),
        (data.with_random_labels(0.5), moved.with_random_labels(0.5)),
    ]:
        assert there.images.device == there.labels.device == moved.images.device
        assert torch.equal(there.images.cpu(), here.images)
        assert torch.equal(there.labels.cpu(), here.labels)


# --- parts


@pytest.mark.parametrize(
    ("sizes", "lengths"),
    [
        ([7, 3], [7, 3]),
        ([1], [1]),
        ([np.int64(4), 4], [4, 4]),
        ([1.0], [10]),
        ([0.8, 0.2], [8, 2]),
        ([0.7, 0.2, 0.1], [7, 2, 1]),
        ([1 / 3] * 3, [3, 4, 3]),
        ([0.1], [1]),
        ([np.float64(0.5)], [5]),
    ],
)
def test_parts_are_disjoint_and_as_large_as_asked(sizes, lengths):
    whole = numbered(10)
    parts = whole.split(sizes)
    assert [p.n for p in parts] == lengths
    seen = list(itertools.chain.from_iterable(numbers(p, 10) for p in parts))
    assert len(set(seen)) == len(seen)
    for part in parts:  # labels go with their images
        assert part.labels.tolist() == [k % 3 for k in numbers(part, 10)]
        assert part.classes == whole.classes


def test_parts_depend_on_the_seed_alone_and_are_nested():
    whole = numbered(50)
    small, large, other = (
        [numbers(p, 50) for p in whole.split([10, size], seed=seed)]
        for size, seed in ((5, 1), (20, 1), (5, 2))
    )
    assert small[0] == large[0]
    assert large[1][:5] == small[1]
    assert small != other
    assert small[0] != sorted(small[0])


def test_every_image_is_as_likely_to_be_chosen():
    counts = np.zeros(10)
    whole = numbered(10)
    for seed in range(400):
        counts[numbers(whole.split([3], seed=seed)[0], 10)] += 1
    # Binomial(400, 0.3): standard deviation 9.2; five of them, for the largest of ten.
    assert np.abs(counts - 120).max() < 46


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([], TypeError, "numbers of images.*or all shares"),
        ([1, 0.5], TypeError, "1 is one image and 1.0 is all"),
        ([True], TypeError, "numbers of images"),
        (["1"], TypeError, "numbers of images"),
        ([8, 3], ValueError, r"\[8, 3\] images, of the 10"),
        ([3, 0], ValueError, r"\[3, 0\] images.*one image or more"),
        ([5, -1], ValueError, "one image or more"),
        ([0.8, 0.3], ValueError, "sum to 1.1.*1 at most"),
        ([0.01], ValueError, r"\[0\] images"),
        ([0.5, -0.2], ValueError, "one image or more"),
        ([math.nan], ValueError, "sum to nan"),
    ],
)
def test_impossible_parts_are_refused(sizes, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        numbered(10).split(sizes)


# --- random labels


def redrawn(n, fraction, seed, classes=1000):
    """The images whose labels changed; with a thousand classes, nearly all that were drawn."""
    names = [str(c) for c in range(classes)]
    data = ImageData(np.zeros((n, 1, 1, 1)), np.zeros(n, int), names)
    return data.with_random_labels(fraction, seed).labels


@pytest.mark.parametrize(
    ("fraction", "count"), [(0.0, 0), (0.5, 100), (0.0024, 0), (0.0025, 1), (1.0, 200), (1, 200)]
)
def test_draws_exactly_the_number_of_labels_it_says(fraction, count, monkeypatch):
    # A generator that draws class 1 and nothing else: every label that was drawn shows.
    class Ones:
        def __init__(self, seed):
            self.rng = np.random.Generator(np.random.PCG64(seed))

        def permutation(self, n):
            return self.rng.permutation(n)

        def integers(self, high, size):
            return np.ones(size, int)

    monkeypatch.setattr(np.random, "default_rng", Ones)
    assert int(redrawn(200, fraction, 0).sum()) == count


def test_new_labels_are_uniform_and_the_old_class_is_among_them():
    n, classes = 20_000, 5
    data = ImageData(np.zeros((n, 1, 1, 1)), np.zeros(n, int), list("abcde"))
    labels = data.with_random_labels(seed=3).labels
    counts = np.bincount(labels, minlength=classes)
    # Binomial(20000, 1/5): standard deviation 57; five of them.
    assert np.abs(counts - n / classes).max() < 285
    half = data.with_random_labels(0.5, seed=3).labels
    # Of 10,000 drawn one in five stays: standard deviation 40; five of them.
    assert abs(int((half != 0).sum()) - 8000) < 200


def test_a_larger_share_keeps_the_labels_of_a_smaller():
    small, large = redrawn(500, 0.2, 7), redrawn(500, 0.6, 7)
    changed = small != 0
    assert 90 < int(changed.sum()) <= 100
    assert torch.equal(large[changed], small[changed])
    assert not torch.equal(redrawn(500, 0.2, 8), small)
    assert torch.equal(redrawn(500, 0.2, 7), small)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_every_part_gets_its_share_of_the_drawn_labels(seed):
    """Drawn and cut with one seed: were the two choices one, a part would get all of them."""
    data = ImageData(np.zeros((2000, 1, 1, 1)), np.zeros(2000, int), [str(c) for c in range(1000)])
    for part in data.with_random_labels(0.2, seed).split([0.2, 0.3, 0.5], seed):
        # Hypergeometric: at most binomial(n, 0.2); five standard deviations, and one in a thousand
        # that comes out as it was.
        slack = 5 * math.sqrt(part.n * 0.2 * 0.8) + 0.01 * part.n
        assert abs(int((part.labels != 0).sum()) - 0.2 * part.n) < slack


def test_images_and_the_data_themselves_stay():
    data = numbered(30)
    before = data.labels.clone()
    other = data.with_random_labels()
    assert torch.equal(other.images, data.images)
    assert torch.equal(data.labels, before)
    assert other.classes == data.classes


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan])
def test_refuses_an_impossible_share(fraction):
    with pytest.raises(ValueError, match=r"share of the labels.*between 0 and 1"):
        numbered(5).with_random_labels(fraction)


@pytest.mark.parametrize(
    "use", [lambda d: d.split([1], seed=1.5), lambda d: d.with_random_labels(seed=1.5)]
)
def test_seeds_are_whole_numbers(use):
    with pytest.raises(TypeError, match=r"seed = 1\.5 is not an integer"):
        use(numbered(5))


# --- the digits of scikit-learn


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits as bunch

    data, original = load_digits(), bunch()
    assert data.images.shape == (1797, 1, 8, 8)
    np.testing.assert_array_equal(data.images.flatten(1) * 16, original.data)
    np.testing.assert_array_equal(data.labels, original.target)
    assert [data.classes[k] for k in data.labels[:3]] == ["0", "1", "2"]


# --- glyphs


@pytest.fixture(scope="module")
def drawn():
    return make_glyphs(1500)


@pytest.mark.parametrize(("size", "colour"), [(8, False), (16, True), (28, False), (64, True)])
def test_glyphs_have_the_size_and_channels_asked_for(size, colour):
    data = make_glyphs(3, size=size, colour=colour)
    assert data.images.shape == (3, 3 if colour else 1, size, size)
    assert float(data.images.std()) > 0.05
    # Bytes, as photographs have them: a last digit lost in a sum cannot show.
    steps = (data.images * 255).double()
    torch.testing.assert_close(steps, steps.round(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("n", [1, 7, 1024, 1025])
def test_image_i_does_not_depend_on_n(n, colour, drawn):
    many = make_glyphs(1500, colour=True) if colour else drawn
    few = make_glyphs(n, colour=colour)
    assert torch.equal(few.images, many.images[:n])
    assert torch.equal(few.labels, many.labels[:n])


def test_other_seeds_draw_other_images(drawn):
    other = make_glyphs(1500, seed=1)
    same = (other.images - drawn.images).flatten(1).abs().amax(1) == 0
    assert not bool(same.any())
    # Labels of two seeds agree by chance: Binomial(1500, 1/10), five standard deviations of 11.6.
    assert abs(int((other.labels == drawn.labels).sum()) - 150) < 58


def test_colour_changes_no_shape_and_no_label(drawn):
    colour = make_glyphs(300, colour=True)
    assert torch.equal(colour.labels, drawn.labels[:300])
    grey, mean = (
        d - d.mean(1, keepdim=True)
        for d in (drawn.images[:300].flatten(1), colour.images.mean(1).flatten(1))
    )
    likeness = (grey * mean).sum(1) / (grey.norm(dim=1) * mean.norm(dim=1))
    assert float(likeness.median()) > 0.9
    # Hues, not noise of three channels, whose mean over 256 pixels is of order 0.004.
    assert float(colour.images.mean((2, 3)).std(1).mean()) > 0.05


def test_all_digits_are_equally_frequent(drawn):
    counts = torch.bincount(drawn.labels, minlength=10)
    # Binomial(1500, 1/10): standard deviation 11.6; five of them.
    assert int((counts - 150).abs().max()) < 58


def test_every_font_draws_ten_different_digits():
    masks = glyphs._masks()
    assert masks.shape[:2] == (len(glyphs.FONTS), 10)
    assert float(masks.min()) == 0
    assert float(masks.max()) == 1
    for font in masks:
        flat = font.flatten(1)
        apart = torch.cdist(flat, flat) + 1e9 * torch.eye(10)
        assert float(apart.min()) > 5  # 25 of 9,216 points at least
    # No glyph is cut off by its cell, and all are equally high, to a row of grey at either end.
    border = torch.cat([masks[:, :, 0], masks[:, :, -1], masks[..., 0], masks[..., -1]])
    assert float(border.max()) == 0
    rows = (masks.amax(3) > 0.5).sum(2)
    assert int(rows.max() - rows.min()) <= 2


def test_a_straight_map_shows_the_glyph_where_it_is_put():
    masks = glyphs._blurred(16)
    still = torch.zeros(1, 11, dtype=torch.float64)
    still[0, 2] = (1 - glyphs._SCALE[0]) / glyphs._SCALE[1]  # scale 1
    which = torch.tensor([3])
    centred = glyphs._seen(masks, which, still, torch.zeros(1, 2, dtype=torch.float64), 16)
    # Pixels of 6 x 6 points: a pixel shows the middle of its patch, between four points.
    points = masks[3].reshape(16, 6, 16, 6)[:, 2:4, :, 2:4].mean((1, 3))
    torch.testing.assert_close(centred[0], points, atol=1e-12, rtol=0)
    right = torch.tensor([[0.25, 0.0]], dtype=torch.float64)  # two pixels of sixteen
    moved = glyphs._seen(masks, which, still, right, 16)
    torch.testing.assert_close(moved[0, :, 2:], centred[0, :, :-2], atol=1e-12, rtol=0)
    down = glyphs._seen(masks, which, still, right.flip(1), 16)
    torch.testing.assert_close(down[0, 2:], centred[0, :-2], atol=1e-12, rtol=0)
    still[0, 0] = math.pi / 2 / glyphs._TURN  # a quarter turn moves every pixel onto another
    turned = glyphs._seen(masks, which, still, torch.zeros(1, 2, dtype=torch.float64), 16)
    torch.testing.assert_close(turned[0], torch.rot90(centred[0], 1), atol=1e-12, rtol=0)


def test_a_random_map_is_the_one_that_is_written_down():
    """Against matrices, and SciPy's interpolation: shifts, turns, shears and all six bends."""
    masks, rng, size = glyphs._blurred(16), np.random.default_rng(0), 16
    draws, centre = rng.uniform(-1, 1, (20, 9)), rng.uniform(-0.3, 0.3, (20, 2))
    which = rng.integers(len(masks), size=20)
    seen = glyphs._seen(masks, *map(torch.from_numpy, (which, draws, centre)), size)
    ticks = (np.arange(size) + 0.5) * 2 / size - 1
    u = np.stack(np.meshgrid(ticks, ticks), -1)
    for found, i in zip(seen, range(20), strict=True):
        turn, shear = glyphs._TURN * draws[i, 0], glyphs._SHEAR * draws[i, 1]
        scale = glyphs._SCALE[0] + glyphs._SCALE[1] * draws[i, 2]
        R = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        M = np.array([[1, shear], [0, 1]]) @ R / scale
        v = u - centre[i]
        pairs = v[..., [0, 0, 1]] * v[..., [0, 1, 1]]
        q = v @ M.T + pairs @ (glyphs._BEND * draws[i, 3:].reshape(2, 3)).T
        index = ((q + 1) * masks.shape[1] - 1) / 2
        expected = map_coordinates(
            masks[which[i]].numpy(), [index[..., 1], index[..., 0]], order=1, mode="constant"
        )
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_picture_tells_the_label_and_the_nearest_picture_does_too(drawn):
    """Chance is 10 in 100. A nearest neighbour, blind to what a shift is, has to beat it well."""
    flat = drawn.images.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True)
    likeness = (flat @ flat.T).abs()  # dark on light, or light on dark
    likeness.fill_diagonal_(0)
    right = drawn.labels[likeness.argmax(1)] == drawn.labels
    assert float(right.double().mean()) > 0.4


def test_glyphs_do_not_depend_on_what_matplotlib_was_told():
    masks = glyphs._masks()
    with plt.xkcd(), matplotlib.rc_context({"figure.dpi": 33, "patch.antialiased": False}):
        assert torch.equal(glyphs._masks.__wrapped__(), masks)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n = 0 is too small"),
        ({"n": 2.5}, TypeError, r"n = 2\.5 is not an integer"),
        ({"n": 1, "seed": -1}, ValueError, "seed = -1 is too small"),
        ({"n": 1, "size": 7}, ValueError, "size = 7 is too small.*8 or more"),
        ({"n": 1, "size": 65}, ValueError, "size = 65.*64 or less"),
    ],
)
def test_glyphs_refuse(arguments, error, message):
    with pytest.raises(error, match=message):
        make_glyphs(**arguments)


# --- archives


def idx(array):
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


def tar(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def records(images, *labels):
    """The binary layout of CIFAR: labels, then the planes of red, green and blue."""
    return np.column_stack([*labels, images.reshape(len(images), -1)]).astype(np.uint8).tobytes()


class Shelf:
    """A web server on this machine: files by name, and what was asked of it."""

    def __init__(self):
        self.files, self.promised, self.asked = {}, {}, []
        shelf = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rpartition("/")[2]
                shelf.asked.append(self.path)
                if name not in shelf.files:
                    self.send_error(404)
                    return
                content = shelf.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(shelf.promised.get(name, len(content))))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def archive(self, name, content, *mirrors):
        self.files[name] = content
        urls = tuple(m + name for m in (*mirrors, self.url))
        return archives.Archive(name, urls, hashlib.sha256(content).hexdigest())


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv("IMPLICIT_BIAS_DATA", str(tmp_path / "cache"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    shelf = Shelf()
    thread = threading.Thread(target=shelf.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with contextlib.closing(shelf.server.socket):
        yield shelf
        shelf.server.shutdown()
        thread.join()


@pytest.fixture
def mnist(shelf, monkeypatch):
    """MNIST with five images to train and three to test."""
    arrays = {
        "train images": pixels(0, 5, 28, 28),
        "train labels": np.array([5, 0, 4, 1, 9], np.uint8),
        "test images": pixels(1, 3, 28, 28),
        "test labels": np.array([7, 2, 1], np.uint8),
    }
    small = {
        what: shelf.archive(archives.MNIST[what].name, idx(array)) for what, array in arrays.items()
    }
    monkeypatch.setattr(archives, "MNIST", small)
    return arrays


@pytest.mark.parametrize(("part", "n"), [("train", 5), ("test", 3)])
def test_reads_mnist(mnist, shelf, part, n):
    data = load_mnist(part)
    assert data.images.shape == (n, 1, 28, 28)
    np.testing.assert_array_equal(
        data.images[:, 0], mnist[f"{part} images"].astype(np.float32) / np.float32(255)
    )
    assert data.labels.tolist() == mnist[f"{part} labels"].tolist()
    assert data.classes == tuple("0123456789")
    assert len(shelf.asked) == 2  # and no file of the other part


def test_a_file_is_downloaded_once(mnist, shelf):
    first = load_mnist()
    shelf.files.clear()
    again = load_mnist()
    assert torch.equal(again.images, first.images)
    assert len(shelf.asked) == 2


@pytest.mark.parametrize(("part", "n"), [("train", 10), ("test", 2)])
def test_reads_cifar10(shelf, monkeypatch, part, n):
    names = ["airplane", "automobile", "bird", "cat", "deer"]
    names += ["dog", "frog", "horse", "ship", "truck"]
    images, labels = pixels(0, 12, 3, 32, 32), np.arange(12) % 10
    files = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    members = {
        f"cifar-10-batches-bin/{file}.bin": records(images[k : k + 2], labels[k : k + 2])
        for file, k in zip(files, range(0, 12, 2), strict=True)
    }
    members["cifar-10-batches-bin/batches.meta.txt"] = ("\n".join(names) + "\n\n").encode()
    monkeypatch.setattr(archives, "CIFAR10", shelf.archive("cifar-10-binary.tar.gz", tar(members)))
    data = load_cifar10(part)
    own = slice(0, 10) if part == "train" else slice(10, 12)
    assert data.images.shape == (n, 3, 32, 32)
    np.testing.assert_array_equal((255 * data.images).round(), images[own])
    assert data.labels.tolist() == labels[own].tolist()
    assert data.classes == tuple(names)


@pytest.mark.parametrize("part", ["train", "test"])
def test_reads_the_fine_labels_of_cifar100(shelf, monkeypatch, part):
    images, coarse, fine = pixels(0, 4, 3, 32, 32), np.arange(4), np.array([99, 0, 50, 7])
    names = [f"class_{i}" for i in range(100)]
    members = {
        f"cifar-100-binary/{part}.bin": records(images, coarse, fine),
        "cifar-100-binary/fine_label_names.txt": ("\n".join(names) + "\n").encode(),
    }
    archive = shelf.archive("cifar-100-binary.tar.gz", tar(members))
    monkeypatch.setattr(archives, "CIFAR100", archive)
    data = load_cifar100(part)
    np.testing.assert_array_equal((255 * data.images).round(), images)
    assert data.labels.tolist() == fine.tolist()
    assert data.classes == tuple(names)


@pytest.mark.parametrize("load", [load_mnist, load_cifar10, load_cifar100])
def test_an_unknown_part_is_refused(load):
    with pytest.raises(ValueError, match=r"'validation' does not exist.*'train' or part='test'"):
        load("validation")


def test_the_published_checksums():
    """Written once more: these decide what counts as the data."""
    known = {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea37026"
        "5605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cc"
        "a23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e3"
        "3eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd"
        "2371eca3ffa0defaefb259924204aec6",
        "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d6"
        "8f9f25eb1ed8d9ddda3db29a59bca1dd",
        "cifar-100-binary.tar.gz": "58a81ae192c23a4be8b1804d68e518ed"
        "807d710a4eb253b1f2a199162a40d8ec",
    }
    all_of_them = [*archives.MNIST.values(), archives.CIFAR10, archives.CIFAR100]
    assert {a.name: a.sha256 for a in all_of_them} == known
    for archive in all_of_them:
        assert all(re.fullmatch(rf"https://.+/{archive.name}", url) for url in archive.urls)


WHAT_TO_DO = (
    r"is not in .*cache.*could not be downloaded.*bring the file.*IMPLICIT_BIAS_DATA.*SHA-256"
    r".*load_digits\(\) and make_glyphs\(n\)"
)


def test_without_a_network_the_message_says_what_to_do(mnist, shelf):
    shelf.server.shutdown()
    shelf.server.server_close()
    with pytest.raises(NotDownloaded, match=f"(?s){WHAT_TO_DO}") as caught:
        load_mnist()
    assert "t10k" not in str(caught.value)
    assert archives.MNIST["train images"].sha256 in str(caught.value)


@pytest.mark.parametrize("promised", ["what is sent", "the whole"])
def test_a_download_that_was_cut_short_is_refused(mnist, shelf, tmp_path, promised):
    name = "train-images-idx3-ubyte.gz"
    whole = shelf.files[name]
    shelf.files[name] = whole[: len(whole) // 2]
    if promised == "the whole":
        shelf.promised[name] = len(whole)
    with pytest.raises(NotDownloaded, match=f"(?s){WHAT_TO_DO}"):
        load_mnist()
    assert not list((tmp_path / "cache").glob("*train-images*"))  # nothing half is kept
    shelf.files[name] = whole
    assert load_mnist().n == 5


def test_a_mirror_stands_in(shelf):
    archive = shelf.archive("a.gz", b"content", "http://127.0.0.1:1/", shelf.url + "no/such/")
    archive = dataclasses.replace(
        archive, urls=(archive.urls[0], shelf.url + "missing.gz", archive.urls[2])
    )
    assert archives.fetch(archive).read_bytes() == b"content"
    assert shelf.asked == ["/missing.gz", "/a.gz"]


def test_a_file_brought_by_hand_is_taken(shelf, tmp_path):
    archive = shelf.archive("a.gz", b"content")
    shelf.files.clear()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.gz").write_bytes(b"content")
    assert archives.fetch(archive).read_bytes() == b"content"
    assert shelf.asked == []


def test_a_wrong_file_in_the_cache_is_replaced_or_named(shelf, tmp_path):
    archive = shelf.archive("a.gz", b"content")
    (tmp_path / "cache").mkdir()
    there = tmp_path / "cache" / "a.gz"
    there.write_bytes(b"something else")
    missing = dataclasses.replace(archive, urls=(shelf.url + "missing.gz",))
    with pytest.raises(NotDownloaded, match=r"another file of that name \(its checksum is wrong\)"):
        archives.fetch(missing)
    assert there.read_bytes() == b"something else"
    assert archives.fetch(archive).read_bytes() == b"content"


def test_the_cache_is_the_users_unless_named(monkeypatch, tmp_path):
    import pooch

    monkeypatch.delenv("IMPLICIT_BIAS_DATA", raising=False)
    assert str(archives._folder()) == str(pooch.os_cache("implicit-bias"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IMPLICIT_BIAS_DATA", "~/data")
    assert archives._folder() == tmp_path / "data"


# --- what a file holds


def idx_bytes(*shape, content):
    return b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"not an IDX file of bytes: it begins with b''"),
        (b"\0\0\x08", "not an IDX file of bytes"),
        (b"\0\0\x08\0", "not an IDX file of bytes"),  # an array without dimensions
        (b"\0\0\x0d\1 floats", "not an IDX file of bytes"),
        (b"\0\0\x08\2\0\0\0\2\0\0", "within its header: 2 lengths need 8 bytes, and 6 are"),
        (idx_bytes(2, 3, content=b"12345"), r"holds 5 bytes of an array of shape \(2, 3\)"),
        (idx_bytes(2, 3, content=b"1234567"), "holds more than 6 bytes"),
        (idx_bytes(2, 3, content=b""), "holds 0 bytes"),
        (idx_bytes(2**31, 2**31, content=b"1"), f"holds {2**62} bytes, which no such file does"),
    ],
)
def test_what_is_not_idx_is_refused(tmp_path, raw, message):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(raw))
    with pytest.raises(ValueError, match=rf"(?s)a\.gz.*{message}.*delete .*a\.gz.*again"):
        archives.read_idx(path)


def test_idx_of_any_dimension_comes_back(tmp_path):
    path = tmp_path / "a.gz"
    for shape in [(7,), (2, 3), (2, 1, 3, 2), (0, 3)]:
        array = pixels(0, *shape)
        path.write_bytes(idx(array))
        np.testing.assert_array_equal(archives.read_idx(path), array)


def damaged(whole):
    """The same file cut at a few places, with a byte changed, and something else entirely."""
    for cut in (0, 5, 12, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        yield whole[:cut]
    middle = len(whole) // 2
    yield whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    yield b"<html>Please log in</html>"


def test_damaged_gzip_files_are_refused(tmp_path):
    path = tmp_path / "a.gz"
    for raw in damaged(idx(pixels(0, 20, 30))):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"a\.gz is (damaged|not an IDX)"):
            archives.read_idx(path)


CIFAR_PARTS, CIFAR_NAMES = ["c/1.bin", "c/2.bin"], "c/names.txt"


def cifar_members(**other):
    members = {
        "c/1.bin": records(pixels(0, 2, 3, 32, 32), [1, 0]),
        "c/2.bin": records(pixels(1, 1, 3, 32, 32), [2]),
        "c/names.txt": b"cat\ndog\nfrog\n",
    }
    return members | {f"c/{name.replace('_', '.')}": value for name, value in other.items()}


def read_tar(tmp_path, raw):
    path = tmp_path / "in" / "a.tar.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    try:
        return archives.read_cifar(path, CIFAR_PARTS, CIFAR_NAMES, label_bytes=1)
    finally:  # nothing was unpacked, here or beside it
        assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.tar.gz"]


RECORD = 1 + 3 * 32 * 32


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"1_bin": bytes(RECORD - 1)}, "c/1.bin of 3072 bytes, no whole number of records of 3073"),
        ({"2_bin": bytes(RECORD + 1)}, "c/2.bin of 3074 bytes, no whole number of records"),
        # Whole together, but each label and each plane of the second would be shifted.
        ({"1_bin": bytes(RECORD - 5), "2_bin": bytes(RECORD + 5)}, "c/1.bin of 3068 bytes, no wh"),
        ({"1_bin": b""}, "c/1.bin of 0 bytes"),
        ({"1_bin": b"\3" + bytes(RECORD - 1)}, "the label 3, and names 3 classes"),
        ({"2_bin": b"\xff" + bytes(RECORD - 1)}, "the label 255, and names 3 classes"),
        ({"names_txt": b""}, "the label 2, and names 0 classes"),
        ({"names_txt": b"cat dog fr\xffg"}, "no names in c/names.txt"),
    ],
)
def test_members_that_do_not_hold_records_are_refused(tmp_path, other, message):
    with pytest.raises(ValueError, match=rf"(?s)a\.tar\.gz holds.*{message}.*delete .*again"):
        read_tar(tmp_path, tar(cifar_members(**other)))


def test_records_come_back_in_the_order_asked_for(tmp_path):
    members = dict(reversed(cifar_members().items())) | {"other": b"not read"}
    images, labels, classes = read_tar(tmp_path, tar(members))
    np.testing.assert_array_equal(images[:2], pixels(0, 2, 3, 32, 32))
    np.testing.assert_array_equal(images[2:], pixels(1, 1, 3, 32, 32))
    assert labels.tolist() == [1, 0, 2]
    assert classes == ("cat", "dog", "frog")


@pytest.mark.parametrize("name", [*CIFAR_PARTS, CIFAR_NAMES])
@pytest.mark.parametrize("instead", [None, "../{}", "/{}", "in/../{}"])
def test_a_missing_member_is_named_and_none_elsewhere_is_taken(tmp_path, name, instead):
    """A path that leads out of the archive is another path: not read, and never written."""
    members = cifar_members()
    content = members.pop(name)
    if instead is not None:
        members[instead.format(name)] = content
    with pytest.raises(ValueError, match=rf"does not hold {name}"):
        read_tar(tmp_path, tar(members))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
@pytest.mark.parametrize("target", ["c/2.bin", "../secret", "/etc/hostname"])
def test_links_and_devices_are_refused(tmp_path, kind, target):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, content in cifar_members().items():
            info = tarfile.TarInfo(name)
            if name == "c/1.bin":
                info.type, info.linkname = kind, target
                file.addfile(info)
            else:
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    with pytest.raises(ValueError, match=r"c/1\.bin as something else than a plain file"):
        read_tar(tmp_path, buffer.getvalue())


def test_a_member_that_comes_twice_is_refused(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, content in [*cifar_members().items(), ("c/1.bin", bytes(RECORD))]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    with pytest.raises(ValueError, match=r"holds c/1\.bin twice"):
        read_tar(tmp_path, buffer.getvalue())


def test_a_member_larger_than_any_published_one_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST", 2 * RECORD - 1)
    with pytest.raises(ValueError, match=f"c/1.bin of {2 * RECORD} bytes"):
        read_tar(tmp_path, tar(cifar_members()))


def test_damaged_archives_are_refused(tmp_path):
    whole = tar(cifar_members())
    for raw in damaged(whole):
        with pytest.raises(ValueError, match=r"a\.tar\.gz (is damaged|does not hold)"):
            read_tar(tmp_path, raw)
    # Whole as gzip, and the tar in it cut: within a header, within a member, after a member.
    inner = gzip.decompress(whole)
    for cut in (100, 512, 600, 512 + 2 * RECORD - 1, 512 * 14):
        with pytest.raises(ValueError, match=r"a\.tar\.gz (is damaged|does not hold)"):
            read_tar(tmp_path, gzip.compress(inner[:cut]))


def test_a_tar_in_another_compression_is_refused(tmp_path):
    inner = gzip.decompress(tar(cifar_members()))
    with pytest.raises(ValueError, match="is damaged"):
        read_tar(tmp_path, inner)


def test_labels_of_mnist_beyond_the_classes_are_refused(mnist, shelf, monkeypatch):
    labels = shelf.archive("train-labels-idx1-ubyte.gz", idx(np.array([0, 1, 2, 10, 3], np.uint8)))
    monkeypatch.setitem(archives.MNIST, "train labels", labels)
    with pytest.raises(ValueError, match="from 0 to 10, but the 10 classes"):
        load_mnist()


def test_fewer_labels_than_images_are_refused(mnist, shelf, monkeypatch):
    labels = shelf.archive("train-labels-idx1-ubyte.gz", idx(np.zeros(4, np.uint8)))
    monkeypatch.setitem(archives.MNIST, "train labels", labels)
    with pytest.raises(ValueError, match=r"shape \(5,\).*got \(4,\)"):
        load_mnist()


# --- on the way


def left(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").glob("*"))


def test_a_download_that_is_interrupted_leaves_nothing(shelf, tmp_path, monkeypatch):
    """Ctrl-C, between two pieces of a file."""
    import requests

    archive = shelf.archive("a.gz", bytes(2**20))
    whole, pieces = requests.Response.iter_content, []

    def interrupted(self, chunk_size):
        for piece in whole(self, chunk_size):
            if len(pieces) == 3:
                raise KeyboardInterrupt
            pieces.append(piece)
            yield piece

    monkeypatch.setattr(requests.Response, "iter_content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        archives.fetch(archive)
    assert len(pieces) == 3
    assert left(tmp_path) == []
    monkeypatch.undo()
    monkeypatch.setenv("IMPLICIT_BIAS_DATA", str(tmp_path / "cache"))
    assert archives.fetch(archive).read_bytes() == bytes(2**20)


def test_only_the_file_that_is_missing_is_downloaded_again(mnist, shelf, tmp_path):
    name = "train-labels-idx1-ubyte.gz"
    content = shelf.files.pop(name)
    with pytest.raises(NotDownloaded, match="files that came whole are kept"):
        load_mnist()
    assert left(tmp_path) == ["train-images-idx3-ubyte.gz"]
    shelf.files[name] = content
    shelf.asked.clear()
    load_mnist()
    assert shelf.asked == [f"/{name}"]


def test_a_mirror_stands_in_for_another_file(shelf, tmp_path):
    """The first address gives a page for everything that is asked of it."""
    archive = shelf.archive("a.gz", b"content")
    shelf.files["portal"] = b"<html>Please log in</html>"
    archive = dataclasses.replace(archive, urls=(shelf.url + "portal", *archive.urls))
    assert archives.fetch(archive).read_bytes() == b"content"
    assert left(tmp_path) == ["a.gz"]


@pytest.mark.parametrize("load", [load_mnist, load_cifar10, load_cifar100])
@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_is_drawn_if_asked_for(shelf, monkeypatch, load, progress):
    bars = []

    def retrieve(url, downloader, **_):
        bars.append(downloader.progressbar)
        raise OSError("no network here")

    monkeypatch.setattr("pooch.retrieve", retrieve)
    with pytest.raises(NotDownloaded):
        load(progress=progress)
    assert set(bars) == {progress}


def test_a_bar_reaches_the_whole_file(shelf, capsys):
    archives.fetch(shelf.archive("a.gz", bytes(300_000)))
    assert "300k/300k" in capsys.readouterr().err.replace(".", "")


def test_without_tqdm_files_come_without_a_bar(shelf, monkeypatch, capsys):
    monkeypatch.setattr(archives, "find_spec", lambda name: None)
    assert archives.fetch(shelf.archive("a.gz", b"content")).read_bytes() == b"content"
    assert "%" not in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(shelf, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("IMPLICIT_BIAS_DATA", str(tmp_path / "file" / "cache"))
    with pytest.raises(NotDownloaded, match=r"(?s)file/cache.*Not a directory"):
        archives.fetch(shelf.archive("a.gz", b"content"))
