"""Matrix products of images: what stable-diffusion.cpp asks for, in every type, shape and layout."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Kind
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.native.kernels import load
from tests.native.products import exact_tokens, expected, images, multiply, random_weights, unfold
from tests.native.variants import HERE, each_variant, needs_avx2

FLOATS = [Kind.F32, Kind.F16, Kind.BF16]
QUANTISED = [Kind.Q4_0, Kind.Q5_0, Kind.Q8_0, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K]
pytestmark = needs_avx2
_attached = each_variant(lambda: load.attach_images(images()))


def products() -> int:
    return load.attach_images(images()).products


@pytest.mark.parametrize("kind", [*FLOATS, *QUANTISED], ids=lambda kind: kind.name)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_product_is_what_the_weights_say(kind: Kind, data: st.DataObject) -> None:
    block = max(8, GGML_QUANT_SIZES[kind][0])
    m, n, k = (
        data.draw(st.integers(1, 70)),
        data.draw(st.integers(24, 40)),
        block * data.draw(st.integers(1, 640 // block)),
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    planes, share = data.draw(st.sampled_from([1, 1, 3])), data.draw(st.sampled_from([1, 2]))
    weights = np.stack([random_weights(rng, kind, m, k) for _ in range(planes)])
    tokens = np.stack([exact_tokens(rng, n, k) for _ in range(planes * share)])
    before = products()
    permuted = data.draw(st.booleans())
    result = multiply(weights, kind, tokens, data.draw(st.integers(1, 3)), lib=images(), permuted=permuted)
    assert products() == before + 1
    for plane in range(planes * share):
        right, magnitude = expected(weights[plane // share], kind, tokens[plane])
        assert (np.abs(result[plane] - right) <= 2e-6 * magnitude + 1e-3).all()


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_convolution_is_halves_times_halves(data: st.DataObject) -> None:
    """Pixels are the weights there, in more columns than are unpacked at a time."""
    m, n, k = data.draw(st.integers(1, 90)), data.draw(st.integers(24, 40)), 8 * data.draw(st.integers(1, 700))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weights, tokens = random_weights(rng, Kind.F16, m, k), rng.normal(size=(n, k)).astype(np.float16)
    before = products()
    result = multiply(weights, Kind.F16, tokens, data.draw(st.integers(1, 3)), lib=images())
    assert products() == before + 1
    right, magnitude = expected(weights, Kind.F16, tokens)
    assert (np.abs(result[0] - right) <= 2e-6 * magnitude).all()


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_an_image_is_unfolded_for_a_convolution(data: st.DataObject) -> None:
    draw: Any = data.draw
    size = (draw(st.integers(1, 20)), draw(st.integers(1, 30)))
    kernel, step, pad, apart = (
        (draw(st.integers(low, high)), draw(st.integers(low, high))) for low, high in ((1, 4), (1, 2), (0, 3), (1, 2))
    )
    assume(all(n + 2 * p > a * (k - 1) for n, p, a, k in zip(size, pad, apart, kernel, strict=True)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = rng.normal(size=(draw(st.integers(1, 2)), draw(st.integers(1, 9)), *size)).astype(
        draw(st.sampled_from([np.float32, np.float16]))
    )
    before = load.attach_images(images()).unfoldings
    result = unfold(image, kernel, step, pad, apart, draw(st.integers(1, 3)))
    assert load.attach_images(images()).unfoldings == before + 1
    wide = np.pad(image.astype(np.float16), ((0, 0), (0, 0), *((p, p) for p in pad)))
    for y, x in np.ndindex(result.shape[1:3]):
        top, left = y * step[0], x * step[1]
        seen = wide[:, :, top : top + apart[0] * kernel[0] : apart[0], left : left + apart[1] * kernel[1] : apart[1]]
        assert (result[:, y, x] == seen[:, :, : kernel[0], : kernel[1]]).all()


@pytest.mark.parametrize(
    ("kind", "n", "k"),
    [(Kind.F32, 23, 64), (Kind.F16, 40, 68), (Kind.Q8_0, 1, 64), (Kind.Q4_1, 40, 256)],
)
def test_what_is_not_ours_stays_the_librarys(kind: Kind, n: int, k: int) -> None:
    rng = np.random.default_rng(1)
    weights, tokens = random_weights(rng, kind, 30, k), exact_tokens(rng, n, k)
    before = products()
    result = multiply(weights, kind, tokens, 2, lib=images())
    assert products() == before
    right, magnitude = expected(weights, kind, tokens)
    assert (np.abs(result[0] - right) <= 1e-3 * magnitude).all()


def test_the_two_libraries_do_not_meet() -> None:
    """Each has a ggml of its own, and threads of its own."""
    rng = np.random.default_rng(2)
    weights, tokens = random_weights(rng, Kind.Q8_0, 64, 256), exact_tokens(rng, 30, 256)
    before = products()
    assert np.array_equal(
        multiply(weights, Kind.Q8_0, tokens, 2), multiply(weights, Kind.Q8_0, tokens, 2, lib=images())
    )
    assert products() == before + 1


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("on", f"matrix products: ours for {HERE[-1]}"),
        ("avx2", "matrix products: ours for avx2"),
        ("off", "matrix products: stable-diffusion.cpp's own (LLAMA_BOX_KERNELS is off)"),
    ],
)
def test_a_process_that_makes_images_says_whose_products_it_uses(variable: str, said: str) -> None:
    code = (
        "import logging; logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "from engine.native.sd import library; library.load()"
    )
    environment = {**os.environ, "LLAMA_BOX_KERNELS": variable}
    command = [sys.executable, "-c", code]
    process = subprocess.run(
        command, check=True, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert said in process.stderr.splitlines()
