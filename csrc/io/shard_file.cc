#include "io/shard_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace glm {

ShardFile::ShardFile(const std::string& path, const std::vector<ShardTensor>& tensors) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  GLM_CHECK(fd >= 0, "cannot open ", path, ": ", std::strerror(errno));
  struct stat info{};
  const bool sized = ::fstat(fd, &info) == 0 && info.st_size > 0;
  size_ = sized ? static_cast<size_t>(info.st_size) : 0;
  if (sized) mapping_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (!sized || mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw Error(concat("cannot map ", path, " (", size_, " bytes): ", sized ? std::strerror(error) : "empty file"));
  }
  for (const ShardTensor& tensor : tensors) {
    const int64_t limit = static_cast<int64_t>(size_);
    const bool sane = tensor.rows > 0 && tensor.cols > 0 && tensor.offset >= 0 && tensor.offset <= limit &&
                      tensor.rows <= limit / tensor.cols + 1 &&
                      bytes_of(tensor.dtype, tensor.rows * tensor.cols) <= limit - tensor.offset;
    if (!sane) {
      ::munmap(mapping_, size_);
      throw Error(concat(path, ": ", tensor.name, " [", tensor.rows, ", ", tensor.cols, "] ", name(tensor.dtype),
                         " at ", tensor.offset, " does not lie within the file's ", size_, " bytes; convert again"));
    }
    tensors_.emplace(tensor.name, tensor);
  }
}

ShardFile::~ShardFile() {
  if (mapping_) ::munmap(mapping_, size_);
}

Tensor ShardFile::get(const std::string& tensor, int64_t rows, int64_t cols) const {
  const auto found = tensors_.find(tensor);
  GLM_CHECK(found != tensors_.end(), path_, ": no tensor ", tensor);
  const ShardTensor& t = found->second;
  GLM_CHECK(t.rows == rows && t.cols == cols, path_, ": ", tensor, " must be [", rows, ", ", cols, "]; found [", t.rows,
            ", ", t.cols, "]");
  return {static_cast<std::byte*>(mapping_) + t.offset, t.dtype, rows, cols};
}

Weight ShardFile::weight(const std::string& tensor, int64_t rows, int64_t cols) const {
  const Tensor matrix = get(tensor, rows, cols);
  Weight result = {matrix.dtype, rows, cols, matrix.data, nullptr};
  if (matrix.dtype == DType::i8 || matrix.dtype == DType::i4) {
    const Tensor scale = get(tensor + "_scale", 1, rows);
    GLM_CHECK(scale.dtype == DType::f16, path_, ": ", tensor, "_scale must be f16; found ", name(scale.dtype));
    result.scale = scale.as<const Half>();
  } else {
    GLM_CHECK(matrix.dtype == DType::f16, path_, ": ", tensor, " must be f16, i8 or i4; found ", name(matrix.dtype));
  }
  return result;
}

}  // namespace glm
