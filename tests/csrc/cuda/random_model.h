// A model of random weights in a shard file, for checks and timings of the whole engine: layers may share their bytes,
// so that a file of a few gigabytes stands for a model that no disk here holds (each layer still gets device memory of
// its own).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/half.h"
#include "runtime/executor.h"

namespace glm::testing {

struct RandomModel {
  ModelConfig config;
  ShardSource shard;
};

inline ModelConfig model_config(int layers, int hidden, int heads, int inner, int vocab) {
  ModelConfig c;
  c.num_layers = layers;
  c.hidden_size = hidden;
  c.num_heads = heads;
  c.inner_size = inner;
  c.vocab_size = vocab;
  c.max_sequence_length = 2048;
  c.end_ids = {vocab - 1};
  return c;
}

// Writes `path`. dtype: of the layers' matrices. share: layers repeat the first one's bytes.
inline RandomModel random_model(const std::string& path, const ModelConfig& config, DType dtype, bool share,
                                uint64_t seed) {
  RandomModel model{config, {path, {}}};
  std::FILE* file = std::fopen(path.c_str(), "wb");
  GLM_CHECK(file != nullptr, "cannot write ", path);
  std::mt19937_64 bits(seed);
  int64_t at = 0;
  std::vector<uint8_t> buffer;
  const auto put = [&](const std::string& name, DType type, int64_t rows, int64_t cols, float center, float spread) {
    model.shard.tensors.push_back({name, type, rows, cols, at});
    int64_t left = bytes_of(type, rows * cols);
    for (bool first = true; left > 0; first = false) {
      const auto bytes = static_cast<size_t>(std::min<int64_t>(left, 1 << 24));
      buffer.resize((bytes + 7) / 8 * 8);
      // Where layers share, 16 MiB of random values are repeated: only their cost matters.
      for (size_t i = 0; i < buffer.size() && (first || !share); i += 8) {
        uint64_t word = bits();
        if (type == DType::f16) {
          for (size_t k = 0; k < 4; ++k) {
            const float u = static_cast<float>(word >> (16 * k) & 0xffff) / 32767.5f - 1.0f;
            const Half h = to_half(center + spread * u);
            std::memcpy(buffer.data() + i + 2 * k, &h.bits, 2);
          }
        } else {
          std::memcpy(buffer.data() + i, &word, 8);
        }
      }
      GLM_CHECK(std::fwrite(buffer.data(), 1, bytes, file) == bytes, "cannot write ", path);
      left -= static_cast<int64_t>(bytes);
      at += static_cast<int64_t>(bytes);
    }
    while (at % 64 != 0) {
      std::fputc(0, file);
      ++at;
    }
  };
  const int64_t h = config.hidden_size, f = config.inner_size;
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t cols) {
    // Outputs of about unit size: uniform in +-s has variance s^2 / 3, INT8 codes 5461, INT4 codes 21.25.
    const float unit = 1.0f / std::sqrt(static_cast<float>(cols));
    put(name, dtype, rows, cols, 0, 1.7f * unit);
    if (dtype != DType::f16) {
      const float scale = unit / (dtype == DType::i8 ? 73.9f : 4.61f);
      put(name + "_scale", DType::f16, 1, rows, scale, 0.2f * scale);
    }
  };
  const size_t first_layer = model.shard.tensors.size();
  size_t per_layer = 0;
  for (int i = 0; i < config.num_layers; ++i) {
    const std::string layer = concat("layers.", i, ".");
    if (share && i > 0) {
      for (size_t k = 0; k < per_layer; ++k) {
        ShardTensor copy = model.shard.tensors[first_layer + k];
        copy.name = layer + copy.name.substr(std::string("layers.0.").size());
        model.shard.tensors.push_back(copy);
      }
      continue;
    }
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
      put(layer + norm + ".weight", DType::f16, 1, h, 1, 0.2f);
      put(layer + norm + ".bias", DType::f16, 1, h, 0, 0.2f);
    }
    matrix(layer + "attention.query_key_value.weight", 3 * h, h);
    put(layer + "attention.query_key_value.bias", DType::f16, 1, 3 * h, 0, 0.1f);
    matrix(layer + "attention.dense.weight", h, h);
    put(layer + "attention.dense.bias", DType::f16, 1, h, 0, 0.1f);
    matrix(layer + "mlp.dense_h_to_4h.weight", 2 * f, h);
    put(layer + "mlp.dense_h_to_4h.bias", DType::f16, 1, 2 * f, 0, 0.1f);
    matrix(layer + "mlp.dense_4h_to_h.weight", h, f);
    put(layer + "mlp.dense_4h_to_h.bias", DType::f16, 1, h, 0, 0.1f);
    per_layer = model.shard.tensors.size() - first_layer;
  }
  put("word_embeddings.weight", DType::f16, config.vocab_size, h, 0, 3.0f / std::sqrt(static_cast<float>(h)));
  put("final_layernorm.weight", DType::f16, 1, h, 1, 0.2f);
  put("final_layernorm.bias", DType::f16, 1, h, 0, 0.2f);
  std::fclose(file);
  return model;
}

}  // namespace glm::testing
