"""Options of completions: devices, memory and threads."""

from functools import partial
from typing import Final

from cli import forms
from cli import placement_forms as placement
from cli.kinds import Form, Whole, Words, members
from cli.option import Option, Section
from engine.native.options import Numa, SplitMode

_option = partial(Option, section=Section.COMPLETION)
_threads = Whole(minimum=1, maximum=512, also=(-1,), none=-1)


def _threads_of(batch: str, short: str, whose: str, field: str) -> tuple[Option, ...]:
    """The options about where and how a team of threads runs."""
    default = "as {}" if batch else ""
    processors = partial(
        _option,
        setting=f"engine.context.{field}.processors",
        repeat=True,
    )
    return (
        processors(
            flags=f"-C{short} --cpu-mask{batch}",
            kind=Form("a hexadecimal mask with a bit set", placement.cpu_mask),
            metavar="MASK",
            default=default.format("--cpu-mask") or "all",
            help=f"processors for {whose}, bit 0 for the first; adds to --cpu-range{batch}",
        ),
        processors(
            flags=f"-Cr{short} --cpu-range{batch}",
            kind=Form("FIRST-LAST", placement.cpu_range),
            metavar="FIRST-LAST",
            default=default.format("--cpu-range") or "all",
            help=f"processors for {whose}; adds to --cpu-mask{batch}",
        ),
        _option(
            flags=f"--cpu-strict{batch}",
            kind=Words({"0": False, "1": True}),
            metavar="0|1",
            setting=f"engine.context.{field}.strict",
            default=default.format("--cpu-strict") or "0",
            help=f"one processor for each of {whose}",
        ),
        _option(
            flags=f"--prio{batch}",
            kind=Whole(minimum=0, maximum=3),
            metavar="N",
            setting=f"engine.context.{field}.priority",
            default=default.format("--prio") or "0",
            help=f"priority of {whose}: 0 normal, 1 to 3 real time, which the system must allow",
        ),
        _option(
            flags=f"--poll{batch}",
            kind=Whole(minimum=0, maximum=100),
            metavar="N",
            setting=f"engine.context.{field}.poll",
            default=default.format("--poll") or "about 1",
            help=f"how long {whose} spin before they sleep, in units of 131,072 rounds; 0 = not at all",
        ),
    )


_DEVICES = (
    _option(
        flags="-dev --device",
        kind=Form("device names by comma, or none", forms.devices),
        metavar="NAME,...",
        env="DEVICE",
        setting="engine.model.devices",
        default="all",
        help="devices to use (see --list-devices); none = only the processor",
    ),
    _option(
        flags="-sm --split-mode",
        kind=members(SplitMode),
        metavar="none|layer|row",
        setting="engine.model.split_mode",
        help="how the model is split over several devices",
    ),
    _option(
        flags="-mg --main-gpu",
        kind=Whole(minimum=0),
        metavar="N",
        setting="engine.model.main_gpu",
        help="the device that holds the model with --split-mode none",
    ),
    _option(
        flags="--override-kv",
        kind=Form("KEY=TYPE:VALUE with TYPE int, float, bool or str", forms.metadata),
        metavar="KEY=TYPE:VALUE",
        setting="engine.model.metadata_overrides",
        repeat=True,
        default="none",
        help="replace a value of the model's metadata; repeatable",
    ),
    _option(
        off="-nkvo --no-kv-offload",
        setting="engine.context.offload_kqv",
        default="offloaded",
        help="keep the KV cache in main memory",
    ),
    _option(
        off="-nr --no-repack",
        setting="engine.model.extra_buffers",
        default="repacked",
        help="leave the weights as they are in the file",
    ),
    _option(
        flags="--mlock",
        setting="engine.model.use_mlock",
        help="forbid the system to swap the model out",
    ),
    _option(
        flags="--mmap",
        off="--no-mmap",
        setting="engine.model.use_mmap",
        help="map the model file instead of reading it",
    ),
    _option(
        flags="--numa",
        kind=members(Numa, but=(Numa.DISABLED,)),
        metavar="distribute|isolate|numactl",
        setting="engine.numa",
        default="off",
        help="how threads and memory are placed on machines with several memory nodes",
    ),
    _option(
        flags="-cmoe --cpu-moe",
        default="off",
        help="keep the weights of all experts in main memory",
    ),
    _option(
        flags="-ncmoe --n-cpu-moe",
        kind=Whole(minimum=0, maximum=1000),
        metavar="N",
        default="0",
        help="the same for the first N layers",
    ),
    _option(flags="-cmoed --cpu-moe-draft", default="off", help="--cpu-moe for the draft model"),
    _option(
        flags="-ncmoed --n-cpu-moe-draft",
        kind=Whole(minimum=0, maximum=1000),
        metavar="N",
        default="0",
        help="--n-cpu-moe for the draft model",
    ),
)

_PROCESSOR = (
    _option(
        flags="-t --threads",
        kind=_threads,
        metavar="N",
        env="THREADS",
        setting="engine.context.n_threads",
        default="-1: physical cores",
        help="threads that generate",
    ),
    _option(
        flags="-tb --threads-batch",
        kind=_threads,
        metavar="N",
        setting="engine.context.n_threads_batch",
        default="-1: as --threads",
        help="threads that process prompts",
    ),
    *_threads_of("", "", "the generating threads", "placement"),
    *_threads_of("-batch", "b", "the prompt threads", "placement_batch"),
)

PROCESSING: Final = (*_DEVICES, *_PROCESSOR)
