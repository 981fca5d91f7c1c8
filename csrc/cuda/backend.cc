#include "cuda/backend.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/half.h"
#include "cuda/norm.h"

namespace glm::cuda {
namespace {

int bits_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 16;
    case DType::i8:
      return 8;
    case DType::i4:
      return 4;
    case DType::f32:
      break;
  }
  throw Error("CUDA: weights must be f16, i8 or i4");
}

const __half* halves(Tensor x) {
  return x.as<const __half>();
}

// Host integers that go to the device as one copy; each part is remembered by its offset.
class IntegerPack {
 public:
  template <typename Range>
  size_t add(const Range& values) {
    const size_t at = data_.size();
    data_.insert(data_.end(), values.begin(), values.end());
    return at;
  }
  const std::vector<int>& data() const { return data_; }

 private:
  std::vector<int> data_;
};

}  // namespace

CudaBackend::CudaBackend(int device) : device_(device) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  GLM_CHECK(status == cudaSuccess && count > 0, "CUDA: no usable GPU (", cudaGetErrorString(status),
            "); is the driver loaded and a GPU given to this container?");
  GLM_CHECK(device < count, "CUDA: rank ", device, " needs a GPU of its own; this machine has ", count);
  GLM_CUDA_CHECK(cudaSetDevice(device));
  cudaDeviceProp properties{};
  GLM_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  GLM_CHECK(properties.major * 10 + properties.minor >= 75, "CUDA: ", properties.name, " has compute capability ",
            properties.major, ".", properties.minor, "; this build needs 7.5 or later");
  GLM_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  overlap_ = properties.major >= 9;
  matmul_.stream = stream_;
  matmul_.multiprocessors = properties.multiProcessorCount;
  matmul_.hopper = properties.major == 9 && properties.minor == 0;
  const auto multiprocessors = static_cast<size_t>(properties.multiProcessorCount);
  partials_ = DeviceBuffer(multiprocessors * MatmulContext::kPartialFloats * sizeof(float));
  flags_ = DeviceBuffer(multiprocessors * 8 * sizeof(unsigned));
  GLM_CUDA_CHECK(cudaMemsetAsync(flags_.as<void>(), 0, flags_.bytes(), stream_));
  matmul_.partials = partials_.as<float>();
  matmul_.flags = flags_.as<unsigned>();
  prepare_matmul(matmul_);
  prepare_attention();
  column_bits_ = prepare_sample();
}

