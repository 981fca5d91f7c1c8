// Collectives of one rank. A world of one takes the same path. Every rank sums in rank order, so ranks agree to the bit
// and runs repeat to the bit.
#pragma once

#include <memory>
#include <vector>

#include "core/tensor.h"

namespace glm {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // x becomes the sum over ranks, on every rank.
  virtual void all_reduce(Tensor x) = 0;
  // out [rows, cols * size] on rank 0: the ranks' x [rows, cols] side by side. `out` is ignored on the others.
  virtual void gather_columns(Tensor out, Tensor x) = 0;
  // Wakes every rank that waits here, now and later, with an error: called by a rank that fails.
  virtual void abort() = 0;
};

// One communicator per rank for threads of this process that share host memory.
std::vector<std::unique_ptr<Communicator>> make_local_communicators(int size);

}  // namespace glm
