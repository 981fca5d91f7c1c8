// From a row of logits to a token, or to a beam's candidates. Order and constants are the original's.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>

#include "core/philox.h"
#include "cpu/backend.h"

namespace glm::cpu {
namespace {

constexpr float kRemoved = -65504.0f;  // fp16's lowest: what the original writes over a logit it removes

// log(sum(exp(x))), in double.
double log_sum_exp(const float* x, int n) {
  const float largest = *std::max_element(x, x + n);
  double total = 0;
  for (int i = 0; i < n; ++i) total += std::exp(static_cast<double>(x[i]) - largest);
  return largest + std::log(total);
}

// The logits after bias, penalties and bans.
std::vector<float> adjust(const SampleRow& row, const float* logits, int vocab) {
  std::vector<float> adjusted(logits, logits + vocab);
  for (const auto& [token, value] : row.bias) adjusted[static_cast<size_t>(token)] += value;
  for (const TokenCount& seen : row.seen) {
    float& x = adjusted[static_cast<size_t>(seen.token)];
    x = x > 0 ? x / row.repetition_penalty : x * row.repetition_penalty;
    if (seen.generated > 0) {
      x -= row.frequency_penalty * static_cast<float>(seen.generated) + row.presence_penalty;
    }
  }
  for (const int token : row.banned) adjusted[static_cast<size_t>(token)] = kRemoved;
  return adjusted;
}

// Tokens that temperature, top-k and top-p leave, with their logits over the temperature, most likely first where top-p
// needs the order.
struct Kept {
  std::vector<int> tokens;
  std::vector<float> logits;
};

Kept filter(const SampleRow& row, std::vector<float> logits) {
  for (float& x : logits) x /= row.temperature;
  Kept kept;
  const int vocab = static_cast<int>(logits.size());
  float least = -INFINITY;
  if (row.top_k > 0 && row.top_k < vocab) {
    std::vector<float> sorted = logits;
    std::nth_element(sorted.begin(), sorted.begin() + (row.top_k - 1), sorted.end(), std::greater<>());
    least = sorted[static_cast<size_t>(row.top_k - 1)];  // ties with the k-th stay
  }
  for (int i = 0; i < vocab; ++i) {
    if (logits[static_cast<size_t>(i)] >= least) kept.tokens.push_back(i);
  }
  if (row.top_p > 0 && row.top_p < 1) {
    std::stable_sort(kept.tokens.begin(), kept.tokens.end(),
                     [&](int a, int b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
    const float largest = logits[static_cast<size_t>(kept.tokens.front())];
    double total = 0, cumulative = 0;
    for (const int t : kept.tokens) total += std::exp(static_cast<double>(logits[static_cast<size_t>(t)]) - largest);
    size_t count = 0;
    while (count < kept.tokens.size()) {
      const auto token = static_cast<size_t>(kept.tokens[count++]);
      cumulative += std::exp(static_cast<double>(logits[token]) - largest) / total;
      if (cumulative > row.top_p) break;  // the first token over the bound is kept, too
    }
    kept.tokens.resize(count);
  }
  for (const int t : kept.tokens) kept.logits.push_back(logits[static_cast<size_t>(t)]);
  return kept;
}

int argmax(const float* x, int n) {
  return static_cast<int>(std::max_element(x, x + n) - x);
}

// The `count` best of (score + log-softmax), or as many draws without replacement when noise is wanted.
std::vector<Candidate> best_candidates(const SampleRow& row, const std::vector<float>& logits) {
  const int vocab = static_cast<int>(logits.size());
  const double normalizer = log_sum_exp(logits.data(), vocab);
  std::vector<Candidate> all(static_cast<size_t>(vocab));
  for (int i = 0; i < vocab; ++i) {
    const auto at = static_cast<size_t>(i);
    const float score = row.score + static_cast<float>(logits[at] - normalizer);
    const float noise = row.noise ? gumbel_noise(row.seed, row.choice, row.step, static_cast<uint32_t>(i)) : 0.0f;
    all[at] = {i, score, score + noise};
  }
  const auto count = static_cast<size_t>(std::min(row.candidates, vocab));
  std::partial_sort(
      all.begin(), all.begin() + static_cast<int64_t>(count), all.end(),
      [](const Candidate& a, const Candidate& b) { return a.key != b.key ? a.key > b.key : a.token < b.token; });
  all.resize(count);
  return all;
}

std::vector<std::pair<int, float>> most_likely(const float* logits, int vocab, int count, double normalizer) {
  std::vector<int> order(static_cast<size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  count = std::min(count, vocab);
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](int a, int b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  std::vector<std::pair<int, float>> top;
  for (int i = 0; i < count; ++i) {
    const int token = order[static_cast<size_t>(i)];
    top.emplace_back(token, static_cast<float>(logits[token] - normalizer));
  }
  return top;
}

int draw(const SampleRow& row, const Kept& kept) {
  size_t best = 0;
  float best_key = -INFINITY;
  for (size_t i = 0; i < kept.tokens.size(); ++i) {
    const auto token = static_cast<uint32_t>(kept.tokens[i]);
    const float key = kept.logits[i] + gumbel_noise(row.seed, row.choice, row.step, token);
    if (key > best_key || (key == best_key && kept.tokens[i] < kept.tokens[best])) {
      best = i;
      best_key = key;
    }
  }
  return kept.tokens[best];
}

}  // namespace

SampleResult sample_row(const SampleRow& row, const float* logits, int vocab) {
  SampleResult result;
  result.finite = std::all_of(logits, logits + vocab, [](float x) { return std::isfinite(x); });
  if (!result.finite) return result;
  std::vector<float> adjusted = adjust(row, logits, vocab);
  if (row.candidates > 0) {
    result.candidates = best_candidates(row, adjusted);
    return result;
  }
  if (row.temperature == 0.0f || row.top_k == 1) {
    result.token = argmax(adjusted.data(), vocab);
  } else {
    result.token = draw(row, filter(row, std::move(adjusted)));
  }
  if (row.logprobs >= 0) {
    const double normalizer = log_sum_exp(logits, vocab);
    result.logprob = static_cast<float>(logits[result.token] - normalizer);
    result.top = most_likely(logits, vocab, row.logprobs, normalizer);
  }
  return result;
}

std::vector<float> sampling_probabilities(const SampleRow& row, const float* logits, int vocab) {
  const Kept kept = filter(row, adjust(row, logits, vocab));
  const double normalizer = log_sum_exp(kept.logits.data(), static_cast<int>(kept.logits.size()));
  std::vector<float> probabilities(static_cast<size_t>(vocab), 0.0f);
  for (size_t i = 0; i < kept.tokens.size(); ++i) {
    probabilities[static_cast<size_t>(kept.tokens[i])] = static_cast<float>(std::exp(kept.logits[i] - normalizer));
  }
  return probabilities;
}

}  // namespace glm::cpu
