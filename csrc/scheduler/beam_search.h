// The original's BeamSearchStrategy as bookkeeping: candidates in, beams to continue out. It holds no tensors.
#pragma once

#include <vector>

#include "core/step.h"
#include "scheduler/request.h"

namespace glm {

class BeamSearch {
 public:
  BeamSearch(const Beams& beams, int prompt_length, std::vector<int> end_ids);

  // How many candidates each step looks at.
  int candidates() const {
    const int ends = static_cast<int>(end_ids_.size());
    return ((ends > 1 ? ends : 1) + 1) * beams_.num_beams;
  }

  struct Continuation {
    int parent = 0;  // index of the beam it continues
    int token = 0;
    float score = 0.0f;  // summed log-probability
  };
  // One step: `generated` are the live beams' tokens so far, `found` each beam's candidates. Ended beams are kept here;
  // the live ones are returned, best first, at most num_beams.
  std::vector<Continuation> advance(const std::vector<std::vector<int>>& generated,
                                    const std::vector<std::vector<Candidate>>& found);
  // No live beam can beat the worst of the ended ones any more.
  bool done() const { return done_; }
  // The best num_beams, best first: ended ones, and the live ones unless the search is done.
  void finish(const std::vector<std::vector<int>>& generated, const std::vector<float>& scores);
  const std::vector<std::vector<int>>& beams() const { return ended_; }
  const std::vector<float>& scores() const { return ended_scores_; }

 private:
  float penalty(int length) const;  // of a whole sequence's length
  void add(float score, std::vector<int> tokens);

  const Beams beams_;
  const int prompt_length_;
  const std::vector<int> end_ids_;
  std::vector<std::vector<int>> ended_;
  std::vector<float> ended_scores_;
  bool done_ = false;
};

}  // namespace glm
