"""Options of completions: devices, memory and threads."""

from functools import partial
from typing import Final

from cli import forms
from cli.kinds import Form, Whole, members, text
from cli.option import Option, Section
from engine.native.options import Numa, SplitMode

_option = partial(Option, section=Section.COMPLETION)
_later = partial(_option, available=False)
_threads = Whole(minimum=1, maximum=512, also=(-1,), none=-1)

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
    _later(flags="-cmoe --cpu-moe", help="keep the weights of all experts in main memory"),
    _later(flags="-ncmoe --n-cpu-moe", kind=Whole(minimum=0), metavar="N", help="the same for the first N layers"),
    _later(flags="-cmoed --cpu-moe-draft", help="--cpu-moe for the draft model"),
    _later(
        flags="-ncmoed --n-cpu-moe-draft", kind=Whole(minimum=0), metavar="N", help="--n-cpu-moe for the draft model"
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
    *(
        option
        for batch, short, whose in (("", "", "the generating threads"), ("-batch", "b", "the prompt threads"))
        for option in (
            _later(
                flags=f"-C{short} --cpu-mask{batch}",
                kind=text("a hexadecimal mask"),
                metavar="MASK",
                help=f"processors for {whose}",
            ),
            _later(
                flags=f"-Cr{short} --cpu-range{batch}",
                kind=text("FIRST-LAST"),
                metavar="FIRST-LAST",
                help=f"processors for {whose}",
            ),
            _later(
                flags=f"--cpu-strict{batch}",
                kind=Whole(minimum=0, maximum=1),
                metavar="0|1",
                help=f"one processor for each of {whose}",
            ),
            _later(
                flags=f"--prio{batch}",
                kind=Whole(minimum=0, maximum=3),
                metavar="N",
                help=f"priority of {whose}, 0 = normal to 3 = real time",
            ),
            _later(
                flags=f"--poll{batch}",
                kind=Whole(minimum=0, maximum=100),
                metavar="N",
                help=f"how long {whose} spin before they sleep, 0 = not",
            ),
        )
    ),
)

PROCESSING: Final = (*_DEVICES, *_PROCESSOR)
