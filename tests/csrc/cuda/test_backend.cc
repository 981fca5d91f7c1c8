// The ops of the CUDA backend against the CPU backend through the same seam, on fresh random data: real and odd sizes,
// poisoned outputs, the same bits from a second run. Exit status 1 if any differs.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include "core/half.h"
#include "cpu/backend.h"
#include "cuda/check.h"
#include "ops/backend.h"

using namespace glm;

namespace {

int checks = 0;
int failures = 0;
std::mt19937_64 random_bits(20261125);

void report(const std::string& what, bool good, const std::string& detail) {
  ++checks;
  if (good) return;
  ++failures;
  std::printf("FAIL %s: %s\n", what.c_str(), detail.c_str());
}

// Uniform in center +- spread, each representable in fp16.
std::vector<float> random_values(int64_t count, float center, float spread) {
  std::uniform_real_distribution<float> uniform(center - spread, center + spread);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& v : out) v = round_to_half(uniform(random_bits));
  return out;
}

std::vector<Half> to_halves(const std::vector<float>& values) {
  std::vector<Half> out(values.size());
  std::transform(values.begin(), values.end(), out.begin(), to_half);
  return out;
}

// The same op on both backends: inputs are made once and given to each in its own dtype.
struct Pair {
  std::unique_ptr<Backend> cpu = make_cpu_backend();
  std::unique_ptr<Backend> gpu = make_cuda_backend(0);

  struct Tensors {
    Tensor cpu, gpu;
    Tensors head(int64_t rows) const { return {cpu.head(rows), gpu.head(rows)}; }
  };

  Tensors make(int64_t rows, int64_t cols, const std::vector<float>& values) {
    Tensors t{cpu->allocate(DType::f32, rows, cols), gpu->allocate(DType::f16, rows, cols)};
    set(t, values);
    return t;
  }
  Tensors output(int64_t rows, int64_t cols) {
    Tensors t{cpu->allocate(DType::f32, rows, cols), gpu->allocate(DType::f16, rows, cols)};
    poison(t);
    return t;
  }
  void set(Tensors& t, const std::vector<float>& values) {
    std::copy(values.begin(), values.end(), t.cpu.as<float>());
    const std::vector<Half> halves = to_halves(values);
    GLM_CUDA_CHECK(cudaMemcpy(t.gpu.data, halves.data(), halves.size() * 2, cudaMemcpyHostToDevice));
    settle();
  }
  // The test's copies run in the legacy stream, which the backend's own does not wait for.
  void settle() { GLM_CUDA_CHECK(cudaDeviceSynchronize()); }
  void poison(Tensors& t) {
    GLM_CUDA_CHECK(cudaMemset(t.gpu.data, 0xff, static_cast<size_t>(bytes_of(t.gpu.dtype, t.gpu.rows * t.gpu.cols))));
    settle();
  }
  Tensors vector(const std::vector<float>& values) {
    const std::vector<Half> halves = to_halves(values);
    const auto count = static_cast<int64_t>(values.size());
    Tensors t{cpu->load_vector(halves.data(), count), gpu->load_vector(halves.data(), count)};
    gpu->synchronize();
    return t;
  }
  std::vector<float> gpu_values(Tensor t) {
    std::vector<float> out(static_cast<size_t>(t.rows * t.cols));
    gpu->download(out.data(), t);
    return out;
  }
  void compare(const std::string& what, const Tensors& t, double bound) {
    const std::vector<float> got = gpu_values(t.gpu);
    const float* want = t.cpu.as<float>();
    double error = 0, norm = 0, worst = 0;
    bool finite = true;
    for (size_t i = 0; i < got.size(); ++i) {
      if (!std::isfinite(got[i])) finite = false;
      const double d = static_cast<double>(got[i]) - want[i];
      error += d * d;
      norm += static_cast<double>(want[i]) * want[i];
      worst = std::max(worst, std::fabs(d));
    }
    const double rms = std::sqrt(norm / static_cast<double>(got.size())) + 1e-30,
                 relative = std::sqrt(error / (norm + 1e-30));
    report(what, finite && relative <= bound && worst <= 40 * bound * rms,
           concat("relative ", relative, " worst/rms ", worst / rms, " finite ", finite));
  }
};

