// The functions of the machine (machine.h) that a compiled kernel calls.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulator {

constexpr uint32_t simd_width = 32;

struct Size {
  uint32_t x, y, z;
};

// A synchronising operation and its position in the kernel's source.
struct Site {
  const char* operation;
  uint32_t line, column;
};

// The kind of memory, and the bits of Metal's mem_flags.
enum Space : unsigned { device = 0, threadgroup = 1 };
constexpr unsigned orders(unsigned flags, Space space) { return flags >> space & 1; }

// The indices of the running thread: all that Metal's attributes of a kernel give.
struct Place {
  Size grid, group, groups, full_group, group_position, position;
  uint32_t threads;  // of this threadgroup
};
Place place();
uint32_t thread_index();  // in the threadgroup

void barrier(unsigned flags, Site site);       // of the threadgroup
void simd_barrier(unsigned flags, Site site);  // of the SIMD group

// Give a value to the SIMD group and get those of all its lanes; returns a mask of the lanes
// that exist. At most 16 bytes a value.
uint32_t exchange(const void* value, void* lanes, size_t size, Site site);

// The storage of the threadgroup variable with this number, made when first reached.
void* shared(int number, const char* name, size_t size, size_t alignment, size_t item);

uint32_t atomic_load(const void* address, bool in_device_memory);
void atomic_store(void* address, uint32_t value, bool in_device_memory);

// End the launch with this text. A return address given as {%p} becomes a source line.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// A function of Metal's mathematics with the accuracy of this launch; y for two arguments.
enum class Function : unsigned {
  exp, exp2, exp10, log, log2, log10, sin, cos, tan, sinh, cosh, tanh, sqrt, rsqrt, pow, divide
};
float evaluate(Function function, bool is_precise, float x, float y = 0);

// The start of the buffer of this number in the kernel's signature.
char* buffer(int number);

// The translated kernel, for one thread.
void kernel();

}  // namespace emulator
