"""Tiny models with random weights: real folders that every part of the node can load.

Written with numpy alone, so that tests of mlx-free processes can use them too. As a script, it
writes a chat model: the test of the Homebrew formula has no other module of the tests.

Usage: tiny.py FOLDER
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

FIXTURES = Path(__file__).parents[1] / "fixtures" / "embeddings"
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
EOS_ID = 2  # <|im_end|>
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As Qwen's: tools are told in the system message, and the assistant thinks unless told not to.
TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n"
    "{% endfor %}Calls: <tool_call> tool_call.name </tool_call><|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>"
    "{% endif %}"
    "{{ message.content }}"
    "{% for call in message.tool_calls %}{{ '\n<tool_call>\n' }}"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "{{ '\n</tool_call>' }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    "{% endif %}"
)


def make_tokenizer(folder: Path, template: str = CHAT_TEMPLATE) -> None:
    """A byte tokenizer: one id per UTF-8 byte after the special tokens; 259 in all.

    A ``template`` that speaks of thinking gets two tokens more, as Qwen has them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(SPECIAL_TOKENS + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    if "<think>" in template:
        tokenizer.add_tokens([AddedToken(marker) for marker in ("<think>", "</think>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL_TOKENS[0],
        "eos_token": SPECIAL_TOKENS[2],
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def make_chat_model(
    folder: Path,
    *,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 4,
    kv_heads: int = 2,
    context: int = 512,
    seed: int = 0,
    template: str = CHAT_TEMPLATE,
) -> Path:
    """A llama of a few layers with random weights and the byte tokenizer."""
    make_tokenizer(folder, template)
    vocabulary = 259 + 2 * ("<think>" in template)
    head_dim = hidden // heads
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "tie_word_embeddings": True,
        "eos_token_id": EOS_ID,
    }
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(0, 1.0 / np.sqrt(shape[-1]), shape).astype(np.float32)

    # A wide embedding keeps the distribution peaked enough for greedy tests to be stable.
    weights = {
        "model.embed_tokens.weight": 8 * normal(vocabulary, hidden),
        "model.norm.weight": np.ones(hidden, np.float32),
    }
    for i in range(layers):
        layer = f"model.layers.{i}"
        weights |= {
            f"{layer}.input_layernorm.weight": np.ones(hidden, np.float32),
            f"{layer}.post_attention_layernorm.weight": np.ones(hidden, np.float32),
            f"{layer}.self_attn.q_proj.weight": 3 * normal(hidden, hidden),
            f"{layer}.self_attn.k_proj.weight": 3 * normal(kv_heads * head_dim, hidden),
            f"{layer}.self_attn.v_proj.weight": 3 * normal(kv_heads * head_dim, hidden),
            f"{layer}.self_attn.o_proj.weight": 3 * normal(hidden, hidden),
            f"{layer}.mlp.gate_proj.weight": 3 * normal(2 * hidden, hidden),
            f"{layer}.mlp.up_proj.weight": 3 * normal(2 * hidden, hidden),
            f"{layer}.mlp.down_proj.weight": 3 * normal(hidden, 2 * hidden),
        }
    save_file(weights, folder / "model.safetensors", metadata={"format": "mlx"})
    return folder


def make_embedding_model(folder: Path) -> Path:
    """The BERT of the fixtures with the byte tokenizer, whose ids it gets embeddings for."""
    shutil.copytree(FIXTURES / "bert", folder)
    make_tokenizer(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 259}))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    random = np.random.default_rng(0)
    table = random.normal(0, weights[name].std(), (259, weights[name].shape[1]))
    weights[name] = table.astype(weights[name].dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "mlx"})
    return folder


def make_cross_encoder(folder: Path) -> Path:
    """The BERT of the rerankers' fixtures, with a byte tokenizer that joins pairs.

    <|endoftext|> stands before the pair, and <|im_end|> after each of its texts.
    """
    _copy_reranker("bert", folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    start, end = (SPECIAL_TOKENS[index] for index in (0, EOS_ID))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(start, 0), (end, EOS_ID)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    file = folder / "tokenizer_config.json"
    names = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    file.write_text(json.dumps(json.loads(file.read_text()) | names))
    return folder


def make_judge(folder: Path) -> Path:
    """The Qwen3 of the rerankers' fixtures; its byte tokenizer has "no" and "yes", too."""
    return _copy_reranker("qwen3-tied", folder, ("no", "yes"))


def _copy_reranker(name: str, folder: Path, words: tuple[str, ...] = ()) -> Path:
    """A fixture with the byte tokenizer and its ids, with ``words`` as further ids."""
    shutil.copytree(FIXTURES.parent / "rerankers" / name, folder)
    make_tokenizer(folder)
    file = folder / "tokenizer.json"
    state = json.loads(file.read_text())
    vocabulary = state["model"]["vocab"]
    vocabulary |= {word: len(vocabulary) + at for at, word in enumerate(words)}
    file.write_text(json.dumps(state))
    size = len(vocabulary)
    config = json.loads((folder / "config.json").read_text())
    changed = {"vocab_size": size, "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(config | changed))
    weights = load_file(folder / "model.safetensors")
    random = np.random.default_rng(0)
    for end, rows in (("word_embeddings", size), ("embed_tokens", size), ("position_", 512)):
        for key in [key for key in weights if end in key]:
            table = random.normal(0, weights[key].std(), (rows, weights[key].shape[1]))
            weights[key] = table.astype(np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "mlx"})
    return folder


if __name__ == "__main__":
    make_chat_model(Path(sys.argv[1]))
