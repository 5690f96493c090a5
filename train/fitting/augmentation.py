"""The augmentations of a recipe, from one line of text.

    lumen_best                                              a preset of augment/presets.py
    lumen_best(sum_with_n.num=3,time_shift.probability=1)   with fields of its transforms changed
    sum_with_n(num=3)@0.5 time_shift@0.5 frequency_mask     a list; @ says for which share of the examples

What changes waveforms is applied before the front end, what changes spectrograms after it.
"""

import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Generator, Tensor

from tutti.augment import presets
from tutti.augment.batch import Batch
from tutti.augment.chain import Chain, Effect
from tutti.augment.noises import read_noises
from tutti.augment.transform import Transform, load_transform, parameter_rows, transform_names
from tutti.augment.transforms.background_noise import NoiseBank, noise_bank
from tutti.datasets.errors import UsageError
from tutti.datasets.settings import nearest, parse_value, with_value

_WORD = re.compile(r"(\w+)(?:\(([^()]*)\))?(?:@([\w.+-]+))?(?:\s+|$)")

Setting = tuple[str, str]  # field, value as text


@dataclass(frozen=True)
class Augmentation:
    """Chains of transforms: of waveforms, and then of spectrograms (or embeddings)."""

    waveform: Chain | None = None
    spectrogram: Chain | None = None

    @property
    def keeps_length(self) -> bool:
        """Whether examples stay as long as they were cut."""
        return all(chain.keeps_length for chain in (self.waveform, self.spectrogram) if chain is not None)


def preset_names() -> list[str]:
    """List the names of presets: the functions of augment/presets.py."""
    return sorted(name for name, _ in inspect.getmembers(presets, _is_preset))


def _is_preset(item: object) -> bool:
    return inspect.isfunction(item) and item.__module__ == presets.__name__ and not item.__name__.startswith("_")


def make_augmentation(
    text: str, *, sample_rate: int = 16_000, num_samples: int = 48_000, noises: str = "", has_waveform: bool = True
) -> Augmentation:
    """Make chains from their description.

    Args:
        text: a preset or a list, see above; empty: none.
        sample_rate: of the waveforms, Hz.
        num_samples: of the longest example; noises are repeated to it.
        noises: folder of recordings for `background_noise`, or a dataset of them; empty: none.
        has_waveform: False where examples are embeddings: everything acts on these.

    Raises:
        UsageError: the text cannot be read or names what does not exist; says what does.
    """
    bank = noise_bank(read_noises(Path(noises), sample_rate), num_samples) if noises else None
    effects = [effect for name, settings, share in _words(text) for effect in _effects(name, settings, share, bank)]
    order = "fixed"
    if len(_words(text)) == 1 and text.partition("(")[0].strip() in preset_names():
        order = _preset(text.partition("(")[0].strip(), list(_words(text)[0][1]), bank)[0].order
    before = [effect for effect in effects if _on_waveform(effect.transform, has_waveform)]
    after = [effect for effect in effects if not _on_waveform(effect.transform, has_waveform)]
    try:
        chains = [Chain(tuple(part), order) if part else None for part in (before, after)]  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(f"augment={text}: {error}") from error
    return Augmentation(*chains)


def _words(text: str) -> list[tuple[str, tuple[Setting, ...], float | None]]:
    words = []
    rest = re.sub(r"\(([^()]*)\)", lambda found: found.group().replace(" ", ""), text).strip()
    while rest:
        found = _WORD.match(rest)
        if found is None:
            raise UsageError(f"augment={text}: cannot read {rest!r}; expected as in sum_with_n(num=2)@0.5 time_shift")
        settings = []
        for part in filter(None, (found.group(2) or "").split(",")):
            field, equals, value = part.partition("=")
            if not equals:
                raise UsageError(f"augment={text}: {part!r} is no field=value")
            settings.append((field, value))
        try:
            share = None if found.group(3) is None else float(found.group(3))
        except ValueError as error:
            raise UsageError(f"augment={text}: @{found.group(3)} is no number from 0 to 1") from error
        words.append((found.group(1), tuple(settings), share))
        rest = rest[found.end() :]
    return words


