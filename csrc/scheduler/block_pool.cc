#include "scheduler/block_pool.h"

#include "core/error.h"

namespace glm {

BlockPool::BlockPool(int num_blocks, int block_size)
    : block_size_(block_size),
      holders_(static_cast<size_t>(num_blocks), 0),
      in_cache_(static_cast<size_t>(num_blocks), false) {
  for (int block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
}

int BlockPool::take() {
  while (free_.empty() && !entries_.empty()) forget_oldest();
  GLM_CHECK(!free_.empty(), "KV cache: no free block among ", total(), "; a bug of the scheduler");
  const int block = free_.back();
  free_.pop_back();
  holders_[static_cast<size_t>(block)] = 1;
  return block;
}

void BlockPool::share(int block) {
  int& holders = holders_[static_cast<size_t>(block)];
  if (holders == 1 && in_cache_[static_cast<size_t>(block)]) --cached_;
  ++holders;
}

void BlockPool::release(int block) {
  int& holders = holders_[static_cast<size_t>(block)];
  --holders;
  if (holders == 1 && in_cache_[static_cast<size_t>(block)]) ++cached_;
  if (holders == 0) free_.push_back(block);
}

void BlockPool::release_all(std::vector<int>& blocks) {
  for (const int block : blocks) release(block);
  blocks.clear();
}

void BlockPool::remember(const PromptKey& key, const std::vector<int>& blocks) {
  if (index_.count(key) != 0) return;
  for (const int block : blocks) {
    share(block);
    in_cache_[static_cast<size_t>(block)] = true;
  }
  entries_.push_front({key, blocks});
  index_[key] = entries_.begin();
}

std::vector<int> BlockPool::recall(const PromptKey& key) {
  const auto found = index_.find(key);
  if (found == index_.end()) return {};
  entries_.splice(entries_.begin(), entries_, found->second);
  for (const int block : found->second->blocks) share(block);
  return found->second->blocks;
}

void BlockPool::forget_oldest() {
  Entry entry = std::move(entries_.back());
  entries_.pop_back();
  index_.erase(entry.key);
  for (const int block : entry.blocks) {
    if (holders_[static_cast<size_t>(block)] == 1) --cached_;
    in_cache_[static_cast<size_t>(block)] = false;
    release(block);
  }
}

}  // namespace glm