void test_norms(int rows, int cols) {
  Pair p;
  const auto gamma = p.vector(random_values(cols, 1, 0.5f)), beta = p.vector(random_values(cols, 0, 0.5f)),
             bias = p.vector(random_values(cols, 0, 1));
  auto x = p.make(rows, cols, random_values(int64_t{rows} * cols, 0.3f, 2)), out = p.output(rows, cols);
  p.cpu->layernorm(out.cpu, x.cpu, gamma.cpu, beta.cpu, 1e-5f);
  p.gpu->layernorm(out.gpu, x.gpu, gamma.gpu, beta.gpu, 1e-5f);
  p.compare(concat("layernorm ", rows, "x", cols), out, 5e-4);
  auto residual = p.make(rows, cols, random_values(int64_t{rows} * cols, 0, 2));
  p.poison(out);
  p.gpu->residual_layernorm(out.gpu, x.gpu, bias.gpu, residual.gpu, 11.8f, gamma.gpu, beta.gpu, 1e-5f);
  p.cpu->residual_layernorm(out.cpu, x.cpu, bias.cpu, residual.cpu, 11.8f, gamma.cpu, beta.cpu, 1e-5f);
  p.compare(concat("residual_layernorm ", rows, "x", cols), out, 5e-4);
  // In place of the residual, as the model calls it.
  p.gpu->residual_layernorm(residual.gpu, x.gpu, bias.gpu, residual.gpu, 11.8f, gamma.gpu, beta.gpu, 1e-5f);
  p.compare(concat("residual_layernorm in place ", rows, "x", cols), {out.cpu, residual.gpu}, 5e-4);
}

struct Part {
  int rows, cached, prefix;
};

// Sequences with shuffled blocks; what is cached gets there by a pass of its own.
void test_attention(int heads, int d, int block_size, const std::vector<Part>& parts, int layers = 2) {
  Pair p;
  int total_blocks = 0, total_rows = 0, longest = 1, rows_before = 0;
  for (const Part& part : parts) {
    total_blocks += (part.rows + part.cached + block_size - 1) / block_size;
    total_rows += part.rows;
    rows_before += part.cached;
    longest = std::max({longest, part.rows + part.cached});
  }
  std::vector<int> order(static_cast<size_t>(total_blocks));
  for (int i = 0; i < total_blocks; ++i) order[static_cast<size_t>(i)] = i;
  std::shuffle(order.begin(), order.end(), random_bits);
  p.cpu->allocate_kv(layers, heads, d, total_blocks, block_size, longest + 3);
  p.gpu->allocate_kv(layers, heads, d, total_blocks, block_size, longest + 3);
  Pass before, pass;
  size_t next = 0;
  for (const Part& part : parts) {
    StepSequence s;
    s.prefix = part.prefix;
    for (int i = 0; i < (part.rows + part.cached + block_size - 1) / block_size; ++i) s.blocks.push_back(order[next++]);
    if (part.cached > 0) {
      s.first_row = before.rows();
      s.rows = part.cached;
      s.cached = 0;
      s.prefix = std::min(part.prefix, part.cached);
      for (int i = 0; i < part.cached; ++i) {
        before.tokens.push_back(0);
        before.positions.push_back(i);
      }
      before.sequences.push_back(s);
      s.prefix = part.prefix;
    }
    s.first_row = pass.rows();
    s.rows = part.rows;
    s.cached = part.cached;
    for (int i = 0; i < part.rows; ++i) {
      pass.tokens.push_back(0);
      pass.positions.push_back(part.cached + i + (i % 2));
    }
    pass.sequences.push_back(s);
  }
  std::string what = concat("attention heads ", heads, " d ", d, " blocks of ", block_size, ":");
  for (const Part& part : parts) what += concat(" ", part.cached, "+", part.rows, "/", part.prefix);
  const int layer = layers - 1;
  if (rows_before > 0) {
    auto qkv = p.make(rows_before, int64_t{heads} * 3 * d, random_values(int64_t{rows_before} * heads * 3 * d, 0, 2)),
         out = p.output(rows_before, int64_t{heads} * d);
    p.cpu->begin(before);
    p.gpu->begin(before);
    p.cpu->attention(out.cpu, qkv.cpu, layer);
    p.gpu->attention(out.gpu, qkv.gpu, layer);
    p.compare(what + " (cached)", out, 1.5e-3);
  }
  const std::vector<float> values = random_values(int64_t{total_rows} * heads * 3 * d, 0, 2);
  auto qkv = p.make(total_rows, int64_t{heads} * 3 * d, values), out = p.output(total_rows, int64_t{heads} * d);
  p.cpu->begin(pass);
  p.gpu->begin(pass);
  p.cpu->attention(out.cpu, qkv.cpu, layer);
  p.gpu->attention(out.gpu, qkv.gpu, layer);
  p.compare(what, out, 1.5e-3);
  const std::vector<float> first = p.gpu_values(out.gpu);
  p.poison(out);
  p.set(qkv, values);
  p.gpu->attention(out.gpu, qkv.gpu, layer);
  report(what + " again", p.gpu_values(out.gpu) == first, "other bits");
}

