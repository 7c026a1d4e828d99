"""A loaded model and its facts."""

import ctypes
import weakref
from collections.abc import Callable
from typing import Any, Final

import attrs

from engine.errors import ModelLoadError
from engine.native import devices, library
from engine.native.gguf_file import check_file, read_gguf
from engine.native.log import explain, native_log
from engine.native.options import MetadataValue, ModelOptions, SplitMode
from engine.native.placement import buffer_types_of
from engine.native.vocab import LlamaVocab

_KEY_BYTES: Final = 127  # room of a metadata override's key and of its text, without the terminator

type Progress = Callable[[float], bool]
"""Gets the loaded share (0 to 1); False stops the loading. Called on the loading thread."""


class Model:
    """The weights and the vocabulary. ``handle`` is the native pointer."""

    def __init__(self, options: ModelOptions, progress: Progress | None = None) -> None:
        """Load the file. Raises ModelLoadError, which names the file and the reason."""
        self.options = options
        self.path = options.path
        check_file(options.path)
        self.lib = library.start()
        params, keep_alive = _params(self.lib, options, progress)
        with native_log.collect_errors() as errors:
            handle = self.lib.llama_model_load_from_file(str(options.path).encode(), params)
        del keep_alive  # the library has copied what it needs
        if not handle:
            raise ModelLoadError(f"cannot load {options.path}: {explain(errors)}{_hint(options.path)}")
        self.handle: Any = handle
        self.vocab = LlamaVocab(self.lib, self.lib.llama_model_get_vocab(handle))
        self._dependents: weakref.WeakSet[Any] = weakref.WeakSet()

    @property
    def closed(self) -> bool:
        """Whether the model has been freed."""
        return self.handle is None

    def register(self, dependent: Any) -> None:
        """Have ``dependent.close()`` called before the model is freed (contexts, adapters)."""
        self._dependents.add(dependent)

    def close(self) -> None:
        """Free the model and, before it, what was registered. Idempotent."""
        if self.handle is None:
            return
        for dependent in list(self._dependents):
            dependent.close()
        self.vocab.close()
        handle, self.handle = self.handle, None
        self.lib.llama_model_free(handle)

    def facts(self) -> "ModelFacts":
        """What the file says about itself."""
        metadata = self._metadata()
        lib, handle = self.lib, self.handle
        return ModelFacts(
            description=self._description(),
            architecture=metadata.get("general.architecture", ""),
            n_ctx_train=lib.llama_model_n_ctx_train(handle),
            n_embd=lib.llama_model_n_embd(handle),
            n_layer=lib.llama_model_n_layer(handle),
            n_params=lib.llama_model_n_params(handle),
            size=lib.llama_model_size(handle),
            n_swa=lib.llama_model_n_swa(handle),
            is_recurrent=bool(lib.llama_model_is_recurrent(handle) or lib.llama_model_is_hybrid(handle)),
            has_encoder=bool(lib.llama_model_has_encoder(handle)),
            chat_template=self._template(None),
            tool_template=self._template(b"tool_use"),
            rerank_template=self._template(b"rerank"),
            n_embd_out=lib.llama_model_n_embd_out(handle),
            n_scores=lib.llama_model_n_cls_out(handle),
            metadata=metadata,
        )

    def _description(self) -> str:
        return _read_text(self.lib.llama_model_desc, self.handle)

    def _template(self, name: bytes | None) -> str | None:
        raw = self.lib.llama_model_chat_template(self.handle, name)
        return raw.decode("utf-8", "replace") if raw else None

    def _metadata(self) -> dict[str, str]:
        lib, handle = self.lib, self.handle
        return {
            _read_text(lib.llama_model_meta_key_by_index, handle, index): _read_text(
                lib.llama_model_meta_val_str_by_index, handle, index
            )
            for index in range(lib.llama_model_meta_count(handle))
        }


@attrs.frozen(kw_only=True)
class ModelFacts:
    """The model's part of ``engine.text.info.ModelInfo``. Counts in tokens, ``size`` in bytes."""

    description: str
    architecture: str
    n_ctx_train: int
    n_embd: int
    n_layer: int
    n_params: int
    size: int
    n_swa: int
    is_recurrent: bool  # hybrid models included: their state cannot be cut either
    has_encoder: bool
    chat_template: str | None
    tool_template: str | None
    rerank_template: str | None
    n_embd_out: int  # length of an embedding
    n_scores: int  # outputs of the rank head, 1 where the file says nothing (and where there is no such head)
    metadata: dict[str, str]


def _read_text(function: Any, *args: Any) -> str:
    """The text that a native ``snprintf``-like ``function(*args, buffer, size)`` writes."""
    room = 256
    while True:
        buffer = ctypes.create_string_buffer(room)
        n = function(*args, buffer, room)
        if n < room:
            return buffer.value.decode("utf-8", "replace")
        room = n + 1


def _hint(path: str) -> str:
    """What else a sound file that the library does not know may be."""
    try:
        file = read_gguf(path)
    except ModelLoadError:
        return ""
    speaks = "tokenizer.ggml.model" in file.metadata or any(tensor.name.startswith("blk.") for tensor in file.tensors)
    return "" if speaks or not file.tensors else "; if it is an image model: --images serves it"


