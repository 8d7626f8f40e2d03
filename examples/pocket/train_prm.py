"""Train the pocket process reward model: which steps of a chain of thought are right so far.

    rheostat engine start --model pocket && rheostat engine start --model pocket-large
    python examples/pocket/train_prm.py --minutes 30 --out policies/weights/pocket-prm

It starts from a finished pocket model under one new layer and learns from two kinds of attempts at problems of the
`train` split: worked solutions with something spoiled, and what the pocket models themselves write at temperature 0.8 on
their engines. The labels are exact, because every problem knows its own work (in place of the human labels of Lightman
et al. 2023). The result is a `LlamaForTokenClassification` folder in bfloat16 that vLLM serves with `--runner pooling`;
at the end the step labels of held-out problems are predicted and the area under the curve is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.metrics import roc_auc_score
from train import SIZES, Optimizers, relative_rate
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, PreTrainedTokenizerFast

from rheostat.data.answers import extract, same
from rheostat.data.errors import UpstreamError
from rheostat.data.problems import Problem, Split, problems
from rheostat.data.problems.dialogues import STEP_BY_STEP
from rheostat.data.steps import split_steps
from rheostat.policies.backend import VllmBackend
from rheostat.policies.base import GenerateRequest, Meter
from rheostat.policies.engine import Engines
from rheostat.policies.scorers.rendering import POCKET_FORMAT

WRITE_TOKENS = 128
IN_FLIGHT = 128
PAUSES_S = (1.0, 5.0, 20.0, 60.0)
WIDTH = 256  # of a packed row; longer attempts are left out
IGNORED = -100
OWN_SHARE = 0.7  # of the examples, what the models wrote


class Marked(NamedTuple):
    """An attempt: for every step, whether it and all before it are those of the right work; for the last, the answer."""

    question: str
    steps: tuple[str, ...]
    right: tuple[bool, ...]
    work: tuple[str, ...]


def mark(problem: Problem, steps: Sequence[str]) -> Marked:
    """An attempt with its exact labels."""
    work = split_steps(problem.work().text)
    right = [tuple(steps[: i + 1]) == work[: i + 1] for i in range(len(steps))]
    if right:
        right[-1] = same(extract(steps[-1], problem.kind) or "", problem.answer, problem.kind)
    return Marked(problem.question, tuple(steps), tuple(right), work)


def spoiled(problem: Problem, rng: random.Random) -> Marked:
    """A worked solution; four times in five with a slip, a changed character, or a step lost or said twice."""
    steps = list(split_steps(problem.work().text))
    at, how = rng.randrange(len(steps)), rng.random()
    if how < 0.4:
        slip = rng.randrange(max(len(steps) - 1, 1))
        steps = list(split_steps(problem.work(slip=slip, rng=rng).text))
    elif how < 0.6:
        steps[at] = change_a_character(steps[at], rng)
    elif how < 0.7 and len(steps) > 2:
        del steps[rng.randrange(len(steps) - 1)]
    elif how < 0.8 and len(steps) > 1:
        steps.insert(at, steps[rng.randrange(len(steps) - 1)])
    return mark(problem, steps)


def change_a_character(step: str, rng: random.Random) -> str:
    """A digit or lone letter replaced by another one, nothing that follows from it recomputed."""
    places = [i for i, c in enumerate(step) if c.isdigit() or (c.isalpha() and len(step[max(i - 1, 0) : i + 2].strip(" ,:;")) == 1)]
    if not places:
        return step
    at = rng.choice(places)
    return step[:at] + rng.choice("0123456789" if step[at].isdigit() else "abcdefghijklmnopqrstuvwxyz") + step[at + 1 :]


async def written(model: str, url: str, split: Split, n: int, seed: int) -> list[Marked]:
    """What a pocket model writes when it thinks step by step about `n` problems."""
    asked = list(itertools.islice(problems(split, seed), n))
    gate = asyncio.Semaphore(IN_FLIGHT)
    async with VllmBackend(model, url, model=model) as backend:

        async def one(number: int, problem: Problem) -> Marked:
            message = {"role": "user", "content": f"{problem.question} {STEP_BY_STEP}"}
            request = GenerateRequest(model=model, messages=(message,), max_tokens=WRITE_TOKENS, temperature=0.8, seed=seed + number)
            async with gate:
                text = await patient(backend, request)
            return mark(problem, split_steps(text))

        attempts = await asyncio.gather(*(one(number, problem) for number, problem in enumerate(asked)))
    return [attempt for attempt in attempts if attempt.steps]


async def patient(backend: VllmBackend, request: GenerateRequest) -> str:
    """What an engine writes; a busy machine breaks a connection now and then, and that must not cost all the others."""
    for pause_s in PAUSES_S:
        try:
            return (await backend.generate(request, Meter(WRITE_TOKENS))).completions[0].text
        except UpstreamError:
            await asyncio.sleep(pause_s)
    return (await backend.generate(request, Meter(WRITE_TOKENS))).completions[0].text


def kept_or_written(model: str, url: str, args: argparse.Namespace) -> list[Marked]:
    """The attempts to learn from, kept in the state folder, so that another training need not wait for them."""
    path = Path(args.state) / f"{model}.{args.attempts}.{args.seed}.attempts.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(asyncio.run(written(model, url, "train", args.attempts, args.seed + 1))))
    return msgspec.json.decode(path.read_bytes(), type=list[Marked])


def examples(attempts: list[Marked], seed: int) -> Iterator[Marked]:
    """Endless examples: the models' own attempts and freshly spoiled work."""
    rng, source = random.Random(seed), problems("train", seed)
    while True:
        yield rng.choice(attempts) if attempts and rng.random() < OWN_SHARE else spoiled(next(source), rng)