void test_rows() {
  Pair p;
  const int vocab = 1408, h = 128;
  const std::vector<Half> table = to_halves(random_values(int64_t{vocab} * h, 0, 1));
  const Weight source{DType::f16, vocab, h, table.data(), nullptr};
  const Weight cpu_table = p.cpu->load(source), gpu_table = p.gpu->load(source);
  p.cpu->allocate_kv(1, 1, 16, 1, 16, 8);
  p.gpu->allocate_kv(1, 1, 16, 1, 16, 8);
  Pass pass;
  pass.tokens = {0, 5, 704, 1407, -1, 703, 1408};
  pass.positions.resize(7);
  pass.logit_rows = {1, 2, 6};
  pass.sequences.push_back({0, 7, 0, 0, {0}});
  p.cpu->begin(pass);
  p.gpu->begin(pass);
  auto out = p.output(7, h), picked = p.output(2, h);
  for (const int first : {0, 704}) {
    p.cpu->embed(out.cpu, cpu_table, first);
    p.gpu->embed(out.gpu, gpu_table, first);
    p.compare(concat("embed from ", first), out, 0);
  }
  p.cpu->embed(out.cpu, cpu_table, 0);
  p.gpu->embed(out.gpu, gpu_table, 0);
  p.cpu->gather_logit_rows(picked.cpu, out.cpu, 1);
  p.gpu->gather_logit_rows(picked.gpu, out.gpu, 1);
  p.compare("gather_logit_rows", picked, 0);
}

void test_linear(DType dtype, int n, int m, int tokens, bool geglu) {
  Pair p;
  std::vector<uint8_t> data(static_cast<size_t>(bytes_of(dtype, int64_t{n} * m)));
  if (dtype == DType::f16) {
    const std::vector<Half> halves = to_halves(random_values(int64_t{n} * m, 0, 0.1f));
    std::memcpy(data.data(), halves.data(), data.size());
  } else {
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random_bits());
  }
  const std::vector<Half> scale = to_halves(random_values(n, 0.01f, 0.005f));
  const Weight source{dtype, n, m, data.data(), dtype == DType::f16 ? nullptr : scale.data()};
  const Weight a = geglu ? p.cpu->load_geglu(source) : p.cpu->load(source);
  const Weight b = geglu ? p.gpu->load_geglu(source) : p.gpu->load(source);
  const auto x = p.make(tokens, m, random_values(int64_t{tokens} * m, 0, 1)), bias = p.vector(random_values(n, 0, 1));
  auto out = p.output(tokens, geglu ? n / 2 : n);
  geglu ? p.cpu->geglu_linear(out.cpu, x.cpu, a, bias.cpu) : p.cpu->linear(out.cpu, x.cpu, a, bias.cpu);
  geglu ? p.gpu->geglu_linear(out.gpu, x.gpu, b, bias.gpu) : p.gpu->linear(out.gpu, x.gpu, b, bias.gpu);
  p.compare(concat("linear ", name(dtype), " ", n, "x", m, geglu ? " geglu" : "", " tokens ", tokens), out, 6e-4);
}

