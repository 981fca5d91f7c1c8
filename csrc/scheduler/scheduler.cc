#include "scheduler/scheduler.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace glm {

std::vector<int> banned_by_ngrams(const std::vector<int>& tokens, int prompt_length, int n) {
  std::vector<int> banned;
  const int length = static_cast<int>(tokens.size());
  if (n < 2 || length <= n) return banned;
  const auto suffix = tokens.end() - (n - 1);
  for (int last = std::max(prompt_length, n - 1); last < length; ++last) {
    if (std::equal(suffix, tokens.end(), tokens.begin() + last - (n - 1))) {
      banned.push_back(tokens[static_cast<size_t>(last)]);
    }
  }
  return banned;
}

Scheduler::Scheduler(const ModelConfig& model, const EngineConfig& engine)
    : model_(model), engine_(engine), pool_(engine.blocks(), engine.block_size) {}

// ---- in

void Scheduler::check(const Request& r) const {
  const auto refuse = [](const char* field, const std::string& message) { throw RequestError(field, message); };
  const int length = static_cast<int>(r.prompt.size());
  const int limit = engine_.max_sequence_length;
  if (length < 2) refuse("prompt", concat("a prompt has at least a mask and sop; got ", length, " tokens"));
  for (const int id : r.prompt) {
    if (id < 0 || id >= model_.vocab_size) {
      refuse("prompt", concat("token ids must be 0 to ", model_.vocab_size - 1, "; got ", id));
    }
  }
  if (length >= limit) {
    refuse("prompt", concat("the prompt has ", length, " tokens; this server's context is ", limit,
                            " tokens for prompt and answer: at most ", limit - 1, " for the prompt"));
  }
  if (r.mask_position < 0 || r.mask_position >= length) {
    refuse("mask_position", concat("must be 0 to ", length - 1, "; got ", r.mask_position));
  }
  if (r.max_new_tokens < 1 || length + r.max_new_tokens > limit) {
    refuse("max_new_tokens", concat("must be 1 to ", limit - length, " for a ", length, "-token prompt (context ",
                                    limit, "); got ", r.max_new_tokens));
  }
  if (r.min_new_tokens < 0 || r.min_new_tokens > r.max_new_tokens) {
    refuse("min_new_tokens", concat("must be 0 to ", r.max_new_tokens, " (max_new_tokens); got ", r.min_new_tokens));
  }
  const int width = r.width();
  if (width < 1 || width > engine_.max_batch_size) {
    refuse(r.beams ? "num_beams" : "n", concat("must be 1 to ", engine_.max_batch_size, " (the batch); got ", width));
  }
  const auto token_ok = [&](int id) { return id >= 0 && id < model_.vocab_size; };
  for (const auto& [id, value] : r.sampling.logit_bias) {
    if (!token_ok(id)) refuse("logit_bias", concat("token ids must be below ", model_.vocab_size, "; got ", id));
    if (!std::isfinite(value)) refuse("logit_bias", "values must be finite");
  }
  for (const int id : r.stop_ids) {
    if (!token_ok(id)) refuse("stop_ids", concat("token ids must be below ", model_.vocab_size, "; got ", id));
  }
  const Sampling& s = r.sampling;
  if (!(s.temperature >= 0 && std::isfinite(s.temperature))) refuse("temperature", "must be 0 or more, and finite");
  if (s.top_k < 0) refuse("top_k", concat("must be 0 (off) or more; got ", s.top_k));
  if (!(s.top_p >= 0 && s.top_p <= 1)) refuse("top_p", concat("must be 0 to 1; got ", s.top_p));
  if (!(s.repetition_penalty > 0 && std::isfinite(s.repetition_penalty))) {
    refuse("repetition_penalty", "must be above 0, and finite");
  }
  if (!std::isfinite(s.frequency_penalty)) refuse("frequency_penalty", "must be finite");
  if (!std::isfinite(s.presence_penalty)) refuse("presence_penalty", "must be finite");
  if (r.beams && (r.n != 1 || !r.stop_ids.empty() || r.logprobs >= 0)) {
    refuse("num_beams", "beam search excludes n > 1, stop ids and logprobs");
  }
  if (r.beams && !std::isfinite(r.beams->length_penalty)) refuse("length_penalty", "must be finite");
  // Alone it must fit: whole blocks of the prompt are shared, the rest is each sequence's own.
  const int shared = (length - 1) / engine_.block_size;
  const int own = pool_.needed(length + r.max_new_tokens) - shared;
  const int needed = shared + width * own;
  if (needed > pool_.total()) {
    refuse("max_new_tokens",
           concat("prompt and answer of ", width, " sequences need ", needed, " KV blocks; this server has ",
                  pool_.total(), " of ", engine_.block_size, " tokens"));
  }
}

