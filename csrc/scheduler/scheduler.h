// Decides what each step computes, and turns its results into events. No tensors, no threads, no clock of its own.
//
// First come, first served. A request waits until its prompt's KV blocks are free; the prompt is then computed, several
// prompts together, in slices of layers when others are running (the prompt is bidirectional: slices of tokens would
// change the result). Then its sequences join the decode batch, one token a step. When blocks run out, the youngest
// request gives its own back and is computed again later: no output is lost, and what its tokens are does not change.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/config.h"
#include "core/step.h"
#include "scheduler/block_pool.h"
#include "scheduler/group.h"

namespace glm {

struct SchedulerStats {
  int waiting = 0;  // requests
  int running = 0;  // sequences in the decode batch or whose prompt is being computed
  int blocks_total = 0, blocks_live = 0, blocks_cached = 0;
  int64_t prompt_tokens = 0, generated_tokens = 0, preemptions = 0, prompts_reused = 0, cancelled = 0;
};

class Scheduler {
 public:
  Scheduler(const ModelConfig& model, const EngineConfig& engine);

  // Queues a request. Throws RequestError (it could never run) or QueueFullError. `now` is in seconds on any clock.
  int64_t submit(Request request, double now);
  void cancel(int64_t id);
  void end_all(Finish finish, const std::string& message);

  bool idle() const { return waiting_.empty() && running_.empty() && !prefill_; }
  // The next step; without passes when there is nothing to compute.
  Step schedule(double now);
  // Takes the results of the step that schedule returned last.
  void commit(const std::vector<SampleResult>& results);
  std::vector<Event> take_events();
  SchedulerStats stats() const;

  // KV blocks for a pass outside the schedule (scoring); empty while there are not enough.
  std::vector<int> reserve(int tokens);
  void give_back(std::vector<int>& blocks) { pool_.release_all(blocks); }

 private:
  using GroupPtr = std::shared_ptr<Group>;
  struct PrefillItem {
    GroupPtr group;
    size_t sequence = 0;
    int rows = 0;
    bool fresh = false;  // a new prompt, whose last row gives the first token; else a sequence computed again
  };
  // Items [begin, end) are computed together, as many as a pass may have rows; then the next ones. Only a request that
  // is computed again takes more than one such part: new prompts are not let in beyond what a part holds.
  struct Prefill {
    std::vector<PrefillItem> items;
    int rows = 0;  // of all items
    size_t begin = 0, end = 0;
    int layer = 0;  // next layer to compute
  };
  // Whose samples these are, in the step's order.
  struct SampleOwner {
    GroupPtr group;
    size_t sequence = 0;
    int choice = 0;
  };

  void check(const Request& request) const;
  void reap(double now);
  void admit();
  void tell_started(Group& group);
  bool add_to_prefill(const GroupPtr& group, Prefill& prefill);
  bool attach_computed_prompt(const GroupPtr& group);
  void make_room();
  bool take_block_for_next_token(Sequence& s);
  void preempt(const GroupPtr& group);
  void abort_prefill();
  void add_prefill_pass(Step& step, bool decoding);
  void add_decode_pass(Step& step);
  void add_samples(Step& step, const GroupPtr& group, size_t sequence, int logits_row);
  SampleRow sample_row(const Group& group, const Sequence& s, int logits_row, int choice) const;

  void end_part();
  void start(Group& group);
  void commit_token(Group& group, Sequence& s, const SampleResult& result);
  void commit_beams(Group& group, const std::vector<const SampleResult*>& results);
  void finish_beams(Group& group, Finish finish);
  void end_sequence(Group& group, Sequence& s, Finish finish, const std::string& message = "");
  void end_group(Group& group, Finish finish, const std::string& message = "");
  void release(Group& group);
  void drop_finished();
  int width() const;
  int decode_rows() const;

  const ModelConfig model_;
  const EngineConfig engine_;
  BlockPool pool_;
  int64_t next_id_ = 1;
  std::deque<GroupPtr> waiting_;   // in order of arrival; requests computed again come first
  std::vector<GroupPtr> running_;  // in order of admission
  std::optional<Prefill> prefill_;
  bool part_ends_ = false;  // the step at hand computes the last layers of prefill_'s part
  std::vector<std::pair<int, int>> copies_;
  std::vector<SampleOwner> owners_;
  std::vector<std::pair<GroupPtr, size_t>> decoded_;
  std::vector<Event> events_;
  SchedulerStats counters_;
};

}  // namespace glm