class Encoded(NamedTuple):
    """An attempt in tokens: ids, labels of the steps at the marks behind them, labels of all other tokens of the steps."""

    ids: list[int]
    steps: list[int]
    tokens: list[int]


def encode(tokenizer: PreTrainedTokenizerFast, row: Marked) -> Encoded:
    """An attempt with exact labels; a token is right as long as the text is that of the right work.

    Steps are few, and what is wrong with one is a digit: learning from every token is what makes a short training enough.
    """
    texts = [POCKET_FORMAT.render(row.question, shown) for shown in ((), row.steps, row.work)]
    before, ids, expected = tokenizer(texts, add_special_tokens=False)["input_ids"]
    agreed = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(ids, expected, strict=False)))
    marks = [i for i in range(len(before), len(ids)) if ids[i] == tokenizer.eos_token_id]
    steps, tokens = [IGNORED] * len(ids), [IGNORED] * len(before) + [int(i < agreed) for i in range(len(before), len(ids))]
    for place, is_right in zip(marks, row.right, strict=True):
        steps[place], tokens[place] = int(is_right), IGNORED
    return Encoded(ids, steps, tokens)


class Batch(NamedTuple):
    """Attempts packed into rows: (rows, width) ids, both labels and positions, (rows, 1, width, width) who may see whom."""

    ids: torch.Tensor
    steps: torch.Tensor
    tokens: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor


def batches(tokenizer: PreTrainedTokenizerFast, source: Iterator[Marked], rows: int) -> Iterator[Batch]:
    """Batches of attempts, packed without padding to speak of and blind to each other, until the source ends."""
    fitting = (each for row in source if len((each := encode(tokenizer, row)).ids) <= WIDTH)
    waiting = next(fitting, None)
    while waiting is not None:
        batch, owner = empty(rows), torch.full((rows, WIDTH), -1)
        for row in range(rows):
            at = number = 0
            while waiting is not None and at + len(waiting.ids) <= WIDTH:
                end = at + len(waiting.ids)
                for held, given in zip(batch[:4], (*waiting, range(len(waiting.ids))), strict=True):
                    held[row, at:end] = torch.tensor(list(given))
                owner[row, at:end] = number
                at, number, waiting = end, number + 1, next(fitting, None)
        alike = owner[:, None, :, None] == owner[:, None, None, :]
        yield batch._replace(visible=alike & batch.visible)


def empty(rows: int) -> Batch:
    """A batch without attempts, in which every token sees those before it."""
    ids, positions = torch.zeros(rows, WIDTH, dtype=torch.long), torch.zeros(rows, WIDTH, dtype=torch.long)
    steps, tokens = torch.full((rows, WIDTH), IGNORED), torch.full((rows, WIDTH), IGNORED)
    return Batch(ids, steps, tokens, positions, torch.ones(WIDTH, WIDTH, dtype=torch.bool).tril())


def scored(model: LlamaForTokenClassification, body: Callable[..., Any], batch: Batch) -> torch.Tensor:
    """(rows, width, 2) logits."""
    hidden = body(batch.ids, position_ids=batch.positions, attention_mask=batch.visible).last_hidden_state
    logits: torch.Tensor = model.score(hidden)
    return logits


