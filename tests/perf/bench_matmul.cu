// Times the matmuls of GLM-130B's layers against their floors, measured in the same run: bytes over the read bandwidth
// for decode, floating-point operations for prompts. Prints one JSON object a line. Weights and activations are random,
// every layer has its own weights, so nothing is timed from the cache.
#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "cuda/launch.h"
#include "cuda/matmul.h"
#include "device_data.cuh"

using namespace glm::cuda;
using namespace glm::cuda::testing;

namespace {

struct Timer {
  cudaStream_t stream;
  cudaEvent_t begin{}, end{};
  explicit Timer(cudaStream_t s) : stream(s) {
    GLM_CUDA_CHECK(cudaEventCreate(&begin));
    GLM_CUDA_CHECK(cudaEventCreate(&end));
  }
  // Median of `repeats` replays of what `work` launches, captured as a graph, in milliseconds.
  float graph(const std::function<void()>& work, int repeats) {
    cudaGraph_t graph{};
    cudaGraphExec_t executable{};
    GLM_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    work();
    GLM_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    GLM_CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    std::vector<float> times;
    for (int i = 0; i < repeats + 2; ++i) {
      GLM_CUDA_CHECK(cudaEventRecord(begin, stream));
      GLM_CUDA_CHECK(cudaGraphLaunch(executable, stream));
      GLM_CUDA_CHECK(cudaEventRecord(end, stream));
      GLM_CUDA_CHECK(cudaStreamSynchronize(stream));
      float ms = 0;
      GLM_CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
      if (i >= 2) times.push_back(ms);
    }
    GLM_CUDA_CHECK(cudaGraphExecDestroy(executable));
    GLM_CUDA_CHECK(cudaGraphDestroy(graph));
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }
};

__global__ void read_kernel(const uint4* p, size_t n, uint32_t* out) {
  uint32_t sum = 0;
  const size_t stride = size_t{gridDim.x} * blockDim.x;
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n; i += stride * 4) {
    uint4 v[4];
    for (int k = 0; k < 4; ++k) v[k] = i + k * stride < n ? __ldcs(p + i + k * stride) : make_uint4(0, 0, 0, 0);
    for (int k = 0; k < 4; ++k) sum ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  if (sum == 123456789) *out = sum;
}

// Terabytes a second of a plain read of 8 GiB.
double read_bandwidth(Timer& timer, int multiprocessors) {
  DeviceArray<uint4> data((8ull << 30) / 16);
  DeviceArray<uint32_t> sink(1);
  fill_bits(data.get(), data.count() * 16, 3);
  float best = 1e9f;
  for (const int blocks : {4, 8, 16}) {
    best = std::min(best, timer.graph(
                              [&] {
                                read_kernel<<<multiprocessors * blocks, 512, 0, timer.stream>>>(
                                    data.get(), data.count(), sink.get());
                              },
                              5));
  }
  return static_cast<double>(data.count()) * 16 / best / 1e9;
}

struct Layer {
  std::vector<std::unique_ptr<DeviceArray<uint8_t>>> storage;
  PackedWeight matrices[4];
};

const char* kNames[4] = {"qkv", "dense", "h_to_4h", "4h_to_h"};

}  // namespace

