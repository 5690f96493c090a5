"""Read an export with the library that it is for, and every clip of it.

    python -I tests/support/check_exports.py huggingface|croissant|webdataset|lhotse FOLDER

Uses nothing of ours: -I keeps our root off the path. Prints one JSON object: split -> id -> what the library says of
that clip, where `sha256` is that of the samples it hands out; and under `about` what it says of the whole. Exit code
77: a library is not installed.
"""

import glob
import hashlib
import importlib.util
import io
import json
import re
import sys
from pathlib import Path

MISSING = 77
NEEDS = {"huggingface": "datasets", "croissant": "mlcroissant", "webdataset": "webdataset", "lhotse": "lhotse"}


def pcm_sha256(samples):
    """Digest of int16 samples."""
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()


def decoded_sha256(audio):
    """Digest of the samples in a complete audio file."""
    import soundfile

    samples, _ = soundfile.read(io.BytesIO(audio), dtype="int16")
    return pcm_sha256(samples)


def huggingface(folder):
    """`load_dataset` follows the card; features and counts are the card's, or it refuses."""
    from huggingface_hub import DatasetCard

    import datasets

    card = DatasetCard.load(folder / "README.md").data.to_dict()
    loaded = datasets.load_dataset(str(folder))
    features = next(iter(loaded.values())).features
    about = {
        "license": card["license"],
        "task_categories": card["task_categories"],
        "card_features": datasets.Features._from_yaml_list(card["dataset_info"]["features"]) == features,
        "audio": type(features["audio"]).__name__,
    }
    clips = {}
    for split, rows in loaded.items():
        rows = rows.cast_column("audio", datasets.Audio(decode=False))  # torchcodec decodes in check_huggingface.py
        clips[split] = {
            row["id"]: {
                "sha256": decoded_sha256(row["audio"]["bytes"]),
                "presence": row["presence"],
                "license": row["license"],
            }
            for row in rows
        }
    return about, clips


def croissant(folder):
    """mlcroissant validates, and its records are the clips."""
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    issues = dataset.metadata.ctx.issues
    about = {
        "errors": sorted(issues.errors),
        "warnings": sorted(issues.warnings),
        "conforms_to": dataset.metadata.ctx.conforms_to.value,
        "license": dataset.metadata.license,
        "files": {
            file.id: hashlib.sha256((folder / file.content_url).read_bytes()).hexdigest() == file.sha256
            for file in dataset.metadata.file_objects
        },
        "instruments": [
            record["instruments/name"].decode() if isinstance(record["instruments/name"], bytes)
            else record["instruments/name"]
            for record in dataset.records("instruments")
        ],
    }  # fmt: skip
    clips = {}
    for record in dataset.records("clips"):
        clips.setdefault(record["clips/split"].decode(), {})[record["clips/id"].decode()] = {
            "sha256": decoded_sha256(record["clips/audio"]),
            "presence": [int(value) for value in record["clips/presence"]],
            "license": record["clips/license"].decode(),
        }
    return about, clips


def webdataset(folder):
    """The tar files of each split, streamed."""
    import webdataset

    clips = {}
    tars = sorted(glob.glob(str(folder / "*.tar")))
    for tar in tars:
        split = re.match(r"[a-z]+", Path(tar).name)[0]
        for sample in webdataset.WebDataset(tar, shardshuffle=False):
            facts = json.loads(sample["json"])
            assert facts["split"] == split
            clips.setdefault(split, {})[facts["id"]] = {
                "sha256": decoded_sha256(sample["flac"]),
                "presence": facts["presence"],
                "license": facts["license"],
            }
    return {"tars": [Path(tar).name for tar in tars]}, clips


def lhotse(folder):
    """Validated recordings and supervisions, joined to cuts that load their audio."""
    import lhotse

    instruments = json.loads((folder / "export.json").read_text(encoding="utf-8"))["instruments"]
    clips = {}
    for path in sorted(folder.glob("recordings_*.jsonl.gz")):
        split = path.name.removeprefix("recordings_").removesuffix(".jsonl.gz")
        recordings = lhotse.RecordingSet.from_file(path).with_path_prefix(folder)
        supervisions = lhotse.SupervisionSet.from_file(folder / f"supervisions_{split}.jsonl.gz")
        lhotse.validate_recordings_and_supervisions(recordings, supervisions, read_data=True)
        clips[split] = {}
        for cut in lhotse.CutSet.from_manifests(recordings=recordings, supervisions=supervisions):
            (supervision,) = cut.supervisions
            samples = cut.load_audio()  # float32 (1, num_samples)
            labels = supervision.custom["labels"]
            clips[split][supervision.id] = {
                "sha256": pcm_sha256((samples[0] * 32768).round()),
                "presence": [labels[name][0] if name in labels else -1 for name in instruments],
                "license": supervision.custom["license"],
            }
    return {}, clips


def main(name, folder):
    """Print what a library makes of an export; answers the exit code."""
    if importlib.util.find_spec(NEEDS[name]) is None:
        print(f"{NEEDS[name]} is not installed here", file=sys.stderr)
        return MISSING
    about, clips = globals()[name](folder)
    print(json.dumps({"about": about, "clips": clips}, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]).resolve()))
