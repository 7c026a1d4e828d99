"""stable-diffusion.cpp as the image loop's backend."""

from engine.errors import NativeError
from engine.image.backend import OnPreview, OnProgress
from engine.image.families import kind_of
from engine.image.info import ImageModelInfo
from engine.image.options import ImageEngineOptions
from engine.native.sd.context import Generated
from engine.native.sd.image import ImageParams, RgbImage
from engine.native.sd.loading import load_model
from engine.native.sd.upscaler import canny


class SdBackend:
    """A loaded model with its upscaler; satisfies ``engine.image.backend.ImageBackend``."""

    def __init__(self, options: ImageEngineOptions) -> None:
        """Load the files. Raises ModelLoadError, which names the file and the reason, and RpcError."""
        self._context, self._upscaler = load_model(options.model, options.upscaler)
        self.info = ImageModelInfo(
            path=options.model.model or options.model.diffusion_model or "",
            version=self._context.version,
            kind=kind_of(self._context.version),
            n_threads=options.model.n_threads,
            max_width=options.max_width,
            max_height=options.max_height,
            max_batch=options.max_batch,
            loras=options.model.loras,
            has_control_net=options.model.control_net is not None,
            upscale_factor=self._upscaler.factor if self._upscaler is not None else 0,
            can_abort=self._context.can_abort,
        )

    def generate(self, params: ImageParams, on_progress: OnProgress, on_preview: OnPreview) -> Generated | None:
        """See ImageBackend."""
        return self._context.generate(params, on_progress, on_preview)

    def upscale(self, image: RgbImage) -> RgbImage | None:
        """See ImageBackend."""
        if self._upscaler is None:
            raise NativeError("there is no upscaler")
        return self._upscaler.upscale(image)

    def find_edges(self, image: RgbImage) -> RgbImage:
        """See ImageBackend."""
        return canny(image)

    def abort(self) -> None:
        """See ImageBackend."""
        self._context.abort()
        if self._upscaler is not None:
            self._upscaler.abort()

    def clear_abort(self) -> None:
        """See ImageBackend."""
        self._context.clear_abort()
        if self._upscaler is not None:
            self._upscaler.clear_abort()

    def close(self) -> None:
        """See ImageBackend."""
        if self._upscaler is not None:
            self._upscaler.close()
        self._context.close()