// Beam candidates agree as far as their keys are apart by more than rounding.
bool same_candidates(const std::vector<Candidate>& a, const std::vector<Candidate>& b, float tolerance) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::fabs(a[i].key - b[i].key) > tolerance) return false;
    if (a[i].token == b[i].token && std::fabs(a[i].score - b[i].score) > tolerance) return false;
  }
  return true;
}

void test_sample(int vocab, float spread) {
  Pair p;
  std::vector<SampleRow> rows;
  const int settings = 22;
  std::vector<float> logits(static_cast<size_t>(settings) * static_cast<size_t>(vocab));
  std::normal_distribution<float> normal(0, spread);
  for (float& x : logits) x = normal(random_bits);
  for (int i = 0; i < settings; ++i) {
    SampleRow row;
    row.logits_row = settings - 1 - i;
    row.seed = random_bits();
    row.step = static_cast<uint32_t>(i);
    row.choice = static_cast<uint32_t>(i % 3);
    switch (i % 11) {
      case 0:
        row.temperature = 0;
        row.logprobs = 5;
        break;
      case 1:
        row.top_k = 1;
        row.logprobs = 0;
        break;
      case 2:
        row.top_k = 5;
        break;
      case 3:
        row.top_p = 0.9f;
        row.temperature = 0.7f;
        row.logprobs = 20;
        break;
      case 4:
        row.top_k = 50;
        row.top_p = 0.5f;
        break;
      case 5:
        row.temperature = 1.3f;
        break;
      case 6:
        row.candidates = 12;
        row.score = -3.25f;
        break;
      case 7:
        row.candidates = 40;
        row.noise = true;
        row.score = -1.5f;
        break;
      case 8:
        row.top_p = 0.01f;
        break;
      case 9:
        row.top_k = 3;
        row.repetition_penalty = 1.2f;
        row.frequency_penalty = 0.1f;
        row.presence_penalty = 0.3f;
        break;
      case 10:
        row.candidates = std::min(vocab, 300);
        break;
    }
    if (i >= 11) {
      for (int k = 0; k < 6; ++k) row.banned.push_back(static_cast<int>(random_bits() % static_cast<uint64_t>(vocab)));
      row.bias = {{3, 2.5f}, {vocab - 1, 4.0f}, {7, -100.0f}};
      row.seen = {{1, 2}, {vocab - 2, 0}, {5, 1}};
    }
    rows.push_back(row);
  }
  const Tensor host{logits.data(), DType::f32, settings, vocab};
  const Tensor device = p.gpu->allocate(DType::f32, settings, vocab);
  GLM_CUDA_CHECK(cudaMemcpy(device.data, logits.data(), logits.size() * 4, cudaMemcpyHostToDevice));
  p.settle();
  std::vector<SampleResult> want(rows.size()), got(rows.size()), again(rows.size());
  p.cpu->sample(rows, host, want);
  p.gpu->sample(rows, device, got);
  p.gpu->sample(rows, device, again);
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::string what = concat("sample vocabulary ", vocab, " spread ", spread, " setting ", i);
    report(
        what, want[i].token == got[i].token && std::fabs(want[i].logprob - got[i].logprob) < 1e-4f,
        concat("token ", got[i].token, " for ", want[i].token, ", logprob ", got[i].logprob, " for ", want[i].logprob));
    report(what + " candidates", same_candidates(want[i].candidates, got[i].candidates, 2e-5f),
           concat(got[i].candidates.size(), " for ", want[i].candidates.size()));
    bool top = want[i].top.size() == got[i].top.size();
    for (size_t k = 0; top && k < want[i].top.size(); ++k) {
      top = want[i].top[k].first == got[i].top[k].first &&
            std::fabs(want[i].top[k].second - got[i].top[k].second) < 1e-4f;
    }
    report(what + " logprobs", top, "other");
    report(what + " again", got[i].token == again[i].token && got[i].logprob == again[i].logprob, "other bits");
  }
  // Ties: every logit equal.
  std::fill(logits.begin(), logits.end(), 0.5f);
  GLM_CUDA_CHECK(cudaMemcpy(device.data, logits.data(), logits.size() * 4, cudaMemcpyHostToDevice));
  p.settle();
  p.cpu->sample(rows, host, want);
  p.gpu->sample(rows, device, got);
  for (size_t i = 0; i < 11; ++i) {
    // A nucleus of ties ends where rounding of the cumulative sum ends it: that draw may differ.
    const bool rounding = rows[i].top_p > 0 && rows[i].top_k == 0;
    report(concat("sample ties vocabulary ", vocab, " setting ", i), rounding || want[i].token == got[i].token,
           concat("token ", got[i].token, " for ", want[i].token));
    report(concat("sample ties candidates ", vocab, " setting ", i),
           same_candidates(want[i].candidates, got[i].candidates, 2e-5f), "other");
  }
  logits[5] = NAN;
  logits[static_cast<size_t>(vocab) + 2] = INFINITY;
  GLM_CUDA_CHECK(cudaMemcpy(device.data, logits.data(), logits.size() * 4, cudaMemcpyHostToDevice));
  p.settle();
  p.gpu->sample(rows, device, got);
  for (size_t i = 0; i < rows.size(); ++i) {
    report(concat("sample finite ", vocab, " ", i), got[i].finite == (rows[i].logits_row > 1), "wrong");
  }
}

}  // namespace

