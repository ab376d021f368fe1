"""One of this repository's tiny transformers as a GGUF file, which llama.cpp reads: the same weights, another implementation.

python scripts/tiny_gguf.py datasets/email_triage/models/cheap.npz cheap.gguf        (needs numpy and gguf)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTROL, NORMAL = 3, 1


def byte_characters() -> list[str]:
    """The character that stands for each byte in vocabularies of byte-level BPE (Radford et al. 2019)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def vocabulary(pairs: np.ndarray) -> tuple[list[str], list[str]]:
    """Tokens in order of their numbers, and the merges that make them."""
    tokens, merges = [*SPECIAL, *byte_characters()], []
    for left, right in pairs.tolist():
        merges.append(f"{tokens[left]} {tokens[right]}")
        tokens.append(tokens[left] + tokens[right])
    return tokens, merges


def interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head reordered: rotary positions pair halves here, and neighbours in llama.cpp."""
    width = len(weights) // heads
    return weights.reshape(heads, 2, width // 2, -1).swapaxes(1, 2).reshape(weights.shape)


def write(source: Path, target: Path) -> None:
    """Convert a weight file."""
    arrays = dict(np.load(source, allow_pickle=False))
    about = json.loads(arrays["metadata"].tobytes())
    embedding, heads = arrays["embedding"].astype(np.float32), about["heads"]
    width, tokens_merges = embedding.shape[1], vocabulary(arrays["merges"])
    out = gguf.GGUFWriter(target, "llama")
    out.add_name(about["name"])
    out.add_context_length(about["context"])
    out.add_embedding_length(width)
    out.add_block_count(about["layers"])
    out.add_feed_forward_length(arrays["layer0.down"].shape[0])
    out.add_head_count(heads)
    out.add_head_count_kv(heads)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(width // heads)
    out.add_rope_freq_base(10_000.0)
    out.add_vocab_size(len(embedding))
    out.add_file_type(0)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens_merges[0])
    out.add_token_types([CONTROL] * len(SPECIAL) + [NORMAL] * (len(embedding) - len(SPECIAL)))
    out.add_token_merges(tokens_merges[1])
    out.add_bos_token_id(0)
    out.add_eos_token_id(2)
    out.add_pad_token_id(0)
    out.add_add_bos_token(False)
    out.add_chat_template(TEMPLATE)

    def put(name: str, weights: np.ndarray) -> None:
        out.add_tensor(name, np.ascontiguousarray(weights, dtype=np.float32))

    put("token_embd.weight", embedding)
    put("output.weight", embedding)
    put("output_norm.weight", arrays["norm"])
    for number in range(about["layers"]):
        layer = {
            name: arrays[f"layer{number}.{name}"].astype(np.float32).T
            for name in ("query", "key_value", "output", "gate_up", "down")
        }
        (key, value), (gate, up) = np.split(layer["key_value"], 2), np.split(layer["gate_up"], 2)
        for name, weights in {
            "attn_q": interleaved(layer["query"], heads),
            "attn_k": interleaved(key, heads),
            "attn_v": value,
            "attn_output": layer["output"],
            "ffn_gate": gate,
            "ffn_up": up,
            "ffn_down": layer["down"],
            "attn_norm": arrays[f"layer{number}.attention_norm"],
            "ffn_norm": arrays[f"layer{number}.feed_forward_norm"],
        }.items():
            put(f"blk.{number}.{name}.weight", weights)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
