"""Why a file could not be read, or the engine could not load, encode or answer: one class for each of its error codes.

All are `AsterismError`s, and `ValueError`, `OSError` or `MemoryError` as well where one fits.
"""


class AsterismError(Exception):
    """Something that the engine refuses, or that failed. Its message says what to change."""

    code: str = ""


class Cancelled(AsterismError):
    """The caller asked to stop."""

    code = "cancelled"


class TooLong(AsterismError, ValueError):
    """Context, question and answer need more positions than the model has."""

    code = "too_long"


class OutOfMemory(AsterismError, MemoryError):
    """The processor's memory does not hold what is asked for."""

    code = "out_of_memory"


class EmptyContext(AsterismError, ValueError):
    """There is nothing to encode."""

    code = "empty_context"


class EmptyQuestion(AsterismError, ValueError):
    """There is nothing to answer."""

    code = "empty_question"


class NoFrame(AsterismError, ValueError):
    """The context was encoded from tokens, or not from documents."""

    code = "no_frame"


class EmptyStop(AsterismError, ValueError):
    """A stop string is empty."""

    code = "empty_stop"


class BadPlan(AsterismError, ValueError):
    """Blocks, anchor and hosts do not go together."""

    code = "bad_plan"


class BadSampling(AsterismError, ValueError):
    """A sampling setting is out of its range."""

    code = "bad_sampling"


class BadMessages(AsterismError, ValueError):
    """The messages of a chat are malformed, or the template refuses them."""

    code = "bad_messages"


class SpecialInText(AsterismError, ValueError):
    """The text contains a special token that cannot be kept as text."""

    code = "special_in_text"


class NotTokenized(AsterismError):
    """The tokenizer failed on a text."""

    code = "not_tokenized"


class NotDecoded(AsterismError):
    """Tokens could not be turned into text."""

    code = "not_decoded"


class UnknownToken(AsterismError):
    """Tokenizer and model do not match."""

    code = "unknown_token"


class ConstraintFailed(AsterismError):
    """No token may follow by the rules that the answer was given."""

    code = "constraint_failed"


class NotFinite(AsterismError):
    """The model computed NaN or infinity."""

    code = "not_finite"


class ModelName(AsterismError, ValueError):
    """The name of the model says neither a folder nor a repository."""

    code = "model_name"


class ModelNotBuilt(AsterismError):
    """This build lacks the source that the model comes from."""

    code = "model_not_built"


class ModelNotFound(AsterismError, FileNotFoundError):
    """There is no such folder, repository or revision."""

    code = "model_not_found"


class ModelIncomplete(AsterismError):
    """A file or tensor that the model needs is missing."""

    code = "model_incomplete"


class ModelDamaged(AsterismError):
    """A file does not hold what its format says."""

    code = "model_damaged"


class ModelUnsupported(AsterismError):
    """The model needs something that this engine does not do."""

    code = "model_unsupported"


class ModelDenied(AsterismError, PermissionError):
    """The Hub refuses access to the model."""

    code = "model_denied"


class ModelUnreachable(AsterismError, ConnectionError):
    """The Hub cannot be reached, or its answer cannot be used."""

    code = "model_unreachable"


class ModelIo(AsterismError, OSError):
    """A file could not be read or written."""

    code = "model_io"


class SavedNotFound(AsterismError, FileNotFoundError):
    """The folder holds no saved context."""

    code = "saved_not_found"


class SavedDamaged(AsterismError):
    """A file of a saved context is not what was written."""

    code = "saved_damaged"


class SavedElsewhere(AsterismError):
    """The context was saved by another model, or with other settings."""

    code = "saved_elsewhere"


class SavedIo(AsterismError, OSError):
    """A file of a saved context could not be read or written."""

    code = "saved_io"


class DeviceUnsupported(AsterismError):
    """The processor cannot do what the settings ask for."""

    code = "device_unsupported"


class DeviceMissing(AsterismError):
    """The processor, or a library for it, is not on this machine."""

    code = "device_missing"


class DeviceFailed(AsterismError):
    """The processor or its driver failed."""

    code = "device_failed"


class HostsFailed(AsterismError):
    """Hosts stopped or misunderstood each other."""

    code = "hosts_failed"


class UnreadableFile(AsterismError, ValueError):
    """A file that is no document. Its message names it."""


class FileNotRead(UnreadableFile, OSError):
    """The system does not let a file be read."""

    code = "file_not_read"


class FileTooLarge(UnreadableFile):
    """A file has more bytes than it may."""

    code = "file_too_large"


class FileBinary(UnreadableFile):
    """A file is no text, and of no kind that is read."""

    code = "file_binary"


class FileUnsupported(UnreadableFile):
    """A file is of a kind that is not read."""

    code = "file_unsupported"


class FileEncoding(UnreadableFile):
    """A file is not in the encoding that was asked for."""

    code = "file_encoding"


class FileWithoutText(UnreadableFile):
    """There is no text in a file: its pages may be scanned."""

    code = "file_without_text"


class FileDamaged(UnreadableFile):
    """A file is not what it seems to be."""

    code = "file_damaged"


class FileEncrypted(UnreadableFile):
    """A file needs a password."""

    code = "file_encrypted"


class FileUnpacksToTooMuch(UnreadableFile):
    """A file unpacks to more than it may."""

    code = "file_unpacks_to_too_much"


class FileTakesTooMuchMemory(UnreadableFile, MemoryError):
    """Reading a file takes more memory than it may."""

    code = "file_takes_too_much_memory"


class FileTakesTooLong(UnreadableFile, TimeoutError):
    """Reading a file takes longer than it may."""

    code = "file_takes_too_long"


class FileReaderCrashed(UnreadableFile):
    """The process that read a file broke down."""

    code = "file_reader_crashed"


class FileReaderNotStarted(UnreadableFile, OSError):
    """The process that is to read a file could not be started."""

    code = "file_reader_not_started"


BY_CODE: dict[str, type[AsterismError]] = {
    error.code: error
    for error in (
        Cancelled,
        TooLong,
        OutOfMemory,
        EmptyContext,
        EmptyQuestion,
        NoFrame,
        EmptyStop,
        BadPlan,
        BadSampling,
        BadMessages,
        SpecialInText,
        NotTokenized,
        NotDecoded,
        UnknownToken,
        ConstraintFailed,
        NotFinite,
        ModelName,
        ModelNotBuilt,
        ModelNotFound,
        ModelIncomplete,
        ModelDamaged,
        ModelUnsupported,
        ModelDenied,
        ModelUnreachable,
        ModelIo,
        SavedNotFound,
        SavedDamaged,
        SavedElsewhere,
        SavedIo,
        DeviceUnsupported,
        DeviceMissing,
        DeviceFailed,
        HostsFailed,
        FileNotRead,
        FileTooLarge,
        FileBinary,
        FileUnsupported,
        FileEncoding,
        FileWithoutText,
        FileDamaged,
        FileEncrypted,
        FileUnpacksToTooMuch,
        FileTakesTooMuchMemory,
        FileTakesTooLong,
        FileReaderCrashed,
        FileReaderNotStarted,
    )
}


def of_code(code: str, message: str) -> AsterismError:
    """The exception of the class that has this code."""
    return BY_CODE.get(code, AsterismError)(message)
