#include "scheduler/beam_search.h"

#include <algorithm>
#include <cmath>

namespace glm {

BeamSearch::BeamSearch(const Beams& beams, int prompt_length, std::vector<int> end_ids)
    : beams_(beams), prompt_length_(prompt_length), end_ids_(std::move(end_ids)) {}

// OpenNMT's length penalty, over prompt and answer together as in the original.
float BeamSearch::penalty(int length) const {
  return std::pow((5.0f + static_cast<float>(length)) / 6.0f, beams_.length_penalty);
}

void BeamSearch::add(float score, std::vector<int> tokens) {
  const float penalised = score / penalty(prompt_length_ + static_cast<int>(tokens.size()));
  size_t at = ended_.size();
  while (at > 0 && penalised >= ended_scores_[at - 1]) --at;
  ended_.insert(ended_.begin() + static_cast<int64_t>(at), std::move(tokens));
  ended_scores_.insert(ended_scores_.begin() + static_cast<int64_t>(at), penalised);
  const auto most = static_cast<size_t>(beams_.num_beams);
  if (ended_.size() > most) {
    ended_.resize(most);
    ended_scores_.resize(most);
  }
}

std::vector<BeamSearch::Continuation> BeamSearch::advance(const std::vector<std::vector<int>>& generated,
                                                          const std::vector<std::vector<Candidate>>& found) {
  struct Ranked {
    Continuation continuation;
    float key;
  };
  std::vector<Ranked> ranked;
  for (size_t beam = 0; beam < found.size(); ++beam) {
    for (const Candidate& c : found[beam]) ranked.push_back({{static_cast<int>(beam), c.token, c.score}, c.key});
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) { return a.key > b.key; });
  ranked.resize(std::min(ranked.size(), static_cast<size_t>(candidates())));
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const Ranked& a, const Ranked& b) { return a.continuation.score > b.continuation.score; });

  std::vector<Continuation> live;
  for (const Ranked& r : ranked) {
    const Continuation& c = r.continuation;
    if (std::find(end_ids_.begin(), end_ids_.end(), c.token) != end_ids_.end()) {
      std::vector<int> tokens = generated[static_cast<size_t>(c.parent)];
      tokens.push_back(c.token);
      add(c.score, std::move(tokens));
    } else if (static_cast<int>(live.size()) < beams_.num_beams) {
      live.push_back(c);
    } else {
      break;  // the first surplus candidate stops the scan: a worse end token is not looked at
    }
  }
  const int length = prompt_length_ + static_cast<int>(generated.front().size()) + 1;
  done_ = static_cast<int>(ended_.size()) == beams_.num_beams &&
          (live.empty() || ended_scores_.back() >= live.front().score / penalty(length));
  return live;
}

void BeamSearch::finish(const std::vector<std::vector<int>>& generated, const std::vector<float>& scores) {
  if (done_) return;
  for (size_t i = 0; i < generated.size(); ++i) add(scores[i], generated[i]);
}

}  // namespace glm
