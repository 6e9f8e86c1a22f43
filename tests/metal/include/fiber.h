// A stack for each thread of a threadgroup, and the switch from one to another.
#pragma once
#include <algorithm>

// switch_stack(save, to): push the registers that a call must keep, store the stack pointer in
// *save, and continue from the stack pointer `to`.
extern "C" __attribute__((visibility("hidden"))) void switch_stack(void** save, void* to);
#if defined(__APPLE__)
#define SWITCH_STACK "_switch_stack"
#else
#define SWITCH_STACK "switch_stack"
#endif
asm(".text\n.p2align 4\n.globl " SWITCH_STACK "\n" SWITCH_STACK ":\n"
#if defined(__x86_64__)
    "push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
    "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n"
#elif defined(__aarch64__)
    "sub sp, sp, #160\n"
    "stp x19, x20, [sp, #0]\n stp x21, x22, [sp, #16]\n stp x23, x24, [sp, #32]\n"
    "stp x25, x26, [sp, #48]\n stp x27, x28, [sp, #64]\n stp x29, x30, [sp, #80]\n"
    "stp d8, d9, [sp, #96]\n stp d10, d11, [sp, #112]\n"
    "stp d12, d13, [sp, #128]\n stp d14, d15, [sp, #144]\n"
    "mov x9, sp\n str x9, [x0]\n mov sp, x1\n"
    "ldp x19, x20, [sp, #0]\n ldp x21, x22, [sp, #16]\n ldp x23, x24, [sp, #32]\n"
    "ldp x25, x26, [sp, #48]\n ldp x27, x28, [sp, #64]\n ldp x29, x30, [sp, #80]\n"
    "ldp d8, d9, [sp, #96]\n ldp d10, d11, [sp, #112]\n"
    "ldp d12, d13, [sp, #128]\n ldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160\n ret\n"
#else
#error "fibers are written for x86-64 and arm64"
#endif
);

namespace emulator {

// The stack pointer of a fiber that will start with `entry`, for a stack that ends at `top`.
inline void* fresh_fiber(char* top, void (*entry)()) {
  // As switch_stack leaves it: the saved registers, where it returns to.
#if defined(__x86_64__)
  void** sp = reinterpret_cast<void**>(top) - 8;
  std::fill_n(sp, 8, nullptr);
  sp[6] = reinterpret_cast<void*>(entry);
#else
  void** sp = reinterpret_cast<void**>(top) - 20;
  std::fill_n(sp, 20, nullptr);
  sp[11] = reinterpret_cast<void*>(entry);  // x30
#endif
  return sp;
}

}  // namespace emulator
