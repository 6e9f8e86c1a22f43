// The functions that the compiler's instrumentation calls.
//
// A checked kernel is compiled with -fsanitize=thread, undefined and coverage, but linked with
// these functions and not with a sanitizer's library: every access of the kernel passes here
// before it happens.
#include <cstring>
#include "machine.h"

using emulator::access;
using emulator::fail;
#define CALLER __builtin_return_address(0)

extern "C" {

#define ON_ACCESS(size)                                                                    \
  void __tsan_read##size(void* p) { access(p, size, false, false, CALLER); }               \
  void __tsan_write##size(void* p) { access(p, size, true, false, CALLER); }               \
  void __tsan_unaligned_read##size(void* p) { access(p, size, false, false, CALLER); }     \
  void __tsan_unaligned_write##size(void* p) { access(p, size, true, false, CALLER); }
ON_ACCESS(1)
ON_ACCESS(2)
ON_ACCESS(4)
ON_ACCESS(8)
ON_ACCESS(16)
void __tsan_read_range(void* p, size_t size) { access(p, size, false, false, CALLER); }
void __tsan_write_range(void* p, size_t size) { access(p, size, true, false, CALLER); }
void* __tsan_memcpy(void* to, const void* from, size_t size) {
  access(from, size, false, false, CALLER);
  access(to, size, true, false, CALLER);
  return memcpy(to, from, size);
}
void* __tsan_memmove(void* to, const void* from, size_t size) {
  access(from, size, false, false, CALLER);
  access(to, size, true, false, CALLER);
  return memmove(to, from, size);
}
void* __tsan_memset(void* to, int value, size_t size) {
  access(to, size, true, false, CALLER);
  return memset(to, value, size);
}
void __tsan_init() {}
void __tsan_func_exit() {}
void __tsan_func_entry(void*) {
  using emulator::now;
  constexpr size_t reserve = 16 << 10;  // for the emulator's own functions
  const char* frame = static_cast<const char*>(__builtin_frame_address(0));
  if (now.stack && size_t(frame - now.stack - reserve) >= now.stack_size - reserve)
    fail("stack overflow: thread %u has too many calls or variables (line {%p})", now.thread,
         CALLER);
}

void __sanitizer_cov_trace_pc() {
  if (emulator::steps_left-- == 0)
    fail("endless loop: thread %u is at line {%p} when the step limit is reached",
         emulator::now.thread, CALLER);
}

// Each handler's data starts with the position in the source.
struct SourceLocation {
  const char* file;
  uint32_t line, column;
};
#define ON_UNDEFINED(name, text)                                               \
  void __ubsan_handle_##name(const SourceLocation* at) {                       \
    fail("undefined behaviour: %s (line %u)", text, at->line);                 \
  }
ON_UNDEFINED(add_overflow, "signed overflow of +")
ON_UNDEFINED(sub_overflow, "signed overflow of -")
ON_UNDEFINED(mul_overflow, "signed overflow of *")
ON_UNDEFINED(negate_overflow, "signed overflow of -")
ON_UNDEFINED(divrem_overflow, "integer division by zero or overflow")
ON_UNDEFINED(shift_out_of_bounds, "shift by too much, or of a negative number")
ON_UNDEFINED(out_of_bounds, "index outside of its array")
ON_UNDEFINED(type_mismatch_v1, "misaligned pointer")
ON_UNDEFINED(float_cast_overflow, "float does not fit the integer type")

}  // extern "C"
