// The kernel's memory, and the record of its accesses.
#include <dlfcn.h>
#include <sys/mman.h>
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>
#include "machine.h"

namespace emulator {

constexpr size_t threadgroup_limit = 32 << 10;
constexpr size_t max_shared = 64;  // threadgroup variables of a kernel
constexpr size_t gap = 16 << 20;   // bytes around a buffer that tell a near miss from a stray
constexpr unsigned threadgroup_slot_bits = 17;

// The accesses to a cell that no later one has replaced: several, if none happened before the
// other. `span` is how far their threads are spread.
enum Span : uint8_t { one_thread, one_simd_group, one_group, several_groups };
struct Access {
  uint32_t epoch, simd_epoch;
  const void* pc;
  uint16_t thread;
  Span span;
  bool happened, atomic;
};
struct Cell {
  Access write, read;
};

struct Region {
  std::string name;
  char* base = nullptr;
  size_t size = 0, item = 1, granule = 1;
  Space space = device;
  bool writable = false, filled = false;
  uint64_t read = 0, written = 0;
  std::vector<Cell> cells;  // one a granule; none where nobody writes
};

// Memory in slots of one size with a region in the middle of each: an address, also one a
// little out of bounds, tells its region.
struct Arena {
  char* base = nullptr;
  size_t size = 0;
  unsigned slot_bits = 0;
  std::vector<Region> regions;

