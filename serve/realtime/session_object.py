"""The session as clients see and change it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import Field, ValidationError, field_validator

from omni.vocoder import parse_schedule
from serve.realtime.wire import Refused, Wire

DEFAULT_VOICE = "default"
MAX_OUTPUT_TOKENS = 4096
Modality = Literal["text", "audio"]


class Pcm(Wire):
    """16-bit little-endian samples, mono, 24 kHz."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24_000] = 24_000


class Pcmu(Wire):
    """G.711 u-law at 8 kHz."""

    type: Literal["audio/pcmu"] = "audio/pcmu"


class Pcma(Wire):
    """G.711 A-law at 8 kHz."""

    type: Literal["audio/pcma"] = "audio/pcma"


Format = Annotated[Pcm | Pcmu | Pcma, Field(discriminator="type")]


class ServerVad(Wire):
    """A turn ends after so much silence."""

    type: Literal["server_vad"] = "server_vad"
    threshold: float = Field(default=0.5, ge=0, le=1)
    prefix_padding_ms: int = Field(default=300, ge=0, le=5_000)
    silence_duration_ms: int = Field(default=500, ge=0, le=10_000)
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: int | None = Field(default=None, ge=1_000, le=60_000)


class SemanticVad(Wire):
    """A turn ends when it seems complete; here: after a silence as long as the eagerness says."""

    type: Literal["semantic_vad"] = "semantic_vad"
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class NoiseReduction(Wire):
    """Accepted; the sound is taken as it comes."""

    type: Literal["near_field", "far_field"] = "near_field"


class Transcription(Wire):
    """Whether the client wants to read what it said."""

    model: str | None = Field(default=None, max_length=200)
    language: str | None = Field(default=None, max_length=20)
    prompt: str | None = Field(default=None, max_length=10_000)


class AudioInput(Wire):
    """How speech comes in. turn_detection: null is manual."""

    format: Format = Pcm()
    noise_reduction: NoiseReduction | None = None
    transcription: Transcription | None = None
    turn_detection: TurnDetection | None = ServerVad()


class AudioOutput(Wire):
    """How speech goes out."""

    format: Format = Pcm()
    voice: str = DEFAULT_VOICE
    speed: float = Field(default=1.0, ge=0.25, le=1.5)

    @field_validator("voice", mode="before")
    @classmethod
    def _the_voice_we_have(cls, value: Any) -> str:
        """A checkpoint has one voice: every other name stands for it."""
        return DEFAULT_VOICE


class Audio(Wire):
    """Both directions."""

    input: AudioInput = AudioInput()
    output: AudioOutput = AudioOutput()


class FunctionTool(Wire):
    """A function that the model may ask the client to call."""

    type: Literal["function"] = "function"
    name: str = Field(min_length=1, max_length=200)
    description: str | None = None
    parameters: dict[str, Any] | None = None

    def template_form(self) -> dict[str, Any]:
        """As chat templates take it."""
        inner = self.model_dump(exclude={"type"}, exclude_none=True)
        return {"type": "function", "function": inner}


ToolChoice = Literal["none", "auto", "required"]


class NamedTool(Wire):
    """The one function to call."""

    type: Literal["function"]
    name: str


# The shortest words ("hey", "no") are a voice for 256 ms and more, as Silero hears them.
FALSE_INTERRUPTION_MS = 250


class Omni(Wire):
    """What this server offers beside the protocol, to sessions that ask for it.

    chunk_size: units of speech per chunk of sound, as `omni ask --chunk-units` takes them; null is
    the checkpoint's own. timings: whether `omni.timings` is sent after each answer.
    false_interruption_ms: a voice that is shorter stops an answer, and when it is over, what was
    not heard of the answer is said after all. 0: every voice is a turn.
    """

    chunk_size: Annotated[str, Field(max_length=100)] | None = None
    timings: bool = False
    false_interruption_ms: int = Field(default=FALSE_INTERRUPTION_MS, ge=0, le=2_000)

    @field_validator("chunk_size", mode="before")
    @classmethod
    def _a_schedule(cls, value: Any) -> Any:
        """A number is a schedule too."""
        if isinstance(value, bool) or not isinstance(value, str | int):
            return value
        return str(parse_schedule(str(value)[:101]))


class SessionObject(Wire):
    """What `session.created` and `session.updated` tell; `omni` only where a client has set it."""

    type: Literal["realtime"] = "realtime"
    object: Literal["realtime.session"] = "realtime.session"
    id: str
    model: str
    expires_at: int
    instructions: str = Field(default="", max_length=100_000)
    output_modalities: list[Modality] = Field(default=["audio"], min_length=1, max_length=2)
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)] | Literal["inf"] = "inf"
    tools: list[FunctionTool] = Field(default=[], max_length=128)
    tool_choice: ToolChoice | NamedTool = "auto"
    audio: Audio = Audio()
    omni: Omni | None = Field(default=None, exclude_if=lambda value: value is None)

    @field_validator("output_modalities")
    @classmethod
    def _one_of_the_two(cls, value: list[Modality]) -> list[Modality]:
        if len(value) > 1:
            raise ValueError("give ['audio'], which brings its transcript, or ['text']")
        return value


OURS = ("id", "object", "model", "expires_at")  # which no client sets


def updated(session: SessionObject, update: dict[str, Any]) -> SessionObject:
    """The session with what an update says; what it doesn't name stays.

    Raises Refused with the name of the first field that can't be.
    """
    wanted = {name: value for name, value in update.items() if name not in OURS}
    try:
        return SessionObject.model_validate(_merged(session.model_dump(), wanted))
    except ValidationError as error:
        raise refusal(error, "session") from None


def refusal(error: ValidationError, where: str) -> Refused:
    """The first of pydantic's findings as what the client is told."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join([where, *(str(part) for part in first["loc"])]).strip(".")
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return Refused(code, f"{param}: {first['msg']}", param=param[:200])


def _merged(current: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    merged = dict(current)
    for name, value in update.items():
        before = merged.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            merged[name] = _merged(cast("dict[str, Any]", before), cast("dict[str, Any]", value))
        else:
            merged[name] = value
    return merged
