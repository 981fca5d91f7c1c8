// Where a decode step's time goes: the ops of a layer through the backend's seam, with one kind left out at a time.
// INT4 weights, real width, several layers with weights of their own; times are per layer, differences are what an op
// costs in its place (hidden behind its neighbours or not). One JSON object a line.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "core/half.h"
#include "ops/backend.h"

using namespace glm;

namespace {

constexpr int kHidden = 12288, kInner = 32768, kHeads = 96, kBlock = 16;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Layer {
  Weight qkv, dense, up, down;
};

}  // namespace

int main(int argc, char** argv) try {
  const int layers = argc > 1 ? std::atoi(argv[1]) : 16, batch = argc > 2 ? std::atoi(argv[2]) : 1;
  const int context = argc > 3 ? std::atoi(argv[3]) : 512;
  const auto backend = make_cuda_backend(0);
  std::mt19937_64 bits(1);
  std::vector<uint64_t> bytes(size_t{2} * kInner * kHidden / 16);
  for (uint64_t& word : bytes) word = bits();
  std::vector<Half> small(size_t{2} * kInner), ones(kHidden);
  for (Half& h : small) h = to_half(0.002f + 0.000001f * static_cast<float>(bits() % 1000));
  for (Half& h : ones) h = to_half(1.0f);
  const auto load = [&](int64_t n, int64_t m, bool geglu) {
    const Weight source{DType::i4, n, m, bytes.data(), small.data()};
    return geglu ? backend->load_geglu(source) : backend->load(source);
  };
  std::vector<Layer> model;
  for (int i = 0; i < layers; ++i) {
    model.push_back({load(3 * kHidden, kHidden, false), load(kHidden, kHidden, false), load(2 * kInner, kHidden, true),
                     load(kHidden, kInner, false)});
  }
  const Tensor gamma = backend->load_vector(ones.data(), kHidden), beta = backend->load_vector(small.data(), kHidden);
  const Tensor bias = backend->load_vector(small.data(), int64_t{2} * kInner);
  const Tensor a = backend->allocate(DType::f16, batch, kHidden), b = backend->allocate(DType::f16, batch, kHidden);
  const Tensor qkv = backend->allocate(DType::f16, batch, 3 * kHidden);
  const Tensor heads = backend->allocate(DType::f16, batch, kHidden);
  const Tensor inner = backend->allocate(DType::f16, batch, kInner);
  const int blocks = (context + kBlock) / kBlock;
  backend->allocate_kv(layers, kHeads, kHidden / kHeads, blocks * batch, kBlock, context + 1);
  Pass pass;
  for (int i = 0; i < batch; ++i) {
    StepSequence s{i, 1, context - 1, context - 2, {}};
    for (int k = 0; k < blocks; ++k) s.blocks.push_back(k * batch + i);
    pass.sequences.push_back(s);
    pass.tokens.push_back(0);
    pass.positions.push_back(context - 1);
  }
  backend->begin(pass);
  backend->layernorm(a, a, gamma, beta, 1e-5f);
  const auto run = [&](bool attention, bool norms, bool matmuls) {
    const auto pass_over = [&] {
      for (int i = 0; i < layers; ++i) {
        const Layer& layer = model[static_cast<size_t>(i)];
        if (matmuls) backend->linear(qkv, a, layer.qkv, bias);
        if (attention) backend->attention(heads, qkv, i);
        if (matmuls) backend->linear(b, heads, layer.dense, {});
        if (norms) backend->residual_layernorm(a, b, beta, a, 11.8f, gamma, beta, 1e-5f);
        if (matmuls) backend->geglu_linear(inner, a, layer.up, bias);
        if (matmuls) backend->linear(b, inner, layer.down, {});
        if (norms) backend->residual_layernorm(a, b, beta, a, 11.8f, gamma, beta, 1e-5f);
      }
    };
    std::vector<double> times;
    for (int i = 0; i < 9; ++i) {
      backend->synchronize();
      const double begin = now_s();
      for (int k = 0; k < 4; ++k) pass_over();
      backend->synchronize();
      times.push_back((now_s() - begin) / 4);
    }
    std::sort(times.begin(), times.end());
    return times[4] * 1e6 / layers;
  };
  const double whole = run(true, true, true), no_attention = run(false, true, true), no_norms = run(true, false, true);
  const double matmuls = run(false, false, true), attention = run(true, false, false), norms = run(false, true, false);
  std::printf(
      "{\"batch\": %d, \"context\": %d, \"layer_us\": %.1f, \"attention_in_place_us\": %.1f, \"norms_in_place_us\": "
      "%.1f, "
      "\"matmuls_alone_us\": %.1f, \"attention_alone_us\": %.1f, \"two_norms_alone_us\": %.1f, \"layers_70_ms\": "
      "%.2f}\n",
      batch, context, whole, whole - no_attention, whole - no_norms, matmuls, attention, norms, whole * 0.07);
  return 0;
} catch (const std::exception& e) {
  std::printf("FAIL %s\n", e.what());
  return 1;
}
