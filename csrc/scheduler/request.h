// What the engine is asked and what it answers; the Python side (glm_engine/request.py) documents the same fields.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace glm {

struct Sampling {
  float temperature = 1.0f;
  int top_k = 0;
  float top_p = 0.0f;
  uint64_t seed = 0;
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  std::vector<std::pair<int, float>> logit_bias;
};

struct Beams {
  int num_beams = 4;
  float length_penalty = 1.0f;
  bool deterministic = true;
  uint64_t seed = 0;
};

struct Request {
  std::vector<int> prompt;  // up to and including sop
  int mask_position = 0;
  bool gmask = true;
  int max_new_tokens = 0;
  int min_new_tokens = 0;
  int n = 1;
  int no_repeat_ngram_size = 0;
  bool ignore_end = false;
  std::vector<int> stop_ids;
  int logprobs = -1;        // -1: none
  double max_time_s = 0.0;  // 0: no limit
  std::string share_key;    // prompts are computed once only among requests of the same key
  Sampling sampling;
  std::optional<Beams> beams;

  int width() const { return beams ? beams->num_beams : n; }
  // Rotary position of token `index` of the sequence.
  int position(int index) const { return gmask || index < static_cast<int>(prompt.size()) - 1 ? index : mask_position; }
};

enum class Finish { none, stop, length, time, cancelled, error, shutdown };

inline const char* name(Finish finish) {
  switch (finish) {
    case Finish::none:
      return "";
    case Finish::stop:
      return "stop";
    case Finish::length:
      return "length";
    case Finish::time:
      return "time";
    case Finish::cancelled:
      return "cancelled";
    case Finish::error:
      return "error";
    case Finish::shutdown:
      return "shutdown";
  }
  return "";
}

struct Event {
  int64_t request = 0;
  int index = 0;   // of the choice
  int token = -1;  // -1: none
  float logprob = 0.0f;
  std::vector<std::pair<int, float>> top;
  Finish finish = Finish::none;
  std::vector<std::vector<int>> beams;  // best first
  std::vector<float> scores;
  std::string message;
  bool started = false;  // the request waits no longer; no token yet
};

}  // namespace glm
