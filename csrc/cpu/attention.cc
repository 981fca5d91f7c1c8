// Rotary positions, the KV cache, and attention over it: each row reads its keys in order, whatever else is in the
// pass.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/half.h"
#include "cpu/backend.h"

namespace glm::cpu {

KvCache::KvCache(int layers, int heads, int head_dim, int num_blocks, int block_size)
    : heads_(heads), head_dim_(head_dim), block_size_(block_size) {
  block_floats_ = int64_t{2} * heads * block_size * head_dim;
  layers_.resize(static_cast<size_t>(layers));
  for (auto& layer : layers_) layer.resize(static_cast<size_t>(block_floats_ * num_blocks));
}

void KvCache::copy_block(int from, int to) {
  for (auto& layer : layers_) {
    std::memcpy(layer.data() + to * block_floats_, layer.data() + from * block_floats_,
                static_cast<size_t>(block_floats_) * sizeof(float));
  }
}

RotaryTable::RotaryTable(int positions, int head_dim) : half_(head_dim / 2) {
  cos_.resize(static_cast<size_t>(positions) * static_cast<size_t>(half_));
  sin_.resize(cos_.size());
  for (int i = 0; i < half_; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    const float frequency = round_to_half(1.0f / std::pow(10000.0f, exponent));
    for (int p = 0; p < positions; ++p) {
      const float angle = round_to_half(round_to_half(static_cast<float>(p)) * frequency);
      const auto at = static_cast<size_t>(p) * static_cast<size_t>(half_) + static_cast<size_t>(i);
      // sin(300) lies so near the middle of two fp16 values that rounding by way of float would go wrong.
      cos_[at] = round_to_half(std::cos(static_cast<double>(angle)));
      sin_[at] = round_to_half(std::sin(static_cast<double>(angle)));
    }
  }
}

void RotaryTable::rotate(float* x, int position) const {
  const float* c = cos(position);
  const float* s = sin(position);
  for (int i = 0; i < half_; ++i) {
    const float a = x[i], b = x[i + half_];
    x[i] = a * c[i] - b * s[i];
    x[i + half_] = b * c[i] + a * s[i];
  }
}

void CpuBackend::attention(Tensor out, Tensor qkv, int layer) {
  const int heads = kv_.heads(), d = kv_.head_dim(), block_size = kv_.block_size();
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  // Keys and values first: rows of the prompt see tokens that come after them in this very pass.
  for (const StepSequence& sequence : pass_->sequences) {
    for (int r = 0; r < sequence.rows; ++r) {
      const int row = sequence.first_row + r, token = sequence.cached + r;
      const int block = sequence.blocks[static_cast<size_t>(token / block_size)], offset = token % block_size;
      const int position = pass_->positions[static_cast<size_t>(row)];
      for (int h = 0; h < heads; ++h) {
        float* q = qkv.as<float>() + row * qkv.cols + int64_t{h} * 3 * d;
        rotary_.rotate(q, position);
        rotary_.rotate(q + d, position);
        std::copy_n(q + d, d, kv_.key(layer, block, h, offset));
        std::copy_n(q + 2 * d, d, kv_.value(layer, block, h, offset));
      }
    }
  }
  for (const StepSequence& sequence : pass_->sequences) {
    for (int r = 0; r < sequence.rows; ++r) {
      const int row = sequence.first_row + r, visible = sequence.visible(r);
      scores_.resize(std::max(scores_.size(), static_cast<size_t>(visible)));
      for (int h = 0; h < heads; ++h) {
        const float* q = qkv.as<float>() + row * qkv.cols + int64_t{h} * 3 * d;
        float* to = out.as<float>() + row * out.cols + int64_t{h} * d;
        float largest = -INFINITY;
        for (int t = 0; t < visible; ++t) {
          const int block = sequence.blocks[static_cast<size_t>(t / block_size)];
          const float score = kernels_.dot(q, kv_.key(layer, block, h, t % block_size), d) * scale;
          scores_[static_cast<size_t>(t)] = score;
          largest = std::max(largest, score);
        }
        float total = 0;
        for (int t = 0; t < visible; ++t) {
          float& score = scores_[static_cast<size_t>(t)];
          score = std::exp(score - largest);
          total += score;
        }
        std::fill_n(to, d, 0.0f);
        const float inverse = 1.0f / total;
        for (int t = 0; t < visible; ++t) {
          const int block = sequence.blocks[static_cast<size_t>(t / block_size)];
          kernels_.axpy(to, scores_[static_cast<size_t>(t)] * inverse, kv_.value(layer, block, h, t % block_size), d);
        }
      }
    }
  }
}

}  // namespace glm::cpu
