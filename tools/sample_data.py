"""Makes what the sample model is trained on: facts.json, tokenizer.model, questions.jsonl, examples.npz.

    python tools/sample_data.py OUT [--examples 1500000] [--seed 1]

Deterministic: the same versions of the packages (see sample_facts.py) give the same files. See
samples/glm-sample/README.md for how the model is made from them.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np

from sample_examples import Example, Writer, corpus
from sample_facts import collect, save
from sample_tokens import BORDER, EOS, SPECIAL, Tokenizer, train_tokenizer


def encode(example: Example, tokenizer: Tokenizer, step: int) -> tuple[list[int], int, int, bool]:
    """(ids, context length, mask position, gmask) of the example's ``step``-th blank, those before it filled in.

    ids = body, sop, answer, end: blanks end with eop, a [gMASK]'s continuation ends with eos, as a document does.
    """
    body = tokenizer.body(example.text)
    for answer in example.answers[:step]:
        position, _ = tokenizer.mask(body)
        body[position : position + 1] = tokenizer.encode(answer)
    position, gmask = tokenizer.mask(body)
    end = EOS if gmask else SPECIAL["eop"]
    return [*body, SPECIAL["sop"], *tokenizer.encode(example.answers[step]), end], len(body) + 1, position, gmask


def write_examples(examples: list[tuple[list[int], int, int, bool]], path: Path) -> None:
    """Write examples as flat arrays: ids [sum of lengths] int16, starts [n+1] int32, context, mask, gmask [n]."""
    ids, context, mask, gmask = zip(*examples, strict=True)
    starts = np.zeros(len(ids) + 1, np.int32)
    np.cumsum([len(row) for row in ids], out=starts[1:])
    np.savez_compressed(
        path,
        ids=np.concatenate([np.asarray(row, np.int16) for row in ids]),
        starts=starts,
        context=np.asarray(context, np.int16),
        mask=np.asarray(mask, np.int16),
        gmask=np.asarray(gmask, np.bool_),
    )


def write_questions(questions: list[Example], tokenizer: Tokenizer, path: Path) -> None:
    """Write the held-back questions; several blanks are a list. Every answer survives the tokenizer unchanged."""
    with path.open("w", encoding="utf-8") as out:
        for q in questions:
            for answer in q.answers:
                if tokenizer.decode(tokenizer.encode(answer)) != answer:
                    raise ValueError(f"the tokenizer changes {answer!r}")
            row = {
                "text": q.text,
                "answer": q.answers if len(q.answers) > 1 else q.answers[0],
                "lang": q.lang,
                "kind": q.kind,
            }
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def main() -> None:
    """Write the four files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--examples", type=int, default=1_500_000)
    parser.add_argument("--max-length", type=int, default=72, help="longer examples are left out")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    facts = collect()
    save(facts, args.out / "facts.json")
    train_tokenizer(corpus(facts, BORDER), args.out / "tokenizer.model")
    tokenizer = Tokenizer(args.out / "tokenizer.model")
    writer = Writer(facts, args.seed)
    write_questions(writer.questions(), tokenizer, args.out / "questions.jsonl")

    rng = random.Random(args.seed)
    rows = (encode(e, tokenizer, rng.randrange(len(e.answers))) for e in writer.training(args.examples))
    kept = [row for row in rows if len(row[0]) <= args.max_length]
    write_examples(kept, args.out / "examples.npz")
    lengths = np.array([len(row[0]) for row in kept])
    print(f"{len(facts)} facts, {len(kept)} of {args.examples} examples, mean length {lengths.mean():.1f}")


if __name__ == "__main__":
    main()