def _params(lib: Any, options: ModelOptions, progress: Progress | None) -> tuple[Any, list[Any]]:
    """llama_model_params, and the objects that must live until the load has ended."""
    params = lib.llama_model_default_params()
    keep_alive: list[Any] = []
    params.n_gpu_layers = options.n_gpu_layers
    params.split_mode = {
        SplitMode.NONE: lib.LLAMA_SPLIT_MODE_NONE,
        SplitMode.LAYER: lib.LLAMA_SPLIT_MODE_LAYER,
        SplitMode.ROW: lib.LLAMA_SPLIT_MODE_ROW,
    }[options.split_mode]
    params.main_gpu = options.main_gpu
    params.load_mode = {
        (True, False): lib.LLAMA_LOAD_MODE_MMAP,
        (True, True): lib.LLAMA_LOAD_MODE_MMAP_MLOCK,
        (False, False): lib.LLAMA_LOAD_MODE_NONE,
        (False, True): lib.LLAMA_LOAD_MODE_MLOCK,
    }[options.use_mmap, options.use_mlock]
    params.use_extra_bufts = options.extra_buffers
    if options.devices is not None:
        handles = _device_handles(options.devices, options.path)
        array = (ctypes.c_void_p * (len(handles) + 1))(*handles, None)
        params.devices = ctypes.addressof(array)
        keep_alive.append(array)
    if options.tensor_overrides:
        buffer_overrides = _buffer_overrides(options)
        params.tensor_buft_overrides = ctypes.addressof(buffer_overrides)
        keep_alive.append(buffer_overrides)
    if options.tensor_split:
        params.tensor_split = _tensor_split(lib, options)
    if options.metadata_overrides:
        overrides = _overrides(lib, options)
        params.kv_overrides = overrides
        keep_alive.append(overrides)
    if progress is not None:
        callback = lib.llama_progress_callback(lambda share, _user_data: progress(share))
        params.progress_callback = callback
        keep_alive.append(callback)
    return params, keep_alive


def _device_handles(names: tuple[str, ...], path: str) -> list[int]:
    usable = {device.name: device for device in devices.devices() if device.type is not devices.DeviceType.CPU}
    for name in names:
        if name not in usable:
            known = ", ".join(usable) or "none but the CPU"
            raise ModelLoadError(f"cannot load {path}: unknown device {name} (known: {known})")
    return [usable[name].handle for name in names]


def _tensor_split(lib: Any, options: ModelOptions) -> Any:
    most: int = lib.llama_max_devices()
    if len(options.tensor_split) > most:
        raise ModelLoadError(
            f"cannot load {options.path}: a tensor split over {len(options.tensor_split)} devices, at most {most} fit"
        )
    return (ctypes.c_float * most)(*options.tensor_split)


class _BufferOverride(ctypes.Structure):
    """llama_model_tensor_buft_override."""

    _fields_ = [("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p)]  # ctypes wants a list


def _buffer_overrides(options: ModelOptions) -> Any:
    known = buffer_types_of(options.devices, options.split_mode, options.main_gpu)
    array = (_BufferOverride * (len(options.tensor_overrides) + 1))()  # the entry without a pattern ends it
    for entry, (pattern, name) in zip(array, options.tensor_overrides, strict=False):
        if name not in known:
            raise ModelLoadError(f"cannot load {options.path}: no buffer type {name} (known: {', '.join(known)})")
        entry.pattern, entry.buffer_type = pattern.encode(), known[name]
    return array


def _overrides(lib: Any, options: ModelOptions) -> Any:
    pairs = options.metadata_overrides
    array = (lib.llama_model_kv_override * (len(pairs) + 1))()  # the entry with the empty key ends it
    for entry, (key, value) in zip(array, pairs, strict=False):
        raw = key.encode()
        if not 0 < len(raw) <= _KEY_BYTES:
            raise ModelLoadError(f"cannot load {options.path}: the override key {key!r} must have 1 to 127 bytes")
        entry.key = raw
        _set_override(lib, entry, value, options.path)
    return array


def _set_override(lib: Any, entry: Any, value: MetadataValue, path: str) -> None:
    match value:
        case bool():  # before int, which it is too
            entry.tag, entry.value.val_bool = lib.LLAMA_KV_OVERRIDE_TYPE_BOOL, value
        case int():
            entry.tag, entry.value.val_i64 = lib.LLAMA_KV_OVERRIDE_TYPE_INT, value
        case float():
            entry.tag, entry.value.val_f64 = lib.LLAMA_KV_OVERRIDE_TYPE_FLOAT, value
        case str():
            raw = value.encode()
            if len(raw) > _KEY_BYTES:
                raise ModelLoadError(f"cannot load {path}: the override text {value[:20]!r}… is longer than 127 bytes")
            entry.tag, entry.value.val_str = lib.LLAMA_KV_OVERRIDE_TYPE_STR, raw