int64_t Scheduler::submit(Request request, double now) {
  check(request);
  if (static_cast<int>(waiting_.size()) >= engine_.max_waiting + engine_.max_batch_size ||
      (static_cast<int>(waiting_.size()) >= engine_.max_waiting && width() >= engine_.max_batch_size)) {
    throw QueueFullError(concat(waiting_.size(), " requests are waiting, the most allowed; try again later"));
  }
  auto group = std::make_shared<Group>();
  group->id = next_id_++;
  if (request.max_time_s > 0) group->deadline = now + request.max_time_s;
  if (request.beams) {
    const std::vector<int> ends = request.ignore_end ? std::vector<int>{} : model_.end_ids;
    group->search.emplace(*request.beams, static_cast<int>(request.prompt.size()), ends);
  }
  Sequence first;
  first.tokens = request.prompt;
  group->sequences.push_back(std::move(first));
  group->request = std::move(request);
  waiting_.push_back(group);
  return group->id;
}

void Scheduler::cancel(int64_t id) {
  const auto mark = [&](const GroupPtr& group) {
    if (group->id == id) group->cancelled = true;
  };
  std::for_each(waiting_.begin(), waiting_.end(), mark);
  std::for_each(running_.begin(), running_.end(), mark);
  if (prefill_) {
    for (const PrefillItem& item : prefill_->items) mark(item.group);
  }
}

void Scheduler::end_all(Finish finish, const std::string& message) {
  if (prefill_) abort_prefill();
  for (const GroupPtr& group : waiting_) end_group(*group, finish, message);
  for (const GroupPtr& group : running_) end_group(*group, finish, message);
  waiting_.clear();
  running_.clear();
}

// ---- one step

Step Scheduler::schedule(double now) {
  Step step;
  copies_.clear();
  owners_.clear();
  decoded_.clear();
  part_ends_ = false;
  reap(now);
  admit();
  make_room();
  step.block_copies = copies_;
  const bool decoding = decode_rows() > 0;
  if (prefill_) add_prefill_pass(step, decoding);
  if (decoding) add_decode_pass(step);
  return step;
}

// Ends what was cancelled or is over its time.
void Scheduler::reap(double now) {
  const auto reason = [&](const Group& g) {
    return g.cancelled ? Finish::cancelled : now >= g.deadline ? Finish::time : Finish::none;
  };
  if (prefill_) {
    bool wanted = false;
    for (const PrefillItem& item : prefill_->items) {
      Group& group = *item.group;
      const Finish finish = group.abandoned ? Finish::none : reason(group);
      if (finish != Finish::none) {
        end_group(group, finish);
        group.abandoned = true;  // its rows stay in the pass, and its blocks with them
      }
      wanted |= !group.abandoned;
    }
    if (!wanted) abort_prefill();
  }
  const auto over = [&](const GroupPtr& group) {
    if (group->abandoned) return true;
    const Finish finish = reason(*group);
    if (finish == Finish::none) return false;
    end_group(*group, finish);
    release(*group);
    return true;
  };
  waiting_.erase(std::remove_if(waiting_.begin(), waiting_.end(), over), waiting_.end());
  running_.erase(std::remove_if(running_.begin(), running_.end(), over), running_.end());
}

