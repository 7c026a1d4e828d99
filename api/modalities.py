"""What a model takes beside text, and what a request says that it sends."""

from typing import Final

import attrs

from api.errors import ApiError, bad_request
from engine.text.info import ModelInfo

_VISION: Final = frozenset({"image_url", "input_image", "image"})
_AUDIO: Final = frozenset({"input_audio"})
# Kinds of parts that are known, and that no model takes here.
_OTHERS: Final = frozenset({"input_video", "video_url", "input_file", "document"})


@attrs.frozen
class Modalities:
    """Text alone, unless said otherwise."""

    vision: bool = False
    audio: bool = False

    @classmethod
    def of(cls, info: ModelInfo) -> "Modalities":
        return cls(info.vision, info.audio)

    def takes(self, kind: object, where: str) -> bool:
        """Whether ``kind`` is a medium that the model takes; False if it is none. Raises ApiError 400 otherwise."""
        if (kind in _VISION and self.vision) or (kind in _AUDIO and self.audio):
            return True
        if kind in _VISION or kind in _AUDIO or kind in _OTHERS:
            raise self._refused(kind, where)
        return False

    def _refused(self, kind: object, where: str) -> ApiError:
        return bad_request(f"{where}: the model has no such modality ({kind})", where)


TEXT_ONLY: Final = Modalities()
