// Every matmul kernel against the plain reference: real and odd sizes, every precision, poisoned outputs, guards, and
// the same bits from a second run. Prints one line a case; exit status 1 if any fails.
#include <cstring>
#include <functional>
#include <memory>

#include "cuda/matmul.h"
#include "device_data.cuh"
#include "reference.cuh"

using namespace glm::cuda;
using namespace glm::cuda::testing;

namespace {

int failures = 0;
int checks = 0;

struct Case {
  int rows, cols;
  bool paired;
  std::vector<int> tokens;
};

const char* name(MatmulKernel k) {
  const char* names[] = {"automatic", "single", "batch", "prompt", "any"};
  return names[static_cast<int>(k)];
}

template <typename T>
void check_output(const char* what, DeviceArray<T>& out, const std::vector<float>& reference, double bound,
                  const std::function<void()>& run) {
  out.poison();
  run();
  GLM_CUDA_CHECK(cudaDeviceSynchronize());
  const std::vector<T> first = out.host();
  const Difference d = compare(first, reference, first.size());
  bool good = d.finite && d.relative <= bound && d.worst <= 10 * bound && out.guard_intact();
  out.poison();
  run();
  GLM_CUDA_CHECK(cudaDeviceSynchronize());
  const std::vector<T> second = out.host();
  const bool same = std::memcmp(first.data(), second.data(), first.size() * sizeof(T)) == 0;
  ++checks;
  if (!good || !same) {
    ++failures;
    std::printf("FAIL %s: error %.2e worst %.2e finite %d guard %d repeats %d\n", what, d.relative, d.worst, d.finite,
                out.guard_intact(), same);
  }
}

void run_case(MatmulContext& context, const Case& c, int bits, uint64_t seed) {
  int most = 0;
  for (const int t : c.tokens) most = t > most ? t : most;
  const size_t plain_bytes = static_cast<size_t>(c.rows) * c.cols * bits / 8;
  DeviceArray<uint8_t> plain((plain_bytes + 15) / 16 * 16);
  DeviceArray<__half> scale(c.rows), bias(c.rows), x(static_cast<size_t>(most) * c.cols);
  if (bits == 16) {
    fill_half(reinterpret_cast<__half*>(plain.get()), plain_bytes / 2, 0, 0.02f, seed);
  } else {
    fill_bits(plain.get(), (plain_bytes + 3) / 4 * 4, seed);
  }
  fill_half(scale.get(), c.rows, 0.003f, 0.002f, seed + 1);
  fill_half(bias.get(), c.rows, 0, 1, seed + 2);
  fill_half(x.get(), x.count(), 0, 1, seed + 3);
  PackedWeight w{bits, c.rows, c.cols, c.paired, nullptr, bits == 16 ? nullptr : scale.get()};
  DeviceArray<uint8_t> packed(w.packed_bytes());
  repack(packed.get(), plain.get(), w, 0, w.packed_rows(), context.stream);
  w.data = packed.get();
  DeviceArray<float> sums(static_cast<size_t>(most) * c.rows),
      activated(c.paired ? static_cast<size_t>(most) * c.rows / 2 : 1);
  plain_matmul<<<dim3(c.rows, (most + 7) / 8), 128>>>(sums.get(), plain.get(), bits, w.scale, bias.get(), x.get(),
                                                      c.rows, c.cols, most);
  if (c.paired) plain_geglu<<<(most * c.rows / 2 + 255) / 256, 256>>>(activated.get(), sums.get(), c.rows, most);
  GLM_CUDA_CHECK(cudaGetLastError());
  GLM_CUDA_CHECK(cudaDeviceSynchronize());
  const std::vector<float> reference = c.paired ? activated.host() : sums.host();
  for (const int tokens : c.tokens) {
    std::vector<MatmulKernel> kernels{MatmulKernel::automatic};
    if (tokens == 1) kernels.push_back(MatmulKernel::single);
    if (tokens <= 64) kernels.push_back(MatmulKernel::batch);
    kernels.push_back(MatmulKernel::prompt);
    if (static_cast<int64_t>(c.rows) * c.cols < (1 << 28)) kernels.push_back(MatmulKernel::any);
    for (const MatmulKernel kernel : kernels) {
      Matmul m{nullptr, x.get(), bias.get(), tokens, false};
      char what[160];
      std::snprintf(what, sizeof what, "int%d %dx%d%s tokens %d %s", bits, c.rows, c.cols, c.paired ? " geglu" : "",
                    tokens, name(kernel));
      DeviceArray<__half> out(static_cast<size_t>(tokens) * w.outputs());
      m.out = out.get();
      check_output(what, out, reference, 6e-4, [&] { matmul(context, w, m, kernel); });
      if (kernel == MatmulKernel::prompt && context.hopper) {
        for (const int tile : {64, 128, 256}) {
          std::snprintf(what, sizeof what, "int%d %dx%d%s tokens %d prompt tile %d", bits, c.rows, c.cols,
                        c.paired ? " geglu" : "", tokens, tile);
          check_output(what, out, reference, 6e-4, [&] {
            if (!matmul_prompt(context, w, m, tile)) matmul_any(context, w, m);
          });
        }
      }
      if (tokens <= 17) {
        DeviceArray<float> out32(static_cast<size_t>(tokens) * w.outputs());
        m.out = out32.get();
        m.f32 = true;
        std::snprintf(what, sizeof what, "int%d %dx%d%s tokens %d %s f32", bits, c.rows, c.cols,
                      c.paired ? " geglu" : "", tokens, name(kernel));
        // Tensor cores cut off what they shift out while adding: 32768 terms lose that much.
        check_output(what, out32, reference, 8e-5, [&] { matmul(context, w, m, kernel); });
      }
    }
  }
}

void check_embedding(const MatmulContext& context, int rows, int cols) {
  DeviceArray<__half> table(static_cast<size_t>(rows) * cols);
  fill_half(table.get(), table.count(), 0, 1, 5);
  PackedWeight w{16, rows, cols, false, nullptr, nullptr};
  DeviceArray<uint8_t> packed(w.packed_bytes());
  repack(packed.get(), table.get(), w, 0, w.packed_rows(), context.stream);
  w.data = packed.get();
  const int first = 7;
  const std::vector<int> ids{first, first + rows - 1, first + rows, -1, first + rows / 2, 0, first + 1};
  DeviceArray<int> device_ids(ids.size());
  device_ids.upload(ids);
  DeviceArray<__half> out(ids.size() * cols);
  embed_rows(out.get(), w, device_ids.get(), static_cast<int>(ids.size()), first, false, context.stream);
  const auto got = out.host(), want = table.host();
  bool good = out.guard_intact();
  for (size_t i = 0; i < ids.size(); ++i) {
    for (int k = 0; k < cols; ++k) {
      const int row = ids[i] - first;
      const float expected = row >= 0 && row < rows ? __half2float(want[static_cast<size_t>(row) * cols + k]) : 0.0f;
      good &= __half2float(got[i * cols + k]) == expected;
    }
  }
  ++checks;
  if (!good) {
    ++failures;
    std::printf("FAIL embedding %dx%d\n", rows, cols);
  }
}

}  // namespace

