"""AudioSet's classes that stand for instruments of ours, by the names under which a model lists its outputs.

audioset_outputs(("cello", "guitar"), added=False)      ((193,), (140, 141, 143)): the greatest logit counts
"""

from collections.abc import Mapping, Sequence

from tutti.datasets.errors import UsageError
from tutti.datasets.sources.audioset import ADDED_MIDS, CORE_MIDS

# MID -> row and name in AudioSet's class_labels_indices.csv, whose rows are the published model's outputs.
AUDIOSET_OUTPUTS = {
    "/m/015lz1": (27, "Singing"),
    "/m/0l14jd": (28, "Choir"),
    "/t/dd00003": (32, "Male singing"),
    "/t/dd00004": (33, "Female singing"),
    "/t/dd00005": (34, "Child singing"),
    "/m/06bxc": (36, "Rapping"),
    "/m/0342h": (140, "Guitar"),
    "/m/02sgy": (141, "Electric guitar"),
    "/m/018vs": (142, "Bass guitar"),
    "/m/042v_gx": (143, "Acoustic guitar"),
    "/m/06w87": (144, "Steel guitar, slide guitar"),
    "/m/018j2": (147, "Banjo"),
    "/m/04rzd": (149, "Mandolin"),
    "/m/07xzm": (151, "Ukulele"),
    "/m/05r5c": (153, "Piano"),
    "/m/01s0ps": (154, "Electric piano"),
    "/m/013y1f": (155, "Organ"),
    "/m/03xq_f": (156, "Electronic organ"),
    "/m/03gvt": (157, "Hammond organ"),
    "/m/0l14qv": (158, "Synthesizer"),
    "/m/02hnl": (162, "Drum kit"),
    "/m/026t6": (164, "Drum"),
    "/m/06rvn": (165, "Snare drum"),
    "/m/0bm02": (168, "Bass drum"),
    "/m/01qbl": (171, "Cymbal"),
    "/m/03qtq": (172, "Hi-hat"),
    "/m/0j45pbj": (179, "Mallet percussion"),
    "/m/0dwsp": (180, "Marimba, xylophone"),
    "/m/0dwtp": (181, "Glockenspiel"),
    "/m/0dwt5": (182, "Vibraphone"),
    "/m/07gql": (187, "Trumpet"),
    "/m/07c6l": (188, "Trombone"),
    "/m/07y_7": (191, "Violin, fiddle"),
    "/m/0d8_n": (192, "Pizzicato"),
    "/m/01xqw": (193, "Cello"),
    "/m/02fsn": (194, "Double bass"),
    "/m/0l14j_": (196, "Flute"),
    "/m/06ncr": (197, "Saxophone"),
    "/m/01wy6": (198, "Clarinet"),
    "/m/0mkg": (209, "Accordion"),
    "/m/0y4f8": (254, "Vocal music"),
}
# Instruments that IRMAS lacks: in OpenMIC, or in data of one's own. A class and its children in AudioSet's ontology.
MORE_MIDS = {
    "accordion": ("/m/0mkg",),
    "banjo": ("/m/018j2",),
    "bass": ("/m/018vs", "/m/02fsn"),
    "cymbals": ("/m/01qbl", "/m/03qtq"),
    "drums": ("/m/02hnl", "/m/026t6", "/m/06rvn", "/m/0bm02"),
    "guitar": ("/m/0342h", "/m/02sgy", "/m/042v_gx"),
    "mallet_percussion": ("/m/0j45pbj", "/m/0dwsp", "/m/0dwtp", "/m/0dwt5"),
    "mandolin": ("/m/04rzd",),
    "synthesizer": ("/m/0l14qv",),
    "trombone": ("/m/07c6l",),
    "ukulele": ("/m/07xzm",),
}


def audioset_classes(instrument: str, *, added: bool) -> tuple[str, ...]:
    """Name AudioSet's classes that stand for an instrument; none where AudioSet has none.

    Args:
        instrument: of the taxonomy.
        added: also neighboring classes, some of them ambiguous (`ADDED_MIDS`).
    """
    table = {**CORE_MIDS, **(ADDED_MIDS if added else {})}
    mids = [mid for mid, name in table.items() if name == instrument] + [*MORE_MIDS.get(instrument, ())]
    return tuple(AUDIOSET_OUTPUTS[mid][1] for mid in mids)


def known_instruments() -> list[str]:
    """List the instruments for which AudioSet has a class."""
    return sorted({*CORE_MIDS.values(), *MORE_MIDS})


def audioset_outputs(
    instruments: Sequence[str], added: bool, names: Mapping[int, str] | None = None
) -> tuple[tuple[int, ...], ...]:
    """List a model's outputs for each instrument.

    Args:
        instruments: of the taxonomy.
        added: also neighboring classes.
        names: of the model's outputs; None: the published order.

    Raises:
        UsageError: AudioSet has no class for an instrument, or the model no output of that name.
    """
    rows = {name: row for row, name in (AUDIOSET_OUTPUTS.values() if names is None else names.items())}
    found = []
    for instrument in instruments:
        classes = audioset_classes(instrument, added=added)
        if not classes:
            known = ", ".join(known_instruments())
            raise UsageError(f"ast: no AudioSet class stands for {instrument!r}; mode=zero_shot knows {known}")
        for name in classes:
            if name not in rows:
                raise UsageError(
                    f"the weights have no output that is called {name!r}, as AudioSet's class for {instrument} is; "
                    "mode=zero_shot needs a model of AudioSet's classes, or set mode=fine_tune"
                )
        found.append(tuple(rows[name] for name in classes))
    return tuple(found)