CudaBackend::~CudaBackend() {
  cudaSetDevice(device_);
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

void* CudaBackend::keep(size_t bytes) {
  memory_.emplace_back(bytes);
  return memory_.back().as<void>();
}

Tensor CudaBackend::allocate(DType dtype, int64_t rows, int64_t cols) {
  return {keep(static_cast<size_t>(bytes_of(dtype, rows * cols))), dtype, rows, cols};
}

Weight CudaBackend::load_packed(const Weight& source, bool paired) {
  PackedWeight packed;
  packed.bits = bits_of(source.dtype);
  packed.rows = static_cast<int>(source.rows);
  packed.cols = static_cast<int>(source.cols);
  packed.paired = paired;
  auto* data = static_cast<uint8_t*>(keep(packed.packed_bytes()));
  packed.data = data;
  if (source.scale) packed.scale = load_vector(source.scale, source.rows).as<const __half>();
  if (!loader_) loader_ = std::make_unique<WeightLoader>(device_);
  loader_->load(data, packed, source.data, stream_);
  weights_.push_back(packed);
  return {source.dtype, source.rows, source.cols, &weights_.back(), nullptr};
}

Tensor CudaBackend::load_vector(const Half* source, int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(Half);
  void* data = keep(bytes);
  GLM_CUDA_CHECK(cudaMemcpyAsync(data, source, bytes, cudaMemcpyHostToDevice, stream_));
  return {data, DType::f16, 1, count};
}

void CudaBackend::allocate_kv(int layers, int heads, int head_dim, int num_blocks, int block_size, int max_positions) {
  loader_.reset();
  kv_ = {nullptr, heads, head_dim, block_size};
  layers_ = layers;
  layer_halves_ = kv_.offset(num_blocks, 0, 0, 0);
  const size_t bytes = static_cast<size_t>(layer_halves_) * static_cast<size_t>(layers) * sizeof(__half);
  kv_.data = static_cast<__half*>(keep(bytes));
  // Rows beyond a sequence's end are read with weight zero: they must not hold NaNs.
  GLM_CUDA_CHECK(cudaMemsetAsync(kv_.data, 0, bytes, stream_));
  make_rotary(max_positions, head_dim);
}

void CudaBackend::make_rotary(int positions, int head_dim) {
  const int half = head_dim / 2;
  std::vector<Half> cos(static_cast<size_t>(positions) * static_cast<size_t>(half)), sin(cos.size());
  for (int i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    const float frequency = round_to_half(1.0f / std::pow(10000.0f, exponent));
    for (int p = 0; p < positions; ++p) {
      const float angle = round_to_half(round_to_half(static_cast<float>(p)) * frequency);
      const auto at = static_cast<size_t>(p) * static_cast<size_t>(half) + static_cast<size_t>(i);
      cos[at] = to_half(std::cos(angle));
      sin[at] = to_half(std::sin(angle));
    }
  }
  const auto count = static_cast<int64_t>(cos.size());
  rotary_.cos = load_vector(cos.data(), count).as<const __half>();
  rotary_.sin = load_vector(sin.data(), count).as<const __half>();
  synchronize();
}

KvLayer CudaBackend::kv_layer(int layer) const {
  KvLayer kv = kv_;
  kv.data += layer_halves_ * layer;
  return kv;
}

void CudaBackend::begin(const Pass& pass) {
  const size_t sequences = pass.sequences.size();
  size_t max_blocks = 1;
  for (const StepSequence& s : pass.sequences) max_blocks = std::max(max_blocks, s.blocks.size());
  std::vector<int> row_sequence(static_cast<size_t>(pass.rows())), first(sequences), rows(sequences), cached(sequences),
      prefix(sequences), blocks(sequences * max_blocks);
  pass_ = {};
  for (size_t i = 0; i < sequences; ++i) {
    const StepSequence& s = pass.sequences[i];
    first[i] = s.first_row;
    rows[i] = s.rows;
    cached[i] = s.cached;
    prefix[i] = s.prefix;
    std::copy(s.blocks.begin(), s.blocks.end(), blocks.begin() + static_cast<int64_t>(i * max_blocks));
    std::fill_n(row_sequence.begin() + s.first_row, s.rows, static_cast<int>(i));
    pass_.max_rows = std::max(pass_.max_rows, s.rows);
    pass_.max_visible = std::max(pass_.max_visible, s.visible(s.rows - 1));
  }
  IntegerPack pack;
  const size_t at_tokens = pack.add(pass.tokens), at_positions = pack.add(pass.positions),
               at_logit_rows = pack.add(pass.logit_rows), at_row_sequence = pack.add(row_sequence),
               at_first = pack.add(first), at_rows = pack.add(rows), at_cached = pack.add(cached),
               at_prefix = pack.add(prefix), at_blocks = pack.add(blocks);
  const auto* data =
      static_cast<const int*>(uploader_.upload(pack.data().data(), pack.data().size() * sizeof(int), stream_));
  tokens_ = data + at_tokens;
  logit_rows_ = data + at_logit_rows;
  pass_.positions = data + at_positions;
  pass_.row_sequence = data + at_row_sequence;
  pass_.first_row = data + at_first;
  pass_.rows = data + at_rows;
  pass_.cached = data + at_cached;
  pass_.prefix = data + at_prefix;
  pass_.blocks = data + at_blocks;
  pass_.max_blocks = static_cast<int>(max_blocks);
  pass_.sequences = static_cast<int>(sequences);
  pass_.total_rows = pass.rows();
  if (pass_.max_rows == 1) {  // decode: room for the parts of split attention
    const size_t floats = attention_decode_floats(pass_.sequences, kv_.heads, kv_.head_dim, pass_.max_visible);
    attention_partial_.reserve(floats * sizeof(float));
    const size_t counters = sequences * static_cast<size_t>(kv_.heads) * sizeof(unsigned);
    if (attention_counters_.bytes() < counters) {
      attention_counters_.reserve(counters);
      GLM_CUDA_CHECK(cudaMemsetAsync(attention_counters_.as<void>(), 0, attention_counters_.bytes(), stream_));
    }
  }
}

void CudaBackend::copy_blocks(std::span<const std::pair<int, int>> pairs) {
  if (pairs.empty()) return;
  std::vector<int> flat;
  for (const auto& [from, to] : pairs) {
    flat.push_back(from);
    flat.push_back(to);
  }
  const auto* data = static_cast<const int*>(uploader_.upload(flat.data(), flat.size() * sizeof(int), stream_));
  for (int layer = 0; layer < layers_; ++layer) {
    copy_kv_blocks(kv_layer(layer), data, static_cast<int>(pairs.size()), stream_);
  }
}

void CudaBackend::embed(Tensor out, const Weight& table, int first_id) {
  embed_rows(out.as<__half>(), *static_cast<const PackedWeight*>(table.data), tokens_, static_cast<int>(out.rows),
             first_id, overlap_, stream_);
}

void CudaBackend::layernorm(Tensor out, Tensor x, Tensor gamma, Tensor beta, float eps) {
  Norm norm;
  norm.out = out.as<__half>();
  norm.x = halves(x);
  norm.gamma = halves(gamma);
  norm.beta = halves(beta);
  norm.rows = static_cast<int>(x.rows);
  norm.cols = static_cast<int>(x.cols);
  norm.eps = eps;
  cuda::layernorm(norm, overlap_, stream_);
}

void CudaBackend::residual_layernorm(Tensor out, Tensor sum, Tensor bias, Tensor residual, float alpha, Tensor gamma,
                                     Tensor beta, float eps) {
  Norm norm;
  norm.out = out.as<__half>();
  norm.x = halves(sum);
  norm.residual = halves(residual);
  norm.bias = halves(bias);
  norm.gamma = halves(gamma);
  norm.beta = halves(beta);
  norm.rows = static_cast<int>(sum.rows);
  norm.cols = static_cast<int>(sum.cols);
  norm.alpha = alpha;
  norm.eps = eps;
  cuda::layernorm(norm, overlap_, stream_);
}

void CudaBackend::linear(Tensor out, Tensor x, const Weight& w, Tensor bias) {
  const auto& packed = *static_cast<const PackedWeight*>(w.data);
  matmul(matmul_, packed, {out.data, halves(x), halves(bias), static_cast<int>(x.rows), out.dtype == DType::f32});
}

void CudaBackend::attention(Tensor out, Tensor qkv, int layer) {
  const KvLayer kv = kv_layer(layer);
  const AttentionScratch scratch{attention_partial_.as<float>(), attention_partial_.bytes() / sizeof(float),
                                 attention_counters_.as<unsigned>(), attention_counters_.bytes() / sizeof(unsigned)};
  if (attention_decode(out.as<__half>(), halves(qkv), kv, rotary_, pass_, scratch, overlap_, stream_)) return;
  rotate_and_append(qkv.as<__half>(), kv, rotary_, pass_, overlap_, stream_);
  attention_prompt(out.as<__half>(), halves(qkv), kv, pass_, overlap_, stream_);
}

void CudaBackend::gather_logit_rows(Tensor out, Tensor x, int64_t first) {
  gather_rows(out.as<__half>(), halves(x), logit_rows_ + first, static_cast<int>(out.rows), static_cast<int>(x.cols),
              overlap_, stream_);
}

void CudaBackend::download(float* out, Tensor x) {
  const auto count = static_cast<size_t>(x.rows * x.cols);
  if (x.dtype == DType::f32) {
    GLM_CUDA_CHECK(cudaMemcpyAsync(out, x.data, count * sizeof(float), cudaMemcpyDeviceToHost, stream_));
    return synchronize();
  }
  GLM_CHECK(x.dtype == DType::f16, "CUDA: download of ", name(x.dtype));
  std::vector<Half> host(count);
  GLM_CUDA_CHECK(cudaMemcpyAsync(host.data(), x.data, count * sizeof(Half), cudaMemcpyDeviceToHost, stream_));
  synchronize();
  std::transform(host.begin(), host.end(), out, to_float);
}

void CudaBackend::synchronize() {
  GLM_CUDA_CHECK(cudaStreamSynchronize(stream_));
}

}  // namespace glm::cuda

std::unique_ptr<glm::Backend> glm::make_cuda_backend(int device) {
  return std::make_unique<cuda::CudaBackend>(device);
}