int main(int argc, char** argv) try {
  cudaDeviceProp device{};
  GLM_CUDA_CHECK(cudaGetDeviceProperties(&device, 0));
  cudaStream_t stream{};
  GLM_CUDA_CHECK(cudaStreamCreate(&stream));
  Timer timer(stream);
  MatmulContext context;
  context.stream = stream;
  context.multiprocessors = device.multiProcessorCount;
  context.hopper = device.major == 9;
  DeviceArray<float> partials(static_cast<size_t>(context.multiprocessors) * MatmulContext::kPartialFloats);
  DeviceArray<unsigned> flags(static_cast<size_t>(context.multiprocessors) * 8);
  GLM_CUDA_CHECK(cudaMemset(flags.get(), 0, flags.count() * 4));
  context.partials = partials.get();
  context.flags = flags.get();
  prepare_matmul(context);
  const double read = read_bandwidth(timer, context.multiprocessors);
  std::printf("{\"device\": \"%s\", \"read_tb_s\": %.3f}\n", device.name, read);
  const int tp = argc > 1 ? std::atoi(argv[1]) : 1;
  const int shapes[4][2] = {{36864 / tp, 12288}, {12288, 12288 / tp}, {65536 / tp, 12288}, {12288, 32768 / tp}};
  DeviceArray<__half> scale(65536), bias(65536), x(size_t{2048} * 32768), out(size_t{2048} * 36864);
  fill_half(scale.get(), 65536, 0.003f, 0.002f, 1);
  fill_half(bias.get(), 65536, 0, 1, 2);
  fill_half(x.get(), x.count(), 0, 1, 3);
  for (const int bits : {4, 8, 16}) {
    const int layers = bits == 4 ? 20 * tp : bits == 8 ? 8 : 4;
    std::vector<Layer> model(layers);
    double bytes = 0;
    for (int l = 0; l < layers; ++l) {
      for (int k = 0; k < 4; ++k) {
        PackedWeight& w = model[l].matrices[k];
        w = PackedWeight{bits, shapes[k][0], shapes[k][1], k == 2, nullptr, bits == 16 ? nullptr : scale.get()};
        model[l].storage.push_back(std::make_unique<DeviceArray<uint8_t>>(w.packed_bytes()));
        w.data = model[l].storage.back()->get();
        if (bits == 16) {
          fill_half(reinterpret_cast<__half*>(model[l].storage.back()->get()), w.packed_bytes() / 2, 0, 0.02f,
                    l * 4 + k);
        } else {
          fill_bits(model[l].storage.back()->get(), w.packed_bytes(), l * 4 + k);
        }
        bytes += static_cast<double>(w.packed_bytes());
      }
    }
    GLM_CUDA_CHECK(cudaDeviceSynchronize());
    auto layer_pass = [&](int tokens, MatmulKernel kernel, int only) {
      for (const Layer& layer : model) {
        for (int k = 0; k < 4; ++k) {
          if (only >= 0 && only != k) continue;
          // Each matmul reads what a kernel before it wrote, as in a model: the order is kept.
          matmul(context, layer.matrices[k], Matmul{out.get(), x.get(), bias.get(), tokens, false}, kernel);
        }
      }
    };
    const std::pair<int, MatmulKernel> settings[] = {
        {1, MatmulKernel::single}, {1, MatmulKernel::batch},  {2, MatmulKernel::batch}, {8, MatmulKernel::batch},
        {16, MatmulKernel::batch}, {32, MatmulKernel::batch}, {64, MatmulKernel::batch}};
    for (const auto& [tokens, kernel] : settings) {
      const float ms = timer.graph([&] { layer_pass(tokens, kernel, -1); }, 9);
      std::printf(
          "{\"bits\": %d, \"tp\": %d, \"tokens\": %d, \"kernel\": \"%s\", \"ms_70_layers\": %.3f, \"tb_s\": %.3f, "
          "\"of_read\": %.3f",
          bits, tp, tokens, kernel == MatmulKernel::single ? "single" : "batch", ms * 70 / layers, bytes / ms / 1e9,
          bytes / ms / 1e9 / read);
      for (int k = 0; k < 4; ++k) {
        const float one = timer.graph([&] { layer_pass(tokens, kernel, k); }, 5);
        std::printf(", \"%s_tb_s\": %.3f", kNames[k],
                    static_cast<double>(model[0].matrices[k].packed_bytes()) * layers / one / 1e9);
      }
      std::printf("}\n");
      std::fflush(stdout);
    }
    for (const int tokens : {128, 512, 1024, 2048}) {
      double total = 0, flops = 0;
      std::string parts;
      for (int k = 0; k < 4; ++k) {
        const double work = 2.0 * tokens * shapes[k][0] * shapes[k][1];
        float best = 1e9f;
        char text[160];
        for (const int tile : {64, 128, 256, 0}) {
          if (tile == 64 && tokens > 512) continue;
          const float ms = timer.graph(
                               [&] {
                                 for (int l = 0; l < 3; ++l) {
                                   matmul_prompt(context, model[l].matrices[k],
                                                 Matmul{out.get(), x.get(), bias.get(), tokens, false}, tile);
                                 }
                               },
                               5) /
                           3;
          best = tile ? std::min(best, ms) : best;
          std::snprintf(text, sizeof text, ", \"%s_tile_%d\": %.0f", kNames[k], tile, work / ms / 1e9);
          parts += text;
        }
        total += best;
        flops += work;
      }
      std::printf(
          "{\"bits\": %d, \"tp\": %d, \"tokens\": %d, \"kernel\": \"prompt\", \"ms_70_layers\": %.1f, \"tflop_s\": "
          "%.0f%s}\n",
          bits, tp, tokens, total * 70, flops / total / 1e9, parts.c_str());
      std::fflush(stdout);
    }
  }
  DeviceArray<uint8_t> head(size_t{150528} * 12288 * 2);
  fill_half(reinterpret_cast<__half*>(head.get()), head.count() / 2, 0, 0.02f, 77);
  const PackedWeight table{16, 150528, 12288, false, head.get(), nullptr};
  DeviceArray<float> logits(size_t{64} * 150528);
  for (const int tokens : {1, 16, 64}) {
    const float ms =
        timer.graph([&] { matmul(context, table, Matmul{logits.get(), x.get(), nullptr, tokens, true}); }, 5);
    std::printf("{\"head\": true, \"tokens\": %d, \"ms\": %.3f, \"tb_s\": %.3f, \"of_read\": %.3f}\n", tokens, ms,
                head.count() / ms / 1e9, head.count() / ms / 1e9 / read);
  }
  return 0;
} catch (const std::exception& e) {
  std::printf("FAIL %s\n", e.what());
  return 1;
}