int Scheduler::width() const {
  int total = 0;
  for (const GroupPtr& group : running_) total += group->request.width();
  if (prefill_) {
    const Group* previous = nullptr;
    for (const PrefillItem& item : prefill_->items) {
      if (item.group.get() != previous) total += item.group->request.width();
      previous = item.group.get();
    }
  }
  return total;
}

int Scheduler::decode_rows() const {
  int rows = 0;
  for (const GroupPtr& group : running_) {
    for (const Sequence& s : group->sequences) rows += s.finished ? 0 : 1;
  }
  return rows;
}

// Lets waiting requests in, in order: those whose prompt is there already join the batch, the others' prompts make the
// next prefill, if none is under way.
void Scheduler::admit() {
  int room = engine_.max_batch_size - width();
  Prefill prefill;
  const bool may_prefill = !prefill_;
  const Prefill* under_way = prefill_ ? &*prefill_ : &prefill;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const GroupPtr group = *it;
    if (group->request.width() > room) break;
    if (!group->started && attach_computed_prompt(group)) {
      room -= group->request.width();
      tell_started(*group);
      running_.push_back(group);
      it = waiting_.erase(it);
      continue;
    }
    // The same prompt is being computed: its blocks will be there for this one, too.
    const bool twin =
        !group->started && std::any_of(under_way->items.begin(), under_way->items.end(), [&](const auto& i) {
          return i.fresh && !i.group->abandoned && i.group->request.prompt == group->request.prompt &&
                 i.group->request.mask_position == group->request.mask_position &&
                 i.group->request.gmask == group->request.gmask &&
                 i.group->request.share_key == group->request.share_key;
        });
    if (twin) {
      ++it;
      continue;
    }
    if (!may_prefill || !add_to_prefill(group, prefill)) break;
    room -= group->request.width();
    tell_started(*group);
    it = waiting_.erase(it);
  }
  if (!prefill.items.empty()) prefill_ = std::move(prefill);
}

void Scheduler::tell_started(Group& group) {
  if (std::exchange(group.admitted, true)) return;
  Event event;
  event.request = group.id;
  event.started = true;
  events_.push_back(std::move(event));
}

namespace {

PromptKey key_of(const Request& r) {
  return {r.share_key, r.mask_position, r.gmask, r.prompt};
}

}  // namespace

bool Scheduler::attach_computed_prompt(const GroupPtr& group) {
  // The last block gets this request's own tokens, so it needs a copy of its own; so may every running sequence.
  if (pool_.available() < 2 + decode_rows()) return false;
  std::vector<int> blocks = pool_.recall(key_of(group->request));
  if (blocks.empty()) return false;
  Sequence& s = group->sequences.front();
  s.blocks = std::move(blocks);
  s.cached = group->prompt_length() - 1;
  ++counters_.prompts_reused;
  return true;
}

// Adds what is to be computed of a group, if rows and blocks suffice for all of it.
bool Scheduler::add_to_prefill(const GroupPtr& group, Prefill& prefill) {
  const int bs = engine_.block_size;
  const int shared_blocks = (group->prompt_length() - 1) / bs;
  int rows = 0, blocks = 0;
  bool first = true;
  for (const Sequence& s : group->sequences) {
    if (s.finished) continue;
    const int tokens = static_cast<int>(s.tokens.size()) - (group->started ? 1 : 0);
    rows += first ? tokens : tokens - shared_blocks * bs;
    blocks += first ? pool_.needed(tokens) : pool_.needed(tokens) - shared_blocks;
    first = false;
  }
  // A request that is computed again may have more rows than a batch of prompts: it then goes alone, in parts.
  const int most = prefill.items.empty() ? std::max(engine_.max_prefill_tokens, rows) : engine_.max_prefill_tokens;
  if (prefill.rows + rows > most) return false;
  // One block more for each sequence that decodes, lest the newcomer be sent back at once.
  if (blocks + (running_.empty() ? 0 : decode_rows()) > pool_.available()) return false;
  const Sequence* model = nullptr;
  for (size_t i = 0; i < group->sequences.size(); ++i) {
    Sequence& s = group->sequences[i];
    if (s.finished) continue;
    const int tokens = static_cast<int>(s.tokens.size()) - (group->started ? 1 : 0);
    if (model) {
      s.blocks.assign(model->blocks.begin(), model->blocks.begin() + shared_blocks);
      for (const int block : s.blocks) pool_.share(block);
      s.cached = shared_blocks * bs;
    }
    while (static_cast<int>(s.blocks.size()) < pool_.needed(tokens)) s.blocks.push_back(pool_.take());
    const int own = tokens - s.cached;
    prefill.items.push_back({group, i, own, !group->started});
    prefill.rows += own;
    if (!model) model = &s;
  }
  return true;
}

