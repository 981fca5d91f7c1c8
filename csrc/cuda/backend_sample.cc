// Sampling's host side: rows and their lists go up in one copy, results come down in one, and the stream is waited for.
#include <algorithm>
#include <cstring>

#include "cuda/backend.h"

namespace glm::cuda {
namespace {

// Everything that a sampling kernel reads, laid out in one buffer; every part begins at a multiple of 8 bytes.
struct Packed {
  std::vector<SampleJob> jobs;
  std::vector<int> banned, bias_token, seen_token, seen_generated;
  std::vector<float> bias_value;
  int listed = 1;
};

Packed pack(std::span<const SampleRow> rows) {
  Packed p;
  for (const SampleRow& row : rows) {
    SampleJob job{};
    job.logits_row = row.logits_row;
    job.temperature = row.temperature;
    job.top_k = row.top_k;
    job.top_p = row.top_p;
    job.seed = row.seed;
    job.choice = row.choice;
    job.step = row.step;
    job.logprobs = row.logprobs;
    job.candidates = row.candidates;
    job.noise = row.noise ? 1 : 0;
    job.score = row.score;
    job.repetition_penalty = row.repetition_penalty;
    job.frequency_penalty = row.frequency_penalty;
    job.presence_penalty = row.presence_penalty;
    GLM_CHECK(row.logprobs <= kMaxListed && row.candidates <= kMaxListed, "sampling: at most ", kMaxListed,
              " logprobs or candidates a row; got ", std::max(row.logprobs, row.candidates));
    job.banned[0] = static_cast<int>(p.banned.size());
    p.banned.insert(p.banned.end(), row.banned.begin(), row.banned.end());
    job.banned[1] = static_cast<int>(p.banned.size());
    job.bias[0] = static_cast<int>(p.bias_token.size());
    for (const auto& [token, value] : row.bias) {
      p.bias_token.push_back(token);
      p.bias_value.push_back(value);
    }
    job.bias[1] = static_cast<int>(p.bias_token.size());
    job.seen[0] = static_cast<int>(p.seen_token.size());
    for (const TokenCount& seen : row.seen) {
      p.seen_token.push_back(seen.token);
      p.seen_generated.push_back(seen.generated);
    }
    job.seen[1] = static_cast<int>(p.seen_token.size());
    p.listed = std::max({p.listed, row.logprobs, row.candidates});
    p.jobs.push_back(job);
  }
  return p;
}

SampleResult result_of(const SampleRow& row, const SampleOutcome& outcome, const SampleListed* listed) {
  SampleResult result;
  result.finite = outcome.finite != 0;
  if (!result.finite) return result;
  result.token = outcome.token;
  result.logprob = outcome.logprob;
  for (int i = 0; i < outcome.listed; ++i) {
    if (row.candidates > 0) {
      result.candidates.push_back({listed[i].token, listed[i].score, listed[i].key});
    } else {
      result.top.emplace_back(listed[i].token, listed[i].score);
    }
  }
  return result;
}

}  // namespace

void CudaBackend::sample(std::span<const SampleRow> rows, Tensor logits, std::span<SampleResult> results) {
  if (rows.empty()) return;
  const Packed p = pack(rows);
  std::vector<uint64_t> words;
  const auto add = [&](const auto& values) {
    const size_t at = words.size(), bytes = values.size() * sizeof(values[0]);
    words.insert(words.end(), (bytes + 7) / 8, 0);
    if (bytes > 0) std::memcpy(words.data() + at, values.data(), bytes);
    return at * sizeof(uint64_t);
  };
  const size_t at_jobs = add(p.jobs), at_banned = add(p.banned), at_bias = add(p.bias_token),
               at_value = add(p.bias_value), at_seen = add(p.seen_token), at_generated = add(p.seen_generated);
  const auto* data =
      static_cast<const std::byte*>(uploader_.upload(words.data(), words.size() * sizeof(uint64_t), stream_));
  const SampleEdits edits{reinterpret_cast<const int*>(data + at_banned), reinterpret_cast<const int*>(data + at_bias),
                          reinterpret_cast<const float*>(data + at_value), reinterpret_cast<const int*>(data + at_seen),
                          reinterpret_cast<const int*>(data + at_generated)};
  const size_t count = rows.size(), listed_count = count * static_cast<size_t>(p.listed);
  sample_scratch_.reserve(count * 2 * static_cast<size_t>(logits.cols) * sizeof(float));
  sample_outcomes_.reserve(count * sizeof(SampleOutcome));
  sample_listed_.reserve(listed_count * sizeof(SampleListed));
  const SampleBuffers buffers{sample_scratch_.as<float>(), sample_outcomes_.as<SampleOutcome>(),
                              sample_listed_.as<SampleListed>(), p.listed, column_bits_};
  sample_rows(reinterpret_cast<const SampleJob*>(data + at_jobs), edits, static_cast<int>(count),
              logits.as<const float>(), static_cast<int>(logits.cols), buffers, stream_);
  std::vector<SampleOutcome> outcomes(count);
  std::vector<SampleListed> listed(listed_count);
  GLM_CUDA_CHECK(cudaMemcpyAsync(outcomes.data(), buffers.outcomes, count * sizeof(SampleOutcome),
                                 cudaMemcpyDeviceToHost, stream_));
  const bool lists =
      std::any_of(rows.begin(), rows.end(), [](const SampleRow& r) { return r.logprobs > 0 || r.candidates > 0; });
  if (lists) {
    GLM_CUDA_CHECK(cudaMemcpyAsync(listed.data(), buffers.listed, listed_count * sizeof(SampleListed),
                                   cudaMemcpyDeviceToHost, stream_));
  }
  synchronize();
  for (size_t i = 0; i < count; ++i) {
    results[i] = result_of(rows[i], outcomes[i], listed.data() + i * static_cast<size_t>(p.listed));
  }
}

}  // namespace glm::cuda
