"""Train the two demonstration models of a bundled task from nothing and write them as .npz.

    pip install -e '.[train]'
    python datasets/train_tiny.py email_triage --role cheap
    python datasets/train_tiny.py email_triage --role strong

Both are Llama-style transformers that learn to answer the prompt in the task's config, as the pipeline sends it, from
rows of the task's generator that are never evaluated. Needs torch; inference needs numpy only (pipeline/collect/providers/tiny_lm.py).
"""

import argparse
import collections
import importlib.util
import itertools
import json
import math
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from pipeline.collect.prompts import lettered, messages  # noqa: E402
from pipeline.collect.providers.bpe import FIRST_BYTE, FIRST_MERGE, MESSAGE_END, PIECES, Tokenizer  # noqa: E402
from pipeline.collect.providers.tiny_lm import KIND, NORM_EPSILON, ROPE_BASE, TinyLM  # noqa: E402
from pipeline.config import TaskConfig  # noqa: E402
from pipeline.config_file import find, known_tasks, load  # noqa: E402

VOCABULARY = 1536
TOKENIZER_ROWS = 5000
CONTEXT = 2048
BATCH = 32
IGNORED = -100
PROMPT_WEIGHT = 0.05  # of a prompt token's loss against an answer token's: learning to read mails helps a little


class Size(NamedTuple):
    """Shape and length of a training; the cheap one is small and briefly trained on purpose."""

    width: int
    layers: int
    heads: int
    hidden: int
    rows: int
    steps: int
    peak: float
    seed: int


# The cheap model sees so few rows that longer training would not help it.
SIZES = {
    "cheap": Size(width=24, layers=1, heads=2, hidden=48, rows=600, steps=300, peak=6e-3, seed=1),
    "strong": Size(width=96, layers=2, heads=4, hidden=256, rows=16000, steps=900, peak=4e-3, seed=2),
}
# Words that the tokenizer sees in two pieces only, so that one label has several tokens, as in real life.
CUT = {"personal": "person\nal", "Personal": "Person\nal"}
# The label as people write it: mass is spread over case and space, as in models that learned from the web.
VARIANTS = (("{0}", 0.88), ("{1}", 0.06), (" {0}", 0.03), ("{0}.", 0.03))