int main(int argc, char**) try {
  cudaDeviceProp device{};
  GLM_CUDA_CHECK(cudaGetDeviceProperties(&device, 0));
  MatmulContext context;
  context.multiprocessors = device.multiProcessorCount;
  context.hopper = device.major == 9;
  DeviceArray<float> partials(static_cast<size_t>(context.multiprocessors) * MatmulContext::kPartialFloats);
  DeviceArray<unsigned> flags(static_cast<size_t>(context.multiprocessors) * 8);
  GLM_CUDA_CHECK(cudaMemset(flags.get(), 0, flags.count() * 4));
  context.partials = partials.get();
  context.flags = flags.get();
  prepare_matmul(context);
  const std::vector<int> all{1, 2, 3, 5, 8, 9, 16, 17, 33, 64, 65, 127, 300};
  std::vector<Case> cases{{192, 64, false, all},  {64, 64, false, all},     {344, 64, true, all},
                          {64, 176, false, all},  {256, 64, false, all},    {688, 128, true, all},
                          {128, 344, false, all}, {1408, 128, false, all},  {1408, 256, true, all},
                          {256, 704, false, all}, {172, 128, true, all},    {128, 86, false, all},
                          {90, 62, true, all},    {4608, 1536, false, all}, {3000, 1000, false, all}};
  const bool full = argc == 1;
  if (full) {
    const std::vector<int> big{1, 2, 8, 16, 33, 64, 127};
    cases.push_back({12288, 12288, false, {1, 2, 5, 8, 16, 17, 33, 64, 65, 127, 512}});
    cases.push_back({36864, 12288, false, big});
    cases.push_back({65536, 12288, true, big});
    cases.push_back({12288, 32768, false, big});
    cases.push_back({9216, 12288, false, big});
    cases.push_back({12288, 3072, false, big});
    cases.push_back({18816, 12288, false, {1, 16}});
  }
  uint64_t seed = 1;
  for (const Case& c : cases) {
    for (const int bits : {4, 8, 16}) run_case(context, c, bits, seed += 10);
  }
  check_embedding(context, 18816, 12288);
  check_embedding(context, 1408, 62);
  check_embedding(context, 256, 64);
  std::printf("%s: matmul %d checks, %d failures\n", device.name, checks, failures);
  return failures ? 1 : 0;
} catch (const std::exception& e) {
  std::printf("FAIL %s\n", e.what());
  return 1;
}
