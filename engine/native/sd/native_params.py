"""Our options as the library's structures."""

import ctypes
from typing import Any

from engine.native.sd.image import ImageParams, Pixels
from engine.native.sd.options import ImageModelOptions


def context_params(module: Any, options: ImageModelOptions) -> Any:
    """A filled ``sd_ctx_params_t``. The strings belong to it."""
    params = module.sd_ctx_params_t()
    module._lib.sd_ctx_params_init(ctypes.byref(params))  # noqa: SLF001  # see library.native
    for field, path in (
        ("model_path", options.model),
        ("diffusion_model_path", options.diffusion_model),
        ("clip_l_path", options.clip_l),
        ("clip_g_path", options.clip_g),
        ("t5xxl_path", options.t5xxl),
        ("llm_path", options.llm),
        ("vae_path", options.vae),
        ("taesd_path", options.taesd),
        ("control_net_path", options.control_net),
    ):
        setattr(params, field, path.encode() if path is not None else None)
    params.vae_decode_only = False  # editing needs the encoder
    params.free_params_immediately = False  # else the second image is computed from freed memory
    params.tae_preview_only = options.vae is not None
    params.n_threads = options.n_threads
    if options.weight_type is not None:
        params.wtype = options.weight_type.value
    params.lora_apply_mode = options.lora_mode.value
    params.offload_params_to_cpu = options.offload_params_to_cpu
    params.enable_mmap = options.use_mmap
    params.keep_clip_on_cpu = options.keep_text_encoder_on_cpu
    params.keep_vae_on_cpu = options.keep_vae_on_cpu
    params.keep_control_net_on_cpu = options.keep_control_net_on_cpu
    params.flash_attn = options.flash_attention
    params.diffusion_flash_attn = options.flash_attention
    return params


def image_struct(module: Any, image: Pixels | None) -> Any:
    """An ``sd_image_t`` over a copy of the pixels, which it keeps; an empty one for None."""
    struct = module.sd_image_t()
    if image is not None:
        buffer = (ctypes.c_uint8 * len(image.data)).from_buffer_copy(image.data)
        struct.width, struct.height, struct.channel = image.width, image.height, image.channels
        struct.data = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_uint8))
    return struct


def image_params(module: Any, params: ImageParams) -> Any:
    """A filled ``sd_img_gen_params_t`` for one image. The arrays and strings belong to it."""
    native = module.sd_img_gen_params_t()
    module._lib.sd_img_gen_params_init(ctypes.byref(native))  # noqa: SLF001  # see library.native
    native.prompt = params.prompt.encode()
    native.negative_prompt = params.negative_prompt.encode()
    native.width, native.height = params.width, params.height
    native.seed = params.seed
    native.batch_count = 1
    native.strength = params.strength
    native.init_image = image_struct(module, params.init_image)
    native.mask_image = image_struct(module, params.mask)
    native.control_image = image_struct(module, params.control_image)
    native.control_strength = params.control_strength
    native.vae_tiling_params.enabled = params.vae_tiling
    sample = native.sample_params
    sample.sample_method = params.sampler.value
    sample.scheduler = params.schedule.value
    sample.sample_steps = params.steps
    sample.guidance.txt_cfg = params.cfg_scale
    sample.guidance.distilled_guidance = params.guidance
    if params.slg_scale:
        slg = sample.guidance.slg
        slg.scale, slg.layer_start, slg.layer_end = params.slg_scale, params.slg_start, params.slg_end
        slg.layers = (ctypes.c_int * len(params.slg_layers))(*params.slg_layers)
        slg.layer_count = len(params.slg_layers)
    if params.loras:
        loras = (module.sd_lora_t * len(params.loras))()
        for entry, use in zip(loras, params.loras, strict=True):
            entry.path, entry.multiplier = use.path.encode(), use.scale
        native.loras = ctypes.cast(loras, ctypes.POINTER(module.sd_lora_t))
        native.lora_count = len(params.loras)
    return native
