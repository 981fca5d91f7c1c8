// What one step of the model computes, decided by the scheduler and the same for every rank: plain host data.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace glm {

// One sequence's part of a step: rows [first_row, first_row + rows) of the step's arrays, which continue a sequence
// whose first `cached` tokens are in its KV blocks. Row i is token a = cached + i of its sequence and attends to tokens
// [0, max(prefix, a + 1)): the prompt up to, not including, sop is seen by all, the rest is causal.
struct StepSequence {
  int first_row = 0;
  int rows = 0;
  int cached = 0;
  int prefix = 0;
  std::vector<int> blocks;  // KV blocks in order; token t is at offset t % block_size of blocks[t / block_size]

  int visible(int row) const {
    const int causal = cached + row + 1;
    return prefix > causal ? prefix : causal;
  }
};

// A pass over layers [layer_begin, layer_end). Beginning at 0 it embeds `tokens`; beginning later it goes on from the
// hidden state that the slice before left. Ending at the last layer it yields logits of `logit_rows`.
struct Pass {
  std::vector<int> tokens;     // [rows]
  std::vector<int> positions;  // [rows] rotary position of each row
  std::vector<StepSequence> sequences;
  std::vector<int> logit_rows;  // rows whose logits are wanted, ascending
  int layer_begin = 0;
  int layer_end = 0;
  int rows() const { return static_cast<int>(tokens.size()); }
};

// A token's number of occurrences, for penalties.
struct TokenCount {
  int token = 0;
  int generated = 0;  // occurrences in the answer
};

// How one token, or the candidates of one beam, are taken from a row of logits. Order: `banned` and `bias` on the raw
// logits, penalties, temperature, top-k (ties kept), top-p, draw. Logprobs are of the raw logits.
struct SampleRow {
  int logits_row = 0;
  float temperature = 1.0f;  // 0: the largest logit
  int top_k = 0;             // 0: off
  float top_p = 0.0f;        // 0 or 1: off
  uint64_t seed = 0;
  uint32_t choice = 0;  // with seed and step the counter of the draw
  uint32_t step = 0;
  int logprobs = -1;                        // report this many most likely tokens; -1: not even the token's own
  int candidates = 0;                       // beam search: this many best by log-softmax (plus noise if `noise`)
  bool noise = false;                       // draw candidates without replacement (Gumbel noise), not the best
  float score = 0.0f;                       // beam search: what is added to each log-probability
  std::vector<int> banned;                  // logits set to -65504, as in the original
  std::vector<std::pair<int, float>> bias;  // added
  std::vector<TokenCount> seen;             // tokens that penalties act on
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
};

struct Candidate {
  int token = 0;
  float score = 0.0f;  // the beam's score plus this token's log-probability
  float key = 0.0f;    // what candidates are ranked by: the score, plus noise when drawn
};

struct SampleResult {
  bool finite = true;  // false: the logits held NaN or infinity; nothing else is set
  int token = -1;
  float logprob = 0.0f;
  std::vector<std::pair<int, float>> top;  // (token, log-probability), most likely first
  std::vector<Candidate> candidates;       // best first
};

// One step: KV blocks copied, then up to two passes (a slice of prefill, the decode batch), then sampling. A sample's
// logits_row counts the prefill pass's logit rows first, then the decode pass's.
struct Step {
  std::vector<std::pair<int, int>> block_copies;  // (from, to)
  std::vector<Pass> passes;
  std::vector<SampleRow> samples;
};

}  // namespace glm
