// SPDX-License-Identifier: Apache-2.0

// What Swift needs of <linux/kvm.h> and cannot import by itself.
//
// ioctl() is variadic and the request numbers are function-like macros, so each request gets a
// function here. Every function that can fail returns minus errno: the Swift runtime may call
// into libc between a failed call and a look at errno.

#ifndef CKVM_SHIM_H
#define CKVM_SHIM_H

#if !defined(__x86_64__) || !defined(__linux__)
#error "CKVM is for Linux on x86-64"
#endif

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/timex.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// Constants that are younger than the oldest headers this builds with: Linux 5.16, whose
// kvm_clock_data was the first to hold a real time and a host TSC.

#ifndef KVM_CAP_VM_TSC_CONTROL
#define KVM_CAP_VM_TSC_CONTROL 214
#endif
#ifndef KVM_CAP_X86_TRIPLE_FAULT_EVENT
#define KVM_CAP_X86_TRIPLE_FAULT_EVENT 218
#endif
#ifndef KVM_CAP_X86_NOTIFY_VMEXIT
#define KVM_CAP_X86_NOTIFY_VMEXIT 219
#endif
#ifndef KVM_CAP_DIRTY_LOG_RING_ACQ_REL
#define KVM_CAP_DIRTY_LOG_RING_ACQ_REL 223
#endif
#ifndef KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP
#define KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP 225
#endif
#ifndef KVM_CAP_MEMORY_FAULT_INFO
#define KVM_CAP_MEMORY_FAULT_INFO 232
#endif
#ifndef KVM_CAP_VM_TYPES
#define KVM_CAP_VM_TYPES 235
#endif
#ifndef KVM_CAP_X86_APIC_BUS_CYCLES_NS
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS 237
#endif
#ifndef KVM_CLOCK_REALTIME
#define KVM_CLOCK_REALTIME (1 << 2)
#endif
#ifndef KVM_CLOCK_HOST_TSC
#define KVM_CLOCK_HOST_TSC (1 << 3)
#endif
#ifndef KVM_VCPU_TSC_CTRL
#define KVM_VCPU_TSC_CTRL 0
#endif
#ifndef KVM_VCPU_TSC_OFFSET
#define KVM_VCPU_TSC_OFFSET 0
#endif
#ifndef KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE
#define KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE (1 << 7)
#endif
#ifndef KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA
#define KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA 0x6
#define KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA 0x9
#endif

#pragma clang assume_nonnull begin

static inline int ckvm_result(long result) {
  return result < 0 ? -errno : (int)result;
}

// A request whose argument is a pointer. The kernel puts the size of the argument into the
// request's number, so a header that disagrees with the type used here cannot compile.
#define CKVM_POINTER_REQUEST(name, request, type)                            \
  _Static_assert(_IOC_SIZE(request) == sizeof(type), #request " and " #type); \
  static inline int ckvm_##name(int fd, type *arg) {                         \
    return ckvm_result(ioctl(fd, request, arg));                             \
  }

// A request whose argument is a number, or that has none (pass 0).
#define CKVM_VALUE_REQUEST(name, request)                                    \
  _Static_assert(_IOC_SIZE(request) == 0, #request " takes no pointer");     \
  static inline int ckvm_##name(int fd, unsigned long arg) {                 \
    return ckvm_result(ioctl(fd, request, arg));                             \
  }

// On the descriptor of /dev/kvm.
CKVM_VALUE_REQUEST(get_api_version, KVM_GET_API_VERSION)
CKVM_VALUE_REQUEST(check_extension, KVM_CHECK_EXTENSION)
CKVM_VALUE_REQUEST(create_vm, KVM_CREATE_VM)
CKVM_VALUE_REQUEST(get_vcpu_mmap_size, KVM_GET_VCPU_MMAP_SIZE)
CKVM_POINTER_REQUEST(get_msr_index_list, KVM_GET_MSR_INDEX_LIST, struct kvm_msr_list)
CKVM_POINTER_REQUEST(get_supported_cpuid, KVM_GET_SUPPORTED_CPUID, struct kvm_cpuid2)

// On the descriptor of a VM.
CKVM_VALUE_REQUEST(create_vcpu, KVM_CREATE_VCPU)
CKVM_POINTER_REQUEST(set_user_memory_region, KVM_SET_USER_MEMORY_REGION,
                     struct kvm_userspace_memory_region)
