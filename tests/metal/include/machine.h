// Between the parts of the machine: threads.cpp runs the threads, memory.cpp has the memory
// and the record of accesses, instrumentation.cpp is called for every access.
#pragma once
#include "runtime.h"

namespace emulator {

// The three structures are filled and read through ctypes in emulator.py.
struct Buffer {
  const char* name;
  char* data;
  uint64_t size;                      // bytes
  uint32_t item, writable, filled;    // filled: its content counts as written
  uint64_t read, written, untouched;  // bytes, counted during the launch
};
struct Launch {
  Size grid, group;  // threads, as mx.fast.metal_kernel takes them
  uint32_t schedule, poison;
  uint64_t seed, step_limit;
  uint32_t accuracy;  // 0: the C library's, 1: too large, 2: too small, more: either, a hash
};
struct Report {
  uint64_t threadgroups, barriers, simd_operations, threadgroup_bytes;
  const void* base;  // of the library: turns an address in a fault into an offset in the file
  char fault[2048];
};

// The moment of the running thread, as far as memory cares. Epochs only grow: of two accesses
// in a threadgroup, the one of the smaller epoch happened before the other.
struct Now {
  uint32_t thread;
  uint32_t first_epoch[2];  // of this threadgroup, by Space
  uint32_t epoch[2];
  const uint32_t* simd_epoch;  // of this SIMD group, by Space
  const char* stack;
  size_t stack_size;
};
extern Now now;
extern Report* report;
extern uint64_t steps_left;
extern uint32_t accuracy;

bool place_buffers(Buffer* buffers, int count, uint32_t poison);  // false: no memory
void collect_buffers();
void clear_threadgroup_memory();
// Before each access of the running thread, which is done by the instruction before `pc`.
void access(const void* address, size_t size, bool writes, bool atomic, const void* pc);

}  // namespace emulator
