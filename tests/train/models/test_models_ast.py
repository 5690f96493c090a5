import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tutti.datasets.errors import UsageError
from tutti.datasets.sources.audioset import ADDED_MIDS, CORE_MIDS
from tutti.datasets.taxonomy import IRMAS_INSTRUMENTS
from tutti.train.models._audioset import AUDIOSET_OUTPUTS, MORE_MIDS, audioset_outputs
from tutti.train.models.ast import TINY, Config, build
from tutti.train.pretrained import transformers

N_MELS = 128


def write_published(folder: Path, *, num_labels: int = 527, names: dict[int, str] | None = None) -> Path:
    """A small AST with random weights and AudioSet's classes, saved as the published one is."""
    library = transformers()
    labels = {index: f"class {index}" for index in range(num_labels)}
    labels |= {index: name for index, name in AUDIOSET_OUTPUTS.values() if index < num_labels} | (names or {})
    config = library.ASTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_length=64,
        id2label=labels, label2id={name: index for index, name in labels.items()},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = library.ASTForAudioClassification(config)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return folder


def logmel(frames: int = 64) -> Tensor:
    return torch.randn(3, frames, N_MELS, generator=torch.Generator().manual_seed(0))


def test_every_mid_of_ours_has_its_output() -> None:
    more = {mid for mids in MORE_MIDS.values() for mid in mids}
    assert AUDIOSET_OUTPUTS.keys() == CORE_MIDS.keys() | ADDED_MIDS.keys() | more


def test_outputs_are_the_rows_of_the_label_file(shared: Path) -> None:
    with (shared / "labels" / "class_labels_indices.csv").open(newline="") as file:
        rows = {row["mid"]: (int(row["index"]), row["display_name"]) for row in csv.DictReader(file)}
    assert {mid: rows[mid] for mid in AUDIOSET_OUTPUTS} == AUDIOSET_OUTPUTS


def test_instruments_map_to_core_outputs_and_on_request_to_their_neighbors() -> None:
    assert audioset_outputs(IRMAS_INSTRUMENTS, added=False) == (
        (193,), (198,), (196,), (143,), (141,), (155,), (153,), (197,), (187,), (191,), (27,),
    )  # fmt: skip
    assert audioset_outputs(("organ", "flute"), added=True) == ((155, 156, 157), (196,))


def test_an_instrument_that_audioset_lacks_is_named() -> None:
    with pytest.raises(UsageError, match="no AudioSet class stands for 'theremin'; mode=zero_shot knows accordion, ac"):
        audioset_outputs(("piano", "theremin"), added=False)


def test_zero_shot_answers_the_published_models_own_logits(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "ast")
    whole = transformers().ASTForAudioClassification.from_pretrained(folder).eval()
    model = build(Config(mode="zero_shot", weights=str(folder)), N_MELS, 11).eval()
    wide = build(Config(mode="zero_shot", weights=str(folder), added_mids=True), N_MELS, 11).eval()
    with torch.inference_mode():
        logits = whole(logmel()).logits
        assert torch.equal(model(logmel()), logits[:, [193, 198, 196, 143, 141, 155, 153, 197, 187, 191, 27]])
        assert torch.equal(wide(logmel())[:, 5], logits[:, 155:158].amax(dim=1))
        embedding = whole.audio_spectrogram_transformer(logmel()).pooler_output
        assert torch.equal(model.embed(logmel()), embedding)  # type: ignore[operator]


def test_fine_tuning_begins_with_the_published_weights(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "ast")
    torch.manual_seed(0)
    model = build(Config(weights=str(folder)), N_MELS, 5).eval()
    zero_shot = build(Config(mode="zero_shot", weights=str(folder)), N_MELS, 11).eval()
    with torch.inference_mode():
        assert model(logmel()).shape == (3, 5)
        assert torch.equal(model.embed(logmel()), zero_shot.embed(logmel()))  # type: ignore[operator]


def test_a_shorter_clip_hears_a_resized_grid_of_positions() -> None:
    torch.manual_seed(0)
    model = build(TINY, N_MELS, 2).eval()
    whole = model.get_parameter("backbone.net.embeddings.position_embeddings")
    with torch.no_grad():
        whole[:, 2:] = torch.linspace(0, 1, 5).repeat(12)[None, :, None]  # 64 frames: 5 patches; rises with time
        resized = model.backbone._resized(12, 3)["embeddings.position_embeddings"]  # type: ignore[operator, union-attr]
    assert resized.shape == (1, 2 + 12 * 3, 48)
    assert torch.equal(resized[:, :2], whole[:, :2])
    grid = resized[0, 2:, 0].reshape(12, 3)
    assert torch.allclose(grid, torch.tensor([[1 / 12, 0.5, 11 / 12]]).expand(12, 3), atol=1e-6)


def test_the_gradient_reaches_the_positions_through_the_resizing() -> None:
    torch.manual_seed(0)
    model = build(TINY, N_MELS, 2)
    model(logmel(40)).sum().backward()
    gradient = model.get_parameter("backbone.net.embeddings.position_embeddings").grad
    assert gradient is not None
    assert (gradient.abs().amax(dim=2) > 0).all()


def test_less_than_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="AST needs at least 16 frames, got 15"):
        build(TINY, N_MELS, 2)(logmel(15))


def test_a_head_over_time_gets_one_feature_vector_every_ten_frames() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "max_frames": 64}
    model = build(Config(head="fluffy_attention", head_widths="4", **sizes), N_MELS, 2)  # type: ignore[arg-type]
    assert model.backbone(logmel()).shape == (3, 5, 16)  # type: ignore[operator]
    assert model(logmel()).shape == (3, 2)


def test_weights_of_other_classes_are_no_zero_shot_model(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "ast", names={193: "Dog"})
    with pytest.raises(UsageError, match="no output that is called 'Cello', as AudioSet's class for cello is; mode=z"):
        build(Config(mode="zero_shot", weights=str(folder)), N_MELS, 11)


def test_as_many_instruments_as_classes() -> None:
    with pytest.raises(ValueError, match="3 classes, but instruments names 11"):
        build(Config(mode="zero_shot", hidden_size=16, num_layers=1, num_heads=2), N_MELS, 3)


def test_the_transformer_has_86_million_weights() -> None:
    with torch.device("meta"):
        model = build(Config(), N_MELS, 11)
    assert sum(weight.numel() for weight in model.backbone.parameters()) == 86_187_264  # type: ignore[union-attr]