CKVM_POINTER_REQUEST(get_dirty_log, KVM_GET_DIRTY_LOG, struct kvm_dirty_log)
CKVM_POINTER_REQUEST(clear_dirty_log, KVM_CLEAR_DIRTY_LOG, struct kvm_clear_dirty_log)
CKVM_VALUE_REQUEST(reset_dirty_rings, KVM_RESET_DIRTY_RINGS)
CKVM_POINTER_REQUEST(get_clock, KVM_GET_CLOCK, struct kvm_clock_data)
CKVM_POINTER_REQUEST(set_clock, KVM_SET_CLOCK, struct kvm_clock_data)
CKVM_POINTER_REQUEST(x86_set_msr_filter, KVM_X86_SET_MSR_FILTER, struct kvm_msr_filter)
CKVM_VALUE_REQUEST(create_irqchip, KVM_CREATE_IRQCHIP)
CKVM_VALUE_REQUEST(set_tss_addr, KVM_SET_TSS_ADDR)
CKVM_POINTER_REQUEST(set_identity_map_addr, KVM_SET_IDENTITY_MAP_ADDR, uint64_t)
CKVM_POINTER_REQUEST(xen_hvm_config, KVM_XEN_HVM_CONFIG, struct kvm_xen_hvm_config)
CKVM_POINTER_REQUEST(xen_hvm_set_attr, KVM_XEN_HVM_SET_ATTR, struct kvm_xen_hvm_attr)

// On the descriptor of a VM or of a vCPU.
CKVM_POINTER_REQUEST(enable_cap, KVM_ENABLE_CAP, struct kvm_enable_cap)
CKVM_VALUE_REQUEST(set_tsc_khz, KVM_SET_TSC_KHZ)
CKVM_VALUE_REQUEST(get_tsc_khz, KVM_GET_TSC_KHZ)
CKVM_POINTER_REQUEST(has_device_attr, KVM_HAS_DEVICE_ATTR, struct kvm_device_attr)
CKVM_POINTER_REQUEST(get_device_attr, KVM_GET_DEVICE_ATTR, struct kvm_device_attr)
CKVM_POINTER_REQUEST(set_device_attr, KVM_SET_DEVICE_ATTR, struct kvm_device_attr)

// On the descriptor of a vCPU.
CKVM_VALUE_REQUEST(run, KVM_RUN)
CKVM_POINTER_REQUEST(get_regs, KVM_GET_REGS, struct kvm_regs)
CKVM_POINTER_REQUEST(set_regs, KVM_SET_REGS, struct kvm_regs)
CKVM_POINTER_REQUEST(get_sregs, KVM_GET_SREGS, struct kvm_sregs)
CKVM_POINTER_REQUEST(set_sregs, KVM_SET_SREGS, struct kvm_sregs)
CKVM_POINTER_REQUEST(get_msrs, KVM_GET_MSRS, struct kvm_msrs)
CKVM_POINTER_REQUEST(set_msrs, KVM_SET_MSRS, struct kvm_msrs)
CKVM_POINTER_REQUEST(get_cpuid2, KVM_GET_CPUID2, struct kvm_cpuid2)
CKVM_POINTER_REQUEST(set_cpuid2, KVM_SET_CPUID2, struct kvm_cpuid2)
CKVM_VALUE_REQUEST(kvmclock_ctrl, KVM_KVMCLOCK_CTRL)
CKVM_POINTER_REQUEST(get_mp_state, KVM_GET_MP_STATE, struct kvm_mp_state)
CKVM_POINTER_REQUEST(set_mp_state, KVM_SET_MP_STATE, struct kvm_mp_state)
CKVM_POINTER_REQUEST(get_vcpu_events, KVM_GET_VCPU_EVENTS, struct kvm_vcpu_events)
CKVM_POINTER_REQUEST(set_vcpu_events, KVM_SET_VCPU_EVENTS, struct kvm_vcpu_events)
CKVM_POINTER_REQUEST(set_signal_mask, KVM_SET_SIGNAL_MASK, struct kvm_signal_mask)
CKVM_POINTER_REQUEST(get_lapic, KVM_GET_LAPIC, struct kvm_lapic_state)
CKVM_POINTER_REQUEST(set_lapic, KVM_SET_LAPIC, struct kvm_lapic_state)
CKVM_POINTER_REQUEST(set_guest_debug, KVM_SET_GUEST_DEBUG, struct kvm_guest_debug)
CKVM_POINTER_REQUEST(interrupt, KVM_INTERRUPT, struct kvm_interrupt)
CKVM_VALUE_REQUEST(nmi, KVM_NMI)
CKVM_POINTER_REQUEST(xen_vcpu_set_attr, KVM_XEN_VCPU_SET_ATTR, struct kvm_xen_vcpu_attr)