// Gives every running sequence the block that its next token goes to.
void Scheduler::make_room() {
  for (size_t g = 0; g < running_.size();) {
    const GroupPtr group = running_[g];
    bool kept = true;
    for (Sequence& s : group->sequences) {
      if (s.finished) continue;
      while (kept && !take_block_for_next_token(s)) {
        if (prefill_) {
          abort_prefill();
        } else {
          const GroupPtr youngest = running_.back();
          preempt(youngest);
          kept = youngest != group;
        }
      }
      if (!kept) break;
    }
    if (kept) ++g;
  }
}

bool Scheduler::take_block_for_next_token(Sequence& s) {
  const auto index = static_cast<size_t>(s.cached / engine_.block_size);
  if (index < s.blocks.size() && !pool_.is_shared(s.blocks[index])) return true;
  if (pool_.available() < 1) return false;
  const int block = pool_.take();
  if (index == s.blocks.size()) {
    s.blocks.push_back(block);
    return true;
  }
  if (s.cached % engine_.block_size != 0) copies_.emplace_back(s.blocks[index], block);
  pool_.release(s.blocks[index]);
  s.blocks[index] = block;
  return true;
}

void Scheduler::preempt(const GroupPtr& group) {
  release(*group);
  running_.erase(std::find(running_.begin(), running_.end(), group));
  waiting_.push_front(group);
  ++counters_.preemptions;
}

void Scheduler::abort_prefill() {
  std::vector<GroupPtr> groups;
  for (const PrefillItem& item : prefill_->items) {
    if (groups.empty() || groups.back() != item.group) groups.push_back(item.group);
  }
  for (auto it = groups.rbegin(); it != groups.rend(); ++it) {
    release(**it);
    if (!(*it)->abandoned) waiting_.push_front(*it);
  }
  prefill_.reset();
}

void Scheduler::add_prefill_pass(Step& step, bool decoding) {
  Pass pass;
  const int layers = model_.num_layers;
  const int bound = engine_.prefill_layer_tokens;
  if (prefill_->layer == 0) {  // the next part
    prefill_->end = prefill_->begin;
    int part = 0;
    while (prefill_->end < prefill_->items.size() && part + prefill_->items[prefill_->end].rows <= engine_.max_rows()) {
      part += prefill_->items[prefill_->end++].rows;
    }
  }
  const auto first = prefill_->items.begin() + static_cast<int64_t>(prefill_->begin);
  const auto last = prefill_->items.begin() + static_cast<int64_t>(prefill_->end);
  const int rows = std::accumulate(first, last, 0, [](int sum, const PrefillItem& item) { return sum + item.rows; });
  const int slice = decoding && bound > 0 ? std::max(1, bound / rows) : layers;
  pass.layer_begin = prefill_->layer;
  pass.layer_end = std::min(layers, pass.layer_begin + slice);
  prefill_->layer = pass.layer_end;
  part_ends_ = pass.layer_end == layers;
  for (auto it = first; it != last; ++it) {
    const PrefillItem& item = *it;
    const Sequence& s = item.group->sequences[item.sequence];
    const Request& request = item.group->request;
    StepSequence part;
    part.first_row = pass.rows();
    part.rows = item.rows;
    part.cached = s.cached;
    part.prefix = item.group->prompt_length() - 1;
    part.blocks = s.blocks;
    for (int i = 0; i < item.rows; ++i) {
      pass.tokens.push_back(s.tokens[static_cast<size_t>(s.cached + i)]);
      pass.positions.push_back(request.position(s.cached + i));
    }
    pass.sequences.push_back(std::move(part));
    if (item.fresh && part_ends_) {
      if (!item.group->abandoned) {
        add_samples(step, item.group, item.sequence, static_cast<int>(pass.logit_rows.size()));
        pass.logit_rows.push_back(pass.rows() - 1);
      }
    }
  }
  if (pass.layer_begin == 0) counters_.prompt_tokens += rows;
  step.passes.push_back(std::move(pass));
}