int main(int argc, char**) try {
  const bool full = argc == 1;
  for (const auto& [rows, cols] : std::vector<std::pair<int, int>>{{1, 12288},
                                                                   {3, 12288},
                                                                   {65, 12288},
                                                                   {2, 64},
                                                                   {5, 128},
                                                                   {4, 256},
                                                                   {3, 100},
                                                                   {2, 63},
                                                                   {1, 8192},
                                                                   {2, 16384},
                                                                   {1, 4096},
                                                                   {2, 20000}}) {
    test_norms(rows, cols);
  }
  test_rows();
  for (const DType dtype : {DType::f16, DType::i8, DType::i4}) {
    for (const int tokens : {1, 2, 17, 70}) {
      test_linear(dtype, 192, 64, tokens, false);
      test_linear(dtype, 352, 64, tokens, true);
      test_linear(dtype, 64, 176, tokens, false);
      test_linear(dtype, 128, 86, tokens, false);
      test_linear(dtype, 3000, 1000, tokens, true);
    }
  }
  for (const int d : {8, 16, 32, 48, 64, 80, 128, 160, 10}) {
    test_attention(4, d, 16, {{33, 0, 32}});
    test_attention(4, d, 16, {{1, 40, 30}, {1, 7, 6}, {1, 150, 100}});
    test_attention(3, d, 4, {{70, 0, 69}, {1, 0, 0}, {20, 0, 10}, {130, 0, 0}});
    test_attention(2, d, 16, {{10, 100, 100}, {65, 3, 0}, {1, 64, 64}, {1, 63, 10}});
  }
  test_attention(8, 128, 16, {{1, 2047, 2000}, {1, 511, 511}, {1, 63, 60}, {1, 64, 64}, {1, 0, 0}});
  if (full) {
    test_attention(96, 128, 16, {{129, 0, 128}, {40, 0, 39}, {1, 0, 0}}, 1);
    test_attention(96, 128, 16, {{1, 300, 290}, {1, 64, 63}, {1, 127, 120}, {1, 1, 1}}, 1);
  }
  for (const float spread : {0.5f, 3.0f}) {
    test_sample(256, spread);
    test_sample(1408, spread);
    test_sample(150528, spread);
  }
  std::printf("backend: %d checks, %d failures\n", checks, failures);
  return failures ? 1 : 0;
} catch (const std::exception& e) {
  std::printf("FAIL %s\n", e.what());
  return 1;
}
