// The whole engine on the GPU against the CPU: logits of prompts and continuations, greedy and sampled tokens, beams, a
// busy batch. Random models of small, odd and (with --full) real width.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>

#include "random_model.h"
#include "runtime/engine.h"

using namespace glm;

namespace {

int failures = 0;

Request request(std::mt19937_64& bits, int vocab, int length, int tokens) {
  Request r;
  for (int i = 0; i < length; ++i) r.prompt.push_back(static_cast<int>(bits() % static_cast<uint64_t>(vocab - 2)));
  r.gmask = bits() % 2 == 0;
  r.mask_position = length / 2;
  r.max_new_tokens = tokens;
  r.ignore_end = true;
  return r;
}

// Tokens of each (request, choice), beams after them.
std::map<std::pair<int64_t, int>, std::vector<int>> run(Engine& engine, const std::vector<Request>& requests) {
  std::map<std::pair<int64_t, int>, std::vector<int>> answers;
  std::map<int64_t, int64_t> index;
  size_t open = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    index[engine.submit(requests[i])] = static_cast<int64_t>(i);
    open += requests[i].beams ? 1 : static_cast<size_t>(requests[i].n);
  }
  while (open > 0) {
    for (const Event& e : engine.poll(1.0)) {
      auto& answer = answers[{index.at(e.request), e.index}];
      if (e.token >= 0) answer.push_back(e.token);
      for (const auto& beam : e.beams) answer.insert(answer.end(), beam.begin(), beam.end());
      if (e.finish != Finish::none) {
        GLM_CHECK(e.finish == Finish::length || e.finish == Finish::stop, "finished: ", name(e.finish), " ", e.message);
        --open;
      }
    }
  }
  return answers;
}

void check_model(const std::string& what, const ModelConfig& config, DType dtype, int length, int continuation,
                 double bound, bool batch = true) {
  const std::string path = concat("/tmp/glm_random_", static_cast<const void*>(&config), ".bin");
  const testing::RandomModel model = testing::random_model(path, config, dtype, false, 7);
  EngineConfig settings;
  settings.max_sequence_length = 512;
  settings.max_batch_size = 8;
  settings.max_prefill_tokens = 512;
  std::mt19937_64 bits(99);
  Engine cpu(config, settings, "cpu", {model.shard}), gpu(config, settings, "cuda", {model.shard});
  Request prompt = request(bits, config.vocab_size, length, 1);
  std::vector<int> ids = prompt.prompt;
  for (int i = 0; i < continuation; ++i)
    ids.push_back(static_cast<int>(bits() % static_cast<uint64_t>(config.vocab_size)));
  std::vector<float> want, got;
  const auto collect = [&](std::vector<float>& to) {
    return [&to, vocab = config.vocab_size](int64_t, int64_t count, const float* rows) {
      to.insert(to.end(), rows, rows + count * vocab);
    };
  };
  cpu.score(prompt, ids, collect(want));
  gpu.score(prompt, ids, collect(got));
  double error = 0, norm = 0, worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = static_cast<double>(got[i]) - want[i];
    error += d * d;
    norm += static_cast<double>(want[i]) * want[i];
    worst = std::max(worst, std::isfinite(d) ? std::fabs(d) : 1e9);
  }
  const double relative = std::sqrt(error / norm), rms = std::sqrt(norm / static_cast<double>(want.size()));
  const bool good = got.size() == want.size() && relative <= bound && worst <= 10 * bound * rms;
  failures += !good;
  std::printf("%s %s %s: logits relative %.2e worst/rms %.2e\n", good ? "ok  " : "FAIL", what.c_str(), name(dtype),
              relative, worst / rms);
  std::fflush(stdout);
  if (!batch) {
    std::remove(path.c_str());
    return;
  }
  // A busy batch: the same requests on both; greedy tokens agree unless two logits nearly tie.
  std::vector<Request> requests;
  for (int i = 0; i < 10; ++i) {
    Request r = request(bits, config.vocab_size, 3 + i * 7, 12);
    r.sampling.temperature = i % 2 ? 1.0f : 0.0f;
    r.sampling.top_k = i % 3 == 1 ? 5 : 0;
    r.sampling.top_p = i % 5 == 3 ? 0.8f : 0.0f;
    r.sampling.seed = bits();
    r.no_repeat_ngram_size = i % 4 == 0 ? 2 : 0;
    if (i == 6) r.n = 3;
    if (i == 7) {
      r.beams = Beams{};
      r.beams->deterministic = true;
    }
    requests.push_back(r);
  }
  const auto a = run(cpu, requests), b = run(gpu, requests), c = run(gpu, requests);
  size_t same = 0, total = 0, first = 0;
  for (const auto& [key, tokens] : a) {
    const auto& other = b.at(key);
    total += tokens.size();
    for (size_t i = 0; i < tokens.size() && i < other.size(); ++i) same += tokens[i] == other[i];
    first += !tokens.empty() && !other.empty() && tokens[0] == other[0];
  }
  const bool agree = static_cast<double>(same) >= 0.5 * static_cast<double>(total) && first + 2 >= a.size();
  failures += !agree;
  std::printf("%s %s %s: %zu of %zu tokens as on the CPU, first tokens %zu of %zu; a second run %s\n",
              agree ? "ok  " : "FAIL", what.c_str(), name(dtype), same, total, first, a.size(),
              b == c ? "is the same" : "DIFFERS");
  std::fflush(stdout);
  std::remove(path.c_str());
}

}  // namespace

int main(int argc, char** argv) try {
  const bool full = argc > 1 && std::strcmp(argv[1], "--full") == 0;
  for (const DType dtype : {DType::f16, DType::i8, DType::i4}) {
    check_model("hidden 64", testing::model_config(3, 64, 8, 176, 256), dtype, 20, 8, 6e-3);
    check_model("hidden 128", testing::model_config(4, 128, 8, 344, 1408), dtype, 70, 20, 6e-3);
    check_model("hidden 256", testing::model_config(2, 256, 2, 704, 1408), dtype, 300, 40, 6e-3);
    check_model("hidden 96", testing::model_config(2, 96, 2, 250, 300), dtype, 33, 5, 6e-3);
  }
  if (full) {
    for (const DType dtype : {DType::i4, DType::f16}) {
      check_model("hidden 12288", testing::model_config(2, 12288, 96, 32768, 1408), dtype, 24, 4, 6e-3, false);
    }
  }
  std::printf("engine: %d failures\n", failures);
  return failures ? 1 : 0;
} catch (const std::exception& e) {
  std::printf("FAIL %s\n", e.what());
  return 1;
}
