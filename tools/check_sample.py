"""Answers the held-back questions with a checkpoint: right answers per precision and kind.

    python tools/check_sample.py samples/glm-sample [--tensor-parallel 2] [--wrong]

Independent of the engine: plain PyTorch, on the CPU.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sample_model import Weights, accuracy_table, at_precision, greedy
from sample_shards import read
from sample_tokens import CONFIG, SPECIAL, Tokenizer


def answer(w: Weights, tokenizer: Tokenizer, texts: list[str], longest: int = 72) -> list[list[str]]:
    """Fill every mask of the first one's kind in each text, one after the other, as the original does."""
    bodies = [tokenizer.body(text) for text in texts]
    found: list[list[str]] = [[] for _ in texts]
    todo = list(range(len(texts)))
    while todo:
        asked = [tokenizer.mask(bodies[i]) for i in todo]
        prompts = [([*bodies[i], SPECIAL["sop"]], *mask) for i, mask in zip(todo, asked, strict=True)]
        for i, (position, _), ids in zip(todo, asked, greedy(w, CONFIG, prompts, longest), strict=True):
            found[i].append(tokenizer.decode(ids))
            bodies[i][position : position + 1] = ids
        todo = [i for i in todo if any(SPECIAL[m] in bodies[i] for m in ("[MASK]", "[sMASK]", "[gMASK]"))]
    return found


def ask(
    w: Weights, tokenizer: Tokenizer, questions: list[dict[str, object]]
) -> list[tuple[dict[str, object], list[str]]]:
    """Each question with the answers given."""
    return list(zip(questions, answer(w, tokenizer, [str(q["text"]) for q in questions]), strict=True))


def expected(question: dict[str, object]) -> list[str]:
    """The answers a question asks for."""
    given = question["answer"]
    return [str(a) for a in given] if isinstance(given, list) else [str(given)]


def report(w: Weights, tokenizer: Tokenizer, questions: list[dict[str, object]], degree: int, wrong: bool) -> None:
    """Print the table."""
    for name, bits in (("fp16", 16), ("int8", 8), ("int4", 4)):
        answered = ask(at_precision(w, bits, degree), tokenizer, questions)
        right = [given == expected(q) for q, given in answered]
        print(f"{name} at TP {degree}: {sum(right)}/{len(right)} = {sum(right) / len(right):.1%}", flush=True)
        print(
            "   ",
            accuracy_table([(f"{q['lang']} {q['kind']}", ok) for (q, _), ok in zip(answered, right, strict=True)]),
        )
        if wrong:
            for (q, given), ok in zip(answered, right, strict=True):
                if not ok:
                    print("    wrong:", q["text"], "->", given, "wanted", expected(q))


def main() -> None:
    """Check one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with latest, the shards, tokenizer.model and questions.jsonl")
    parser.add_argument("--tensor-parallel", type=int, default=2)
    parser.add_argument("--wrong", action="store_true", help="show the wrong answers")
    parser.add_argument("--ask", action="append", help="answer this text instead")
    args = parser.parse_args()
    tokenizer = Tokenizer(args.folder / "tokenizer.model")
    weights = read(args.folder)
    if args.ask:
        for text, given in zip(args.ask, answer(at_precision(weights, 16), tokenizer, args.ask), strict=True):
            print(text, "->", given)
        return
    lines = (args.folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    report(weights, tokenizer, [json.loads(line) for line in lines], args.tensor_parallel, args.wrong)


if __name__ == "__main__":
    main()