def generator(task: str) -> ModuleType:
    """The task's generate.py as a module."""
    path = HERE / task / "generate.py"
    spec = importlib.util.spec_from_file_location(f"generate_{task}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def asked(config: TaskConfig, row: dict[str, Any]) -> list[dict[str, str]]:
    """The messages that the pipeline sends for a row."""
    assert config.prompt is not None
    values = {name: row[name] for name in config.prompt.columns}
    return [*messages(config.prompt, {k: lettered(v) if isinstance(v, list) else v for k, v in values.items()})]


def answer(rng: random.Random, label: str) -> str:
    form = rng.choices([form for form, _ in VARIANTS], [share for _, share in VARIANTS])[0]
    return form.format(label, label[:1].upper() + label[1:])


def train_tokenizer(texts: list[str]) -> list[tuple[int, int]]:
    """Merges of a byte-level BPE with VOCABULARY tokens: always the commonest pair, counts kept up to date."""
    words: collections.Counter[str] = collections.Counter()
    for text in texts:
        for whole, parted in CUT.items():
            text = text.replace(whole, parted)
        words.update(PIECES.findall(text))
    pieces = [([FIRST_BYTE + b for b in word.encode()], count) for word, count in words.items()]
    counts: collections.Counter[tuple[int, int]] = collections.Counter()
    where: dict[tuple[int, int], set[int]] = collections.defaultdict(set)
    for number, (ids, count) in enumerate(pieces):
        for pair in itertools.pairwise(ids):
            counts[pair] += count
            where[pair].add(number)
    merges: list[tuple[int, int]] = []
    while FIRST_MERGE + len(merges) < VOCABULARY:
        best = max(counts, key=lambda pair: (counts[pair], pair))
        new = FIRST_MERGE + len(merges)
        merges.append(best)
        for number in where.pop(best):
            ids, count = pieces[number]
            for pair in itertools.pairwise(ids):
                counts[pair] -= count
            at = 0
            while at < len(ids) - 1:
                if (ids[at], ids[at + 1]) == best:
                    ids[at : at + 2] = [new]
                at += 1
            for pair in itertools.pairwise(ids):
                counts[pair] += count
                where[pair].add(number)
        del counts[best]
    return merges


class Block(nn.Module):
    """One layer; matrices are (input, output), as they are written."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads

        def matrix(rows: int, columns: int, gain: float = 1.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns) * gain / math.sqrt(rows))

        quiet = 1 / math.sqrt(2 * size.layers)
        self.attention_norm, self.feed_forward_norm = (
            nn.Parameter(torch.ones(size.width)),
            nn.Parameter(torch.ones(size.width)),
        )
        self.query, self.key_value = matrix(size.width, size.width), matrix(size.width, 2 * size.width)
        self.output = matrix(size.width, size.width, quiet)
        self.gate_up, self.down = matrix(size.width, 2 * size.hidden), matrix(size.hidden, size.width, quiet)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        h = norm(x, self.attention_norm)
        query = rotate((h @ self.query).view(rows, length, self.heads, -1).transpose(1, 2), cos, sin)
        key, value = (h @ self.key_value).view(rows, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, rotate(key, cos, sin), value, is_causal=True)
        x = x + mixed.transpose(1, 2).reshape(rows, length, width) @ self.output
        gate, up = (norm(x, self.feed_forward_norm) @ self.gate_up).chunk(2, -1)
        return x + (functional.silu(gate) * up) @ self.down


class Net(nn.Module):
    """The transformer of tiny_lm.py in torch."""

    def __init__(self, size: Size, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(vocabulary, size.width) * 0.05)
        self.norm = nn.Parameter(torch.ones(size.width))
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        half = size.width // size.heads // 2
        angles = torch.outer(torch.arange(512.0), ROPE_BASE ** (-torch.arange(half) / half))
        self.cos, self.sin = torch.cos(angles), torch.sin(angles)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Last hidden states (rows, length, width)."""
        x = self.embedding[ids]
        for block in self.blocks:
            x = block(x, self.cos[: ids.shape[1]], self.sin[: ids.shape[1]])
        return norm(x, self.norm)


def norm(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(x, (x.shape[-1],), gain, float(NORM_EPSILON))


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def batches(
    encoded: list[tuple[list[int], str]], tokenizer: Tokenizer, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (ids, first answer position) batches of texts of like length, answers in freshly drawn variants."""
    while True:
        order = sorted(rng.sample(range(len(encoded)), len(encoded)), key=lambda i: len(encoded[i][0]) // 8)
        groups = [order[i : i + BATCH] for i in range(0, len(order) - BATCH + 1, BATCH)]
        for group in rng.sample(groups, len(groups)):
            prompts = [encoded[i][0] for i in group]
            replies = [[*tokenizer.encode(answer(rng, encoded[i][1])), MESSAGE_END] for i in group]
            length = max(len(p) + len(q) for p, q in zip(prompts, replies, strict=True))
            ids = torch.zeros(BATCH, length, dtype=torch.long)
            targets = torch.full((BATCH, length), IGNORED)
            for k, (p, q) in enumerate(zip(prompts, replies, strict=True)):
                ids[k, : len(p) + len(q)] = torch.tensor(p + q)
                targets[k, len(p) - 1 : len(p) + len(q) - 1] = torch.tensor(q)
            yield ids, targets


def loss_of(net: Net, ids: torch.Tensor, targets: torch.Tensor, rng: random.Random) -> tuple[torch.Tensor, float]:
    """Answer loss, plus a little of the prompt's on a sample of places (all of them would double the time)."""
    hidden = net(ids)
    asked = targets != IGNORED
    answers = functional.cross_entropy(hidden[asked] @ net.embedding.T, targets[asked])
    places = torch.zeros_like(asked)
    places[:, rng.randrange(8) : -1 : 8] = True
    places &= ~asked
    places[:, :-1] &= ids[:, 1:] != 0
    follows = torch.roll(ids, -1, 1)
    prompt = functional.cross_entropy(hidden[places] @ net.embedding.T, follows[places])
    return answers + PROMPT_WEIGHT * prompt, answers.item()


def train(config: TaskConfig, size: Size) -> tuple[Net, list[tuple[int, int]]]:
    """A trained network and the merges of its tokenizer."""
    assert config.labels is not None
    torch.manual_seed(size.seed)
    rng = random.Random(size.seed)
    rows = generator(config.task).train_rows(size.seed, max(size.rows, TOKENIZER_ROWS))
    texts = [asked(config, row)[-1]["content"] for row in rows[:TOKENIZER_ROWS]]
    texts += [answer(rng, row["label"]) for row in rows[:1000]]
    merges = train_tokenizer(texts)
    tokenizer = Tokenizer(merges)
    print(
        {label: [tokenizer.token_bytes[i].decode() for i in tokenizer.encode(label)] for label in config.labels},
        flush=True,
    )
    encoded = [(tokenizer.chat(asked(config, row))[0], row["label"]) for row in rows[: size.rows]]
    net = Net(size, len(tokenizer))
    optimiser = torch.optim.AdamW(net.parameters(), lr=size.peak, betas=(0.9, 0.95), weight_decay=0.05)
    source_of_batches, mean, start = batches(encoded, tokenizer, rng), 0.0, time.perf_counter()
    for step in range(size.steps):
        ids, targets = next(source_of_batches)
        rate = min(1.0, (step + 1) / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / size.steps)))
        optimiser.param_groups[0]["lr"] = size.peak * rate
        loss, answers = loss_of(net, ids, targets, rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        mean = answers if step == 0 else 0.97 * mean + 0.03 * answers
        if step % 100 == 99:
            print(
                f"step {step + 1} of {size.steps}, {time.perf_counter() - start:.0f} s, answer loss {mean:.3f}",
                flush=True,
            )
    return net, merges


def write(path: Path, net: Net, merges: list[tuple[int, int]], metadata: dict[str, Any]) -> None:
    """One .npz: float16 weights, the tokenizer's merges, metadata as JSON bytes. The same weights give the same bytes."""
    arrays: dict[str, Any] = {"merges": np.array(merges, dtype=np.uint16)}
    for name, value in sorted(net.state_dict().items()):
        key = name.replace("blocks.", "layer") if name.startswith("blocks.") else name
        arrays[key] = value.numpy().astype(np.float16)
    arrays["metadata"] = np.frombuffer(json.dumps(metadata, sort_keys=True).encode(), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def check(path: Path, config: TaskConfig) -> dict[str, float]:
    """Accuracy and the like of a written file on the evaluation set, by the product's inference."""
    lm = TinyLM.load(path)
    assert config.labels is not None
    with (HERE / config.task / "examples.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    right, outside, sure = [], 0, []
    start = time.perf_counter()
    for row in rows:
        tokens = lm.generate(asked(config, row), 8, 5).tokens
        text = b"".join(t.bytes for t in tokens).decode("utf-8", "replace").strip().strip(".").casefold()
        right.append(text == row["label"])
        outside += text not in config.labels
        sure.append(math.exp(tokens[0].logprob) if tokens else 0.0)
    half = np.argsort(sure, kind="stable")
    r = np.array(right)
    return {
        "rows": len(rows),
        "accuracy": round(float(r.mean()), 4),
        "lower_half": round(float(r[half[: len(r) // 2]].mean()), 4),
        "upper_half": round(float(r[half[len(r) // 2 :]].mean()), 4),
        "mean_first_token": round(float(np.mean(sure)), 4),
        "out_of_set": round(outside / len(rows), 4),
        "ms_per_call": round(1000 * (time.perf_counter() - start) / len(rows), 3),
    }


def metadata(config: TaskConfig, role: str, size: Size, net: Net) -> dict[str, Any]:
    model = config.cheap if role == "cheap" else config.strong
    return {
        "kind": KIND,
        "name": f"{config.task.replace('_', '-')}-{role}",
        "stands_in_for": model.model,
        "parameters": sum(p.numel() for p in net.parameters()),
        "layers": size.layers,
        "heads": size.heads,
        "context": CONTEXT,
        "training": {
            "script": "datasets/train_tiny.py",
            "data": f"datasets/{config.task}/generate.py: train_rows({size.seed}, {size.rows})",
            "batch": BATCH,
            **size._asdict(),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=known_tasks())
    parser.add_argument("--role", choices=sorted(SIZES), required=True)
    parser.add_argument("--output", type=Path, help="default: datasets/<task>/models/<role>.npz")
    for field, kind in Size.__annotations__.items():
        parser.add_argument(f"--{field}", type=kind, help="default: the role's own")
    arguments = parser.parse_args()
    os.nice(10)
    torch.set_num_threads(2)
    size = SIZES[arguments.role]
    size = size._replace(**{f: v for f in Size._fields if (v := getattr(arguments, f)) is not None})
    config = load(find(arguments.task))
    net, merges = train(config, size)
    path = arguments.output or HERE / arguments.task / "models" / f"{arguments.role}.npz"
    write(path, net, merges, metadata(config, arguments.role, size, net))
    print(f"wrote {path}, {path.stat().st_size:,} bytes")
    print(json.dumps(check(path, config)))


if __name__ == "__main__":
    main()
