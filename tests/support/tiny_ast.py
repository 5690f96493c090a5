"""A tiny AST with random weights, saved as the published one is: a classifier, of which the embedding is a part.

    folder = write_tiny_ast(tmp_path / "ast")  # 2 layers x 64, hears 128 frames (1.28 s)

Also a hub that serves such a folder on the loopback interface.
"""

import hashlib
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch
from safetensors.torch import load_file, save_file
from server import Answer, Request, Server

from tutti.train.pretrained import transformers

NAME = "someone/tiny-ast"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_tiny_ast(folder: Path, *, seed: int = 0, dropout: float = 0.0, classifier: bool = True) -> Path:
    """Save config.json, model.safetensors and preprocessor_config.json; equal arguments, equal bytes."""
    library = transformers()
    config = library.ASTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, max_length=128,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, num_labels=3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = library.ASTForAudioClassification(config)
        for parameter in model.parameters():  # also those that start at zero, as no trained model's are
            torch.nn.init.normal_(parameter, std=0.5)  # large, so that clips differ
    whole = model if classifier else library.ASTModel(config)
    if not classifier:
        whole.load_state_dict(model.audio_spectrogram_transformer.state_dict())
    whole.save_pretrained(folder)
    library.ASTFeatureExtractor(max_length=128).save_pretrained(folder)
    return folder


def weight_names(folder: Path) -> list[str]:
    """Names of the saved weights."""
    return sorted(load_file(folder / "model.safetensors"))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the dictionary of saved weights."""
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def edit_json(path: Path, **values: object) -> None:
    """Set values of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


class Hub(Server):
    """Serves one model as the Hugging Face hub does: facts, the tree of a commit, and the files."""

    def publish(self, folder: Path) -> None:
        """Serve the files of a folder as the model NAME at COMMIT, branch main."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        facts = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        tree = [
            {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
            | ({"lfs": _lfs(body)} if name == "model.safetensors" else {})
            for name, body in files.items()
        ]
        for revision in ("main", COMMIT):
            self.script(f"/api/models/{NAME}/revision/{revision}", _json(facts))
        self.script(f"/api/models/{NAME}/tree/{COMMIT}", _json(tree))
        for name, body in files.items():
            digest = hashlib.sha256(body) if name == "model.safetensors" else hashlib.sha1(body)
            headers = {"ETag": f'"{digest.hexdigest()}"', "X-Repo-Commit": COMMIT}
            self.script(file_path(name), Answer(body=body, headers=headers))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(super()._handler()):  # type: ignore[misc]
            def do_HEAD(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.requests.append(Request(path, "", {}))
                answer = hub._next(path)
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()

        return Handler


def file_path(name: str) -> str:
    """Where the hub serves a file of the model."""
    return f"/{NAME}/resolve/{COMMIT}/{name}"


def _lfs(body: bytes) -> dict[str, object]:
    return {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 134}


def _json(value: object) -> Answer:
    return Answer(body=json.dumps(value).encode(), headers={"Content-Type": "application/json"})
