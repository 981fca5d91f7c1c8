#include "cpu/backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace glm::cpu {
namespace {

WeightKind kind_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return kF32;
    case DType::f16:
      return kF16;
    case DType::i8:
      return kI8;
    case DType::i4:
      return kI4;
  }
  throw Error("cpu: unknown weight dtype");
}

const uint16_t* scale_bits(const Weight& w) {
  return w.scale ? &w.scale->bits : nullptr;
}

// LayerNorm of one row; sums in double, so the order hardly matters.
void normalize(float* out, const float* x, const float* gamma, const float* beta, int64_t n, float eps) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>((x[i] - mean) * scale) * gamma[i] + beta[i];
}

float gelu(float x) {
  return 0.5f * x * (1.0f + std::erf(x * 0.70710678118654752f));
}

}  // namespace

Tensor CpuBackend::allocate(DType dtype, int64_t rows, int64_t cols) {
  memory_.push_back(std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(bytes_of(dtype, rows * cols))));
  return {memory_.back().get(), dtype, rows, cols};
}

Weight CpuBackend::load(const Weight& source) {
  scratch_.resize(std::max(scratch_.size(), static_cast<size_t>(8 * source.cols)));
  return source;
}

Tensor CpuBackend::load_vector(const Half* source, int64_t count) {
  const Tensor vector = allocate(DType::f32, 1, count);
  kernels_.dequantize(vector.as<float>(), source, kF16, 0, count);
  return vector;
}

void CpuBackend::allocate_kv(int layers, int heads, int head_dim, int num_blocks, int block_size, int max_positions) {
  kv_ = KvCache(layers, heads, head_dim, num_blocks, block_size);
  rotary_ = RotaryTable(max_positions, head_dim);
}

void CpuBackend::copy_blocks(std::span<const std::pair<int, int>> pairs) {
  for (const auto& [from, to] : pairs) kv_.copy_block(from, to);
}

void CpuBackend::embed(Tensor out, const Weight& table, int first_id) {
  for (int64_t t = 0; t < out.rows; ++t) {
    const int64_t row = int64_t{pass_->tokens[static_cast<size_t>(t)]} - first_id;
    float* to = out.as<float>() + t * out.cols;
    if (row >= 0 && row < table.rows) {
      const auto* from = static_cast<const Half*>(table.data) + row * table.cols;
      kernels_.dequantize(to, from, kind_of(table.dtype), 0, table.cols);
    } else {
      std::fill_n(to, out.cols, 0.0f);
    }
  }
}

void CpuBackend::layernorm(Tensor out, Tensor x, Tensor gamma, Tensor beta, float eps) {
  for (int64_t t = 0; t < x.rows; ++t) {
    normalize(out.as<float>() + t * x.cols, x.as<float>() + t * x.cols, gamma.as<float>(), beta.as<float>(), x.cols,
              eps);
  }
}

void CpuBackend::linear(Tensor out, Tensor x, const Weight& w, Tensor bias) {
  kernels_.matmul(out.as<float>(), out.cols, x.as<float>(), x.rows, w.cols, w.data, kind_of(w.dtype), scale_bits(w),
                  w.rows, scratch_.data());
  if (!bias.data) return;
  for (int64_t t = 0; t < out.rows; ++t) {
    for (int64_t n = 0; n < out.cols; ++n) out.as<float>()[t * out.cols + n] += bias.as<float>()[n];
  }
}

void CpuBackend::geglu_linear(Tensor out, Tensor x, const Weight& w, Tensor bias) {
  wide_.resize(std::max(wide_.size(), static_cast<size_t>(x.rows * w.rows)));
  const Tensor both = {wide_.data(), DType::f32, x.rows, w.rows};
  linear(both, x, w, bias);
  for (int64_t t = 0; t < out.rows; ++t) {
    const float* row = wide_.data() + t * w.rows;
    for (int64_t n = 0; n < out.cols; ++n) out.as<float>()[t * out.cols + n] = row[n] * gelu(row[out.cols + n]);
  }
}

void CpuBackend::residual_layernorm(Tensor out, Tensor sum, Tensor bias, Tensor residual, float alpha, Tensor gamma,
                                    Tensor beta, float eps) {
  for (int64_t t = 0; t < sum.rows; ++t) {
    float* row = sum.as<float>() + t * sum.cols;
    const float* kept = residual.as<float>() + t * sum.cols;
    for (int64_t i = 0; i < sum.cols; ++i) row[i] = kept[i] * alpha + (row[i] + bias.as<float>()[i]);
    normalize(out.as<float>() + t * sum.cols, row, gamma.as<float>(), beta.as<float>(), sum.cols, eps);
  }
}

void CpuBackend::gather_logit_rows(Tensor out, Tensor x, int64_t first) {
  for (int64_t i = 0; i < out.rows; ++i) {
    const int64_t from = pass_->logit_rows[static_cast<size_t>(first + i)];
    std::memcpy(out.as<float>() + i * out.cols, x.as<float>() + from * x.cols,
                static_cast<size_t>(x.cols) * sizeof(float));
  }
}

void CpuBackend::sample(std::span<const SampleRow> rows, Tensor logits, std::span<SampleResult> results) {
  for (size_t i = 0; i < rows.size(); ++i) {
    const float* row = logits.as<float>() + rows[i].logits_row * logits.cols;
    results[i] = sample_row(rows[i], row, static_cast<int>(logits.cols));
  }
}

void CpuBackend::download(float* out, Tensor x) {
  GLM_CHECK(x.dtype == DType::f32, "cpu: download of ", name(x.dtype));
  std::memcpy(out, x.data, static_cast<size_t>(bytes_of(x.dtype, x.rows * x.cols)));
}

}  // namespace glm::cpu

std::unique_ptr<glm::Backend> glm::make_cpu_backend() {
  return std::make_unique<cpu::CpuBackend>(cpu::kernels());
}
