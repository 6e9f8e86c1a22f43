import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxnode.engine.embedding.encoders import ENCODERS, load_encoder
from mlxnode.errors import ModelError
from mlxnode.models.sentence.config import ENCODER_TYPES
from mlxnode.models.served import ServedModel

FIXTURES = Path(__file__).parents[2] / "fixtures" / "embeddings"
ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "modernbert", "qwen3")


def serve(folder: Path) -> ServedModel:
    config = json.loads((folder / "config.json").read_text())
    return ServedModel(
        id="model",
        type="embedding",
        folder=folder,
        weights=folder,
        architecture=config["model_type"],
        context_length=48,
        dimensions=None,
        default_temperature=None,
        size_bytes=0,
        created=0,
    )


def load_expected(name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Token ids of each text [L] and the hidden states of transformers [L, D]."""
    expected = np.load(FIXTURES / name / "expected.npz")
    ends = np.cumsum(expected["lengths"])[:-1]
    return np.split(expected["ids"], ends), np.split(expected["hidden"], ends)


def encode(encoder, texts: list[np.ndarray], L: int, padding: int = 0) -> list[np.ndarray]:
    """Hidden states [L, D] of texts that go through the encoder as one batch of length L."""
    ids = np.full((len(texts), L), padding, np.int32)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = text
    hidden = encoder(mx.array(ids), mx.array([len(text) for text in texts]))
    return [row[: len(text)] for row, text in zip(np.array(hidden), texts, strict=True)]


@pytest.fixture
def copy(tmp_path):
    """Copies of fixture checkpoints, to be changed."""

    def make(name: str, **config) -> Path:
        folder = tmp_path / name
        shutil.copytree(FIXTURES / name, folder)
        settings = json.loads((folder / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(settings))
        return folder

    return make


def change_weights(folder: Path, change) -> None:
    file = str(folder / "model.safetensors")
    weights = change(dict(mx.load(file)))
    mx.eval(weights)
    mx.save_safetensors(file, weights)


def assert_unchanged(folder: Path, name: str) -> None:
    texts, expected = load_expected(name)
    (hidden,) = encode(load_encoder(serve(folder)), [texts[4]], 32)
    np.testing.assert_allclose(hidden, expected[4], atol=3e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_encoder_equals_transformers(name):
    texts, expected = load_expected(name)
    encoder = load_encoder(serve(FIXTURES / name))
    for text, reference in zip(texts, expected, strict=True):
        (hidden,) = encode(encoder, [text], len(text))
        np.testing.assert_allclose(hidden, reference, atol=3e-5)


@pytest.mark.parametrize("padding", [0, 1, 99])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_encoder_batched_equals_single(name, padding):
    texts, expected = load_expected(name)
    encoder = load_encoder(serve(FIXTURES / name))
    # Padded past the positions that the model has, as rounding up may do.
    for hidden, reference in zip(encode(encoder, texts, 64, padding), expected, strict=True):
        np.testing.assert_allclose(hidden, reference, atol=3e-5)


def test_roberta_positions_skip_padding_ids(copy):
    """A padding id inside a text has no position, as in transformers."""
    encoder = load_encoder(serve(FIXTURES / "roberta"))
    positions = encoder.embeddings.positions(mx.array([[7, 1, 8, 9, 1, 1]]))
    assert positions.tolist() == [[2, 1, 3, 4, 1, 1]]


def test_modernbert_reads_older_configs(copy):
    """Published configs have flat rope keys and a period instead of layer_types."""
    folder = copy("modernbert")
    config = json.loads((folder / "config.json").read_text())
    thetas = {k: v["rope_theta"] for k, v in config.pop("rope_parameters").items()}
    del config["layer_types"]
    config |= {
        "global_attn_every_n_layers": 3,
        "global_rope_theta": thetas["full_attention"],
        "local_rope_theta": thetas["sliding_attention"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    assert_unchanged(folder, "modernbert")


@pytest.mark.parametrize(
    ("name", "prefix"), [("roberta", "roberta."), ("qwen3", "model."), ("bert", "")]
)
def test_load_encoder_accepts_names_with_and_without_prefix(copy, name, prefix):
    folder = copy(name)
    known = ("bert.", "roberta.", "model.")

    def rename(weights):
        names = {key: key for key in weights}
        for start in known:
            names = {key: value.removeprefix(start) for key, value in names.items()}
        return {prefix + names[key]: array for key, array in weights.items()}

    change_weights(folder, rename)
    assert_unchanged(folder, name)


def test_load_encoder_accepts_gamma_and_beta(copy):
    folder = copy("bert")

    def age(weights):
        norm = "LayerNorm."
        return {
            key.replace(norm + "weight", norm + "gamma").replace(
                norm + "bias", norm + "beta"
            ): w
            for key, w in weights.items()
        }

    change_weights(folder, age)
    assert_unchanged(folder, "bert")


def test_load_encoder_widens_halves_on_the_cpu(copy):
    folder = copy("bert")
    change_weights(folder, lambda w: {k: v.astype(mx.bfloat16) for k, v in w.items()})
    texts, _ = load_expected("bert")
    encoder = load_encoder(serve(folder))
    hidden = encoder(mx.array(texts[2][None]), mx.array([len(texts[2])]))
    is_cpu = mx.default_device() == mx.cpu
    assert hidden.dtype == (mx.float32 if is_cpu else mx.bfloat16)


def test_load_encoder_reads_a_quantized_decoder(copy):
    """As mlx-lm converts them: some layers in 8 bits, the rest as they were."""
    folder = copy("qwen3", quantization={"group_size": 32, "bits": 8})

    def quantize(weights):
        packed = {}
        for key, weight in weights.items():
            if key.endswith("_proj.weight") and weight.shape[1] % 32 == 0:
                base = key.removesuffix("weight")
                parts = mx.quantize(weight, group_size=32, bits=8)
                weight, packed[base + "scales"], packed[base + "biases"] = parts
            packed[key] = weight
        return packed

    change_weights(folder, quantize)
    texts, expected = load_expected("qwen3")
    (hidden,) = encode(load_encoder(serve(folder)), [texts[4]], 32)
    cosines = (hidden * expected[4]).sum(-1)
    cosines /= np.linalg.norm(hidden, axis=-1) * np.linalg.norm(expected[4], axis=-1)
    assert min(cosines) > 0.999


def test_load_encoder_names_a_missing_weight(copy):
    folder = copy("bert")
    name = "bert.encoder.layer.1.output.dense.bias"
    change_weights(folder, lambda w: {k: v for k, v in w.items() if k != name})
    with pytest.raises(ModelError, match=r"1 weight missing.*layer\.1\.output\.dense\.bias"):
        load_encoder(serve(folder))


def test_load_encoder_names_an_unknown_weight(copy):
    folder = copy("modernbert")
    change_weights(folder, lambda w: w | {"model.layers.0.extra": mx.zeros(3)})
    with pytest.raises(ModelError, match=r"1 weight unknown, such as layers\.0\.extra"):
        load_encoder(serve(folder))


def test_load_encoder_names_a_misshapen_weight(copy):
    with pytest.raises(ModelError, match=r"shape \(100, 32\), not \(101, 32\)"):
        load_encoder(serve(copy("bert", vocab_size=101)))


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("bert", {"hidden_act": "mish"}, "activation 'mish' is not supported"),
        ("bert", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("bert", {"is_decoder": True}, "is_decoder"),
        ("bert", {"quantization": {"bits": 4}}, "quantized bert is not supported"),
        ("bert", {"model_type": "distilbert"}, "distilbert not supported"),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "yarn"),
        ("qwen3", {"use_bidirectional_attention": True}, "bidirectional attention"),
        ("qwen3", {"is_causal": False}, "bidirectional attention"),
        ("qwen3", {"num_hidden_layers": 3}, "layers.2"),
    ],
)
def test_load_encoder_refuses_by_name(copy, name, config, message):
    with pytest.raises(ModelError, match=message):
        load_encoder(serve(copy(name, **config)))


def test_load_encoder_refuses_a_missing_key(copy):
    folder = copy("bert")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match=r"config\.json.*vocab_size"):
        load_encoder(ServedModel("m", "embedding", folder, folder, "bert", 8, None, None, 0, 0))


def test_load_encoder_refuses_missing_and_broken_files(copy):
    folder = copy("bert")
    (folder / "model.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(ModelError, match="cannot be read"):
        load_encoder(serve(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        load_encoder(serve(folder))


def test_encoders_are_those_that_the_workers_know():
    assert set(ENCODERS) == ENCODER_TYPES
