// Who holds which KV block: pure bookkeeping, no memory. A block is held by the sequences that share it and by the
// cache of prompts; it is free when nobody holds it.
#pragma once

#include <list>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace glm {

// Identity of a computed prompt. The prompt is bidirectional, so only the whole of it can be used again.
using PromptKey = std::tuple<std::string, int, bool, std::vector<int>>;  // share key, mask position, gmask, ids

class BlockPool {
 public:
  BlockPool(int num_blocks, int block_size);

  int total() const { return static_cast<int>(holders_.size()); }
  int block_size() const { return block_size_; }
  // Blocks for `tokens` tokens.
  int needed(int tokens) const { return (tokens + block_size_ - 1) / block_size_; }
  int free() const { return static_cast<int>(free_.size()); }
  // Blocks that only the cache of prompts holds: free on demand.
  int cached() const { return cached_; }
  int live() const { return total() - free() - cached(); }
  int available() const { return free() + cached(); }

  // A free block, taken from the cache's least recently used prompt where none is free. Throws when none is available.
  int take();
  void share(int block);
  void release(int block);
  void release_all(std::vector<int>& blocks);
  bool is_shared(int block) const { return holders_[static_cast<size_t>(block)] > 1; }

  // Keeps a computed prompt's blocks for later requests.
  void remember(const PromptKey& key, const std::vector<int>& blocks);
  // The blocks of a computed prompt, now also held by the caller; empty if it is not there.
  std::vector<int> recall(const PromptKey& key);

 private:
  struct Entry {
    PromptKey key;
    std::vector<int> blocks;
  };
  void forget_oldest();

  const int block_size_;
  std::vector<int> holders_;    // per block, the cache included
  std::vector<bool> in_cache_;  // per block
  std::vector<int> free_;
  int cached_ = 0;
  std::list<Entry> entries_;  // most recently used first
  std::map<PromptKey, std::list<Entry>::iterator> index_;
};

}  // namespace glm
