"""What each option about images is seen by: one line an option."""

from collections.abc import Mapping

from tests.options.image_probing import (
    control_pixels,
    image_info,
    in_image,
    in_image_model,
    layers_of,
    thread_priority,
    upscaler_of,
    upscalings,
)
from tests.options.probing import Probe, Shown

IMAGE_PROBES: Mapping[str, Probe | Shown] = {
    "--images": lambda settings: (settings.has_text, in_image_model("model_path")(settings)),
    "--image-model": in_image_model("model_path"),
    "--image-lora": image_info("loras"),
    "--image-max-batch": image_info("max_batch"),
    "--image-max-height": image_info("max_height"),
    "--image-max-width": image_info("max_width"),
    "--image-guidance": in_image(lambda params: params.sample_params.guidance.distilled_guidance),
    "--image-strength": in_image(lambda params: params.strength),
    "--image-sample-method": in_image(lambda params: params.sample_params.sample_method),
    "--image-sampling-steps": in_image(lambda params: params.sample_params.sample_steps),
    "--image-cfg-scale": in_image(lambda params: params.sample_params.guidance.txt_cfg),
    "--image-slg-scale": in_image(lambda params: params.sample_params.guidance.slg.scale),
    "--image-slg-skip-layer": in_image(layers_of),
    "--image-slg-start": in_image(lambda params: params.sample_params.guidance.slg.layer_start),
    "--image-slg-end": in_image(lambda params: params.sample_params.guidance.slg.layer_end),
    "--image-schedule-method": in_image(lambda params: params.sample_params.scheduler),
    "--image-no-text-encoder-model-offload": in_image_model("keep_clip_on_cpu"),
    "--image-no-vae-model-offload": in_image_model("keep_vae_on_cpu"),
    "--image-no-control-net-model-offload": in_image_model("keep_control_net_on_cpu"),
    "--image-clip-l-model": in_image_model("clip_l_path"),
    "--image-clip-g-model": in_image_model("clip_g_path"),
    "--image-t5xxl-model": in_image_model("t5xxl_path"),
    "--image-llm-model": in_image_model("llm_path"),
    "--image-vae-model": in_image_model("vae_path"),
    "--image-vae-tiling": in_image(lambda params: params.vae_tiling_params.enabled),
    "--image-taesd-model": in_image_model("taesd_path"),
    "--image-upscale-model": upscaler_of,
    "--image-upscale-repeats": upscalings,
    "--image-control-net-model": in_image_model("control_net_path"),
    "--image-control-strength": in_image(lambda params: params.control_strength),
    "--image-control-canny": in_image(control_pixels),
    "--image-free-compute-memory-immediately": Shown(
        "tests/options/test_walk.py::test_an_option_without_effect_says_so"
    ),
    "--image-niceness": thread_priority,
}