  bool reserve(size_t count, unsigned bits) {
    if (base) munmap(base, size);
    slot_bits = bits;
    size = count << bits;
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    base = static_cast<char*>(memory);
    regions.assign(count, {});
    for (size_t i = 0; i < count; i++) regions[i].base = base + ((2 * i + 1) << (bits - 1));
    return true;
  }
  bool holds(const char* address) const { return size_t(address - base) < size; }
  Region& nearest(const char* address) { return regions[size_t(address - base) >> slot_bits]; }
};

static Arena buffers_arena, shared_arena;
static Buffer* launch_buffers;
static size_t shared_bytes;
static uint32_t poison_byte;

bool place_buffers(Buffer* buffers, int count, uint32_t poison) {
  launch_buffers = buffers;
  poison_byte = poison;
  size_t largest = 0;
  for (int i = 0; i < count; i++) largest = std::max<size_t>(largest, buffers[i].size);
  unsigned bits = 0;
  while ((size_t(1) << bits) < 2 * (largest + gap)) bits++;
  if (!buffers_arena.reserve(count, bits)) return false;
  if (!shared_arena.base && !shared_arena.reserve(max_shared, threadgroup_slot_bits)) return false;
  for (int i = 0; i < count; i++) {
    Region& region = buffers_arena.regions[i];
    region.name = buffers[i].name;
    region.size = buffers[i].size;
    region.writable = buffers[i].writable;
    region.filled = buffers[i].filled;
    region.item = buffers[i].item;
    region.granule = std::min<size_t>(region.item, 4);
    memcpy(region.base, buffers[i].data, region.size);
    if (region.writable) region.cells.assign(region.size / region.granule, {});
  }
  return true;
}

char* buffer(int number) { return buffers_arena.regions[number].base; }

void collect_buffers() {
  for (size_t i = 0; i < buffers_arena.regions.size(); i++) {
    const Region& region = buffers_arena.regions[i];
    Buffer& buffer = launch_buffers[i];
    if (region.writable) memcpy(buffer.data, region.base, region.size);
    buffer.read = region.read;
    buffer.written = region.written;
    for (const Cell& cell : region.cells)
      if (!cell.write.happened) buffer.untouched += region.granule;
  }
}

void clear_threadgroup_memory() {
  for (Region& region : shared_arena.regions) region.size = 0;
  shared_bytes = 0;
}

void* shared(int number, const char* name, size_t size, size_t alignment, size_t item) {
  if (size_t(number) >= max_shared) fail("more than %zu threadgroup variables", max_shared);
  Region& region = shared_arena.regions[number];
  if (region.size == 0) {
    shared_bytes = (shared_bytes + alignment - 1) / alignment * alignment + size;
    report->threadgroup_bytes = std::max<uint64_t>(report->threadgroup_bytes, shared_bytes);
    if (shared_bytes > threadgroup_limit)
      fail("%zu bytes of threadgroup memory with '%s', at most %zu are allowed", shared_bytes,
           name, threadgroup_limit);
    region.name = name;
    region.size = size;
    region.space = threadgroup;
    region.writable = true;
    region.item = item;
    region.granule = std::min<size_t>(alignment, 4);
    region.cells.assign(size / region.granule, {});
    memset(region.base, int(poison_byte), size);
  }
  return region.base;
}

// ---- checks of one access

static bool same_simd_group(uint32_t a, uint32_t b) { return a / simd_width == b / simd_width; }

static bool in_this_group(const Access& access, Space space) {
  return access.span != several_groups && access.epoch >= now.first_epoch[space];
}

static bool happened_before(const Access& access, Space space) {
  if (!access.happened) return true;
  if (!in_this_group(access, space)) return false;  // nothing orders threadgroups
  if (access.epoch < now.epoch[space]) return true;
  if (access.span == one_thread && access.thread == now.thread) return true;
  return access.span <= one_simd_group && same_simd_group(access.thread, now.thread) &&
         access.simd_epoch < now.simd_epoch[space];
}

static void record(Access& access, Space space, bool atomic, const void* pc) {
  Span span = one_thread;
  if (!happened_before(access, space)) {
    span = one_simd_group;
    if (!same_simd_group(access.thread, now.thread)) span = one_group;
    if (!in_this_group(access, space)) span = several_groups;
    span = std::max(span, access.span);
    atomic = atomic && access.atomic;
  }
  access = {now.epoch[space], now.simd_epoch[space], pc, uint16_t(now.thread), span, true, atomic};
}

static const char* memory_name(const Region& region) {
  return region.space == device ? "buffer" : "threadgroup memory";
}

[[noreturn]] static void fail_race(const Region& region, size_t index, const Access& other,
                                   const char* other_did, const char* does, const void* pc) {
  const bool here = in_this_group(other, region.space);
  fail("race on %s '%s': thread %u %s element %zu (line {%p}), which thread %u%s %s "
       "(line {%p}) with no barrier between",
       memory_name(region), region.name.c_str(), now.thread, does, index, pc, other.thread,
       here ? "" : " of another threadgroup", other_did, other.pc);
}

static void check_cell(Region& region, size_t cell_index, bool writes, bool atomic,
                       const void* pc) {
  Cell& cell = region.cells[cell_index];
  const size_t index = cell_index * region.granule / region.item;
  const char* does = writes ? "writes" : "reads";
  if (!(atomic && cell.write.atomic) && !happened_before(cell.write, region.space))
    fail_race(region, index, cell.write, "wrote", does, pc);
  if (!writes) {
    if (!cell.write.happened && !region.filled)
      fail("uninitialised read: thread %u reads element %zu of %s '%s' (line {%p}), which "
           "nobody has written",
           now.thread, index, memory_name(region), region.name.c_str(), pc);
    return record(cell.read, region.space, atomic, pc);
  }
  if (!(atomic && cell.read.atomic) && !happened_before(cell.read, region.space))
    fail_race(region, index, cell.read, "read", does, pc);
  record(cell.write, region.space, atomic, pc);
  cell.read.happened = false;
}

// Constant tables lie in the library itself. Pages that are known to are kept: asking is slow.
static bool is_constant_data(const void* address, const void* pc) {
  static size_t known_pages[64];
  const size_t page = reinterpret_cast<size_t>(address) >> 12;
  size_t& known = known_pages[page % 64];
  if (known == page) return true;
  Dl_info data, code;
  if (!dladdr(address, &data) || !dladdr(pc, &code) || data.dli_fbase != code.dli_fbase)
    return false;
  known = page;
  return true;
}

static Region* find(const char* address, size_t size, bool writes, const void* pc) {
  const char* does = writes ? "writes" : "reads";
  Region* region = nullptr;
  for (Arena* arena : {&buffers_arena, &shared_arena})
    if (arena->holds(address)) region = &arena->nearest(address);
  if (!region || region->size == 0) {
    if (!writes && is_constant_data(address, pc)) return nullptr;
    fail("out of bounds: thread %u %s memory (line {%p}) that belongs to no buffer", now.thread,
         does, pc);
  }
  ptrdiff_t offset = address - region->base;
  if (offset < 0 || offset + size > region->size) {
    ptrdiff_t item = ptrdiff_t(region->item);
    ptrdiff_t index = (offset < 0 ? offset - item + 1 : offset + ptrdiff_t(size) - 1) / item;
    fail("out of bounds: thread %u %s element %td of %s '%s' (line {%p}), which has %zu",
         now.thread, does, index, memory_name(*region), region->name.c_str(), pc,
         region->size / region->item);
  }
  if (writes && !region->writable)
    fail("thread %u writes the input '%s' (line {%p})", now.thread, region->name.c_str(), pc);
  return region;
}

void access(const void* pointer, size_t size, bool writes, bool atomic, const void* pc) {
  const char* address = static_cast<const char*>(pointer);
  if (size_t(address - now.stack) < now.stack_size) return;  // the thread's own variables
  Region* region = find(address, size, writes, pc);
  if (!region) return;
  (writes ? region->written : region->read) += size;
  if (!region->writable) return;
  size_t offset = address - region->base;
  size_t last = (offset + size - 1) / region->granule;
  for (size_t cell = offset / region->granule; cell <= last; cell++)
    check_cell(*region, cell, writes, atomic, pc);
}

// ---- atomics

static void check_atomic(const void* address, bool in_device_memory, bool writes, const void* pc) {
  if (in_device_memory && shared_arena.holds(static_cast<const char*>(address)))
    fail("atomic_float in threadgroup memory (line {%p}): Metal has it in device memory only",
         pc);
  access(address, sizeof(uint32_t), writes, true, pc);
}
uint32_t atomic_load(const void* address, bool in_device_memory) {
  check_atomic(address, in_device_memory, false, __builtin_return_address(0));
  uint32_t value;
  memcpy(&value, address, sizeof value);
  return value;
}
void atomic_store(void* address, uint32_t value, bool in_device_memory) {
  check_atomic(address, in_device_memory, true, __builtin_return_address(0));
  memcpy(address, &value, sizeof value);
}

}  // namespace emulator
