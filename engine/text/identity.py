"""What the cells of a KV cache depend on, as fingerprints: a state that was saved with another one is of no use."""

import hashlib

import attrs

from engine.errors import StorageError
from engine.native import library
from engine.native.fingerprint import SIZE, fingerprint
from engine.native.options import AdapterOptions, ContextOptions, ModelOptions
from engine.text.snapshot import Identity

# What may differ: how large the cache and a batch are, and who computes.
_WITHOUT_EFFECT = ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_threads", "n_threads_batch", "offload_kqv")


def identify(model: ModelOptions, context: ContextOptions, adapters: AdapterOptions) -> Identity:
    """Raises StorageError when a file cannot be read (any more)."""
    # Nor does it matter whether sequences share cells; the name stays, for the fingerprints of files that exist.
    settings = attrs.asdict(attrs.evolve(context, kv_unified=True))
    settings = {key: value for key, value in settings.items() if key not in _WITHOUT_EFFECT}
    try:
        digest = hashlib.blake2b(digest_size=SIZE)
        digest.update(fingerprint(model.path))
        for vector in adapters.control_vectors:
            digest.update(fingerprint(vector.path))
        scales = [vector.scale for vector in adapters.control_vectors]
        rest = (library.package_version(), model.metadata_overrides, settings, scales, adapters.control_layers)
        digest.update(repr(rest).encode())
        return Identity(model=digest.digest(), adapters=tuple(fingerprint(lora.path) for lora in adapters.loras))
    except OSError as error:
        raise StorageError(f"cannot tell what was loaded: {error}") from error