// Only a null argument takes the mask away again, and the wrapper above takes no null.
static inline int ckvm_clear_signal_mask(int fd) {
  return ckvm_result(ioctl(fd, KVM_SET_SIGNAL_MASK, NULL));
}

// Swift does not import flexible array members.

static inline struct kvm_msr_entry *ckvm_msrs_entries(struct kvm_msrs *msrs) {
  return msrs->entries;
}

static inline uint32_t *ckvm_msr_list_indices(struct kvm_msr_list *list) {
  return list->indices;
}

static inline struct kvm_cpuid_entry2 *ckvm_cpuid2_entries(struct kvm_cpuid2 *cpuid) {
  return cpuid->entries;
}

static inline uint8_t *ckvm_signal_mask_bytes(struct kvm_signal_mask *mask) {
  return mask->sigset;
}

// Swift imports an array of structs as a tuple, which has no subscript.
static inline struct kvm_msr_filter_range *ckvm_msr_filter_ranges(struct kvm_msr_filter *filter) {
  return filter->ranges;
}

// open() is variadic.
static inline int ckvm_open(const char *path) {
  return ckvm_result(open(path, O_RDWR | O_CLOEXEC));
}

// MAP_FAILED is a cast, which Swift does not import.
static inline int ckvm_map(int fd, long offset, size_t size, int protection, int flags,
                           void *_Nullable *_Nonnull mapped) {
  void *address = mmap(NULL, size, protection, flags, fd, offset);
  if (address == MAP_FAILED)
    return -errno;
  *mapped = address;
  return 0;
}

