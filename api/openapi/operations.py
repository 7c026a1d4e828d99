"""What the description says about each route, by method and one of its paths."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from api.anthropic.shapes import CountFields, MessagesFields
from api.embedding.shapes import EmbeddingFields, NativeEmbeddingFields, RerankFields
from api.fields import LoraScale
from api.images.fields import EditFields, GenerationFields, VariationFields
from api.openapi.operation import Operation, Query, Tag
from api.openapi.replies.adapters import Adapter, SlotErased, SlotRestored, SlotSaved, Success
from api.openapi.replies.chat import ChatCompletion, ChatCompletionChunk
from api.openapi.replies.completions import (
    ContentText,
    NativeCompletion,
    NativePart,
    PromptText,
    TextCompletion,
    TokenList,
)
from api.openapi.replies.embedding import EmbeddingList, NativeEmbedding, RankedText, RerankReply
from api.openapi.replies.images import ImageList, ImagePart
from api.openapi.replies.others import (
    InputTokens,
    MessageError,
    MessageEvent,
    MessageObject,
    ResponseDeleted,
    ResponseEvent,
    ResponseInputTokens,
    ResponseItemList,
    ResponseObject,
)
from api.openapi.replies.state import Health, Model, ModelList, Props, Slot
from api.responses.shapes import ResponsesFields
from api.routes.slot_files import SlotFileFields
from api.shapes import (
    ChatFields,
    CompletionFields,
    DetokenizeFields,
    InfillFields,
    NativeFields,
    Templated,
    TokenizeFields,
)

_text = partial(Operation, paced=True)
_anthropic = partial(Operation, tag=Tag.ANTHROPIC, error=MessageError)

_NO_SLOT: Final = Query(
    name="fail_on_no_slot",
    text="Answer 503 where no slot is idle; of text, where there is a text model.",
    schema={"type": "string", "enum": ["0", "1"], "default": "0"},
)
_ACTION: Final = Query(
    name="action",
    text="What to do with the slot.",
    schema={"type": "string", "enum": ["save", "restore", "erase"]},
    required=True,
)
_NO_STREAM: Final = Query(name="stream", text="Refused where true.", schema={"type": "boolean", "default": False})
_PAGE: Final = (
    Query(
        name="limit",
        text="Most items to tell.",
        schema={"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    ),
    Query(
        name="order",
        text="asc: the first item first.",
        schema={"type": "string", "enum": ["asc", "desc"], "default": "desc"},
    ),
    Query(name="after", text="Begin behind the item with this id.", schema={"type": "string"}),
)
_OBJECT: Final[Any] = dict[str, Any]

OPERATIONS: Final[Mapping[str, Operation]] = {
    "GET /health": Operation("Whether the server is ready", Tag.STATE, reply=Health, open=True),
    "GET /v1/models": Operation("The model under each of its names", Tag.STATE, reply=ModelList),
    "GET /v1/models/<path:model>": Operation("The model under one of its names", Tag.STATE, reply=Model),
    "GET /props": Operation("The model and the defaults of requests", Tag.STATE, reply=Props),
    "GET /metrics": Operation("Metrics for Prometheus (--metrics)", Tag.STATE, reply=str, media="text/plain"),
    "GET /slots": Operation("What each slot does (--slots)", Tag.STATE, reply=list[Slot], query=(_NO_SLOT,)),
    "GET /openapi.json": Operation("This description", Tag.STATE, reply=_OBJECT),
    "POST /slots/<id_slot>": Operation(
        "Save, restore or erase a slot (--slots, --slot-save-path)",
        Tag.NATIVE,
        request=SlotFileFields,
        reply=(SlotSaved, SlotRestored, SlotErased),
        query=(_ACTION,),
        optional_body=True,
    ),
    "GET /lora-adapters": Operation("The LoRA adapters and their scales (--lora)", Tag.NATIVE, reply=list[Adapter]),
    "POST /lora-adapters": Operation(
        "Set the scales of the LoRA adapters (--lora-init-without-apply)",
        Tag.NATIVE,
        request=list[LoraScale],
        reply=Success,
    ),
    "POST /tokenize": Operation("Text to tokens", Tag.NATIVE, request=TokenizeFields, reply=TokenList),
    "POST /detokenize": Operation("Tokens to text", Tag.NATIVE, request=DetokenizeFields, reply=ContentText),
    "POST /apply-template": Operation(
        "The prompt that a conversation becomes", Tag.NATIVE, request=Templated, reply=PromptText
    ),
    "POST /completion": _text(
        "Continue a prompt: llama-server's route",
        Tag.NATIVE,
        request=NativeFields,
        reply=(NativeCompletion, list[NativeCompletion]),
        event=(NativePart, NativeCompletion),
    ),
    "POST /infill": _text(
        "Fill in between a prefix and a suffix (--infill)",
        Tag.NATIVE,
        request=InfillFields,
        reply=(NativeCompletion, list[NativeCompletion]),
        event=(NativePart, NativeCompletion),
    ),
    "POST /v1/completions": _text(
        "Continue a prompt", Tag.OPENAI, request=CompletionFields, reply=TextCompletion, event=TextCompletion
    ),
    "POST /v1/chat/completions": _text(
        "Answer a conversation", Tag.OPENAI, request=ChatFields, reply=ChatCompletion, event=ChatCompletionChunk
    ),
    "POST /v1/responses": _text(
        "Answer a conversation: the Responses API",
        Tag.OPENAI,
        request=ResponsesFields,
        reply=ResponseObject,
        event=ResponseEvent,
    ),
    "POST /v1/responses/input_tokens": Operation(
        "How long the prompt of a request for a response is",
        Tag.OPENAI,
        request=ResponsesFields,
        reply=ResponseInputTokens,
    ),
    "POST /v1/responses/compact": Operation("Refused: conversations are not compacted here", Tag.OPENAI),
    "GET /v1/responses/<response_id>": Operation(
        "A response that is kept in memory", Tag.OPENAI, reply=ResponseObject, query=(_NO_STREAM,)
    ),
    "DELETE /v1/responses/<response_id>": Operation("Forget a response", Tag.OPENAI, reply=ResponseDeleted),
    "GET /v1/responses/<response_id>/input_items": Operation(
        "The conversation that a response answers", Tag.OPENAI, reply=ResponseItemList, query=_PAGE
    ),
    "POST /v1/responses/<response_id>/cancel": Operation("Refused: no response is made in the background", Tag.OPENAI),
    "POST /v1/messages": _anthropic(
        "Answer a conversation: the Messages API",
        request=MessagesFields,
        reply=MessageObject,
        event=MessageEvent,
        paced=True,
    ),
    "POST /v1/messages/count_tokens": _anthropic(
        "How long a conversation's prompt is", request=CountFields, reply=InputTokens
    ),
    "POST /v1/embeddings": Operation(
        "Embeddings of texts (--embeddings)", Tag.OPENAI, request=EmbeddingFields, reply=EmbeddingList
    ),
    "POST /v1/rerank": Operation(
        "Rank documents by a query (--rerank)",
        Tag.OTHER,
        request=RerankFields,
        reply=(RerankReply, list[RankedText]),
    ),
    "POST /v1/images/generations": Operation(
        "Images from a prompt (--images, --image-model)",
        Tag.OPENAI,
        request=GenerationFields,
        reply=ImageList,
        event=ImagePart,
    ),
    "POST /v1/images/edits": Operation(
        "Images from an image and a prompt (--images, --image-model)",
        Tag.OPENAI,
        request=EditFields,
        reply=ImageList,
        event=ImagePart,
        files=("image", "mask", "control"),
    ),
    "POST /v1/images/variations": Operation(
        "Images from an image alone, or with a prompt (--images, --image-model)",
        Tag.OPENAI,
        request=VariationFields,
        reply=ImageList,
        event=ImagePart,
        files=("image", "mask", "control"),
    ),
    "POST /embedding": Operation(
        "Embeddings of texts: llama-server's route (--embeddings)",
        Tag.NATIVE,
        request=NativeEmbeddingFields,
        reply=list[NativeEmbedding],
    ),
}
