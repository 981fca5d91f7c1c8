// The one exception of the engine. Its text is for a person: what failed, the bound, what was given, what to do.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace glm {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A request that the engine refuses; `field` is the request's field at fault.
class RequestError : public Error {
 public:
  RequestError(std::string request_field, const std::string& message)
      : Error(message), field_(std::move(request_field)) {}
  const std::string& field() const { return field_; }

 private:
  std::string field_;
};

// No room for another request now.
class QueueFullError : public Error {
 public:
  using Error::Error;
};

// Joins its arguments as text: concat("got ", 3, " rows").
template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace glm

// Checks what a caller or a file must satisfy; throws glm::Error with the given parts as its text.
#define GLM_CHECK(condition, ...)                                     \
  do {                                                                \
    if (!(condition)) throw ::glm::Error(::glm::concat(__VA_ARGS__)); \
  } while (0)