// In place of what was mapped there.
static inline int ckvm_map_over(int fd, void *address, size_t size) {
  void *mapped = mmap(address, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
  return mapped == MAP_FAILED ? -errno : 0;
}

// memfd_create() wants _GNU_SOURCE.
static inline int ckvm_memfd_create(const char *name) {
  return ckvm_result(syscall(SYS_memfd_create, name, 1L /* MFD_CLOEXEC */));
}

static inline int ckvm_truncate(int fd, long size) { return ckvm_result(ftruncate(fd, size)); }

// userfaultfd has no function in libc, and its unions and requests do not import.
static inline int ckvm_userfaultfd(void) {
  int fd = ckvm_result(syscall(SYS_userfaultfd, (long)(O_CLOEXEC | O_NONBLOCK)));
  struct uffdio_api api = {.api = UFFD_API};
  if (fd < 0)
    return fd;
  if (ioctl(fd, UFFDIO_API, &api) == 0)
    return fd;
  int result = -errno;
  close(fd);
  return result;
}

static inline int ckvm_watch_missing(int fd, void *address, size_t size) {
  struct uffdio_register watch = {.range = {(uintptr_t)address, size},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING};
  return ckvm_result(ioctl(fd, UFFDIO_REGISTER, &watch));
}

// Waits for a missing page: 1 and its address, or 0 after so many milliseconds.
static inline int ckvm_next_missing(int fd, int milliseconds, uint64_t *address) {
  struct pollfd ready = {.fd = fd, .events = POLLIN};
  struct uffd_msg message;
  int result = ckvm_result(poll(&ready, 1, milliseconds));
  if (result <= 0)
    return result == -EINTR ? 0 : result;
  result = ckvm_result(read(fd, &message, sizeof message));
  if (result < 0)
    return result == -EAGAIN || result == -EINTR ? 0 : result;
  if (message.event != UFFD_EVENT_PAGEFAULT)
    return 0;
  *address = message.arg.pagefault.address;
  return 1;
}

// Whoever waits for the page goes on. A page that is there by now is no error.
static inline int ckvm_supply(int fd, void *page, const void *bytes, size_t size) {
  struct uffdio_copy copy = {.dst = (uintptr_t)page, .src = (uintptr_t)bytes, .len = size};
  int result = ckvm_result(ioctl(fd, UFFDIO_COPY, &copy));
  return result == -EEXIST ? 0 : result;
}

// FALLOC_FL_PUNCH_HOLE wants _GNU_SOURCE.
static inline int ckvm_punch_hole(int fd, long offset, long size) {
  return ckvm_result(syscall(SYS_fallocate, fd, 3L /* PUNCH_HOLE | KEEP_SIZE */, offset, size));
}

// Memory that a guest or another thread writes meanwhile. Swift's own loads from raw memory are
// not atomic, and a loop around one may be folded into a single load.

static inline uint32_t ckvm_load32(const void *address) {
  return __atomic_load_n((const uint32_t *)address, __ATOMIC_ACQUIRE);
}

static inline void ckvm_store32(void *address, uint32_t value) {
  __atomic_store_n((uint32_t *)address, value, __ATOMIC_RELEASE);
}

static inline void ckvm_store8_release(void *address, uint8_t value) {
  __atomic_store_n((uint8_t *)address, value, __ATOMIC_RELEASE);
}

// An entry of a dirty ring: KVM stores its flags last, and user space gives it back by them. The flags' names are macros
// that Swift does not import: 1 is KVM_DIRTY_GFN_F_DIRTY, 2 is KVM_DIRTY_GFN_F_RESET.
static inline int ckvm_dirty_gfn_is_dirty(const struct kvm_dirty_gfn *entry) {
  return (ckvm_load32(&entry->flags) & 3) == 1;
}

static inline void ckvm_dirty_gfn_give_back(struct kvm_dirty_gfn *entry) {
  ckvm_store32(&entry->flags, 2);
}

// Each word is read exactly once, in order of address; nothing orders one word against another.
static inline void ckvm_load_words(const void *source, uint32_t *words, size_t count) {
  const uint32_t *from = (const uint32_t *)source;
  for (size_t i = 0; i < count; i++)
    words[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

static inline void ckvm_store_words(void *destination, const uint32_t *words, size_t count) {
  uint32_t *to = (uint32_t *)destination;
  for (size_t i = 0; i < count; i++)
    __atomic_store_n(&to[i], words[i], __ATOMIC_RELAXED);
}

// How many of `count` bytes lie in front of the first whole aligned word.
static inline size_t ckvm_unaligned_head(const void *address, size_t count) {
  size_t head = -(uintptr_t)address & 3;
  return head < count ? head : count;
}

// Any alignment: each byte is read once, whole aligned words as words.
static inline void ckvm_copy_out(const void *source, uint8_t *bytes, size_t count) {
  const uint8_t *from = (const uint8_t *)source;
  size_t i = 0, head = ckvm_unaligned_head(source, count);
  for (; i < head; i++)
    bytes[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
  for (; count - i >= 4; i += 4) {
    uint32_t word = __atomic_load_n((const uint32_t *)(const void *)&from[i], __ATOMIC_RELAXED);
    __builtin_memcpy(&bytes[i], &word, 4);
  }
  for (; i < count; i++)
    bytes[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

// Any alignment: each byte is written once, whole aligned words as words.
static inline void ckvm_copy_in(void *destination, const uint8_t *bytes, size_t count) {
  uint8_t *to = (uint8_t *)destination;
  size_t i = 0, head = ckvm_unaligned_head(destination, count);
  for (; i < head; i++)
    __atomic_store_n(&to[i], bytes[i], __ATOMIC_RELAXED);
  for (; count - i >= 4; i += 4) {
    uint32_t word;
    __builtin_memcpy(&word, &bytes[i], 4);
    __atomic_store_n((uint32_t *)(void *)&to[i], word, __ATOMIC_RELAXED);
  }
  for (; i < count; i++)
    __atomic_store_n(&to[i], bytes[i], __ATOMIC_RELAXED);
}

// Swift cannot form the address of a field without a key path.
static inline void ckvm_set_immediate_exit(struct kvm_run *run, uint8_t value) {
  ckvm_store8_release(&run->immediate_exit, value);
}

// Fenced on both sides: no earlier load is still under way, and no later instruction has begun.
static inline uint64_t ckvm_rdtsc(void) {
  uint32_t low, high;
  __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
  return ((uint64_t)high << 32) | low;
}

// glibc declares gettid() and tgkill() only under _GNU_SOURCE, which clashes with Swift's Glibc.

// Ends the calling thread and nothing else.
static inline void ckvm_exit_thread(void) { syscall(SYS_exit, 0); }

static inline int ckvm_gettid(void) {
  return (int)syscall(SYS_gettid);
}

// prctl() takes a variable number of arguments, and pthread_setname_np() wants _GNU_SOURCE.
static inline int ckvm_set_thread_name(const char *name) {
  return ckvm_result(syscall(SYS_prctl, PR_SET_NAME, name, 0L, 0L, 0L));
}

static inline int ckvm_tgkill(int process, int thread, int signal) {
  return ckvm_result(syscall(SYS_tgkill, process, thread, signal));
}

// cpu_set_t's macros are not for Swift, and its functions want _GNU_SOURCE. The mask is of whole 64-bit words.

static inline int ckvm_get_affinity(void *mask, size_t size) {
  return ckvm_result(syscall(SYS_sched_getaffinity, 0, size, mask));
}

static inline int ckvm_set_affinity(const void *mask, size_t size) {
  return ckvm_result(syscall(SYS_sched_setaffinity, 0, size, mask));
}

#pragma clang assume_nonnull end

#endif