def backward(model: LlamaForTokenClassification, body: Callable[..., Any], batch: Batch) -> float:
    """Gradients of one batch, clipped; returns the loss of the steps in nats."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = scored(model, body, batch).flatten(0, 1)
    of_steps, of_tokens = (
        torch.nn.functional.cross_entropy(logits.float(), labels.flatten(), ignore_index=IGNORED) for labels in (batch.steps, batch.tokens)
    )
    (of_steps + of_tokens).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return of_steps.item()


def make_model(start: str) -> LlamaForTokenClassification:
    """The body of a finished pocket model under a new layer and a head of two classes; a reward model as it is, to go on.

    What the body expects as the next token is known only behind its last layer, and only at the token before: the new
    layer is where a token can be held against it. It begins by changing nothing.
    """
    config = LlamaConfig.from_pretrained(start, num_labels=2, id2label={0: "wrong", 1: "right"}, label2id={"wrong": 0, "right": 1})
    if config.architectures == ["LlamaForTokenClassification"]:
        return LlamaForTokenClassification.from_pretrained(start, dtype=torch.float32)
    config.num_hidden_layers += 1
    model = LlamaForTokenClassification(config).float()  # the shipped models' configuration asks for bfloat16
    model.model.load_state_dict(LlamaForCausalLM.from_pretrained(start, dtype=torch.float32).model.state_dict(), strict=False)
    new = model.model.layers[-1]
    for matrix in (new.self_attn.o_proj, new.mlp.down_proj):
        torch.nn.init.zeros_(matrix.weight)
    return model


def step_auc(model: LlamaForTokenClassification, tokenizer: PreTrainedTokenizerFast, attempts: Sequence[Marked]) -> dict[str, float]:
    """Area under the curve over all steps, and over the last ones, which say the answer."""
    scores, labels = [], []
    for batch in batches(tokenizer, iter(attempts), rows=16):
        with torch.inference_mode():
            p_right = scored(model, model.model, batch).softmax(-1)[..., 1]
        marked = batch.steps != IGNORED
        scores += p_right[marked].tolist()
        labels += batch.steps[marked].tolist()
    ends = [end - 1 for end in itertools.accumulate(len(row.steps) for row in attempts if len(encode(tokenizer, row).ids) <= WIDTH)]
    return {
        "steps": len(labels),
        "right": sum(labels) / len(labels),
        "auc": float(roc_auc_score(labels, scores)),
        "auc_answers": float(roc_auc_score([labels[i] for i in ends], [scores[i] for i in ends])),
    }


def train(args: argparse.Namespace) -> None:
    """Train for the processor time given, write the model, and say how well it tells right steps from wrong ones."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer, model = AutoTokenizer.from_pretrained(args.start), make_model(args.start)
    urls = {name: Engines(Path(args.state) / "engines").start(name).url for name in args.writer}
    attempts = [each for name, url in urls.items() for each in kept_or_written(name, url, args)]
    source = batches(tokenizer, examples(attempts, args.seed), args.rows)
    optimizers, body = Optimizers(model, SIZES["pocket-large"]), torch.compile(model.model)
    total_s, began, step = args.minutes * 60, time.process_time(), 0
    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn()) as bar:
        task = bar.add_task("pocket-prm", total=total_s, text="")
        while (spent := time.process_time() - began) < total_s:
            loss = backward(model, body, next(source))
            optimizers.step(args.rate * relative_rate(spent / total_s))
            step += 1
            if step % 50 == 0:
                bar.update(task, completed=spent, text=f"step {step} loss {loss:.4f}")
                if args.log:
                    print(json.dumps({"step": step, "loss": round(loss, 4), "s": round(spent)}), flush=True)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    for how_loaded in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(how_loaded, None)
    tokenizer.save_pretrained(out)
    judge(model.float().eval(), tokenizer, args, urls)


def judge(model: LlamaForTokenClassification, tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace, urls: dict[str, str]) -> None:
    """Print the areas under the curve on held-out problems, attempt by attempt source."""
    rng = random.Random(args.seed)
    held_out = {"spoiled work": [spoiled(problem, rng) for problem in itertools.islice(problems("heldout", args.seed), args.judged)]}
    held_out |= {name: asyncio.run(written(name, url, "heldout", args.judged, args.seed)) for name, url in urls.items()}
    for name, attempts in held_out.items():
        print(json.dumps({"heldout": name, **step_auc(model, tokenizer, attempts)}), flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", default="policies/weights/pocket-large", help="folder of the model to start from, or of a reward model")
    parser.add_argument("--writer", action="append", help="engine whose attempts to learn from; repeat")
    parser.add_argument("--attempts", type=int, default=8192, help="attempts of each writer")
    parser.add_argument("--judged", type=int, default=1024, help="held-out problems in the evaluation")
    parser.add_argument("--minutes", type=float, default=30.0, help="processor time of the training; the schedule is laid over it")
    parser.add_argument("--out", required=True, help="folder for the finished model")
    parser.add_argument("--rate", type=float, default=0.3, help="learning rate relative to that of a pocket model from nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=14, help="packed rows of 256 tokens in a batch")
    parser.add_argument("--state", default=".rheostat", help="folder of the engines")
    parser.add_argument("--log", action="store_true", help="also print a JSON line every 50 steps")
    args = parser.parse_args()
    args.writer = args.writer or ["pocket", "pocket-large"]
    train(args)


if __name__ == "__main__":
    main()
