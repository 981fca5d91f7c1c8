// The running engine: one thread that lets the scheduler decide a step, the executor compute it, and the events out.
// Callers' threads only put requests in and take events out.
#pragma once

#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/executor.h"
#include "scheduler/scheduler.h"

namespace glm {

// What a step did, for metrics.
struct StepRecord {
  int prefill_rows = 0;
  int prefill_layers = 0;
  int decode_rows = 0;
  double seconds = 0;
};

struct EngineStats {
  SchedulerStats scheduler;
  int64_t steps = 0;
  bool busy = false;               // there is work
  double since_progress_s = 0;     // since the last step ended, or since work came to an idle engine
  std::string failure;             // why the engine stopped; empty while it runs
  std::vector<StepRecord> recent;  // steps since the last call, the newest 4096
};

class Engine {
 public:
  Engine(const ModelConfig& model, const EngineConfig& engine, const std::string& backend,
         const std::vector<ShardSource>& shards);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const ModelConfig& model() const { return model_; }
  int64_t submit(Request request);
  void cancel(int64_t id);
  // Waits up to timeout_s for events and takes them all. Once the engine has failed and all events are taken, throws.
  std::vector<Event> poll(double timeout_s);
  // Logits of every token of prompt + continuation; sink gets rows in order, on the engine's thread.
  void score(const Request& prompt, const std::vector<int>& ids, const Executor::LogitSink& sink);
  EngineStats stats();
  // Ends everything with Finish::shutdown and stops. Safe to call twice.
  void close();

 private:
  struct ScoreJob {
    Pass pass;
    const Executor::LogitSink* sink;
    std::promise<void> done;
  };
  void run();
  bool score_next();
  void fail(const std::string& message);

  const ModelConfig model_;
  const EngineConfig config_;
  Executor executor_;
  std::mutex mutex_;
  std::condition_variable work_, events_ready_;
  Scheduler scheduler_;
  std::deque<ScoreJob> scores_;
  std::vector<Event> events_;
  std::vector<StepRecord> recent_;
  int64_t steps_ = 0;
  double progress_at_ = 0;
  bool closing_ = false;
  std::string failure_;
  std::thread thread_;
};

}  // namespace glm
