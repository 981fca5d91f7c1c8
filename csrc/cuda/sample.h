// From rows of logits to tokens, beams' candidates and log-probabilities, on the device; one block a row.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace glm::cuda {

inline constexpr int kMaxListed = 1024;        // candidates or logprobs a row
inline constexpr int kMaxVocabulary = 258048;  // 63 * 4 * 1024: a thread's counters are bytes

// SampleRow (core/step.h) without its lists, which are ranges of the arrays below.
struct SampleJob {
  int logits_row;
  float temperature;
  int top_k;
  float top_p;
  uint64_t seed;
  uint32_t choice;
  uint32_t step;
  int logprobs;
  int candidates;
  int noise;
  float score;
  float repetition_penalty;
  float frequency_penalty;
  float presence_penalty;
  int banned[2];  // [begin, end)
  int bias[2];
  int seen[2];
};

// What a row of edits refers to.
struct SampleEdits {
  const int* banned = nullptr;
  const int* bias_token = nullptr;
  const float* bias_value = nullptr;
  const int* seen_token = nullptr;
  const int* seen_generated = nullptr;
};

struct SampleOutcome {
  int finite;
  int token;
  float logprob;
  int listed;  // entries of the row's list
};

// An entry of a row's list: candidates (score, key) or most likely tokens (logprob, unused).
struct SampleListed {
  int token;
  float score;
  float key;
};

struct SampleBuffers {
  float* scratch = nullptr;           // [rows, 2, vocab]
  SampleOutcome* outcomes = nullptr;  // [rows]
  SampleListed* listed = nullptr;     // [rows, max_listed]
  int max_listed = 0;
  int column_bits = 0;  // what prepare_sample returned
};

// Sets the kernel's shared memory limit on the current device; returns how it divides that memory.
int prepare_sample();
// logits [*, vocab] f32 are not changed.
void sample_rows(const SampleJob* jobs, const SampleEdits& edits, int rows, const float* logits, int vocab,
                 const SampleBuffers& buffers, cudaStream_t stream);

}  // namespace glm::cuda
