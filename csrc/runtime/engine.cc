#include "runtime/engine.h"

#include <chrono>
#include <numeric>

namespace glm {
namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

constexpr size_t kRecentSteps = 4096;

}  // namespace

Engine::Engine(const ModelConfig& model, const EngineConfig& engine, const std::string& backend,
               const std::vector<ShardSource>& shards)
    : model_(model), config_(engine), executor_(model, engine, backend, shards), scheduler_(model, engine) {
  progress_at_ = now_s();
  thread_ = std::thread([this] { run(); });
}

Engine::~Engine() {
  close();
}

int64_t Engine::submit(Request request) {
  const std::lock_guard lock(mutex_);
  if (!failure_.empty()) throw Error(failure_);
  GLM_CHECK(!closing_, "the engine is closed");
  if (scheduler_.idle() && scores_.empty()) progress_at_ = now_s();
  const int64_t id = scheduler_.submit(std::move(request), now_s());
  work_.notify_one();
  return id;
}

void Engine::cancel(int64_t id) {
  const std::lock_guard lock(mutex_);
  scheduler_.cancel(id);
}

std::vector<Event> Engine::poll(double timeout_s) {
  std::unique_lock lock(mutex_);
  events_ready_.wait_for(lock, std::chrono::duration<double>(timeout_s),
                         [&] { return !events_.empty() || !failure_.empty() || closing_; });
  if (events_.empty() && !failure_.empty()) throw Error(failure_);
  return std::exchange(events_, {});
}

void Engine::score(const Request& prompt, const std::vector<int>& ids, const Executor::LogitSink& sink) {
  const int length = static_cast<int>(ids.size());
  if (length < 1 || length > config_.max_sequence_length) {
    throw RequestError(
        "ids", concat("prompt and continuation must have 1 to ", config_.max_sequence_length, " tokens; got ", length));
  }
  const int prompt_length = static_cast<int>(prompt.prompt.size());
  if (prompt.mask_position < 0 || prompt.mask_position >= prompt_length) {
    throw RequestError("mask_position", concat("must be 0 to ", prompt_length - 1, "; got ", prompt.mask_position));
  }
  ScoreJob job;
  job.pass.tokens = ids;
  for (int i = 0; i < length; ++i) job.pass.positions.push_back(prompt.position(i));
  job.pass.logit_rows.resize(ids.size());
  std::iota(job.pass.logit_rows.begin(), job.pass.logit_rows.end(), 0);
  job.pass.layer_end = model_.num_layers;
  StepSequence part;
  part.rows = length;
  part.prefix = prompt_length - 1;
  job.pass.sequences.push_back(part);
  job.sink = &sink;
  std::future<void> done = job.done.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (!failure_.empty()) throw Error(failure_);
    GLM_CHECK(!closing_, "the engine is closed");
    if (scheduler_.idle() && scores_.empty()) progress_at_ = now_s();
    scores_.push_back(std::move(job));
    work_.notify_one();
  }
  done.get();
}

// Computes the oldest scoring job if its KV blocks are free. Called and left without the lock.
bool Engine::score_next() {
  std::unique_lock lock(mutex_);
  if (scores_.empty()) return false;
  std::vector<int> blocks = scheduler_.reserve(scores_.front().pass.rows());
  if (blocks.empty()) return false;
  ScoreJob job = std::move(scores_.front());
  scores_.pop_front();
  lock.unlock();
  job.pass.sequences.front().blocks = blocks;
  try {
    executor_.logits(job.pass, *job.sink);
    job.done.set_value();
  } catch (...) {
    job.done.set_exception(std::current_exception());
    throw;
  }
  lock.lock();
  scheduler_.give_back(blocks);
  progress_at_ = now_s();
  return true;
}

void Engine::run() {
  try {
    while (true) {
      const bool scored = score_next();
      std::unique_lock lock(mutex_);
      if (closing_) return;
      if (scheduler_.idle()) {
        if (!scored && scores_.empty())
          work_.wait(lock, [&] { return closing_ || !scheduler_.idle() || !scores_.empty(); });
        continue;
      }
      const Step step = scheduler_.schedule(now_s());
      StepRecord record;
      std::vector<SampleResult> results;
      if (!step.passes.empty()) {
        lock.unlock();
        const double begin = now_s();
        results = executor_.run(step);
        record.seconds = now_s() - begin;
        lock.lock();
      }
      for (const Pass& pass : step.passes) {
        const bool decode = pass.layer_begin == 0 && pass.logit_rows.size() == pass.tokens.size();
        (decode ? record.decode_rows : record.prefill_rows) += pass.rows();
        if (!decode) record.prefill_layers = pass.layer_end - pass.layer_begin;
      }
      scheduler_.commit(results);
      progress_at_ = now_s();
      ++steps_;
      if (recent_.size() < kRecentSteps) recent_.push_back(record);
      std::vector<Event> events = scheduler_.take_events();
      if (!events.empty()) {
        events_.insert(events_.end(), std::make_move_iterator(events.begin()), std::make_move_iterator(events.end()));
        events_ready_.notify_all();
      }
    }
  } catch (const std::exception& error) {
    fail(error.what());
  }
}

void Engine::fail(const std::string& message) {
  const std::lock_guard lock(mutex_);
  failure_ = concat("the engine failed: ", message);
  scheduler_.end_all(Finish::error, failure_);
  std::vector<Event> events = scheduler_.take_events();
  events_.insert(events_.end(), std::make_move_iterator(events.begin()), std::make_move_iterator(events.end()));
  for (ScoreJob& job : scores_) job.done.set_exception(std::make_exception_ptr(Error(failure_)));
  scores_.clear();
  events_ready_.notify_all();
}

EngineStats Engine::stats() {
  const std::lock_guard lock(mutex_);
  EngineStats stats;
  stats.scheduler = scheduler_.stats();
  stats.steps = steps_;
  stats.busy = !scheduler_.idle() || !scores_.empty();
  stats.since_progress_s = now_s() - progress_at_;
  stats.failure = failure_;
  stats.recent = std::exchange(recent_, {});
  return stats;
}

void Engine::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
  const std::lock_guard lock(mutex_);
  scheduler_.end_all(Finish::shutdown, "");
  std::vector<Event> events = scheduler_.take_events();
  events_.insert(events_.end(), std::make_move_iterator(events.begin()), std::make_move_iterator(events.end()));
  for (ScoreJob& job : scores_) job.done.set_exception(std::make_exception_ptr(Error("the engine was closed")));
  scores_.clear();
  events_ready_.notify_all();
}

}  // namespace glm
