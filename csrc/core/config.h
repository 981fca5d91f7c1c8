// Dimensions of the model and settings of the engine, checked once where they enter.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"

namespace glm {

struct ModelConfig {
  int num_layers = 0;
  int hidden_size = 0;
  int num_heads = 0;
  int inner_size = 0;
  int vocab_size = 0;           // rows of the embedding, padding included
  int max_sequence_length = 0;  // positions the model was trained for
  float layernorm_eps = 1e-5f;
  std::vector<int> end_ids;  // eop, eos

  int head_dim() const { return hidden_size / num_heads; }
  // The residual's factor: sqrt(2 * layers), as DeepNorm sets it.
  float alpha() const { return std::sqrt(2.0f * static_cast<float>(num_layers)); }

  void validate(int ranks) const {
    GLM_CHECK(num_layers > 0 && hidden_size > 0 && num_heads > 0 && inner_size > 0 && vocab_size > 0,
              "model: every dimension must be positive");
    GLM_CHECK(hidden_size % num_heads == 0 && head_dim() % 2 == 0, "model: hidden_size ", hidden_size,
              " must be an even multiple of num_attention_heads ", num_heads);
    GLM_CHECK(ranks > 0 && num_heads % ranks == 0 && inner_size % ranks == 0 && vocab_size % ranks == 0,
              "tensor parallel degree ", ranks, " must divide the heads (", num_heads, "), the inner size (",
              inner_size, ") and the vocabulary (", vocab_size, ")");
  }
};

struct EngineConfig {
  int max_sequence_length = 0;    // prompt and answer together
  int max_batch_size = 16;        // sequences running at once
  int max_waiting = 64;           // requests queued beside them
  int block_size = 16;            // tokens a KV block holds
  int num_blocks = 0;             // KV blocks; 0: enough for max_batch_size sequences of full length
  int max_prefill_tokens = 4096;  // tokens of prompts that are computed together
  int prefill_layer_tokens = 0;   // layers x tokens of prefill between two decode steps; 0: no bound

  int blocks_per_sequence() const { return (max_sequence_length + block_size - 1) / block_size; }
  int blocks() const { return num_blocks > 0 ? num_blocks : max_batch_size * blocks_per_sequence(); }

  // Rows that a pass may have: a batch of prompts, a whole sequence that is computed again, a step of the batch.
  int max_rows() const { return std::max({max_prefill_tokens, max_sequence_length, max_batch_size}); }

  void validate(const ModelConfig& model) const {
    GLM_CHECK(max_sequence_length >= 2 && max_sequence_length <= model.max_sequence_length,
              "max_sequence_length must be 2 to ", model.max_sequence_length, " (the model's); got ",
              max_sequence_length);
    GLM_CHECK(max_batch_size >= 1 && max_waiting >= 0 && block_size >= 1 && max_prefill_tokens >= 1 &&
                  prefill_layer_tokens >= 0 && num_blocks >= 0,
              "engine: sizes must be positive");
  }
};

}  // namespace glm
