"""Matrix products of our own: the same numbers as the weights say, in every shape, by any number of threads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.native import library
from engine.native.gguf_file import Tensor
from engine.native.kernels import build, load
from tests.native.products import exact_tokens, expected, multiply, multiply_experts, random_weights, with_scales
from tests.native.variants import HAS_AVX2, HERE, PROCESSOR, each_variant, needs_avx2

OURS = [
    *(Kind.Q4_0, Kind.Q5_0, Kind.Q8_0, Kind.IQ4_NL, Kind.MXFP4),
    *(Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.IQ4_XS),
]
_attached = each_variant(lambda: load.attach(library.start()._lib))


def products() -> int:
    return load.Kernels(load.attach(library.start()._lib).library).products


@needs_avx2
@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.name)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_product_is_what_the_weights_say(kind: Kind, data: st.DataObject) -> None:
    m, n = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 14))
    block = GGML_QUANT_SIZES[kind][0]
    k = block * data.draw(st.integers(1, 1280 // block))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weights, tokens = random_weights(rng, kind, m, k), exact_tokens(rng, n, k)
    before = products()
    result = multiply(weights, kind, tokens, data.draw(st.integers(1, 3)))
    assert products() == before + 1
    right, magnitude = expected(weights, kind, tokens)
    assert (np.abs(result[0] - right) <= 2e-6 * magnitude + 1e-3).all()


@needs_avx2
@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.name)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_an_expert_is_multiplied_with_the_tokens_that_chose_it(kind: Kind, data: st.DataObject) -> None:
    n_experts, used = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    m, n = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 14))
    block = GGML_QUANT_SIZES[kind][0]
    k = block * data.draw(st.integers(1, 512 // block))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weights = np.stack([random_weights(rng, kind, m, k) for _ in range(n_experts)])
    rows = data.draw(st.sampled_from([1, used]))  # of a token: one for all its experts, or one for each
    tokens = exact_tokens(rng, n * rows, k).reshape(n, rows, k)
    chosen = rng.integers(0, n_experts, (n, used), dtype=np.int32)
    before = products()
    result = multiply_experts(weights, kind, tokens, chosen, data.draw(st.integers(1, 3)))
    assert products() == before + len(np.unique(chosen))
    for token, slot in np.ndindex(chosen.shape):
        right, magnitude = expected(weights[chosen[token, slot]], kind, tokens[token, slot % rows][None])
        assert (np.abs(result[token, slot] - right[0]) <= 2e-6 * magnitude[0] + 1e-3).all()


@needs_avx2
@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16], ids=lambda kind: kind.name)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_halves_are_multiplied_as_floats(kind: Kind, data: st.DataObject) -> None:
    m, n, k = data.draw(st.integers(1, 70)), data.draw(st.integers(48, 66)), 8 * data.draw(st.integers(1, 50))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weights, tokens = random_weights(rng, kind, m, k), rng.normal(size=(n, k)).astype(np.float32)
    before = products()
    result = multiply(weights, kind, tokens, data.draw(st.integers(1, 3)))
    assert products() == before + 1
    right, magnitude = expected(weights, kind, tokens)
    assert (np.abs(result[0] - right) <= 2e-6 * magnitude).all()


@needs_avx2
@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("byte", [0x00, 0x7F, 0x80, 0xFF])
def test_the_largest_quants_do_not_overflow(kind: Kind, byte: int) -> None:
    rng = np.random.default_rng(byte)
    weights = with_scales(rng, kind, np.full_like(random_weights(rng, kind, 16, 512), byte))
    tokens = np.full((8, 512), 127, np.float32) * np.float32([[1], [-1]] * 4)
    tokens[2:4, ::2] *= -1
    right, magnitude = expected(weights, kind, tokens)
    for first, last in ((0, 8), *zip(range(4), range(1, 5), strict=True), (1, 4)):
        result = multiply(weights, kind, tokens[first:last], 1)[0]
        assert (np.abs(result - right[first:last]) <= 2e-6 * magnitude[first:last] + 1e-3).all()


@needs_avx2
@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 127, 200])
@pytest.mark.parametrize("n", [1, 3, 6])
def test_scales_that_are_powers_of_two(exponent: int, n: int) -> None:
    rng = np.random.default_rng(exponent)
    weights, tokens = random_weights(rng, Kind.MXFP4, 20, 32 * 5), exact_tokens(rng, n, 32 * 5)
    weights.reshape(-1, 17)[:, 0] = exponent
    right, magnitude = expected(weights, Kind.MXFP4, tokens)
    assert (np.abs(multiply(weights, Kind.MXFP4, tokens, 2)[0] - right) <= 2e-6 * magnitude).all()
    assert magnitude.all()


@needs_avx2
@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.name)
def test_a_token_gets_the_same_whatever_is_beside_it(kind: Kind) -> None:
    rng = np.random.default_rng(5)
    weights, tokens = random_weights(rng, kind, 72, 512), rng.normal(size=(27, 512)).astype(np.float32)
    together = multiply(weights, kind, tokens, 2)[0]
    for first, count in ((0, 2), (3, 3), (6, 4), (0, 5), (3, 7), (2, 8), (1, 9)):  # with a panel, and without
        part = multiply(weights, kind, tokens[first : first + count], 3)[0]
        assert (part == together[first : first + count]).all()


@needs_avx2
@pytest.mark.parametrize("n", [1, 2, 5])
def test_several_products_in_one_operation(n: int) -> None:
    """As in attention over a quantised cache: each plane hands out its rows to the threads anew."""
    rng = np.random.default_rng(6)
    weights = np.stack([random_weights(rng, Kind.Q8_0, 200, 256) for _ in range(3)])
    tokens = np.stack([exact_tokens(rng, n, 256) for _ in range(3)])
    result = multiply(weights, Kind.Q8_0, tokens, 3)
    for plane in range(3):
        right, magnitude = expected(weights[plane], Kind.Q8_0, tokens[plane])
        assert (np.abs(result[plane] - right) <= 2e-6 * magnitude + 1e-3).all()


@needs_avx2
@pytest.mark.parametrize(
    ("kind", "n"), [(Kind.F16, 60), (Kind.Q8_0, 1), (Kind.Q8_0, 2), (Kind.Q8_0, 9), (Kind.Q4_K, 1)]
)
def test_each_product_begins_with_its_first_rows(kind: Kind, n: int) -> None:
    """Also where the counter of jobs is still that of the product before."""
    rng = np.random.default_rng(8)
    weights, tokens = random_weights(rng, kind, 400, 512), exact_tokens(rng, n, 512)
    before = products()
    result = multiply(weights, kind, tokens, 2, times=3)
    assert products() == before + 3
    right, magnitude = expected(weights, kind, tokens)
    assert (np.abs(result[0] - right) <= 2e-6 * magnitude + 1e-3).all()


@needs_avx2
@pytest.mark.parametrize(
    ("kind", "n", "k"),
    [
        (Kind.F16, 1, 512),
        (Kind.Q4_1, 1, 512),
        (Kind.Q4_1, 9, 512),
        (Kind.Q4_1, 2, 512),
        (Kind.F16, 47, 512),
        (Kind.F16, 60, 516),
        (Kind.BF16, 60, 516),
    ],
)
def test_what_is_not_ours_goes_to_llama_cpp(kind: Kind, n: int, k: int) -> None:
    rng = np.random.default_rng(7)
    weights, tokens = random_weights(rng, kind, 64, k), exact_tokens(rng, n, k)
    before = products()
    result = multiply(weights, kind, tokens, 2)
    assert products() == before
    right, magnitude = expected(weights, kind, tokens)
    assert (np.abs(result[0] - right) <= 1e-3 * magnitude).all()


def test_this_machine_uses_them_where_they_win() -> None:
    """An installation without them would only be slow: nobody would notice."""
    without_ours = "amx_int8" in PROCESSOR or ("avx512f" in PROCESSOR and HERE == ["avx2"])
    assert library.kernels().variant == (HERE[-1] if HAS_AVX2 and not without_ours else None)


@pytest.mark.parametrize(
    ("wish", "flags", "variant"),
    [
        ("", "avx2 fma", "avx2"),
        ("", "avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni", "avx512"),
        ("avx2", "avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni", "avx2"),
        ("on", "avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni amx_int8", "avx512"),
        ("on", "avx2 avx512f avx512bw", "avx2"),
        ("avx512", "avx2", "avx512"),
    ],
)
def test_which_kind_a_processor_gets(
    wish: str, flags: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {flags} xsave\n")
    monkeypatch.setenv(load.VARIABLE, wish)
    asked: list[str] = []

    def library_of(variant: str) -> Path:
        asked.append(variant)
        return tmp_path / "none.so"

    monkeypatch.setattr(build, "supported", lambda: True)
    monkeypatch.setattr(build, "library", library_of)
    assert load.attach(object(), tmp_path / "cpuinfo").reason == "they are not compiled: run tools/install.py"
    assert asked == [variant]


@pytest.mark.parametrize(
    ("variable", "flags", "reason"),
    [
        ("off", "avx2", "LLAMA_BOX_KERNELS is off"),
        (
            "",
            "avx2 avx512f fma",
            "this processor has AVX-512 without VNNI, for which they are not made (LLAMA_BOX_KERNELS=on tries them)",
        ),
        (
            "",
            "avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni amx_int8",
            "this processor has AMX, which they do not use (LLAMA_BOX_KERNELS=on tries them)",
        ),
        ("", "avx2 fma", "they are not compiled: run tools/install.py"),
        ("on", "avx2 avx512f fma", "they are not compiled: run tools/install.py"),
        ("fast", "avx2 fma", "LLAMA_BOX_KERNELS is none of off, on, avx2, avx512"),
    ],
)
def test_why_they_are_not_used(
    variable: str, flags: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags\t\t: fpu {flags} xsave\n")
    monkeypatch.setenv(load.VARIABLE, variable)
    monkeypatch.setattr(build, "supported", lambda: True)
    monkeypatch.setattr(build, "library", lambda variant: tmp_path / "none.so")
    kernels = load.attach(object(), cpuinfo)
    assert (kernels.library, kernels.reason, kernels.products) == (None, reason, 0)


def test_other_systems_and_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(load.VARIABLE, "on")
    monkeypatch.setattr(build, "supported", lambda: False)
    assert load.attach(object()).reason == "there are none for this system"
    monkeypatch.setattr(build, "supported", lambda: True)
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(build, "library", lambda variant: broken)
    (tmp_path / "cpuinfo").write_text("flags : avx2\n")
    assert (
        load.attach(object(), tmp_path / "cpuinfo").reason == "this build of the library has no llamafile_sgemm to find"
    )
    assert "broken.so" in str(load.attach(library.start()._lib, tmp_path / "cpuinfo").reason)


@pytest.mark.parametrize(("types", "ours"), [((0, 8, 6), True), ((0, 1, 30), True), ((12, 14, 3), False)])
def test_what_of_a_model_is_ours(types: tuple[int, ...], ours: bool) -> None:
    assert load.all_ours(Tensor(f"t{kind}", (256, 64), kind, 0) for kind in types) == ours


def test_the_types_are_those_that_are_tried_here() -> None:
    assert {int(kind) for kind in OURS} == load.TYPES


@needs_avx2
def test_the_build_replaces_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.cpp").write_text('#include "two.h"\nint two() { return TWO; }\n')
    (tmp_path / "two.h").write_text("#error another machine\n")
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    (tmp_path / "llamabox-kernels-old.so").write_text("")
    with pytest.raises(subprocess.CalledProcessError):
        build.build()
    assert build.main() == 1
    assert [path.name for path in tmp_path.glob("*.so*")] == ["llamabox-kernels-old.so"]
    (tmp_path / "two.h").write_text("#define TWO 2\n")
    assert build.build() == [build.library(variant) for variant in build.VARIANTS]
    assert {path for path in tmp_path.iterdir() if path.suffix == ".so"} == set(build.build())


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    monkeypatch.setattr(build, "supported", lambda: True)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert build.main() == 1
    assert "no C++ compiler: no-such-compiler" in capsys.readouterr().err
    monkeypatch.setattr(build, "supported", lambda: False)
    assert build.main() == 0


def test_off_is_off_in_a_process_of_its_own() -> None:
    code = (
        "from engine.native import library; import numpy as np;"
        "from tests.native.products import *; from gguf import GGMLQuantizationType as K;"
        "rng = np.random.default_rng(1); w = random_weights(rng, K.Q8_0, 64, 256); t = exact_tokens(rng, 8, 256);"
        "k = library.kernels(); r = multiply(w, K.Q8_0, t, 2)[0]; e, m = expected(w, K.Q8_0, t);"
        "assert k.library is None and k.products == 0, k; assert (abs(r - e) <= 2e-6 * m + 1e-3).all()"
    )
    environment = {"LLAMA_BOX_KERNELS": "off", "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])