void Scheduler::add_decode_pass(Step& step) {
  Pass pass;
  pass.layer_end = model_.num_layers;
  int logits_row = step.passes.empty() ? 0 : static_cast<int>(step.passes.front().logit_rows.size());
  for (const GroupPtr& group : running_) {
    for (size_t i = 0; i < group->sequences.size(); ++i) {
      const Sequence& s = group->sequences[i];
      if (s.finished) continue;
      StepSequence part;
      part.first_row = pass.rows();
      part.rows = 1;
      part.cached = s.cached;
      part.prefix = group->prompt_length() - 1;
      part.blocks = s.blocks;
      pass.tokens.push_back(s.tokens.back());
      pass.positions.push_back(group->request.position(s.cached));
      pass.logit_rows.push_back(part.first_row);
      pass.sequences.push_back(std::move(part));
      add_samples(step, group, i, logits_row++);
      decoded_.emplace_back(group, i);
    }
  }
  step.passes.push_back(std::move(pass));
}

// The samples that a sequence's row of logits gives: one, or n for the first token of n choices.
void Scheduler::add_samples(Step& step, const GroupPtr& group, size_t sequence, int logits_row) {
  const Sequence& s = group->sequences[sequence];
  const int choices = group->started || group->search ? 1 : group->request.n;
  for (int choice = 0; choice < choices; ++choice) {
    const int index = group->started ? s.choice : choice;
    step.samples.push_back(sample_row(*group, s, logits_row, index));
    owners_.push_back({group, sequence, index});
  }
}

SampleRow Scheduler::sample_row(const Group& group, const Sequence& s, int logits_row, int choice) const {
  const Request& request = group.request;
  const int generated = group.generated(s);
  SampleRow row;
  row.logits_row = logits_row;
  row.choice = static_cast<uint32_t>(choice);
  row.step = static_cast<uint32_t>(generated);
  row.logprobs = request.logprobs;
  row.banned = banned_by_ngrams(s.tokens, group.prompt_length(), request.no_repeat_ngram_size);
  if (generated < request.min_new_tokens) {
    row.banned.insert(row.banned.end(), model_.end_ids.begin(), model_.end_ids.end());
    row.banned.insert(row.banned.end(), request.stop_ids.begin(), request.stop_ids.end());
  }
  if (group.search) {
    row.seed = request.beams->seed;
    row.candidates = group.search->candidates();
    row.noise = !request.beams->deterministic;
    row.score = s.score;
    return row;
  }
  const Sampling& sampling = request.sampling;
  row.temperature = sampling.temperature;
  row.top_k = sampling.top_k;
  row.top_p = sampling.top_p;
  row.seed = sampling.seed;
  row.bias = sampling.logit_bias;
  row.repetition_penalty = sampling.repetition_penalty;
  row.frequency_penalty = sampling.frequency_penalty;
  row.presence_penalty = sampling.presence_penalty;
  const bool repetition = sampling.repetition_penalty != 1.0f;
  if (repetition || sampling.frequency_penalty != 0.0f || sampling.presence_penalty != 0.0f) {
    std::map<int, int> counts;
    const int length = static_cast<int>(s.tokens.size());
    for (int i = repetition ? 0 : group.prompt_length(); i < length; ++i) {
      counts[s.tokens[static_cast<size_t>(i)]] += i >= group.prompt_length() ? 1 : 0;
    }
    // The end tokens stand in every prompt; a penalty on them would only keep answers from ending.
    for (const int end : model_.end_ids) counts.erase(end);
    for (const auto& [token, count] : counts) row.seen.push_back({token, count});
  }
  return row;
}

