// Weights from mapped files to packed form on the device: worker threads copy pieces into pinned memory, from there
// they go to the device and are packed there, each piece in the stream of its slot. The host never holds more than the
// slots.
#pragma once

#include <vector>

#include "cuda/memory.h"
#include "cuda/packed.h"

namespace glm::cuda {

class WeightLoader {
 public:
  explicit WeightLoader(int device);
  ~WeightLoader();
  WeightLoader(const WeightLoader&) = delete;
  WeightLoader& operator=(const WeightLoader&) = delete;

  // Packs `source` [rows, cols] into `out` [weight.packed_bytes()]. Returns once the source has been read; `consumer`
  // waits for the rest.
  void load(uint8_t* out, const PackedWeight& weight, const void* source, cudaStream_t consumer);

 private:
  static constexpr int kWorkers = 8;
  static constexpr int kSlotsEach = 2;
  static constexpr size_t kSlotBytes = size_t{16} << 20;
  struct Slot {
    PinnedBuffer host;
    DeviceBuffer device;
    cudaStream_t stream = nullptr;
    cudaEvent_t copied = nullptr;  // the host buffer may be written again
    cudaEvent_t packed = nullptr;
  };
  void load_piece(Slot& slot, uint8_t* out, const PackedWeight& weight, const void* source, int begin, int count);

  int device_;
  std::vector<Slot> slots_;
};

}  // namespace glm::cuda