def _effects(name: str, settings: tuple[Setting, ...], share: float | None, bank: NoiseBank | None) -> list[Effect]:
    try:
        if name in preset_names():
            chain, left = _preset(name, list(settings), bank)
            for path, value in left:
                chain = _overridden(chain, path, value)
            return list(chain.effects) if share is None else [Effect(chain, share)]
        if name not in transform_names():
            known = [*preset_names(), *transform_names()]
            raise UsageError(
                f"augment: no preset or transform {name!r}{nearest(name, known)}; known: {', '.join(known)}"
            )
        made = load_transform(name)
        if name == "background_noise":
            if bank is None:
                raise UsageError("augment: background_noise needs recordings; --set noises=FOLDER, such as ESC-50's")
            transform: Transform = typing.cast(Callable[..., Transform], made)(bank)
        else:
            transform = made()
        for field, value in settings:
            transform = _changed(transform, field, value)
        return [Effect(transform, 1.0 if share is None else share)]
    except ValueError as error:
        raise UsageError(f"augment={name}: {error}") from error


def _preset(name: str, settings: list[Setting], bank: NoiseBank | None) -> tuple[Chain, list[Setting]]:
    """Make a preset with its own arguments; return it with the settings that are left."""
    make = getattr(presets, name)
    arguments: dict[str, Any] = {}
    for parameter in inspect.signature(make).parameters.values():
        if parameter.name == "noises":
            arguments["noises"] = bank
            continue
        given = [value for field, value in settings if field == parameter.name]
        if not given:
            raise UsageError(f"augment: {name} needs {parameter.name}, as in {name}({parameter.name}=true)")
        arguments[parameter.name] = parse_value(given[-1], parameter.annotation)
    return make(**arguments), [item for item in settings if item[0] not in arguments]


def _name(transform: Transform) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(transform).__name__).lower()


def _names(chain: Chain) -> list[str]:
    inner = [_names(effect.transform) if isinstance(effect.transform, Chain) else [] for effect in chain.effects]
    return [_name(effect.transform) for effect in chain.effects if not isinstance(effect.transform, Chain)] + [
        name for names in inner for name in names
    ]


def _overridden(chain: Chain, path: str, value: str) -> Chain:
    name, _, field = path.partition(".")
    if name not in _names(chain):
        known = _names(chain)
        raise ValueError(f"no transform {name!r} in it{nearest(name, known)}; it has {', '.join(known)}")
    effects = []
    for effect in chain.effects:
        if isinstance(effect.transform, Chain):
            inside = name in _names(effect.transform)
            effects.append(replace(effect, transform=_overridden(effect.transform, path, value)) if inside else effect)
        elif _name(effect.transform) != name:
            effects.append(effect)
        elif field == "probability":
            effects.append(replace(effect, probability=parse_value(value, float)))
        else:
            effects.append(replace(effect, transform=_changed(effect.transform, field, value)))
    return replace(chain, effects=tuple(effects))


def _changed(transform: Transform, field: str, value: str) -> Transform:
    try:
        changed: Transform = with_value(transform, [field], value)
    except ValueError as error:
        raise ValueError(f"{_name(transform)}: {error}") from error
    return changed


def _on_waveform(transform: Transform, has_waveform: bool) -> bool:
    if isinstance(transform, Chain):
        return any(_on_waveform(effect.transform, has_waveform) for effect in transform.effects)
    if transform.domain == "waveform" and not has_waveform:
        raise UsageError(
            f"augment: {_name(transform)} changes waveforms, and this model hears embeddings; leave it out"
        )
    return has_waveform and transform.domain != "spectrogram"


def vary(chain: Chain | None, batch: Batch, rows: Tensor | None, generator: Generator) -> Batch:
    """Vary some rows (None: all) of a batch as they are varied when all rows are.

    Parameters are drawn for the whole batch, and mixing takes from all of it: processes that share
    a batch make together what one would make alone.
    """
    if chain is None:
        return batch if rows is None else batch.rows(rows)
    parameters = chain.draw(batch, generator)
    if rows is None:
        return chain.run(batch, parameters)
    return chain.run(batch.rows(rows), parameter_rows(parameters, rows))
