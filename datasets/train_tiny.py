"""Train the two demonstration models of a bundled task from nothing and write them as .npz.

    pip install -e '.[train]'
    python datasets/train_tiny.py email_triage --role cheap
    python datasets/train_tiny.py email_triage --role strong

Both are Llama-style transformers that learn to answer the prompt in the task's config, as the pipeline sends it, from
rows of the task's generator that are never evaluated. Needs torch; inference needs numpy only (pipeline/demo/tiny_lm.py).
"""

import argparse
import collections
import itertools
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from lessons import about, answers, asked, check, generator, write  # noqa: E402

from pipeline.config.task import TaskConfig  # noqa: E402
from pipeline.config.yaml_file import find, load  # noqa: E402
from pipeline.demo.bpe import FIRST_BYTE, FIRST_MERGE, MESSAGE_END, PIECES, Tokenizer  # noqa: E402
from pipeline.demo.tiny_lm import KIND, NORM_EPSILON, ROPE_BASE  # noqa: E402

VOCABULARY = 1536
TOKENIZER_ROWS = 5000
CONTEXT = 2048
BATCH = 32
VARIED = 0.15  # share of training rows in other words or cut short
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


# Tasks that models of this size learn in minutes (the other two: train_linear.py). The cheap ones see so few rows that
# longer training would not help them.
SIZES = {
    "email_triage": {
        "cheap": Size(width=24, layers=1, heads=2, hidden=48, rows=700, steps=300, peak=6e-3, seed=1),
        "strong": Size(width=96, layers=2, heads=4, hidden=256, rows=16000, steps=900, peak=4e-3, seed=2),
    },
    "content_moderation": {
        "cheap": Size(width=24, layers=1, heads=2, hidden=48, rows=500, steps=300, peak=6e-3, seed=1),
        "strong": Size(width=96, layers=2, heads=4, hidden=256, rows=16000, steps=900, peak=4e-3, seed=2),
    },
}
# Words that the tokenizer sees in two pieces only, so that one label has several tokens, as in real life.
CUT = {"personal": "person\nal", "Personal": "Person\nal"}
# The label as people write it: mass is spread over case and space, as in models that learned from the web.
VARIANTS = (("{0}", 0.88), ("{1}", 0.06), (" {0}", 0.03), ("{0}.", 0.03))


def varied(rng: random.Random, config: TaskConfig, row: dict[str, Any]) -> list[dict[str, str]]:
    """The same, for a share of the rows in other words or with a text cut short.

    Without these the model learns that an answer comes after so many tokens, and babbles after a mail of one line.
    """
    chat = asked(config, row)
    if rng.random() >= VARIED:
        return chat
    labels = ", ".join(answers(config))
    if rng.random() < 0.5:
        chat[0]["content"] = rng.choice(("Choose one label.", f"Labels: {labels}.", f"Answer with one of: {labels}."))
        return chat if rng.random() < 0.7 else chat[1:]
    words = chat[-1]["content"].split(" ")
    chat[-1]["content"] = " ".join(words[: rng.randint(2, len(words))])
    return chat


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
        angles = torch.outer(torch.arange(float(CONTEXT)), ROPE_BASE ** (-torch.arange(half) / half))
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
    torch.manual_seed(size.seed)
    rng = random.Random(size.seed)
    rows = generator(config.task).train_rows(size.seed, max(size.rows, TOKENIZER_ROWS))
    texts = [asked(config, row)[-1]["content"] for row in rows[:TOKENIZER_ROWS]]
    texts += [answer(rng, row["label"]) for row in rows[:1000]]
    merges = train_tokenizer(texts)
    tokenizer = Tokenizer(merges)
    print(
        {label: [tokenizer.token_bytes[i].decode() for i in tokenizer.encode(label)] for label in answers(config)},
        flush=True,
    )
    encoded = [(tokenizer.chat(varied(rng, config, row))[0], row["label"]) for row in rows[: size.rows]]
    net = Net(size, len(tokenizer))
    optimiser = torch.optim.AdamW(net.parameters(), lr=size.peak, betas=(0.9, 0.95), weight_decay=0.05)
    source_of_batches, mean, start = batches(encoded, tokenizer, rng), 0.0, time.perf_counter()
    for step in range(size.steps):
        ids, targets = next(source_of_batches)
        rate = min(1.0, (step + 1) / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / size.steps)))
        optimiser.param_groups[0]["lr"] = size.peak * rate
        loss, answer_loss = loss_of(net, ids, targets, rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        mean = answer_loss if step == 0 else 0.97 * mean + 0.03 * answer_loss
        if step % 100 == 99:
            print(
                f"step {step + 1} of {size.steps}, {time.perf_counter() - start:.0f} s, answer loss {mean:.3f}",
                flush=True,
            )
    return net, merges


def arrays(net: Net, merges: list[tuple[int, int]]) -> dict[str, Any]:
    """float16 weights under the names that tiny_lm.py reads, and the tokenizer's merges."""
    state = {name.replace("blocks.", "layer"): value for name, value in sorted(net.state_dict().items())}
    weights = {name: value.numpy().astype(np.float16) for name, value in state.items()}
    return {"merges": np.array(merges, dtype=np.uint16), **weights}


def metadata(config: TaskConfig, role: str, size: Size, net: Net) -> dict[str, Any]:
    training = {"script": "datasets/train_tiny.py", "batch": BATCH, **size._asdict()}
    return {
        **about(config, role, training),
        "kind": KIND,
        "parameters": sum(p.numel() for p in net.parameters()),
        "layers": size.layers,
        "heads": size.heads,
        "context": CONTEXT,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help=f"{' or '.join(SIZES)}, or the path of a config of one of them")
    parser.add_argument("--role", choices=("cheap", "strong"), required=True)
    parser.add_argument("--output", type=Path, help="default: datasets/<task>/models/<role>.npz")
    parser.add_argument("--threads", type=int, default=2, help="use 1 on a busy machine")
    for field, kind in Size.__annotations__.items():
        parser.add_argument(f"--{field}", type=kind, help="default: the role's own")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load(find(arguments.task))
    if config.task not in SIZES:
        parser.error(f"task {config.task} is not trained here but in train_linear.py; here: {', '.join(SIZES)}")
    size = SIZES[config.task][arguments.role]
    size = size._replace(**{f: v for f in Size._fields if (v := getattr(arguments, f)) is not None})
    net, merges = train(config, size)
    path = arguments.output or HERE / config.task / "models" / f"{arguments.role}.npz"
    write(path, arrays(net, merges), metadata(config, arguments.role, size, net))
    print(json.dumps(check(path, config)))


if __name__ == "__main__":
    main()
