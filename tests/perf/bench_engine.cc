// Times the whole engine through its own API on GLM-130B's shape with random weights (layers share their bytes in the
// file, not on the device): decode at two contexts and several batches, prompts of several lengths. One JSON object a
// line; floors come from the read bandwidth that bench_matmul measures in the same call.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "random_model.h"
#include "runtime/engine.h"

using namespace glm;

namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

// Runs `batch` requests of `context` prompt tokens and `tokens` answer tokens each; returns the steps' records.
std::vector<StepRecord> run(Engine& engine, int vocab, int batch, int context, int tokens) {
  std::mt19937_64 bits(static_cast<uint64_t>(context + batch));
  engine.stats();
  for (int i = 0; i < batch; ++i) {
    Request r;
    for (int k = 0; k < context; ++k) r.prompt.push_back(static_cast<int>(bits() % static_cast<uint64_t>(vocab)));
    r.max_new_tokens = tokens;
    r.ignore_end = true;
    r.sampling.top_k = 5;
    r.sampling.seed = bits();
    engine.submit(std::move(r));
  }
  int open = batch;
  while (open > 0) {
    for (const Event& e : engine.poll(10)) {
      GLM_CHECK(e.finish == Finish::none || e.finish == Finish::length, "request ended: ", name(e.finish), " ",
                e.message);
      open -= e.finish != Finish::none;
    }
  }
  return engine.stats().recent;
}

}  // namespace

int main(int argc, char** argv) try {
  const int layers = argc > 1 ? std::atoi(argv[1]) : 70;
  const DType dtype = argc > 2 && std::strcmp(argv[2], "i8") == 0    ? DType::i8
                      : argc > 2 && std::strcmp(argv[2], "f16") == 0 ? DType::f16
                                                                     : DType::i4;
  const ModelConfig config = testing::model_config(layers, 12288, 96, 32768, 150528);
  const std::string path = "/dev/shm/glm_bench.bin";
  double begin = now_s();
  const testing::RandomModel model = testing::random_model(path, config, dtype, true, 3);
  std::printf("{\"wrote_s\": %.2f}\n", now_s() - begin);
  EngineConfig settings;
  settings.max_sequence_length = 2048;
  settings.max_batch_size = 16;
  settings.max_prefill_tokens = 2048;
  settings.num_blocks = argc > 3 ? std::atoi(argv[3]) : 150;
  begin = now_s();
  Engine engine(config, settings, "cuda", {model.shard});
  std::printf("{\"layers\": %d, \"dtype\": \"%s\", \"load_s\": %.2f}\n", layers, name(dtype), now_s() - begin);
  std::fflush(stdout);
  run(engine, config.vocab_size, 1, 64, 4);  // warm up
  for (const auto& [batch, context, tokens] :
       {std::tuple{1, 512 - 16, 33}, {1, 1024 - 16, 33}, {2, 512 - 16, 33}, {4, 512 - 16, 33}}) {
    if (batch * (context + tokens) > settings.num_blocks * settings.block_size) continue;
    std::vector<double> steps;
    for (const StepRecord& r : run(engine, config.vocab_size, batch, context, tokens)) {
      if (r.decode_rows == batch && r.prefill_rows == 0) steps.push_back(r.seconds * 1e3);
    }
    std::printf("{\"decode\": true, \"batch\": %d, \"context\": %d, \"ms_step\": %.3f, \"best\": %.3f}\n", batch,
                context + 16, median(steps), steps.empty() ? 0 : *std::min_element(steps.begin(), steps.end()));
    std::fflush(stdout);
  }
  for (const int context : {512, 1024, 2048 - 8}) {
    if (context + 1 > settings.num_blocks * settings.block_size) continue;
    std::vector<double> steps;
    for (int i = 0; i < 3; ++i) {
      for (const StepRecord& r : run(engine, config.vocab_size, 1, context, 1)) {
        if (r.prefill_rows == context) steps.push_back(r.seconds * 1e3);
      }
    }
    std::printf("{\"prefill\": true, \"tokens\": %d, \"ms\": %.2f}\n", context, median(steps));
    std::fflush(stdout);
  }
  engine.close();
  std::remove(path.c_str());
  return 0;
} catch (const std::exception& e) {
  std::printf("FAIL %s\n", e.what());
  return 1;
}