// ---- results

void Scheduler::commit(const std::vector<SampleResult>& results) {
  for (const auto& [group, index] : decoded_) ++group->sequences[index].cached;
  if (part_ends_) end_part();
  for (size_t i = 0; i < owners_.size();) {
    const GroupPtr group = owners_[i].group;
    size_t end = i;
    while (end < owners_.size() && owners_[end].group == group) ++end;
    if (group->search) {
      std::vector<const SampleResult*> found;
      for (size_t k = i; k < end; ++k) found.push_back(&results[k]);
      commit_beams(*group, found);
    } else {
      if (!group->started) start(*group);
      for (size_t k = i; k < end; ++k) {
        // Before the first token the owners are choices of one sequence; start() has made a sequence of each.
        const auto at = static_cast<size_t>(owners_[k].choice);
        commit_token(*group, group->sequences[at], results[k]);
      }
    }
    i = end;
  }
  drop_finished();
}

void Scheduler::end_part() {
  for (size_t i = prefill_->begin; i < prefill_->end; ++i) {
    const PrefillItem& item = prefill_->items[i];
    item.group->sequences[item.sequence].cached += item.rows;
  }
  if (prefill_->end < prefill_->items.size()) {
    prefill_->begin = prefill_->end;
    prefill_->layer = 0;
    return;
  }
  std::vector<PrefillItem> items = std::move(prefill_->items);
  prefill_.reset();
  GroupPtr previous;
  for (const PrefillItem& item : items) {
    Group& group = *item.group;
    const Sequence& s = group.sequences[item.sequence];
    if (group.abandoned) {
      release(group);
      continue;
    }
    if (item.fresh) {
      const int prefix = group.prompt_length() - 1;
      if (prefix > 0) {
        pool_.remember(key_of(group.request), {s.blocks.begin(), s.blocks.begin() + pool_.needed(prefix)});
      }
    }
    if (item.group != previous) running_.push_back(item.group);
    previous = item.group;
  }
}

// The prompt is computed: every choice gets a sequence, which shares the prompt's blocks.
void Scheduler::start(Group& group) {
  group.started = true;
  for (int choice = 1; choice < group.request.n; ++choice) {
    Sequence copy = group.sequences.front();
    copy.choice = choice;
    for (const int block : copy.blocks) pool_.share(block);
    group.sequences.push_back(std::move(copy));
  }
}

void Scheduler::commit_token(Group& group, Sequence& s, const SampleResult& result) {
  if (s.finished) return;
  if (!result.finite) {
    end_sequence(group, s, Finish::error, "the model's logits are not finite");
    return;
  }
  s.tokens.push_back(result.token);
  ++counters_.generated_tokens;
  const Request& request = group.request;
  const auto among = [&](const std::vector<int>& ids) {
    return std::find(ids.begin(), ids.end(), result.token) != ids.end();
  };
  Event event;
  event.request = group.id;
  event.index = s.choice;
  event.token = result.token;
  event.logprob = result.logprob;
  event.top = result.top;
  if ((!request.ignore_end && among(model_.end_ids)) || among(request.stop_ids)) {
    event.finish = Finish::stop;
  } else if (group.generated(s) >= request.max_new_tokens) {
    event.finish = Finish::length;
  }
  s.finished = event.finish != Finish::none;
  events_.push_back(std::move(event));
}

