// A request while the scheduler has it: its sequences (choices or beams) and where they stand.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "scheduler/beam_search.h"
#include "scheduler/request.h"

namespace glm {

struct Sequence {
  int choice = 0;
  std::vector<int> tokens;  // prompt and answer; the last one's K and V are not computed yet
  int cached = 0;           // leading tokens whose K and V are in `blocks`
  std::vector<int> blocks;
  float score = 0.0f;  // of a beam
  bool finished = false;

  // Only the last token is to be computed: the next step is a decode step.
  bool ready() const { return cached == static_cast<int>(tokens.size()) - 1; }
};

struct Group {
  int64_t id = 0;
  Request request;
  std::vector<Sequence> sequences;  // one until the first token is there
  std::optional<BeamSearch> search;
  bool admitted = false;   // its event `started` is out
  bool started = false;    // the first token is there
  bool cancelled = false;  // asked for by the client
  bool abandoned = false;  // ended while its prompt is being computed; dropped when that pass ends
  double deadline = std::numeric_limits<double>::infinity();

  int prompt_length() const { return static_cast<int>(request.prompt.size()); }
  int generated(const Sequence& s) const { return static_cast<int>(s.tokens.size()) - prompt_length(); }
  std::vector<int> answer(const Sequence& s) const { return {s.tokens.begin() + prompt_length(), s.tokens.end()}; }
  bool ready() const {
    for (const Sequence& s : sequences) {
      if (!s.finished && !s.ready()) return false;
    }
    return true;
  }
};

// Tokens that would complete an n-gram whose last token was generated before: the original's rule. The n-gram may begin
// in the prompt; n-grams wholly inside the prompt do not count. n = 1 has no effect.
std::vector<int> banned_by_ngrams(const std::vector<int>& tokens, int prompt_length, int n);

}  // namespace glm
