"""torchaudio, also beside a CPU build of torch.

The torchaudio 2.11 wheel, its last, is linked against CUDA without saying so: beside a CPU torch its import raises
`OSError: Could not load this library`, and so does that of transformers' audio models, which import any torchaudio
that is installed. Nothing of ours needs the compiled part, so it is left out there; with it go fast `lfilter` (a
Python loop now, some 10 s a clip) and forced alignment.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

_EXTENSION = "torchaudio._extension"


def torchaudio() -> Any:
    """Import torchaudio, without its compiled part where that cannot be loaded."""
    try:
        return import_module("torchaudio")
    except OSError:
        for name in [name for name in sys.modules if name == "torchaudio" or name.startswith("torchaudio.")]:
            del sys.modules[name]  # what the failed import left behind
        sys.modules[_EXTENSION] = _without_compiled_part()
        return import_module("torchaudio")


def _without_compiled_part() -> ModuleType:
    """Make a stand-in for `torchaudio._extension`, with the names that the rest of the package takes from it."""
    extension: Any = ModuleType(_EXTENSION, "Stand-in: the compiled part of torchaudio does not load here.")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    extension._check_cuda_version = lambda: None
    extension.fail_if_no_align = _unavailable
    return extension  # type: ignore[no-any-return]


def _unavailable(function: Callable[..., Any]) -> Callable[..., NoReturn]:
    def fail(*arguments: Any, **options: Any) -> NoReturn:
        raise RuntimeError(
            f"torchaudio: {function.__name__} needs the compiled part of torchaudio, which does not load beside this "
            "torch; install builds of torch and torchaudio that belong together"
        )

    return fail