void Scheduler::commit_beams(Group& group, const std::vector<const SampleResult*>& results) {
  group.started = true;
  std::vector<std::vector<Candidate>> found;
  std::vector<std::vector<int>> answers;
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i]->finite) {
      end_group(group, Finish::error, "the model's logits are not finite");
      return;
    }
    found.push_back(results[i]->candidates);
    answers.push_back(group.answer(group.sequences[i]));
  }
  const std::vector<BeamSearch::Continuation> live = group.search->advance(answers, found);
  std::vector<Sequence> next;
  for (const BeamSearch::Continuation& c : live) {
    Sequence s = group.sequences[static_cast<size_t>(c.parent)];
    for (const int block : s.blocks) pool_.share(block);
    s.choice = static_cast<int>(next.size());
    s.tokens.push_back(c.token);
    s.score = c.score;
    next.push_back(std::move(s));
  }
  for (Sequence& s : group.sequences) pool_.release_all(s.blocks);
  group.sequences = std::move(next);
  counters_.generated_tokens += static_cast<int64_t>(live.size());
  if (group.search->done() || live.empty()) {
    finish_beams(group, Finish::stop);
  } else if (group.generated(group.sequences.front()) >= group.request.max_new_tokens) {
    finish_beams(group, Finish::length);
  }
}

void Scheduler::finish_beams(Group& group, Finish finish) {
  std::vector<std::vector<int>> answers;
  std::vector<float> scores;
  for (const Sequence& s : group.sequences) {
    if (group.generated(s) == 0) continue;
    answers.push_back(group.answer(s));
    scores.push_back(s.score);
  }
  group.search->finish(answers, scores);
  Event event;
  event.request = group.id;
  event.finish = finish;
  event.beams = group.search->beams();
  event.scores = group.search->scores();
  events_.push_back(std::move(event));
  for (Sequence& s : group.sequences) s.finished = true;
}

void Scheduler::end_sequence(Group& group, Sequence& s, Finish finish, const std::string& message) {
  s.finished = true;
  Event event;
  event.request = group.id;
  event.index = s.choice;
  event.finish = finish;
  event.message = message;
  events_.push_back(std::move(event));
}

// Ends every choice that has not ended yet. Blocks are the caller's to release.
void Scheduler::end_group(Group& group, Finish finish, const std::string& message) {
  if (finish == Finish::cancelled) ++counters_.cancelled;
  if (group.search) {
    if (finish == Finish::time) {
      finish_beams(group, finish);
      return;
    }
    end_sequence(group, group.sequences.front(), finish, message);
    for (Sequence& s : group.sequences) s.finished = true;
    return;
  }
  for (Sequence& s : group.sequences) {
    if (!s.finished) end_sequence(group, s, finish, message);
  }
  if (!group.admitted) return;  // one event for all choices
  for (int choice = static_cast<int>(group.sequences.size()); choice < group.request.n; ++choice) {
    Sequence never_started;
    never_started.choice = choice;
    end_sequence(group, never_started, finish, message);
  }
}

void Scheduler::release(Group& group) {
  for (Sequence& s : group.sequences) {
    pool_.release_all(s.blocks);
    s.cached = 0;
  }
}

void Scheduler::drop_finished() {
  const auto finished = [&](const GroupPtr& group) {
    bool all = true;
    for (Sequence& s : group->sequences) {
      if (s.finished) pool_.release_all(s.blocks);
      all &= s.finished;
    }
    return all;
  };
  running_.erase(std::remove_if(running_.begin(), running_.end(), finished), running_.end());
}

std::vector<Event> Scheduler::take_events() {
  return std::exchange(events_, {});
}

std::vector<int> Scheduler::reserve(int tokens) {
  std::vector<int> blocks;
  if (pool_.needed(tokens) > pool_.available()) return blocks;
  while (static_cast<int>(blocks.size()) < pool_.needed(tokens)) blocks.push_back(pool_.take());
  return blocks;
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = counters_;
  stats.waiting = static_cast<int>(waiting_.size());
  stats.running = width();
  stats.blocks_total = pool_.total();
  stats.blocks_live = pool_.live();
  stats.blocks_cached = pool_.cached();
  return stats;
}

}  // namespace glm
