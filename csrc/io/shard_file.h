// One rank's shard, mapped read-only. The header is read by the caller (Python knows the format); here every tensor's
// bounds are checked against the file before anything is touched, for a truncated file maps fine and reads zeros.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace glm {

struct ShardTensor {
  std::string name;
  DType dtype = DType::f16;
  int64_t rows = 1;  // 1 for vectors
  int64_t cols = 0;
  int64_t offset = 0;  // bytes from the file's start
};

class ShardFile {
 public:
  ShardFile(const std::string& path, const std::vector<ShardTensor>& tensors);
  ~ShardFile();
  ShardFile(const ShardFile&) = delete;
  ShardFile& operator=(const ShardFile&) = delete;

  bool has(const std::string& tensor) const { return tensors_.count(tensor) != 0; }
  // The tensor in the mapping; throws unless it has this shape.
  Tensor get(const std::string& tensor, int64_t rows, int64_t cols) const;
  // A matrix as a weight, with its scale where it is quantized.
  Weight weight(const std::string& tensor, int64_t rows, int64_t cols) const;

 private:
  std::string path_;
  std::map<std::string, ShardTensor> tensors_;
  void* mapping_ = nullptr;
  size_t size_ = 0;
};

}  // namespace glm
